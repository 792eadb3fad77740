//! A headless Chromium with a profile of its own, driven over HTTP by a chromedriver: the steps that a person's hands and eyes
//! make. All tests of a run share one chromedriver; without nextest a test starts its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

const INSTALL: &str =
    "install the browser with `apt-get install -y chromium chromium-driver` and run the test again";
/// The variable that holds the port of the shared chromedriver.
const SHARED: &str = "BELLWETHER_TEST_SHARED_CHROMEDRIVER";
/// Nothing that is waited for takes longer, on a slow machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(150);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The browser with one page.
pub(super) struct Browser {
    /// Where the chromedriver is this test's own.
    driver: Option<Child>,
    port: u16,
    client: reqwest::Client,
    session: String,
    /// The browser's own files.
    profile: tempfile::TempDir,
}

impl Browser {
    pub(super) async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let (driver, port) = match std::env::var(SHARED) {
            Ok(port) => (None, port.parse().unwrap()),
            Err(_) => start_driver(profile.path()).await,
        };
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let mut browser = Self {
            driver,
            port,
            client,
            session: String::new(),
            profile,
        };
        let base = format!("http://127.0.0.1:{port}/session");
        let data = browser.profile.path().join("profile");
        let answer = browser.post(&base, &capabilities(&data)).await;
        let id = answer["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("chromium does not start: {answer}; {INSTALL}"));
        browser.session = format!("{base}/{id}");
        browser
    }

    pub(super) async fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url })).await;
    }

    /// Sets the size of the window as a device has it, and the colours that its owner likes.
    pub(super) async fn be(&self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", scheme).await;
    }

    /// Runs a script's body in the page and gives what it returns.
    pub(super) async fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
            .await
    }

    /// Waits until the expression is true in the page, and gives its value.
    pub(super) async fn until(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let value = self.run(&script).await;
                let is_empty = value == Value::Null || value == json!(false) || value == json!("");
                if !is_empty {
                    return value;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        if let Ok(value) = waited.await {
            value
        } else {
            let seen = self.shot("waited-in-vain").await;
            let text = self.run("return document.body.innerText").await;
            let seen = seen.display();
            panic!("the page never showed {expression}; it shows {text}; see {seen}")
        }
    }

    /// Clicks where the element is, as a pointer does: what lies above it gets the click.
    pub(super) async fn click(&self, selector: &str) {
        let quoted = json!(selector);
        self.until(&format!("document.querySelector({quoted})"))
            .await;
        let using = json!({ "using": "css selector", "value": selector });
        let element = self.command("element", &using).await;
        let id = element.as_object().and_then(|keys| keys.values().next());
        let id = id.and_then(Value::as_str).unwrap().to_owned();
        self.command(&format!("element/{id}/click"), &json!({}))
            .await;
    }

    pub(super) async fn type_into(&self, selector: &str, text: &str) {
        self.click(selector).await;
        let keys = text
            .chars()
            .map(|key| json!({ "type": "keyDown", "value": key.to_string() }));
        let keys: Vec<_> = keys.collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keys", "actions": keys }] });
        self.command("actions", &actions).await;
    }

    /// Keeps what is seen, for people.
    pub(super) async fn shot(&self, name: &str) -> PathBuf {
        let url = format!("{}/screenshot", self.session);
        let answer = self.client.get(&url).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let png = STANDARD.decode(answer["value"].as_str().unwrap()).unwrap();
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("console-{name}.png"));
        std::fs::write(&path, png).unwrap();
        path
    }

    /// What the page complained of: errors of scripts and refusals of the browser.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let entries = self.command("se/log", &json!({ "type": "browser" })).await;
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.command("goog/cdp/execute", &body).await;
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        self.post(&format!("{}/{path}", self.session), body).await
    }

    async fn post(&self, url: &str, body: &Value) -> Value {
        let answer = self.client.post(url).json(body).send().await.unwrap();
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "the browser refuses: {answer}");
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The answer says that the browser has ended.
        drop(end_session(self.port, &self.session));
        if let Some(driver) = &mut self.driver {
            if let Some(group) = i32::try_from(driver.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            drop(driver.wait());
        }
    }
}

/// Starts a chromedriver, whose files lie in the browser's folder.
async fn start_driver(folder: &Path) -> (Option<Child>, u16) {
    let log = folder.join("driver.log");
    let driver = Command::new("chromedriver")
        .arg("--port=0")
        .env("TMPDIR", folder)
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::null())
        // A group of its own: whatever it starts ends with it.
        .process_group(0)
        .spawn();
    let driver = driver.unwrap_or_else(|error| panic!("chromedriver: {error}; {INSTALL}"));
    (Some(driver), port_in(&log).await)
}

/// Closes the browser; a `drop` can't wait for an asynchronous client.
fn end_session(port: u16, session: &str) -> std::io::Result<()> {
    let path = session.split_once("/session").unwrap_or_default().1;
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!(
        "DELETE /session{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes())?;
    connection.read_exact(&mut [0; 12])
}

fn capabilities(profile: &Path) -> Value {
    let own_profile = format!("--user-data-dir={}", profile.display());
    let flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-proxy-server",
        &own_profile,
    ];
    json!({ "capabilities": { "alwaysMatch": {
        "goog:loggingPrefs": { "browser": "ALL" },
        "goog:chromeOptions": { "args": flags },
    } } })
}

/// chromedriver takes a free port and says which.
async fn port_in(log: &Path) -> u16 {
    let said = tokio::time::timeout(PATIENCE, async {
        loop {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let port = text
                .split("successfully on port ")
                .nth(1)
                .and_then(|rest| rest.split_once('.'))
                .and_then(|(port, _)| port.parse().ok());
            if let Some(port) = port {
                return port;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    });
    said.await
        .unwrap_or_else(|_| panic!("chromedriver never said its port; {INSTALL}"))
}
