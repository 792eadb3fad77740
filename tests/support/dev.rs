//! `bellwether dev` as a user runs it, in a folder of its own, with the API as the only way in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use serde_json::Value;

use super::compiled;
use super::temporal::Temporal;
use super::wait::eventually;

/// Folder of the built programs, in which the test binary lies as well.
pub(crate) fn programs() -> PathBuf {
    static BUILT: Once = Once::new();
    if let Some(folder) = std::env::var_os("BELLWETHER_PROGRAMS") {
        return PathBuf::from(folder);
    }
    BUILT.call_once(build_programs);
    let this = std::env::current_exe().unwrap();
    this.parent().and_then(Path::parent).unwrap().to_owned()
}

/// Builds programs and plugins, for tests that neither `cargo xtask test` nor nextest started.
fn build_programs() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["xtask", "prepare-tests"])
        .current_dir(project)
        .status();
    assert!(
        built.unwrap().success(),
        "cannot build what tests start; `cargo xtask setup` shows why and installs what is missing"
    );
}

/// Where a host keeps compiled plugins, the agent in it, and an agent in its own folder.
const HOST_CACHE: &str = ".bellwether/cache";
const OWN_AGENT_CACHE: &str = ".bellwether/agent/cache/compiled";
const AGENT_CACHE: &str = "cache/compiled";

/// A folder with the product in it; dropping it ends everything that was started in it.
pub(crate) struct Dev {
    folder: tempfile::TempDir,
    host: Option<Child>,
    agent: Option<Child>,
    /// Agents of named hosts.
    agents: BTreeMap<String, Child>,
    /// What the host is.
    program: PathBuf,
    args: Vec<String>,
    /// For the host only.
    environment: Vec<(String, String)>,
    /// Whether hosts and agents get compiled plugins of other tests.
    shares_plugins: bool,
    client: reqwest::Client,
}

