//! Running other programs (npm, pip, apt-get, dpkg-deb) for a step.
//!
//! The program gets the node's tool lock as its input, as processes do: when the agent was killed while a tool
//! worked, the next try finds the tool and ends it first, so that two never work on one folder.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::{Report, StepContext};
use crate::adapters::process::{Lock, kill_marked, take_lock};
use crate::node_root::{NodeRoot, RUN_DIR};
use crate::time;

/// How long a tool that an earlier agent left may take to die.
const LEFT_MAX: Duration = Duration::from_secs(10);
/// Output that is read in one go.
const CHUNK: usize = 4 * 1024;

/// Runs `program` in `folder` and fails with the end of its output unless it succeeds.
pub(super) async fn run<S: AsRef<OsStr>>(
    ctx: &StepContext,
    folder: &Path,
    program: &str,
    args: impl IntoIterator<Item = S>,
) -> anyhow::Result<()> {
    let marker = format!("{}/.tool", ctx.root.id);
    let lock = take_tool_lock(&ctx.root, &marker).await?;
    let mut child = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env("BELLWETHER_PROCESS", &marker)
        .env("CI", "1")
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::from(lock))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{program}` can't be run; install it on this machine"))?;
    let _group = KillOnDrop(
        child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)),
    );
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (status, (), ()) =
        tokio::join!(child.wait(), copy(out, &ctx.report), copy(err, &ctx.report));
    let status = status.with_context(|| format!("`{program}` can't be waited for"))?;
    anyhow::ensure!(
        status.success(),
        "`{program}` failed ({status}); see its output"
    );
    Ok(())
}

async fn take_tool_lock(root: &NodeRoot, marker: &str) -> anyhow::Result<std::fs::File> {
    let path = Path::new(RUN_DIR).join(".tool.lock");
    let end = time::now().plus(LEFT_MAX);
    loop {
        match take_lock(root, &path).context("the tool lock can't be taken")? {
            Lock::Free(lock) => return Ok(lock),
            Lock::Held => {
                anyhow::ensure!(
                    time::now() < end,
                    "a tool of an earlier try does not end; look at the machine"
                );
                kill_marked(&format!("BELLWETHER_PROCESS={marker}"));
                time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn copy(from: Option<impl AsyncRead + Unpin>, report: &Report) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; CHUNK];
    // A read that fails ends the output; the status tells the rest.
    while let Ok(n) = from.read(&mut chunk).await {
        if n == 0 {
            return;
        }
        report.print(&String::from_utf8_lossy(&chunk[..n]));
    }
}

/// Ends the whole group when the step is given up.
struct KillOnDrop(Option<Pid>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // After a success nobody is left, or only what the tool should not have left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
