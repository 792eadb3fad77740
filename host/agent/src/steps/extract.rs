//! `extract`: unpacks an archive of the node's folder into a folder that is absent or empty.
//!
//! Everything is unpacked beside the target and moved into place by one rename. Entries are written through the
//! directory handle of that folder; a path, link or hard link that leads out of it is refused, not repaired.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use proto::v1 as pb;
use tar::{Archive, Entry, EntryType};
use tokio_util::sync::CancellationToken;

use super::{StepContext, Trace};
use crate::node_root::{NodeRoot, checked, sibling};

/// Bytes that an archive may unpack to.
const BYTES_MAX: u64 = 1 << 40;
/// Entries that an archive may have.
const ENTRIES_MAX: u64 = 5_000_000;
/// A file in the target that says what it was unpacked from.
const STAMP: &str = ".bellwether-extract";

pub(super) fn plan(ctx: &StepContext, spec: &pb::Extract) -> anyhow::Result<Trace> {
    checked(&spec.archive)?;
    let mut trace = Trace::default();
    let path = checked(&spec.path)?;
    trace.will_make(&ctx.root, &path)?;
    if trace.made.is_empty() && !is_done(ctx, spec)? {
        ensure_empty(&ctx.root, &path)?;
        // The empty folder is not worth keeping apart from what will be in it.
        trace.made.push(path);
    }
    Ok(trace)
}

pub(super) async fn execute(ctx: &StepContext, spec: &pb::Extract) -> anyhow::Result<()> {
    let job = Job {
        root: ctx.root.clone(),
        archive: checked(&spec.archive)?,
        path: checked(&spec.path)?,
        strip: usize::try_from(spec.strip)?,
        stamp: stamp(&ctx.root, spec)?,
        given_up: CancellationToken::new(),
    };
    // The thread can't be dropped; it is told when nobody waits for it any more.
    let _guard = job.given_up.clone().drop_guard();
    tokio::task::spawn_blocking(move || job.run())
        .await
        .context("unpacking broke off")?
        .with_context(|| format!("`{}` can't be unpacked", spec.archive))
}

pub(super) fn is_done(ctx: &StepContext, spec: &pb::Extract) -> anyhow::Result<bool> {
    let there = ctx
        .root
        .dir
        .read_to_string(checked(&spec.path)?.join(STAMP));
    Ok(there.is_ok_and(|there| stamp(&ctx.root, spec).is_ok_and(|wanted| there == wanted)))
}

/// Identifies the archive and how it is unpacked.
fn stamp(root: &NodeRoot, spec: &pb::Extract) -> anyhow::Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let archive = root
        .dir
        .open(checked(&spec.archive)?)
        .with_context(|| format!("archive `{}` is not in the node's folder", spec.archive))?
        .into_std()
        .metadata()?;
    Ok(format!(
        "{} {} {} {}\n",
        spec.archive,
        spec.strip,
        archive.len(),
        archive.mtime()
    ))
}

fn ensure_empty(root: &NodeRoot, path: &Path) -> anyhow::Result<()> {
    let is_empty = match root.dir.read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).context("the target can't be looked at"),
    };
    anyhow::ensure!(
        is_empty,
        "`{}` is not empty; unpack into a folder of its own",
        path.display()
    );
    Ok(())
}

struct Job {
    root: NodeRoot,
    archive: PathBuf,
    path: PathBuf,
    strip: usize,
    stamp: String,
    given_up: CancellationToken,
}

impl Job {
    fn run(&self) -> anyhow::Result<()> {
        self.root.create_parents(&self.path)?;
        self.clear_stages()?;
        ensure_empty(&self.root, &self.path)?;
        let stage = sibling(&self.path, "unpack");
        self.root.dir.create_dir(&stage)?;
        let unpacked = self
            .unpack(&self.root.dir.open_dir(&stage)?)
            .and_then(|()| {
                self.ensure_wanted()?;
                if self.root.has(&self.path) {
                    self.root.dir.remove_dir(&self.path)?;
                }
                self.root.dir.rename(&stage, &self.root.dir, &self.path)?;
                Ok(())
            });
        if unpacked.is_err() {
            // The error at hand says more than one of tidying up.
            let _ = self.root.remove(&stage);
        }
        unpacked
    }

    fn unpack(&self, to: &Dir) -> anyhow::Result<()> {
        let (mut bytes, is_packed) = open(self.root.dir.open(&self.archive)?.into_std())?;
        let mut head = Vec::new();
        (&mut bytes).take(512).read_to_end(&mut head)?;
        let is_tar = head.len() >= 262 && &head[257..262] == b"ustar";
        let mut whole = io::Cursor::new(head).chain(bytes);
        if is_tar {
            self.unpack_tar(&mut Archive::new(whole), to)?;
        } else {
            anyhow::ensure!(
                is_packed,
                "it is neither a tar archive nor packed by gzip or zstd; xz, bzip2 and zip are not unpacked"
            );
            let name = self
                .archive
                .file_stem()
                .context("the archive has no name")?;
            self.write_file(&mut whole, to, Path::new(name), 0o644, BYTES_MAX)?;
        }
        to.write(STAMP, &self.stamp)?;
        Ok(())
    }