impl Dev {
    /// Chain configurations of the project, copied so that a test may change them; nothing runs yet.
    pub(crate) fn new(args: &[&str]) -> Self {
        let program = programs().join("bellwether");
        let folder = tempfile::tempdir().unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let components = project.join("chain-configs/components/evm.wasm");
        assert!(
            components.exists(),
            "the plugins are not built; `cargo xtask setup` builds them"
        );
        copy(
            &project.join("chain-configs"),
            &folder.path().join("chain-configs"),
        );
        // Several tests run side by side, each with an agent of its own: of one wished port only one of them could be sure.
        let runtime = folder
            .path()
            .join("chain-configs/chains/anvil-devnet/runtime.yaml");
        let text = std::fs::read_to_string(&runtime).unwrap();
        assert!(text.contains("default: 8545"), "{text}");
        std::fs::write(&runtime, text.replace("default: 8545", "default: 0")).unwrap();
        let config = "health: {heartbeat: {beat_interval: 500ms, evaluation_interval: 1s, heartbeat_timeout: 2s}}\n";
        std::fs::write(folder.path().join("bellwether.yaml"), config).unwrap();
        let dev = "dev --http 127.0.0.1:0 --gateway 127.0.0.1:0 --config bellwether.yaml";
        let args = dev.split(' ').chain(args.iter().copied());
        Self {
            folder,
            host: None,
            agent: None,
            agents: BTreeMap::new(),
            program,
            args: args.map(str::to_owned).collect(),
            environment: Vec::new(),
            shares_plugins: true,
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(10))
                .build()
                .unwrap(),
        }
    }

    /// Lets the host compile every plugin itself, as on a machine that never ran one.
    pub(crate) fn compile_plugins(&mut self) {
        self.shares_plugins = false;
    }

    /// `bellwether serve` on a database, in its place; it makes no node and runs no agent.
    pub(crate) fn serve(database: &str) -> Self {
        let mut dev = Self::serve_embedded();
        dev.set("BELLWETHER_DATABASE__URL", database);
        dev
    }

    /// The same on the database in its folder.
    pub(crate) fn serve_embedded() -> Self {
        let mut dev = Self::new(&[]);
        let path = dev.path("bellwether.yaml");
        let mut config = std::fs::read_to_string(&path).unwrap();
        config.push_str("http: {listen: \"127.0.0.1:0\"}\ngateway: {listen: \"127.0.0.1:0\"}\n");
        config.push_str("chains: {allow_undigested: true}\n");
        std::fs::write(path, config).unwrap();
        dev.args = vec!["serve".to_owned()];
        dev
    }

    /// Another host of the same installation, as an operator sets it up: with the secrets of the first.
    pub(crate) fn beside(&self, database: &str) -> Self {
        let other = Self::serve(database);
        std::fs::create_dir_all(other.path(".bellwether")).unwrap();
        copy(&self.path(".bellwether/ca"), &other.path(".bellwether/ca"));
        for secret in [".bellwether/api-key-pepper", ".bellwether/master-keys"] {
            std::fs::copy(self.path(secret), other.path(secret)).unwrap();
        }
        other
    }

    /// Lets a Temporal carry the workflows.
    pub(crate) fn work_for(&mut self, server: &Temporal) {
        self.set("BELLWETHER_WORKFLOWS__ENGINE", "temporal");
        self.set("BELLWETHER_WORKFLOWS__TEMPORAL__URL", server.url().as_str());
        let namespace = server.namespace();
        self.set("BELLWETHER_WORKFLOWS__TEMPORAL__NAMESPACE", namespace);
    }

    /// Lets another program be the host, one that does what `serve` does.
    pub(crate) fn serve_by(&mut self, program: PathBuf, args: &[&str]) {
        self.program = program;
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// Misses no beat only because the machine is busy.
    pub(crate) fn be_patient(&self) {
        let path = self.path("bellwether.yaml");
        let config = std::fs::read_to_string(&path).unwrap();
        let patient = config.replace("heartbeat_timeout: 2s", "heartbeat_timeout: 20s");
        std::fs::write(path, patient).unwrap();
    }

    /// Adds settings of the host.
    pub(crate) fn configure(&self, yaml: &str) {
        let path = self.path("bellwether.yaml");
        let mut config = std::fs::read_to_string(&path).unwrap();
        config.push_str(yaml);
        std::fs::write(path, config).unwrap();
    }

    /// Gives the gateway a port that is known before the start, and says it.
    pub(crate) fn fix_gateway(&mut self) -> u16 {
        let port = free_port();
        let at = self.args.iter().position(|arg| arg == "--gateway").unwrap();
        self.args[at + 1] = format!("127.0.0.1:{port}");
        port
    }

    /// The process of the host.
    pub(crate) fn host_pid(&self) -> u32 {
        self.host.as_ref().unwrap().id()
    }

    /// How an API call is answered: the status and the header that says when to come again.
    pub(crate) async fn status(&self, path: &str) -> (u16, Option<String>) {
        let request = self.client.get(self.url(path)).bearer_auth(self.key());
        let answer = request.send().await.unwrap();
        let again = answer.headers().get("retry-after");
        let again = again.map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), again)
    }

    /// What the host says of itself outside the API, such as `/readyz`.
    pub(crate) async fn system(&self, path: &str) -> reqwest::Response {
        let url = format!("{}/{path}", self.address());
        self.client.get(url).send().await.unwrap()
    }

    /// Sets a variable of the host.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Another command of the program with the host's settings: whether it ended well, and what it said.
    pub(crate) fn command(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new(programs().join("bellwether"))
            .args(args)
            .envs(self.environment.iter().cloned())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes one file of the configuration, as an editor does.
    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path("chain-configs").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no `{from}`");
        self.write(file, &text.replace(from, to));
    }

    /// Replaces one file of the configuration at once.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path("chain-configs").join(file);
        let beside = path.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, &path).unwrap();
    }

    /// Starts the host and waits until its API answers.
    pub(crate) async fn start(&mut self) {
        drop(std::fs::remove_file(self.path(".bellwether/host")));
        self.spawn();
        self.answers().await;
    }

    /// Starts the host and does not wait.
    pub(crate) fn spawn(&mut self) {
        for cache in [HOST_CACHE, OWN_AGENT_CACHE] {
            self.lend_plugins(&self.path(cache));
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("host.log"))
            .unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.environment.iter().cloned())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.host = Some(command.spawn().unwrap());
    }

    fn lend_plugins(&self, cache: &Path) {
        if self.shares_plugins && !cache.exists() {
            compiled::lend(&self.path("chain-configs/components"), cache);
        }
    }

    fn keep_plugins(&self) {
        compiled::keep(&self.path(HOST_CACHE));
        compiled::keep(&self.path(OWN_AGENT_CACHE));
        compiled::keep(&self.path("agent").join(AGENT_CACHE));
    }

    /// Waits until the API answers.
    pub(crate) async fn answers(&self) {
        eventually("the API answers", Duration::from_mins(1), async || {
            let url = std::fs::read_to_string(self.path(".bellwether/host")).ok()?;
            let answer = self
                .client
                .get(format!("{}/health", url.trim()))
                .send()
                .await
                .ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// Starts an agent as a process of its own.
    pub(crate) async fn start_agent(&mut self) {
        let gateway = self.gateway().await;
        self.agent = Some(self.spawn_agent("local", "agent", &gateway).await);
    }

    /// Starts the agent of a host that has this name, with a way of its own to the gateway.
    pub(crate) async fn start_agent_of(&mut self, host: &str, gateway: &str) {
        let folder = format!("agent-{host}");
        let agent = self.spawn_agent(host, &folder, gateway).await;
        self.agents.insert(host.to_owned(), agent);
    }

    /// The process of such an agent.
    pub(crate) fn agent_pid(&self, host: &str) -> u32 {
        self.agents[host].id()
    }

    /// kill -9 of such an agent.
    pub(crate) fn kill_agent_of(&mut self, host: &str) {
        end(self.agents.remove(host));
    }

    async fn spawn_agent(&self, host: &str, folder: &str, gateway: &str) -> Child {
        let state = self.path(folder);
        let token = self.path(&format!("{folder}.token"));
        if !state.exists() {
            let wanted = serde_json::json!({ "machine": host });
            let issued = self.post("agents/enrolment-tokens", &wanted).await;
            std::fs::write(&token, issued["token"].as_str().unwrap()).unwrap();
        }
        self.lend_plugins(&state.join(AGENT_CACHE));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("{folder}.log")))
            .unwrap();
        let mut command = Command::new(programs().join("bellwether-agent"));
        command
            .arg("--state-dir")
            .arg(&state)
            .arg("--ca-file")
            .arg(self.path(".bellwether/ca/ca.pem"))
            .arg("--token-file")
            .arg(&token)
            .args(["--gateway", gateway, "--name", host])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.spawn().unwrap()
    }

    /// The gateway's address, from what `dev` says when it is up.
    pub(crate) async fn gateway(&self) -> String {
        eventually(
            "dev says where agents connect",
            Duration::from_secs(30),
            async || {
                let log = std::fs::read_to_string(self.path("host.log")).ok()?;
                let line = log
                    .lines()
                    .rev()
                    .find(|line| line.trim_start().starts_with("agents "))?;
                line.split_whitespace().last().map(str::to_owned)
            },
        )
        .await
    }

    /// kill -9 of the host.
    pub(crate) fn kill_host(&mut self) {
        if let Some(mut host) = self.host.take() {
            drop(host.kill());
            drop(host.wait());
        }
    }

    /// Whether the host was started and has ended by itself.
    pub(crate) fn host_has_ended(&mut self) -> bool {
        let ended = self.host.as_mut().map(|host| host.try_wait().unwrap());
        ended.flatten().is_some()
    }

    /// kill -9 and a new start at the same addresses, so that agents find it again.
    pub(crate) async fn restart_host(&mut self) {
        self.restart_host_after(async || {}).await;
    }

    /// The same, with something in between.
    pub(crate) async fn restart_host_after(&mut self, meanwhile: impl AsyncFnOnce()) {
        self.keep_addresses().await;
        self.kill_host();
        meanwhile().await;
        self.start().await;
    }

    /// Writes the addresses that the host has into its settings.
    pub(crate) async fn keep_addresses(&self) {
        let http = std::fs::read_to_string(self.path(".bellwether/host")).unwrap();
        let gateway = self.gateway().await;
        let path = self.path("bellwether.yaml");
        let config = std::fs::read_to_string(&path).unwrap();
        let listen = |section: &str, url: &str| {
            let address = url.trim().rsplit('/').next().unwrap_or_default();
            (
                format!("{section}: {{listen: \"127.0.0.1:0\"}}"),
                format!("{section}: {{listen: \"{address}\"}}"),
            )
        };
        let (from_http, to_http) = listen("http", &http);
        let (from_gateway, to_gateway) = listen("gateway", &gateway);
        let config = config.replace(&from_http, &to_http);
        std::fs::write(path, config.replace(&from_gateway, &to_gateway)).unwrap();
    }

    /// kill -9 of the agent.
    pub(crate) fn kill_agent(&mut self) {
        end(self.agent.take());
    }

    /// SIGINT, as Ctrl-C; waits for the end and says whether it was clean.
    pub(crate) async fn interrupt_host(&mut self) -> bool {
        let mut host = self.host.take().unwrap();
        signal(host.id(), rustix::process::Signal::INT);
        eventually(
            "the host ends after Ctrl-C",
            Duration::from_mins(1),
            async || host.try_wait().unwrap(),
        )
        .await
        .success()
    }

    /// Where the console is.
    pub(crate) fn address(&self) -> String {
        let host = std::fs::read_to_string(self.path(".bellwether/host")).unwrap_or_default();
        host.trim().to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.address())
    }

    pub(crate) fn key(&self) -> String {
        std::fs::read_to_string(self.path(".bellwether/admin-key"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// The answer, or nothing while the host is away.
    pub(crate) async fn try_get(&self, path: &str) -> Option<Value> {
        let answer = self
            .client
            .get(self.url(path))
            .bearer_auth(self.key())
            .send()
            .await
            .ok()?;
        answer.status().is_success().then_some(())?;
        answer.json().await.ok()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.try_get(path)
            .await
            .unwrap_or_else(|| panic!("{path} does not answer; {}", self.log()))
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self
            .client
            .post(self.url(path))
            .bearer_auth(self.key())
            .json(body)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// The only node.
    pub(crate) async fn node(&self) -> Option<Value> {
        self.try_get("nodes").await?["items"].get(0).cloned()
    }

    /// Waits until the only node is as wanted; the error shows how it was last and what the host said.
    pub(crate) async fn node_when(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        let found = tokio::time::timeout(limit, async {
            loop {
                if let Some(node) = self.node().await {
                    if wanted(&node) {
                        return node;
                    }
                    last = node;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        found.unwrap_or_else(|_| {
            panic!(
                "the node is not {what} after {limit:?}: {last:#}\n{}",
                self.log()
            )
        })
    }

    /// Waits until the node is healthy.
    pub(crate) async fn healthy(&self) -> Value {
        self.node_when("healthy", Duration::from_secs(90), |node| {
            node["display_state"] == "healthy"
        })
        .await
    }

    /// Incidents of a category, of any state.
    pub(crate) async fn incidents(&self, category: &str) -> Vec<Value> {
        let all = self.get("incidents").await;
        let items = all["items"].as_array().unwrap().iter();
        items
            .filter(|incident| incident["category"] == category)
            .cloned()
            .collect()
    }

    /// Processes of nodes that run from this folder: they carry its path in their command line.
    pub(crate) fn node_processes(&self) -> Vec<u32> {
        processes_with(&self.folder.path().display().to_string(), "anvil")
    }

    /// Everything that the host has logged.
    pub(crate) fn whole_log(&self) -> String {
        std::fs::read_to_string(self.path("host.log")).unwrap_or_default()
    }

    /// The newest lines of the host's log.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.path("host.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.kill_host();
        self.kill_agent();
        for agent in std::mem::take(&mut self.agents).into_values() {
            end(Some(agent));
        }
        self.keep_plugins();
        kill_all_in(self.folder.path());
    }
}

/// A port that nobody has now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn end(agent: Option<Child>) {
    if let Some(mut agent) = agent {
        drop(agent.kill());
        drop(agent.wait());
    }
}

/// Sends a signal; a process that is gone is fine.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Kills what works in a folder, also what starts others.
pub(crate) fn kill_all_in(folder: &Path) {
    loop {
        let processes = processes_in(folder);
        if processes.is_empty() {
            return;
        }
        for pid in processes {
            signal(pid, rustix::process::Signal::KILL);
        }
        // Killed processes are listed until they have ended.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes whose command line names a folder, or that work in it.
pub(crate) fn processes_in(folder: &Path) -> Vec<u32> {
    let text = folder.display().to_string();
    processes(|process, line| {
        let works_there = std::fs::read_link(process.join("cwd"));
        !line.is_empty()
            && (line.contains(&text) || works_there.is_ok_and(|cwd| cwd.starts_with(folder)))
    })
}

/// Processes whose command line has both texts.
pub(crate) fn processes_with(folder: &str, name: &str) -> Vec<u32> {
    processes(|_, line| line.contains(folder) && line.contains(name))
}

/// Other processes for which this is so, by their folder in `/proc` and their command line.
fn processes(is_so: impl Fn(&Path, &str) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if pid != std::process::id() && is_so(&entry.path(), &line) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
