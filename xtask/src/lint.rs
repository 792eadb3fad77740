//! Checks that are not tests: the format, clippy's findings, and links in the documentation.

use crate::build::with;
use crate::run::{cargo, run};
use crate::selection;

const PLUGINS: [&str; 2] = ["--manifest-path", "plugins/Cargo.toml"];

/// Runs every check; no warning is allowed.
pub(crate) fn lint() -> anyhow::Result<()> {
    let format = ["fmt", "--all", "--check"];
    run(cargo(format))?;
    run(cargo(format.into_iter().chain(PLUGINS)))?;
    let deny = ["--", "--deny", "warnings"];
    let tested = with(
        &["clippy", "--all-targets", "--locked"],
        selection::tested(),
    );
    let programs = with(&["clippy", "--locked"], selection::programs());
    let benchmarks = with(
        &["clippy", "--all-targets", "--locked"],
        selection::benchmarks(),
    );
    for clippy in [tested, programs, benchmarks] {
        run(cargo(clippy.into_iter().chain(deny.map(str::to_owned))))?;
    }
    let clippy = ["clippy", "--workspace", "--locked"];
    run(cargo(clippy.into_iter().chain(PLUGINS).chain(deny)))?;
    let doc = [
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ];
    let mut doc = cargo(doc.into_iter().chain(["--locked"]));
    doc.env("RUSTDOCFLAGS", "--deny warnings");
    run(doc)
}
