//! Runs the programs of machine providers with limits on time and output, and hides secrets in what they print.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use host_domain::time::format_duration;
use host_workflows::ActivityContext;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

mod output;

use output::{ANSWER_BYTES_MAX, Files, ProgramOutput};

pub use output::told;

/// How often a running program counts as a heartbeat.
const BEAT: Duration = Duration::from_secs(15);
/// Environment variables that every program inherits.
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
pub struct Program {
    /// Its name in messages, such as `tofu apply`.
    pub name: String,
    pub path: PathBuf,
    pub args: Vec<OsString>,
    pub dir: Option<PathBuf>,
    pub environment: Vec<(String, SecretString)>,
    pub input: Input,
    pub output: Output,
    /// Values that are replaced wherever the program prints them.
    pub secrets: Vec<SecretString>,
    pub limit: Duration,
    /// How long the program may run after a termination signal before it is killed.
    pub grace: Duration,
}

/// What a program reads.
pub enum Input {
    /// No input.
    Nothing,
    /// A text, which may hold secrets.
    Text(SecretString),
    /// A file.
    File(File),
}

/// Where a program's output goes.
pub enum Output {
    /// Pipes to this host; the program ends when the host ends.
    Pipes,
    /// Files in this directory. An interrupted program could lose its state, so it keeps running when the host dies,
    /// and the host only sends it a termination signal.
    Files(PathBuf),
}

impl Program {
    /// A program with arguments, no input and a minute.
    pub fn new<S: AsRef<OsStr>>(
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
            output: Output::Pipes,
            secrets: Vec::new(),
            limit: Duration::from_mins(1),
            grace: Duration::from_secs(5),
        }
    }
}

/// A program that exited by itself.
pub struct ProgramExit {
    pub status: ExitStatus,
    /// All of its standard output.
    pub answer: Vec<u8>,
    /// The last part of both outputs, without secrets.
    pub said: String,
}

impl ProgramExit {
    /// The last part of standard output, without secrets.
    pub fn answered(&self) -> String {
        told(&String::from_utf8_lossy(&self.answer), &[])
    }
}

/// Why a program did not exit by itself.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The program is missing or not executable.
    #[error("`{name}` can't be started; check that `{path}` is installed on this machine")]
    Start {
        name: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The output directory is not writable.
    #[error(
        "the host can't write the output of `{name}` to `{path}`; check that the directory is writable"
    )]
    Output {
        name: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The system does not report the exit status.
    #[error("the host can't read the exit status of `{name}`")]
    Wait {
        name: String,
        #[source]
        source: io::Error,
    },
    /// The program exceeded its time limit.
    #[error("`{name}` exceeded its time limit of {} and was stopped", format_duration(*.limit))]
    TooLong {
        name: String,
        limit: Duration,
        said: String,
    },
    /// The program printed more than the limit.
    #[error("`{name}` printed more than {ANSWER_BYTES_MAX} bytes and was stopped")]
    TooMuch { name: String, said: String },
    /// The workflow was cancelled.
    #[error("`{name}` was stopped because the workflow was cancelled")]
    Cancelled { name: String, said: String },
}

impl ChildError {
    /// What the program printed.
    pub fn said(&self) -> &str {
        match self {
            Self::Start { .. } | Self::Output { .. } | Self::Wait { .. } => "",
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

/// Runs a program until it exits, and sends heartbeats to the workflow engine meanwhile.
pub async fn run(program: Program, ctx: &ActivityContext) -> Result<ProgramExit, ChildError> {
    let Program { name, limit, .. } = &program;
    let (name, limit) = (name.clone(), *limit);
    let files = files(&program)?;
    let mut child = spawn(&program, files.as_ref())?;
    let mut group = Group {
        id: child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)),
        at_drop: files.as_ref().map_or(Signal::KILL, |_| Signal::INT),
    };
    let mut heard = ProgramOutput::default();
    let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let stop = {
        let fed = feed(stdin, &program.input);
        let listened = async {
            match &files {
                None => heard.listen(out, err).await,
                Some(files) => files.ended(&mut child).await,
            }
        };
        let both = async { tokio::join!(fed, listened).1 };
        tokio::select! {
            // A process that the program left behind may hold the pipes open; the time limit ends that.
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
        // The system may reuse the process id from here on.
        group.id = None;
        Some(status)
    };
    if let Some(files) = files {
        // Unreadable output is treated as empty; the exit status says whether the program succeeded.
        drop(heard.read(files));
    }
    let said = heard.said(&program.secrets);
    match (stop, status) {
        (Some(Stop::TooLong), _) => Err(ChildError::TooLong { name, limit, said }),
        (Some(Stop::TooMuch), _) => Err(ChildError::TooMuch { name, said }),
        (Some(Stop::Cancelled), _) | (None, None) => Err(ChildError::Cancelled { name, said }),
        (None, Some(Err(source))) => Err(ChildError::Wait { name, source }),
        (None, Some(Ok(status))) => Ok(ProgramExit {
            status,
            answer: heard.answer,
            said,
        }),
    }
}

/// The output files, when the program may outlive this host.
fn files(program: &Program) -> Result<Option<Files>, ChildError> {
    match &program.output {
        Output::Pipes => Ok(None),
        Output::Files(folder) => Files::new(folder).map(Some).map_err(|source| {
            let (name, path) = (program.name.clone(), folder.clone());
            ChildError::Output { name, path, source }
        }),
    }
}

fn spawn(program: &Program, files: Option<&Files>) -> Result<Child, ChildError> {
    let failed = |source| ChildError::Start {
        name: program.name.clone(),
        path: program.path.clone(),
        source,
    };
    let (out, err) = match files {
        None => (Stdio::piped(), Stdio::piped()),
        Some(files) => {
            let ends = files.ends().map_err(failed)?;
            (Stdio::from(ends.0), Stdio::from(ends.1))
        }
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
        .kill_on_drop(files.is_none())
        .stdin(stdin)
        .stdout(out)
        .stderr(err);
    if let Some(dir) = &program.dir {
        command.current_dir(dir);
    }
    command.spawn().map_err(failed)
}

/// Writes the program's input. A program that stops reading early reports why by its exit status.
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

/// Sends a termination signal, waits, and kills the whole process group.
async fn end(child: &mut Child, group: &Group, grace: Duration) {
    group.signal(Signal::INT);
    drop(tokio::time::timeout(grace, child.wait()).await);
    group.signal(Signal::KILL);
    drop(child.wait().await);
}

/// The process group of a program.
struct Group {
    id: Option<Pid>,
    /// The signal that is sent when nobody waits for the program any more.
    at_drop: Signal,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.id {
            // The group may be empty already.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(self.at_drop);
    }
}
