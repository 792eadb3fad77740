//! What of a folder is read, and how much at most.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use host_domain::config::diagnostics::Diagnostic;
use host_domain::config::{ConfigFile, FILE_BYTES_MAX};

/// Entries of all folders together.
const ENTRIES_MAX: usize = 5_000;
/// Bytes of all YAML files together.
const TOTAL_BYTES_MAX: usize = 32 << 20;
/// Folders within each other; the formats need two.
const DEPTH_MAX: usize = 4;
/// Bytes of a component: the operator's greatest allowance.
const COMPONENT_BYTES_MAX: u64 = 32 << 20;

/// A folder of chain configurations on disk.
pub(super) struct Folder {
    /// Without links, so that what lies below it can be told by its path.
    root: PathBuf,
}

impl Folder {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(dir)?;
        if !root.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                "it is not a folder",
            ));
        }
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// All YAML files in order of their paths, and what could not be read.
    pub(super) fn config_files(&self) -> io::Result<(Vec<ConfigFile>, Vec<Diagnostic>)> {
        let mut walk = Walk::default();
        // The first look must work; what fails further down is a mistake of that entry.
        fs::read_dir(&self.root)?;
        self.walk(&self.root, 0, &mut walk);
        walk.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((walk.files, walk.mistakes))
    }

    fn walk(&self, dir: &Path, depth: usize, walk: &mut Walk) {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => return walk.mistake(&self.name(dir), &error),
        };
        for entry in entries {
            walk.entries += 1;
            if walk.entries > ENTRIES_MAX {
                return walk.too_much(&format!("more than {ENTRIES_MAX} files and folders"));
            }
            match entry {
                Ok(entry) => self.visit(&entry.path(), depth, walk),
                Err(error) => walk.mistake(&self.name(dir), &error),
            }
            if walk.is_full {
                return;
            }
        }
    }

    fn visit(&self, path: &Path, depth: usize, walk: &mut Walk) {
        let name = self.name(path);
        let file_name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let file_name = file_name.unwrap_or_default();
        // Hidden files are those of editors and of version control.
        let is_hidden = file_name.starts_with('.');
        let is_of_the_house = depth == 0 && matches!(&*file_name, "schema" | "components");
        if is_hidden || is_of_the_house {
            return;
        }
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => return walk.mistake(&name, &error),
        };
        if !real.starts_with(&self.root) {
            let mend = "copy what it points to into the folder";
            walk.mistakes.push(Diagnostic::of_file(
                &name,
                "a link that leads out of the folder",
                mend,
            ));
        } else if real.is_dir() {
            if depth + 1 < DEPTH_MAX {
                self.walk(path, depth + 1, walk);
            } else {
                let mend = "move it up: the formats need two levels";
                walk.mistakes.push(Diagnostic::of_file(
                    &name,
                    "folders too deep within each other",
                    mend,
                ));
            }
        } else if matches!(
            path.extension().and_then(|e| e.to_str()),
            Some("yaml" | "yml")
        ) {
            Self::read(&real, name, walk);
        }
    }

    fn read(path: &Path, name: String, walk: &mut Walk) {
        // One byte more than allowed is enough for the loader to see that it is too much.
        match read_at_most(path, FILE_BYTES_MAX as u64 + 1) {
            Ok(content) => {
                walk.bytes += content.len();
                walk.files.push(ConfigFile {
                    path: name,
                    content,
                });
                if walk.bytes > TOTAL_BYTES_MAX {
                    walk.too_much("more than 32 MiB of YAML");
                }
            }
            Err(error) => walk.mistake(&name, &error),
        }
    }

    /// `sha256:…` of a component, or nothing when it is no file within this folder, or too large.
    pub(super) fn component_digest(&self, path: &str) -> Option<String> {
        let real = fs::canonicalize(self.root.join(path)).ok()?;
        let is_inside = real.starts_with(&self.root) && real.is_file();
        let content = is_inside.then(|| read_at_most(&real, COMPONENT_BYTES_MAX + 1).ok())??;
        let fits = content.len() as u64 <= COMPONENT_BYTES_MAX;
        fits.then(|| format!("sha256:{}", hex::encode(Sha256::digest(&content))))
    }

    /// A path as diagnostics and the loader name it.
    fn name(&self, path: &Path) -> String {
        let inner = path.strip_prefix(&self.root).unwrap_or(path);
        let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }
}

/// What a walk has found so far.
#[derive(Default)]
struct Walk {
    files: Vec<ConfigFile>,
    mistakes: Vec<Diagnostic>,
    entries: usize,
    bytes: usize,
    is_full: bool,
}

impl Walk {
    fn mistake(&mut self, name: &str, error: &io::Error) {
        let message = format!("can't be read: {error}");
        self.mistakes.push(Diagnostic::of_file(
            name,
            message,
            "let the host's user read it",
        ));
    }

    fn too_much(&mut self, what: &str) {
        self.is_full = true;
        let mend = "name a folder that holds only chain configurations";
        self.mistakes.push(Diagnostic::of_file(".", what, mend));
    }
}

fn read_at_most(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?
        .take(bytes)
        .read_to_end(&mut content)?;
    Ok(content)
}
