//! `extract`: unpacks an archive of the node's folder into a folder that is missing or empty.
//!
//! The step unpacks next to the target and moves the result into place with one rename. It writes entries through the
//! directory handle of that folder. It rejects a path, link or hard link that leads out of the folder.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use async_trait::async_trait;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use proto::v1 as pb;
use tar::{Archive, Entry, EntryType};
use tokio_util::sync::CancellationToken;

use super::{Payload, Step, StepContext, Trace};
use crate::node_root::{NodeRoot, checked, sibling};

/// The largest size of unpacked files.
const BYTES_MAX: u64 = 1 << 40;
/// The largest number of entries.
const ENTRIES_MAX: u64 = 5_000_000;
/// A file in the target that identifies the archive.
const STAMP: &str = ".bellwether-extract";

#[async_trait]
impl Step for pb::Extract {
    fn kind(&self) -> &'static str {
        "extract"
    }

    fn plan(&self, ctx: &StepContext) -> anyhow::Result<Payload> {
        checked(&self.archive)?;
        let mut trace = Trace::default();
        let path = checked(&self.path)?;
        trace.will_create(&ctx.root, &path)?;
        if trace.created.is_empty() && !is_extracted(ctx, self)? {
            ensure_empty(&ctx.root, &path)?;
            // Undoing may remove the empty folder together with its future content.
            trace.created.push(path);
        }
        trace.into_payload()
    }

    async fn execute(&self, ctx: &StepContext) -> anyhow::Result<()> {
        let job = Job {
            root: ctx.root.clone(),
            archive: checked(&self.archive)?,
            path: checked(&self.path)?,
            strip: usize::try_from(self.strip)?,
            stamp: stamp(&ctx.root, self)?,
            cancelled: CancellationToken::new(),
        };
        // Dropping this future can't stop the thread, so the guard cancels it.
        let _guard = job.cancelled.clone().drop_guard();
        tokio::task::spawn_blocking(move || job.run())
            .await
            .context("unpacking was interrupted")?
            .with_context(|| format!("`{}` can't be unpacked", self.archive))
    }

    async fn is_done(&self, ctx: &StepContext) -> anyhow::Result<bool> {
        is_extracted(ctx, self)
    }
}

fn is_extracted(ctx: &StepContext, extract: &pb::Extract) -> anyhow::Result<bool> {
    let path = checked(&extract.path)?.join(STAMP);
    let found = ctx.root.dir.read_to_string(path);
    Ok(found.is_ok_and(|found| stamp(&ctx.root, extract).is_ok_and(|expected| found == expected)))
}

/// Identifies the archive and the options of the step.
fn stamp(root: &NodeRoot, extract: &pb::Extract) -> anyhow::Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let archive = root
        .dir
        .open(checked(&extract.archive)?)
        .with_context(|| format!("archive `{}` is not in the node's folder", extract.archive))?
        .into_std()
        .metadata()?;
    Ok(format!(
        "{} {} {} {}\n",
        extract.archive,
        extract.strip,
        archive.len(),
        archive.mtime()
    ))
}

fn ensure_empty(root: &NodeRoot, path: &Path) -> anyhow::Result<()> {
    let is_empty = match root.dir.read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).context("the agent can't read the target folder"),
    };
    anyhow::ensure!(
        is_empty,
        "`{}` is not empty; unpack into another folder",
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
    cancelled: CancellationToken,
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
                self.ensure_not_cancelled()?;
                if self.root.has(&self.path) {
                    self.root.dir.remove_dir(&self.path)?;
                }
                self.root.dir.rename(&stage, &self.root.dir, &self.path)?;
                Ok(())
            });
        if unpacked.is_err() {
            // The first error says more than one of the clean-up.
            let _ = self.root.remove(&stage);
        }
        unpacked
    }

    fn unpack(&self, to: &Dir) -> anyhow::Result<()> {
        let (mut bytes, is_compressed) = open(self.root.dir.open(&self.archive)?.into_std())?;
        let mut head = Vec::new();
        (&mut bytes).take(512).read_to_end(&mut head)?;
        let is_tar = head.len() >= 262 && &head[257..262] == b"ustar";
        let mut whole = io::Cursor::new(head).chain(bytes);
        if is_tar {
            self.unpack_tar(&mut Archive::new(whole), to)?;
        } else {
            anyhow::ensure!(
                is_compressed,
                "the file is neither a tar archive nor packed by gzip or zstd; xz, bzip2 and zip are not supported"
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
            self.ensure_not_cancelled()?;
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
                let target = inside(&target, self.strip)?
                    .context("`strip` removes the whole target of the link")?;
                to.hard_link(&target, to, path)?;
            }
            EntryType::XGlobalHeader | EntryType::XHeader => {}
            other => anyhow::bail!("entries of type {other:?} are not supported"),
        }
        Ok(rest)
    }

    /// Writes a file and returns how many bytes may still follow.
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
            self.ensure_not_cancelled()?;
            let n = from.read(&mut buffer)?;
            if n == 0 {
                return Ok(left);
            }
            left = left
                .checked_sub(n as u64)
                .with_context(|| format!("the archive unpacks to more than {BYTES_MAX} bytes"))?;
            io::Write::write_all(&mut file, &buffer[..n])?;
        }
    }

    fn ensure_not_cancelled(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.cancelled.is_cancelled(), "the step was cancelled");
        Ok(())
    }

    /// Removes what interrupted attempts left next to the target.
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

/// The bytes before compression, and whether gzip or zstd compressed them.
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

/// The path without its first `strip` components; `None` when nothing remains.
fn inside(path: &Path, strip: usize) -> anyhow::Result<Option<PathBuf>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                anyhow::bail!(
                    "entry `{}` leads out of the folder; do not trust this archive",
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
            "the link's target `{}` leads out of the folder",
            target.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_leave_the_folder_are_rejected() {
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
    fn links_that_leave_the_folder_are_rejected() {
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
