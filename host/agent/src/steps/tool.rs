//! Runs other programs (npm, pip, apt-get, dpkg-deb) for a step.
//!
//! A tool gets the node's tool lock as its standard input. If a tool outlives a killed agent, the next attempt finds the
//! tool and kills it first, so two tools never work in one folder.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::{Report, StepContext};
use crate::node_root::{NodeRoot, RUN_DIR};
use crate::process_group::{self, Lock, MARKER, kill_marked, take_lock};
use crate::time;

/// The name of all tools of a node, for their marker.
const NAME: &str = ".tool";
/// How long a killed tool of an earlier agent may take to end.
const KILL_MAX: Duration = Duration::from_secs(10);
/// Bytes of output to read at once.
const CHUNK: usize = 4 * 1024;

/// Runs `program` in `folder`. Its output goes to the step's report.
pub(super) async fn run<S: AsRef<OsStr>>(
    ctx: &StepContext,
    folder: &Path,
    program: &str,
    args: impl IntoIterator<Item = S>,
) -> anyhow::Result<()> {
    let lock = take_tool_lock(&ctx.root).await?;
    let mut child = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env(MARKER, process_group::marker_value(&ctx.root, NAME))
        .env("CI", "1")
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::from(lock))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{program}` failed to start; install it on this machine"))?;
    let _group = KillOnDrop(
        child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)),
    );
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (status, (), ()) =
        tokio::join!(child.wait(), copy(out, &ctx.report), copy(err, &ctx.report));
    let status =
        status.with_context(|| format!("the agent can't read the exit status of `{program}`"))?;
    anyhow::ensure!(
        status.success(),
        "`{program}` failed ({status}); see its output"
    );
    Ok(())
}

/// Kills the tools that an earlier agent left running for a node.
pub(crate) fn kill_tools(root: &NodeRoot) {
    kill_marked(&process_group::marker(root, NAME));
}

async fn take_tool_lock(root: &NodeRoot) -> anyhow::Result<std::fs::File> {
    let path = Path::new(RUN_DIR).join(format!("{NAME}.lock"));
    let end = time::now().plus(KILL_MAX);
    loop {
        match take_lock(root, &path).context("the agent can't take the tool lock")? {
            Lock::Free(lock) => return Ok(lock),
            Lock::Held => {
                anyhow::ensure!(
                    time::now() < end,
                    "a tool of an earlier attempt still runs after SIGKILL; inspect it on the machine"
                );
                kill_tools(root);
                time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn copy(from: Option<impl AsyncRead + Unpin>, report: &Report) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; CHUNK];
    // A failed read ends the output; the exit status shows the failure.
    while let Ok(n) = from.read(&mut chunk).await {
        if n == 0 {
            return;
        }
        report.print(&String::from_utf8_lossy(&chunk[..n]));
    }
}

/// Kills the whole group when the step is dropped.
struct KillOnDrop(Option<Pid>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // After a success, only processes that the tool should have ended can remain.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
