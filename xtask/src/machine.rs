//! What the machine must have: a C compiler's headers to build; a browser, a database and an SSH server to test.
//!
//! On Debian and its like missing packages are installed when this runs as root; otherwise the one command is named.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::run::{quiet, run};

/// Packages, and how to see that one is there.
struct Need {
    package: &'static str,
    is_there: fn() -> bool,
}

/// duroxide links OpenSSL through its own copy of sqlx.
const TO_BUILD: &[Need] = &[
    Need {
        package: "pkg-config",
        is_there: || has("pkg-config", &["--version"]),
    },
    Need {
        package: "libssl-dev",
        is_there: || has("pkg-config", &["--exists", "openssl"]),
    },
];

const TO_TEST: &[Need] = &[
    Need {
        package: "chromium",
        is_there: || has("chromium", &["--version"]),
    },
    Need {
        package: "chromium-driver",
        is_there: || has("chromedriver", &["--version"]),
    },
    Need {
        package: "postgresql",
        is_there: has_postgres,
    },
    Need {
        package: "nats-server",
        is_there: || has("nats-server", &["--version"]),
    },
    Need {
        package: "openssh-client",
        is_there: || has("ssh", &["-V"]),
    },
    Need {
        package: "openssh-server",
        is_there: || Path::new("/usr/sbin/sshd").exists(),
    },
];

/// Installs what is missing, or says what to install.
pub(crate) fn prepare(for_tests: bool) -> anyhow::Result<()> {
    let test_needs = if for_tests { TO_TEST } else { &[] };
    let missing: Vec<&str> = TO_BUILD
        .iter()
        .chain(test_needs)
        .filter(|need| !(need.is_there)())
        .map(|need| need.package)
        .collect();
    for program in ["npm", "cc"] {
        if !has(program, &["--version"]) {
            bail!(
                "`{program}` is needed and not installed; install it (Debian: npm, build-essential) and run this again"
            );
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !has("apt-get", &["--version"]) || !is_root() {
        bail!(
            "these packages are missing: {packages}; run `sudo apt-get install {packages}` (or your system's like) and run this again"
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

fn has(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args);
    quiet(command)
}

fn has_postgres() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let has_server = |folder: &Path| folder.join("bin/initdb").exists();
    versions.is_ok_and(|folders| folders.flatten().any(|folder| has_server(&folder.path())))
}

fn is_root() -> bool {
    let mut id = Command::new("id");
    id.arg("-u");
    id.output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