    fn unpack_tar<R: Read>(&self, archive: &mut Archive<R>, to: &Dir) -> anyhow::Result<()> {
        let (mut rest, mut n_entries) = (BYTES_MAX, 0);
        for entry in archive.entries()? {
            self.ensure_wanted()?;
            let mut entry = entry.context("the archive is damaged")?;
            n_entries += 1;
            anyhow::ensure!(
                n_entries <= ENTRIES_MAX,
                "the archive has more than {ENTRIES_MAX} entries"
            );
            let named = entry.path()?.into_owned();
            let Some(path) = inside(&named, self.strip)? else {
                continue;
            };
            rest = self
                .unpack_entry(&mut entry, to, &path, rest)
                .with_context(|| format!("entry `{}` can't be unpacked", named.display()))?;
        }
        Ok(())
    }

    fn unpack_entry<R: Read>(
        &self,
        entry: &mut Entry<'_, R>,
        to: &Dir,
        path: &Path,
        rest: u64,
    ) -> anyhow::Result<u64> {
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            to.create_dir_all(parent)?;
        }
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        match entry.header().entry_type() {
            EntryType::Directory => to.create_dir_all(path)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                return self.write_file(entry, to, path, mode, rest);
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name()?
                    .context("the link has no target")?
                    .into_owned();
                ensure_link_inside(path, &target)?;
                to.symlink(&target, path)?;
            }
            EntryType::Link => {
                let target = entry
                    .link_name()?
                    .context("the link has no target")?
                    .into_owned();
                let target =
                    inside(&target, self.strip)?.context("the link's target is stripped away")?;
                to.hard_link(&target, to, path)?;
            }
            EntryType::XGlobalHeader | EntryType::XHeader => {}
            other => anyhow::bail!("it is of a type that is not unpacked ({other:?})"),
        }
        Ok(rest)
    }

    /// Writes a file and returns how many bytes may still come.
    fn write_file(
        &self,
        from: &mut impl Read,
        to: &Dir,
        path: &Path,
        mode: u32,
        rest: u64,
    ) -> anyhow::Result<u64> {
        let mut file = to.open_with(
            path,
            OpenOptions::new().write(true).create_new(true).mode(mode),
        )?;
        let mut buffer = vec![0; 128 * 1024];
        let mut left = rest;
        loop {
            self.ensure_wanted()?;
            let n = from.read(&mut buffer)?;
            if n == 0 {
                return Ok(left);
            }
            left = left
                .checked_sub(n as u64)
                .with_context(|| format!("it unpacks to more than {BYTES_MAX} bytes"))?;
            io::Write::write_all(&mut file, &buffer[..n])?;
        }
    }

    fn ensure_wanted(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.given_up.is_cancelled(), "the step was given up");
        Ok(())
    }

    /// Removes what broken tries left beside the target.
    fn clear_stages(&self) -> anyhow::Result<()> {
        let name = self
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let folder = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        for entry in self.root.dir.read_dir(folder.unwrap_or(Path::new(".")))? {
            let entry = entry?.file_name().to_string_lossy().into_owned();
            if entry.starts_with(&format!(".{name}.unpack-")) {
                self.root.remove(&self.path.with_file_name(entry))?;
            }
        }
        Ok(())
    }
}

/// The bytes as they were before gzip or zstd packed them, and whether one of them did.
fn open(file: File) -> anyhow::Result<(Box<dyn Read>, bool)> {
    let mut file = BufReader::with_capacity(128 * 1024, file);
    let head = io::BufRead::fill_buf(&mut file)?;
    Ok(if head.starts_with(&[0x1f, 0x8b]) {
        (Box::new(flate2::bufread::MultiGzDecoder::new(file)), true)
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        (
            Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
            true,
        )
    } else {
        (Box::new(file), false)
    })
}

/// The path without its first `strip` parts; `None` when nothing is left.
fn inside(path: &Path, strip: usize) -> anyhow::Result<Option<PathBuf>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                anyhow::bail!(
                    "entry `{}` leads out of the folder; the archive is not to be trusted",
                    path.display()
                )
            }
        }
    }
    let path: PathBuf = parts.into_iter().skip(strip).collect();
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

fn ensure_link_inside(link: &Path, target: &Path) -> anyhow::Result<()> {
    let mut depth = link.components().count().saturating_sub(1);
    for part in target.components() {
        let stays = match part {
            Component::Normal(_) => {
                depth += 1;
                true
            }
            Component::CurDir => true,
            Component::ParentDir => depth.checked_sub(1).inspect(|less| depth = *less).is_some(),
            Component::RootDir | Component::Prefix(_) => false,
        };
        anyhow::ensure!(
            stays,
            "its target `{}` leads out of the folder",
            target.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_leave_the_folder_are_refused() {
        assert_eq!(
            inside(Path::new("./a/b/c"), 1).unwrap(),
            Some(PathBuf::from("b/c"))
        );
        assert_eq!(inside(Path::new("a/"), 1).unwrap(), None);
        for bad in ["../a", "a/../../b", "/etc/passwd"] {
            assert!(inside(Path::new(bad), 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_that_leave_the_folder_are_refused() {
        for (link, target) in [
            ("a", "b"),
            ("a/b", "../c"),
            ("a/b/c", "../../d"),
            ("a", "b/../c"),
        ] {
            ensure_link_inside(Path::new(link), Path::new(target)).unwrap();
        }
        for (link, target) in [
            ("a", ".."),
            ("a", "/etc"),
            ("a/b", "../../c"),
            ("a", "b/../../c"),
        ] {
            assert!(
                ensure_link_inside(Path::new(link), Path::new(target)).is_err(),
                "{link} -> {target}"
            );
        }
    }
}
