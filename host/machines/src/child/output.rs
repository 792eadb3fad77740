//! Reads the output of a program from its pipes or from files that outlive this host.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;

/// How much of a program's output is kept: the last part, which contains the reason of a failure.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// How much is kept before secrets are replaced: enough that no half of a secret at the cut is shown.
const KEPT_BYTES: usize = OUTPUT_BYTES_MAX + 8 * 1024;
/// The maximum of standard output that the host parses.
pub(super) const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same limit for a file.
const FILE_BYTES_MAX: u64 = ANSWER_BYTES_MAX as u64;
/// The size of one read.
const CHUNK: usize = 4 * 1024;
/// File names.
const OUT: &str = "output";
const ERR: &str = "errors";
/// How often the host checks the size of output files.
const LOOK: Duration = Duration::from_secs(5);

/// Both outputs of a program that outlives this host. They may contain secrets, so they are deleted after reading.
pub(super) struct Files {
    folder: PathBuf,
    out: File,
    err: File,
}

impl Files {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let open = |name| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(true).read(true).write(true);
            options.mode(0o600).open(folder.join(name))
        };
        Ok(Self {
            folder: folder.to_owned(),
            out: open(OUT)?,
            err: open(ERR)?,
        })
    }

    /// The writing ends for the program.
    pub(super) fn ends(&self) -> io::Result<(File, File)> {
        Ok((self.out.try_clone()?, self.err.try_clone()?))
    }

    /// Waits until the program exits; `false` when it prints too much.
    pub(super) async fn ended(&self, child: &mut Child) -> bool {
        let is_too_long = |file: &File| {
            file.metadata()
                .is_ok_and(|data| data.len() > FILE_BYTES_MAX)
        };
        while tokio::time::timeout(LOOK, child.wait()).await.is_err() {
            if is_too_long(&self.out) || is_too_long(&self.err) {
                return false;
            }
        }
        !is_too_long(&self.out)
    }
}

/// What a program has printed so far.
#[derive(Default)]
pub(super) struct ProgramOutput {
    /// All of its standard output.
    pub(super) answer: Vec<u8>,
    tail: Vec<u8>,
}

impl ProgramOutput {
    /// Reads both outputs to their ends; `false` when standard output is too long.
    pub(super) async fn listen(
        &mut self,
        out: Option<impl AsyncRead + Unpin>,
        err: Option<impl AsyncRead + Unpin>,
    ) -> bool {
        let (Some(mut out), Some(mut err)) = (out, err) else {
            return true;
        };
        let (mut is_out, mut is_err) = (true, true);
        let (mut from_out, mut from_err) = (vec![0; CHUNK], vec![0; CHUNK]);
        while is_out || is_err {
            // A failed read ends that output; the exit status says whether the program succeeded.
            let bytes = tokio::select! {
                n = out.read(&mut from_out), if is_out => {
                    let bytes = &from_out[..n.unwrap_or(0)];
                    is_out = !bytes.is_empty();
                    self.answer.extend_from_slice(bytes);
                    bytes
                }
                n = err.read(&mut from_err), if is_err => {
                    let bytes = &from_err[..n.unwrap_or(0)];
                    is_err = !bytes.is_empty();
                    bytes
                }
            };
            self.tail.extend_from_slice(bytes);
            if self.tail.len() > 2 * KEPT_BYTES {
                self.tail.drain(..self.tail.len() - KEPT_BYTES);
            }
            if self.answer.len() > ANSWER_BYTES_MAX {
                return false;
            }
        }
        true
    }

    /// Reads files: all of standard output, and the last part of each, errors last.
    pub(super) fn read(&mut self, mut files: Files) -> io::Result<()> {
        files.out.rewind()?;
        files
            .out
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut self.answer)?;
        let cut = self.answer.len().saturating_sub(KEPT_BYTES);
        self.tail.extend_from_slice(&self.answer[cut..]);
        let length = files.err.metadata()?.len();
        let cut = length.saturating_sub(KEPT_BYTES as u64);
        files.err.seek(SeekFrom::Start(cut))?;
        files
            .err
            .take(KEPT_BYTES as u64)
            .read_to_end(&mut self.tail)?;
        std::fs::remove_file(files.folder.join(OUT))?;
        std::fs::remove_file(files.folder.join(ERR))
    }

    pub(super) fn said(&self, secrets: &[SecretString]) -> String {
        told(&String::from_utf8_lossy(&self.tail), secrets)
    }
}

/// The last part of a text, from the start of a line, without secrets.
pub fn told(text: &str, secrets: &[SecretString]) -> String {
    let mut text = text.trim().replace('\r', "");
    for secret in secrets.iter().map(ExposeSecret::expose_secret) {
        if !secret.is_empty() {
            text = text.replace(secret, "(secret)");
        }
    }
    let Some(cut) = text
        .len()
        .checked_sub(OUTPUT_BYTES_MAX)
        .filter(|cut| *cut > 0)
    else {
        return text;
    };
    let line = text.as_bytes()[cut..]
        .iter()
        .position(|byte| *byte == b'\n');
    let mut start = line.map_or(cut, |at| cut + at + 1);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    format!("…\n{}", &text[start..])
}
