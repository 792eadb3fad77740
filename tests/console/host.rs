//! `bellwether dev` as its users start it: the real program with a folder and ports of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Looks at an ending host until it is ended by force; 60 s.
const LAST_LOOKS: u32 = 600;

pub(super) struct DevHost {
    child: Child,
    dir: tempfile::TempDir,
    pub(super) url: String,
    pub(super) key: String,
}

impl DevHost {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let chains = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain-configs");
        let child = Command::new(binary())
            .args(["dev", "--http", "127.0.0.1:0", "--gateway", "127.0.0.1:0"])
            // Nothing stays behind.
            .args(["--on-exit", "terminate", "--chains"])
            .arg(chains)
            .arg("--state-dir")
            .arg(&state)
            .env_remove("BELLWETHER_HOST")
            .env_remove("BELLWETHER_KEY_FILE")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut host = Self {
            child,
            dir,
            url: String::new(),
            key: String::new(),
        };
        host.url = host.line_of(&state.join("host")).await;
        host.key = host.line_of(&state.join("admin-key")).await;
        host
    }

    async fn line_of(&self, file: &Path) -> String {
        let written = tokio::time::timeout(PATIENCE, async {
            loop {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                let line = text.trim();
                if !line.is_empty() {
                    return line.to_owned();
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        written
            .await
            .unwrap_or_else(|_| panic!("no {}: {}", file.display(), self.log()))
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for DevHost {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        for _ in 0..LAST_LOOKS {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Lies beside the folder of the test's own program.
fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let target = own.parent().and_then(Path::parent).unwrap();
    let path = target.join("bellwether");
    let shown = path.display();
    assert!(path.exists(), "{shown} is not built; test with --workspace");
    path
}
