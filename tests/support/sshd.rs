//! A real SSH server on a free port of this machine, with keys and a configuration of its own in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::dev::free_port;

const SSHD: &str = "/usr/sbin/sshd";

/// A server; it ends with this.
pub(crate) struct Sshd {
    folder: tempfile::TempDir,
    server: Option<Child>,
    pub(crate) port: u16,
    /// The largest file that its sessions may write, in blocks of 512 bytes.
    file_blocks_max: Option<u32>,
}

impl Sshd {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// A machine on which no file grows beyond so many blocks, as if its disk were full.
    pub(crate) async fn start_with(file_blocks_max: Option<u32>) -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "{SSHD} is missing; `cargo xtask setup` installs what tests need"
        );
        let folder = tempfile::tempdir().unwrap();
        for name in ["host", "user", "other"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
                .arg(folder.path().join(name))
                .status();
            assert!(made.unwrap().success());
        }
        let mut sshd = Self {
            folder,
            server: None,
            port: free_port(),
            file_blocks_max,
        };
        std::fs::copy(sshd.path("user.pub"), sshd.path("authorized_keys")).unwrap();
        sshd.configure();
        sshd.run().await;
        sshd
    }

    fn configure(&self) {
        let path = |name: &str| self.path(name).display().to_string();
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n",
            self.port,
            path("host"),
            path("authorized_keys"),
        );
        std::fs::write(self.path("sshd_config"), config).unwrap();
        // Debian's unit makes it; without the unit nobody does.
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
    }

    /// Starts the server, and waits until it answers.
    pub(crate) async fn run(&mut self) {
        let log = std::fs::File::create(self.path("sshd.log")).unwrap();
        let limit = self
            .file_blocks_max
            .map_or_else(|| "unlimited".to_owned(), |max| max.to_string());
        let server = Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit -f {limit}; exec {SSHD} -D -e -f \"$0\""))
            .arg(self.path("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.server = Some(server.unwrap());
        let port = self.port;
        super::wait::eventually(
            "sshd listens",
            std::time::Duration::from_secs(10),
            async || {
                tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .ok()
            },
        )
        .await;
    }

    /// Ends the server as a machine ends that is switched off.
    pub(crate) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.kill());
            drop(server.wait());
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The server's public key as `known_host` wants it.
    pub(crate) fn known_host(&self) -> String {
        self.public_key("host")
    }

    /// A public key that is not the server's.
    pub(crate) fn other_key(&self) -> String {
        self.public_key("other")
    }

    fn public_key(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// The server's own words.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("sshd.log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
        // What a failed test left on "the machine".
        super::dev::kill_all_in(self.folder.path());
    }
}
