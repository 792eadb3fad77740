//! Compiles components in a separate process, because a compiler can't be interrupted and a component can exhaust its
//! memory.
//!
//! The child runs this binary with a hidden command. It limits itself before it reads the input, so that no unsafe
//! code runs between fork and exec; the parent limits its wall time and reads a short reason when it fails.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::engine;
use crate::error::PluginError;

/// The hidden command of binaries that host plugins: `__compile-component IN OUT`, implemented by [`compile_main`].
pub const COMPILE_COMMAND: &str = "__compile-component";

/// The compiler's limit of CPU time.
const CPU_SECONDS_MAX: u64 = 60;
/// The compiler's limit of writable memory; a hostile component of 2 MB needed 580 MB.
const DATA_BYTES_MAX: u64 = 1 << 30;
/// The compiler's limit of address space, of which its threads reserve much more than they use.
const ADDRESS_BYTES_MAX: u64 = 8 << 30;
/// The maximum size of the compiled file.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// The compiler's limit of wall time.
const WALL: Duration = Duration::from_mins(2);
/// How much of the compiler's error message is read.
const REASON_BYTES_MAX: u64 = 2048;

/// Where components are compiled.
#[derive(Clone, Debug)]
pub enum CompileMode {
    /// In this process, only for tests and benchmarks with trusted components.
    InProcess,
    /// In a child process, with limits of time and memory.
    Child {
        /// The program.
        exe: PathBuf,
        /// Its arguments; the two paths follow them.
        args: Vec<OsString>,
    },
}

impl CompileMode {
    /// A child of the running binary, which must implement [`COMPILE_COMMAND`].
    pub fn this_binary() -> io::Result<Self> {
        // The kernel's link still points to the running program after an upgrade has replaced its file.
        let link = Path::new("/proc/self/exe");
        let exe = if link.exists() {
            link.to_owned()
        } else {
            std::env::current_exe()?
        };
        Ok(Self::Child {
            exe,
            args: vec![COMPILE_COMMAND.into()],
        })
    }
}

/// The main function of the child: sets its limits, compiles `input` into `output`, and reports an error.
pub fn compile_main(input: &Path, output: &Path) -> ExitCode {
    match bound_self()
        .map_err(|error| format!("the compiler can't set its limits: {error}"))
        .and_then(|()| compile_file(input, output))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            #[expect(
                clippy::print_stderr,
                reason = "the parent process reads it; there is no log here"
            )]
            {
                eprintln!("{reason}");
            }
            ExitCode::FAILURE
        }
    }
}

fn bound_self() -> rustix::io::Result<()> {
    let limit = |max| Rlimit {
        current: Some(max),
        maximum: Some(max),
    };
    setrlimit(Resource::Core, limit(0))?;
    setrlimit(Resource::Cpu, limit(CPU_SECONDS_MAX))?;
    setrlimit(Resource::Data, limit(DATA_BYTES_MAX))?;
    setrlimit(Resource::As, limit(ADDRESS_BYTES_MAX))?;
    setrlimit(Resource::Fsize, limit(FILE_BYTES_MAX))
}

fn compile_file(input: &Path, output: &Path) -> Result<(), String> {
    let bytes = std::fs::read(input)
        .map_err(|error| format!("the compiler can't read its input: {error}"))?;
    let compiled = compile_bytes(&bytes)?;
    std::fs::write(output, compiled)
        .map_err(|error| format!("the compiler can't write its output: {error}"))
}

fn compile_bytes(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let engine = engine::compiler().map_err(|error| format!("{error:#}"))?;
    engine
        .precompile_component(bytes)
        .map_err(|error| format!("{error:#}"))
}

/// Compiles `input` into `output` in the configured mode.
pub(crate) async fn compile(
    mode: &CompileMode,
    input: &Path,
    output: &Path,
) -> Result<(), PluginError> {
    match mode {
        CompileMode::InProcess => {
            let (input, output) = (input.to_owned(), output.to_owned());
            tokio::task::spawn_blocking(move || compile_file(&input, &output))
                .await
                .map_err(|error| PluginError::Internal(error.into()))?
                .map_err(|reason| PluginError::Compile { reason })
        }
        CompileMode::Child { exe, args } => {
            let mut command = Command::new(exe);
            command.args(args).arg(input).arg(output);
            run_child(command).await
        }
    }
}

async fn run_child(mut command: Command) -> Result<(), PluginError> {
    let internal = |error: io::Error| {
        PluginError::Internal(anyhow::Error::new(error).context("the compiler's process"))
    };
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(internal)?;
    let stderr = child.stderr.take();
    let work = async {
        let mut reason = Vec::new();
        if let Some(stderr) = stderr {
            stderr
                .take(REASON_BYTES_MAX)
                .read_to_end(&mut reason)
                .await?;
        }
        io::Result::Ok((
            child.wait().await?,
            String::from_utf8_lossy(&reason).trim().to_owned(),
        ))
    };
    match tokio::time::timeout(WALL, work).await {
        Ok(done) => {
            let (status, reason) = done.map_err(internal)?;
            judge(status, reason)
        }
        Err(_elapsed) => Err(CompileLimitWhat::Wall.into()),
    }
}

fn judge(status: ExitStatus, reason: String) -> Result<(), PluginError> {
    if status.success() {
        return Ok(());
    }
    match status.signal() {
        Some(signal) if signal == Signal::XCPU.as_raw() || signal == Signal::KILL.as_raw() => {
            Err(CompileLimitWhat::Cpu.into())
        }
        Some(signal) if signal == Signal::XFSZ.as_raw() => Err(CompileLimitWhat::File.into()),
        // A failed allocation aborts the compiler.
        Some(_) => Err(CompileLimitWhat::Memory.into()),
        None => Err(PluginError::Compile { reason }),
    }
}

enum CompileLimitWhat {
    Cpu,
    Wall,
    Memory,
    File,
}

impl From<CompileLimitWhat> for PluginError {
    fn from(what: CompileLimitWhat) -> Self {
        let what = match what {
            CompileLimitWhat::Cpu => format!("{CPU_SECONDS_MAX} s of CPU time"),
            CompileLimitWhat::Wall => format!("{} s", WALL.as_secs()),
            CompileLimitWhat::Memory => format!("{} MiB of memory", DATA_BYTES_MAX >> 20),
            CompileLimitWhat::File => format!("{} MiB of output", FILE_BYTES_MAX >> 20),
        };
        Self::CompileLimit { what }
    }
}

#[cfg(test)]
mod tests {
    use tokio::process::Command;

    use super::run_child;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn the_end_of_the_compiler_is_told_apart() {
        assert!(run_child(shell("exit 0")).await.is_ok());
        let refused = run_child(shell("echo bad section >&2; exit 1"))
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the component does not compile: bad section"
        );
        let slow = run_child(shell("kill -XCPU $$")).await.unwrap_err();
        assert!(slow.to_string().contains("CPU time"), "{slow}");
        let large = run_child(shell("kill -ABRT $$")).await.unwrap_err();
        assert!(large.to_string().contains("memory"), "{large}");
    }

    #[tokio::test]
    async fn the_compiler_inherits_no_environment() {
        let leaked = run_child(shell("test -z \"$CARGO_MANIFEST_DIR\" || exit 1")).await;
        assert!(leaked.is_ok(), "{leaked:?}");
    }
}
