//! A host as `bellwether serve` starts it, in whose work something goes wrong, as files say.
//!
//! It is this test binary itself, told by an environment variable where the files are, in a process of its own that may be
//! killed. For each workflow one file says what goes wrong, which the test writes and without which nothing of the
//! workflow is done, and another, which the host writes, which calls it made.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host_runtime::CompileMode;
use host_server::commands::serve;
use host_server::config::Config;
use host_server::host::{Host, HostOptions, Schema};
use host_system::SystemClock;
use host_workflows::{Activities, ActivityContext, ActivityError, Handler};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const FILES: &str = "BELLWETHER_TEST_FAULTS";
/// How the ids of workflows on a node begin.
const WORKFLOWS: [&str; 3] = ["provision-", "migrate-node-", "terminate-"];
/// A node's id.
const ID_CHARS: usize = 36;
/// How a line begins that says that the call was met by its fault.
const MET: &str = "met: ";

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Mishap {
    /// It fails for good, and nothing was done.
    Refused,
    /// It is done and fails for good all the same.
    Lost,
    /// It is done and fails, so that the engine does it once more.
    Twice,
    /// It is done twice at once.
    AtOnce,
    /// The process is killed before it is done: the call before it is the newest that the engine has recorded.
    KilledBefore,
    /// The process is killed when it is done and the engine does not know.
    KilledAfter,
}

impl Mishap {
    fn is_failure(self) -> bool {
        matches!(self, Self::Refused | Self::Lost)
    }
}

/// What goes wrong with the first call of a name in a workflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) call: String,
    pub(super) mishap: Mishap,
}

/// The folder of the files.
#[derive(Clone)]
pub(super) struct Files {
    folder: PathBuf,
    /// What this process has met; only one task writes.
    met_here: Arc<Mutex<BTreeSet<String>>>,
}

