//! What a program said: read from its pipes while it runs, or from files that outlive this host.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;

/// What is kept of what a program says: its end, which is where the reason is.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// What is kept before secrets are taken out: enough more that half a secret at the cut is not among what is told.
const KEPT_BYTES: usize = OUTPUT_BYTES_MAX + 8 * 1024;
/// What a program may answer on its standard output for us to read.
pub(super) const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same of a file.
const FILE_BYTES_MAX: u64 = ANSWER_BYTES_MAX as u64;
/// Output that is read in one go.
const CHUNK: usize = 4 * 1024;
/// Names of files.
const OUT: &str = "output";
const ERR: &str = "errors";
/// How often it is looked whether files of output have grown too long.
const LOOK: Duration = Duration::from_secs(5);

/// Both outputs of a program that outlives this host; what is in them may be secret, so they go when they were read.
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

    /// The program's ends.
    pub(super) fn ends(&self) -> io::Result<(File, File)> {
        Ok((self.out.try_clone()?, self.err.try_clone()?))
    }

    /// Waits for the program's end; `false` when it says too much.
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

/// What a program said so far.
#[derive(Default)]
pub(super) struct Heard {
    /// All of its standard output.
    pub(super) answer: Vec<u8>,
    tail: Vec<u8>,
}

impl Heard {
    /// Reads both outputs to their ends; `false` when the answer is too long.
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
            // A read that fails ends that output; the status tells the rest.
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

    /// What is in files: the answer, and the end of each, errors last.
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

/// The end of a text, from the beginning of a line on, without secrets.
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
