//! Packages that this machine needs: a compiler and its libraries to build; a browser, databases and an SSH server to test.
//!
//! On Debian, and as root, missing packages are installed. Elsewhere the error names the command that installs them.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::run::{quiet, run};

/// A package, and how to check that it is installed.
struct Need {
    package: &'static str,
    is_installed: fn() -> bool,
}

/// duroxide links OpenSSL through its own copy of sqlx.
const TO_BUILD: &[Need] = &[
    Need {
        package: "pkg-config",
        is_installed: || has("pkg-config", &["--version"]),
    },
    Need {
        package: "libssl-dev",
        is_installed: || has("pkg-config", &["--exists", "openssl"]),
    },
];

const TO_TEST: &[Need] = &[
    Need {
        package: "chromium",
        is_installed: || has("chromium", &["--version"]),
    },
    Need {
        package: "chromium-driver",
        is_installed: || has("chromedriver", &["--version"]),
    },
    Need {
        package: "postgresql",
        is_installed: has_postgres,
    },
    Need {
        package: "nats-server",
        is_installed: || has("nats-server", &["--version"]),
    },
    Need {
        package: "openssh-client",
        is_installed: || has("ssh", &["-V"]),
    },
    Need {
        package: "openssh-server",
        is_installed: || Path::new("/usr/sbin/sshd").exists(),
    },
];

/// Installs missing packages, or names them in an error.
pub(crate) fn prepare(for_tests: bool) -> anyhow::Result<()> {
    let test_needs = if for_tests { TO_TEST } else { &[] };
    let missing: Vec<&str> = TO_BUILD
        .iter()
        .chain(test_needs)
        .filter(|need| !(need.is_installed)())
        .map(|need| need.package)
        .collect();
    for program in ["npm", "cc"] {
        if !has(program, &["--version"]) {
            bail!(
                "`{program}` is not installed; install it (on Debian: `apt-get install npm build-essential`) and run this command again"
            );
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !has("apt-get", &["--version"]) || !is_root() {
        bail!(
            "these packages are not installed: {packages}; run `sudo apt-get install {packages}` (or the equivalent of your system) and run this command again"
        );
    }
    let mut update = Command::new("apt-get");
    update.args(["update", "-q"]);
    run(update)?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(missing);
    run(install)
}

/// Whether a program starts and succeeds with these arguments.
pub(crate) fn has(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args);
    quiet(command)
}

fn has_postgres() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let has_server = |folder: &Path| folder.join("bin/initdb").exists();
    versions.is_ok_and(|folders| folders.flatten().any(|folder| has_server(&folder.path())))
}

/// Whether this program runs as root.
pub(crate) fn is_root() -> bool {
    let mut id = Command::new("id");
    id.arg("-u");
    id.output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
