//! A gateway, an agent in a separate process, and short forms of commands.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use host_agent::AgentConfig;
use host_runtime::CompileMode;
use proto::v1 as pb;
use proto::v1::command::Action;
use proto::v1::step::Action as StepAction;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::gateway::{TOKEN, TestGateway};

/// The variable that turns a test's process into an agent.
const BECOME_AGENT: &str = "BELLWETHER_TEST_AGENT";

/// A gateway, an agent and a node.
pub(super) struct Bed {
    pub(super) folder: TempDir,
    pub(super) gateway: TestGateway,
    pub(super) node: String,
    agent: Option<Child>,
    env: Vec<(String, String)>,
}

impl Bed {
    /// A bed with a running agent.
    pub(super) async fn new() -> Self {
        let mut bed = Self::without_agent().await;
        bed.start_agent();
        bed
    }

    /// A bed with a running agent that gets more environment variables.
    pub(super) async fn with_env(env: &[(&str, &str)]) -> Self {
        let mut bed = Self::without_agent().await;
        bed.env = env
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        bed.start_agent();
        bed
    }

    pub(super) async fn without_agent() -> Self {
        let folder = TempDir::new().unwrap();
        let gateway = TestGateway::start(folder.path()).await;
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let node = uuid::Uuid::now_v7().to_string();
        Self {
            folder,
            gateway,
            node,
            agent: None,
            env: Vec::new(),
        }
    }

    pub(super) fn start_agent(&mut self) {
        assert!(self.agent.is_none(), "the agent runs already");
        let agent = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "agent::session::an_agent_enrols_beats_and_ends",
                "--nocapture",
            ])
            .env(BECOME_AGENT, self.folder.path())
            .env("BELLWETHER_TEST_GATEWAY", &self.gateway.url)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.agent = Some(agent);
    }

    /// Sets a variable of the next agent.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    pub(super) fn signal_agent(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.agent.as_ref().unwrap().id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// kill -9.
    pub(super) fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    pub(super) fn restart_agent(&mut self) {
        self.kill_agent();
        self.gateway.hang_up();
        self.start_agent();
    }

    /// The configuration of this bed's agents.
    pub(super) fn config(&self) -> AgentConfig {
        config(self.folder.path(), &self.gateway.url)
    }

    pub(super) fn command(&self, action: Action) -> pb::Command {
        command(&self.node, action)
    }

    pub(super) fn install(&self, steps: Vec<pb::Step>) -> pb::Command {
        self.command(Action::Install(pb::Install { steps }))
    }

    /// Creates the node's folder.
    pub(super) async fn prepare(&self) -> pb::Prepared {
        let ports = [("rpc".to_owned(), 0)].into();
        let prepare = pb::Prepare {
            chain: "test".to_owned(),
            node_type: "full".to_owned(),
            ports,
        };
        self.gateway
            .run_well(self.command(Action::Prepare(prepare)))
            .await
            .prepared
            .unwrap()
    }

    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("state/nodes").join(&self.node)
    }

    /// The names in the node's folder, except the agent's own.
    pub(super) fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "run" && name != "logs")
            .collect();
        names.sort();
        names
    }

    /// The running processes of the node.
    pub(super) fn pids(&self) -> Vec<i32> {
        let marker = format!("BELLWETHER_PROCESS={}/", self.node);
        let of = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
        let is_one = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry.starts_with(marker.as_bytes()))
        };
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(of)
            .filter(is_one)
            .collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        for pid in self.pids() {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid).unwrap(),
                rustix::process::Signal::KILL,
            );
        }
    }
}

/// Runs an agent until this process ends, if the environment asks for one.
pub(super) async fn became_agent() -> bool {
    let Some(folder) = std::env::var_os(BECOME_AGENT) else {
        return false;
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let url = std::env::var("BELLWETHER_TEST_GATEWAY").unwrap();
    let config = config(Path::new(&folder), &url);
    host_agent::run(config, CancellationToken::new())
        .await
        .unwrap();
    true
}

fn config(folder: &Path, url: &str) -> AgentConfig {
    let (state, ca) = (folder.join("state"), folder.join("ca.pem"));
    let mut config = AgentConfig::new(state, url.to_owned(), ca, "test".to_owned());
    config.token_file = Some(folder.join("token"));
    config.compile = Some(CompileMode::InProcess);
    config.guard = std::env::var_os("BELLWETHER_TEST_GUARD").map(PathBuf::from);
    config
}

pub(super) fn command(node: &str, action: Action) -> pb::Command {
    let in_a_minute = std::time::SystemTime::now() + std::time::Duration::from_mins(1);
    let deadline = in_a_minute.duration_since(std::time::UNIX_EPOCH).unwrap();
    pb::Command {
        id: uuid::Uuid::now_v7().to_string(),
        node_id: node.to_owned(),
        deadline_ms: i64::try_from(deadline.as_millis()).unwrap(),
        action: Some(action),
    }
}

pub(super) fn step(name: &str, action: StepAction) -> pb::Step {
    pb::Step {
        name: name.to_owned(),
        timeout_ms: 20_000,
        action: Some(action),
        ..Default::default()
    }
}

pub(super) fn file(path: &str, content: &str) -> pb::Step {
    let file = pb::File {
        path: path.to_owned(),
        content: content.into(),
        mode: 0o640,
    };
    step(path, StepAction::File(file))
}

pub(super) fn directory(path: &str) -> pb::Step {
    step(
        path,
        StepAction::Directory(pb::Directory {
            path: path.to_owned(),
            mode: 0o750,
        }),
    )
}

pub(super) fn wait_for(path: &str) -> pb::Step {
    let target = Some(pb::wait_for::Target::Path(path.to_owned()));
    step(
        path,
        StepAction::WaitFor(pb::WaitFor {
            target,
            interval_ms: 20,
        }),
    )
}

pub(super) fn process(name: &str, script: &str) -> pb::Process {
    pb::Process {
        name: name.to_owned(),
        adapter: "process".to_owned(),
        command: "/bin/sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        restart: pb::process::RestartPolicy::Always.into(),
        backoff_ms: 20,
        backoff_max_ms: 100,
        stop_grace_ms: 2_000,
        log_bytes_max: 1 << 20,
        log_files: 2,
        ..Default::default()
    }
}

pub(super) fn run_process(name: &str, script: &str) -> pb::Step {
    step(name, StepAction::Process(process(name, script)))
}