impl Files {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            met_here: Arc::default(),
        }
    }

    /// How the host is started.
    pub(super) fn host(&self) -> (&'static str, String, [&'static str; 3]) {
        let victim = "spine::faults::host::a_call_is_told_from_the_others_of_its_workflow";
        let folder = self.folder.display().to_string();
        (FILES, folder, ["--exact", victim, "--nocapture"])
    }

    /// Says what goes wrong in a workflow; `workflow` is its id without what follows the node's.
    pub(super) fn plan(&self, workflow: &str, faults: &[Fault]) {
        let path = self.folder.join(format!("{workflow}.faults"));
        let beside = path.with_extension("new");
        fs::write(&beside, serde_json::to_string(faults).unwrap()).unwrap();
        fs::rename(beside, path).unwrap();
    }

    /// The calls of a workflow in their order, each name once.
    pub(super) fn calls(&self, workflow: &str) -> Vec<String> {
        let mut calls = Vec::new();
        for line in self.lines(workflow) {
            if !line.starts_with(MET) && !calls.contains(&line) {
                calls.push(line);
            }
        }
        calls
    }

    /// Which of its calls were met by their faults.
    pub(super) fn met(&self, workflow: &str) -> Vec<String> {
        let lines = self.lines(workflow).into_iter();
        lines
            .filter_map(|line| line.strip_prefix(MET).map(str::to_owned))
            .collect()
    }

    fn lines(&self, workflow: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join(format!("{workflow}.calls")));
        text.unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    async fn faults(&self, workflow: &str) -> Vec<Fault> {
        let path = self.folder.join(format!("{workflow}.faults"));
        loop {
            if let Ok(text) = fs::read_to_string(&path) {
                return serde_json::from_str(&text).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Notes a call, and says what goes wrong with it.
    async fn meet(&self, name: &str, workflow: &str, input: &str) -> Option<Mishap> {
        let faults = self.faults(workflow).await;
        let mut met_here = self.met_here.lock().unwrap();
        let before = self.lines(workflow);
        let call = call(name, input, &before);
        let met = format!("{MET}{call}");
        let fault = faults.iter().find(|fault| fault.call == call);
        let is_new_here = met_here.insert(format!("{workflow} {call}"));
        if before.last() == Some(&met) && is_new_here {
            // Another workflow's mishap has killed the process, maybe before the engine heard of this failure.
            let mishap = fault.map(|fault| fault.mishap);
            return mishap.filter(|mishap| mishap.is_failure());
        }
        let fault = fault.filter(|_| !before.contains(&met));
        let mut lines = format!("{call}\n");
        if fault.is_some() {
            lines = format!("{lines}{met}\n");
        }
        let path = self.folder.join(format!("{workflow}.calls"));
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(lines.as_bytes()).unwrap();
        fault.map(|fault| fault.mishap)
    }
}

/// What tells a call from the others of its workflow, however often the workflow waits and asks.
fn call(name: &str, input: &str, before: &[String]) -> String {
    let input: Value = serde_json::from_str(input).unwrap();
    let text = |key: &str| input[key].as_str().unwrap().to_owned();
    match name {
        "report_step" => format!("{name} {} {}", text("step"), text("state")),
        "send_command" => format!("{name} {}", text("action")),
        "command_status" | "withdraw_command" => {
            let mut newest_first = before.iter().rev();
            let sent = newest_first.find_map(|line| line.strip_prefix("send_command "));
            format!("{name} {}", sent.unwrap_or_default())
        }
        _ => name.to_owned(),
    }
}

/// The id of a workflow without what follows the node's.
fn of_node(workflow_id: &str) -> &str {
    let mut beginnings = WORKFLOWS
        .iter()
        .filter(|one| workflow_id.starts_with(**one));
    &workflow_id[..beginnings.next().unwrap().len() + ID_CHARS]
}

async fn kill_myself<T>() -> T {
    kill_process(getpid(), Signal::KILL).unwrap();
    std::future::pending().await
}

async fn do_it(
    files: Files,
    name: &'static str,
    handler: Handler,
    ctx: ActivityContext,
    input: String,
) -> Result<String, ActivityError> {
    let mishap = files.meet(name, of_node(ctx.workflow_id()), &input).await;
    let done = || handler(ctx.clone(), input.clone());
    let broken = "the test lets it fail";
    match mishap {
        None => done().await,
        Some(Mishap::Refused) => Err(ActivityError::permanent("broken", broken)),
        Some(Mishap::Lost) => {
            done().await?;
            Err(ActivityError::permanent("broken", broken))
        }
        Some(Mishap::Twice) => {
            done().await?;
            Err(ActivityError::retryable("broken", broken))
        }
        Some(Mishap::AtOnce) => tokio::join!(done(), done()).1,
        Some(Mishap::KilledBefore) => kill_myself().await,
        Some(Mishap::KilledAfter) => {
            drop(done().await);
            kill_myself().await
        }
    }
}

fn around(activities: Activities, files: &Files) -> Activities {
    activities.around(|name, handler| {
        let files = files.clone();
        let wrapped: Handler = Arc::new(move |ctx, input| {
            Box::pin(do_it(files.clone(), name, Arc::clone(&handler), ctx, input))
        });
        wrapped
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_told_from_the_others_of_its_workflow() {
    if let Some(folder) = std::env::var_os(FILES) {
        // This process is the host.
        return live(Files::in_folder(Path::new(&folder))).await;
    }
    let before = ["send_command prepare", "send_command install"].map(str::to_owned);
    for (name, input, expected) in [
        ("finish", "{}", "finish"),
        ("command_status", "{}", "command_status install"),
        ("send_command", r#"{"action":"stop"}"#, "send_command stop"),
        (
            "report_step",
            r#"{"step":"install","state":"started"}"#,
            "report_step install started",
        ),
    ] {
        assert_eq!(call(name, input, &before), expected);
    }
}

/// The life of the host, until it is killed.
async fn live(files: Files) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let config = Config::read(Some(Path::new("bellwether.yaml")), std::env::vars());
    let options = HostOptions {
        compile: CompileMode::InProcess,
        clock: Arc::new(SystemClock),
        schema: Schema::Migrate,
        take_over_workflows: false,
    };
    let host = Host::start_around(config.unwrap(), options, |activities| {
        around(activities, &files)
    });
    let forever = CancellationToken::new();
    serve::until(host.await.unwrap(), forever).await.unwrap();
}
