//! Programs that providers run: bounded in time and output, asked to end before they are killed, with secrets kept out of
//! what is told of them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use host_domain::time::format_duration;
use host_workflows::ActivityContext;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

/// What is kept of what a program says: its end, which is where the reason is.
pub(crate) const OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// What is kept before secrets are taken out: enough more that half a secret at the cut is not among what is told.
const KEPT_BYTES: usize = OUTPUT_BYTES_MAX + 8 * 1024;
/// What a program may answer on its standard output for us to read.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Output that is read in one go.
const CHUNK: usize = 4 * 1024;
/// How often a running program counts as a sign of life.
const BEAT: Duration = Duration::from_secs(15);
/// Variables that programs inherit; everything else is given to them by name.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A program to run once.
pub(crate) struct Program {
    /// What messages call it, such as `tofu apply`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) environment: Vec<(String, SecretString)>,
    pub(crate) input: Input,
    /// Texts that are never told, wherever the program prints them.
    pub(crate) secrets: Vec<SecretString>,
    pub(crate) limit: Duration,
    /// How long it may take to end once it was asked to.
    pub(crate) grace: Duration,
}

/// What a program reads.
pub(crate) enum Input {
    /// Nothing.
    Nothing,
    /// A text, which may hold secrets.
    Text(SecretString),
    /// A file.
    File(File),
}

impl Program {
    /// A program with arguments, no input and a minute.
    pub(crate) fn new<S: AsRef<OsStr>>(
        name: &str,
        path: impl Into<PathBuf>,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            path: path.into(),
            args: args
                .into_iter()
                .map(|arg| arg.as_ref().to_owned())
                .collect(),
            dir: None,
            environment: Vec::new(),
            input: Input::Nothing,
            secrets: Vec::new(),
            limit: Duration::from_mins(1),
            grace: Duration::from_secs(5),
        }
    }
}

/// How a program ended by itself.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// All of its standard output.
    pub(crate) answer: Vec<u8>,
    /// The end of both of its outputs, without secrets.
    pub(crate) said: String,
}

impl Ended {
    /// The end of its standard output, where nothing of it is secret.
    pub(crate) fn answered(&self) -> String {
        told(&String::from_utf8_lossy(&self.answer), &[])
    }
}

/// Why a program did not end by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    /// It is not there, or may not be run.
    #[error("`{name}` can't be started; is `{path}` installed on the host?")]
    Start {
        name: String,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The system does not tell how it ended.
    #[error("`{name}` can't be waited for")]
    Wait {
        name: String,
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("`{name}` did not end within {} and was stopped", format_duration(*.limit))]
    TooLong {
        name: String,
        limit: Duration,
        said: String,
    },
    /// Its answer is longer than anybody reads.
    #[error("`{name}` answered more than {ANSWER_BYTES_MAX} bytes and was stopped")]
    TooMuch { name: String, said: String },
    /// The workflow was cancelled.
    #[error("`{name}` was stopped, because the work was cancelled")]
    Cancelled { name: String, said: String },
}

impl ChildError {
    /// What the program had said.
    pub(crate) fn said(&self) -> &str {
        match self {
            Self::Start { .. } | Self::Wait { .. } => "",
            Self::TooLong { said, .. }
            | Self::TooMuch { said, .. }
            | Self::Cancelled { said, .. } => said,
        }
    }
}

/// Why a program is stopped.
enum Stop {
    TooLong,
    TooMuch,
    Cancelled,
}

/// Runs a program to its end, and shows its life to the engine meanwhile.
pub(crate) async fn run(program: Program, ctx: &ActivityContext) -> Result<Ended, ChildError> {
    let Program { name, limit, .. } = &program;
    let (name, limit) = (name.clone(), *limit);
    let mut child = spawn(&program)?;
    let mut group = Group(
        child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)),
    );
    let mut heard = Heard::default();
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let stop = {
        let fed = feed(stdin, &program.input);
        let listened = heard.listen(out, err);
        let both = async { tokio::join!(fed, listened).1 };
        tokio::select! {
            // Both outputs are closed; somebody it left behind may hold them open, which the limit ends.
            is_whole = both => (!is_whole).then_some(Stop::TooMuch),
            () = tokio::time::sleep(limit) => Some(Stop::TooLong),
            () = ctx.cancelled() => Some(Stop::Cancelled),
            never = beats(ctx, &name) => match never {},
        }
    };
    let status = if stop.is_some() {
        end(&mut child, &group, program.grace).await;
        None
    } else {
        let status = child.wait().await;
        // Its number may be another's from here on.
        group.0 = None;
        Some(status)
    };
    let said = heard.said(&program.secrets);
    match (stop, status) {
        (Some(Stop::TooLong), _) => Err(ChildError::TooLong { name, limit, said }),
        (Some(Stop::TooMuch), _) => Err(ChildError::TooMuch { name, said }),
        (Some(Stop::Cancelled), _) | (None, None) => Err(ChildError::Cancelled { name, said }),
        (None, Some(Err(source))) => Err(ChildError::Wait { name, source }),
        (None, Some(Ok(status))) => Ok(Ended {
            status,
            answer: heard.answer,
            said,
        }),
    }
}

fn spawn(program: &Program) -> Result<Child, ChildError> {
    let failed = |source| ChildError::Start {
        name: program.name.clone(),
        path: program.path.clone(),
        source,
    };
    let stdin = match &program.input {
        Input::Nothing => Stdio::null(),
        Input::Text(_) => Stdio::piped(),
        Input::File(file) => Stdio::from(file.try_clone().map_err(failed)?),
    };
    let mut command = Command::new(&program.path);
    command
        .args(&program.args)
        .env_clear()
        .envs(
            INHERITED
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .envs(
            program
                .environment
                .iter()
                .map(|(name, value)| (name, value.expose_secret())),
        )
        .process_group(0)
        .kill_on_drop(true)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(dir) = &program.dir {
        command.current_dir(dir);
    }
    command.spawn().map_err(failed)
}

/// Gives the program its text. One that does not read it all says why by how it ends.
async fn feed(stdin: Option<ChildStdin>, input: &Input) {
    if let (Some(mut stdin), Input::Text(text)) = (stdin, input) {
        drop(stdin.write_all(text.expose_secret().as_bytes()).await);
    }
}

async fn beats(ctx: &ActivityContext, name: &str) -> std::convert::Infallible {
    loop {
        ctx.heartbeat(&name);
        tokio::time::sleep(BEAT).await;
    }
}

/// Asks it to end, waits, and kills it with everything that it started.
async fn end(child: &mut Child, group: &Group, grace: Duration) {
    group.signal(Signal::INT);
    drop(tokio::time::timeout(grace, child.wait()).await);
    group.signal(Signal::KILL);
    drop(child.wait().await);
}

/// A program and what it started.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // Nobody may be left, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// What a program said so far.
#[derive(Default)]
struct Heard {
    answer: Vec<u8>,
    tail: Vec<u8>,
}

impl Heard {
    /// Reads both outputs to their ends; `false` when the answer is too long.
    async fn listen(
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

    fn said(&self, secrets: &[SecretString]) -> String {
        told(&String::from_utf8_lossy(&self.tail), secrets)
    }
}

/// The end of a text, from the beginning of a line on, without secrets.
pub(crate) fn told(text: &str, secrets: &[SecretString]) -> String {
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
