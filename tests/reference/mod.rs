//! The reference pages that are generated: `docs/configuration.md`, `deploy/bellwether.example.yaml` and `docs/metrics.md`.

mod configuration;
mod example;
mod metrics;
mod settings;

use std::path::PathBuf;

/// A path from the root of the repository.
fn at(path: &str) -> PathBuf {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().join(path)
}

/// Fails when a checked-in page differs from what is generated now, and writes the new one.
fn keep(path: &str, generated: &str) {
    let checked_in = std::fs::read_to_string(at(path)).unwrap_or_default();
    if generated != checked_in {
        std::fs::write(at(path), generated).unwrap();
        panic!("{path} was old and is rewritten now; look at the change and commit it");
    }
}
