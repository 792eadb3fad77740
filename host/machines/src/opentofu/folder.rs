//! The working directory of one machine: a copy of the module, the plan, and the state unless S3 holds it.
//!
//! The copy lets the host destroy the machine even after the module has changed.

use std::fs::File;
use std::path::{Path, PathBuf};

use host_workflows::ActivityContext;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::MachineProviderError;
use super::{bucket, lock};
use crate::config::{OpentofuConfig, S3State};
use host_system::write_private;

/// Written last, so its presence means that the copy is complete.
const BACKEND: &str = "backend.tf.json";
/// Locked while OpenTofu or Terraform runs.
const LOCK: &str = "engine.lock";
/// Marks that an apply started: from then on a machine may exist.
const APPLY_BEGUN: &str = "apply-begun";
/// Marks that the apply finished. The state can't say that, because it also has outputs after a partial apply.
const APPLIED: &str = "applied";

/// A machine's working directory.
pub(super) struct Folder {
    root: PathBuf,
    machine: String,
}

impl Folder {
    pub(super) fn of(folders: &Path, machine: &str) -> Self {
        Self {
            root: folders.join(machine),
            machine: machine.to_owned(),
        }
    }

    /// Where OpenTofu or Terraform runs.
    pub(super) fn module(&self) -> PathBuf {
        self.root.join("module")
    }

    /// Where its output is written.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this host ever prepared work for the node; another host may have done so.
    pub(super) fn is_prepared(&self) -> bool {
        self.module().join(BACKEND).exists() || self.is_apply_begun()
    }

    /// Ensures that no other OpenTofu or Terraform process works here until the returned file is dropped.
    pub(super) async fn lock(&self, ctx: &ActivityContext) -> Result<File, MachineProviderError> {
        make_private(&self.root).map_err(|source| unusable(&self.root, source))?;
        let path = self.root.join(LOCK);
        let taken = lock::take(&path, ctx).await;
        taken.map_err(|source| unusable(&path, source))
    }

    /// Copies the module once and writes its backend configuration.
    pub(super) fn prepare(&self, config: &OpentofuConfig) -> Result<(), MachineProviderError> {
        let backend = self.module().join(BACKEND);
        if backend.exists() {
            return Ok(());
        }
        let copy = || -> std::io::Result<()> {
            make_private(&self.module())?;
            for entry in std::fs::read_dir(&config.module)? {
                let entry = entry?;
                let name = entry.file_name();
                // A state file beside a module belongs to the user.
                let is_state = name.to_string_lossy().contains(".tfstate");
                if entry.path().is_file() && !is_state {
                    std::fs::copy(entry.path(), self.module().join(name))?;
                }
            }
            Ok(())
        };
        copy().map_err(|source| unusable(&config.module, source))?;
        let settings = match &config.s3 {
            Some(s3) => s3_backend(s3, &self.machine),
            None => json!({"local": {"path": self.root.join("terraform.tfstate")}}),
        };
        let text = json!({"terraform": {"backend": settings}}).to_string();
        write_private(&backend, text.as_bytes())
            .map_err(|error| unusable(&backend, std::io::Error::other(error)))
    }

    /// The digest of the plan in this directory.
    pub(super) fn plan_digest(&self) -> Result<String, MachineProviderError> {
        let path = self.module().join("plan.bin");
        let plan = std::fs::read(&path).map_err(|source| unusable(&path, source))?;
        Ok(hex::encode(Sha256::digest(plan)))
    }

    /// Marks that an apply starts.
    pub(super) fn note_apply_begun(&self) -> Result<(), MachineProviderError> {
        self.note(APPLY_BEGUN)
    }

    /// Whether an apply ever started.
    pub(super) fn is_apply_begun(&self) -> bool {
        self.root.join(APPLY_BEGUN).exists()
    }

    /// Marks that the apply finished.
    pub(super) fn note_applied(&self) -> Result<(), MachineProviderError> {
        self.note(APPLIED)
    }

    /// Whether the apply finished.
    pub(super) fn is_applied(&self) -> bool {
        self.root.join(APPLIED).exists()
    }

    fn note(&self, name: &str) -> Result<(), MachineProviderError> {
        let path = self.root.join(name);
        write_private(&path, b"").map_err(|error| unusable(&path, std::io::Error::other(error)))
    }

    /// Removes the directory, if it exists.
    pub(super) fn remove(&self) -> Result<(), MachineProviderError> {
        match std::fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| unusable(&self.root, source)),
        }
    }
}

/// The backend configuration for a bucket; for services other than Amazon's it
/// uses only widely supported features.
fn s3_backend(s3: &S3State, machine: &str) -> Value {
    let mut settings = json!({
        "bucket": s3.bucket,
        "key": bucket::object(s3, machine),
        "region": s3.region,
        "use_lockfile": true,
    });
    if let Some(endpoint) = &s3.endpoint {
        settings["endpoints"] = json!({"s3": endpoint});
        for name in [
            "use_path_style",
            "skip_credentials_validation",
            "skip_metadata_api_check",
            "skip_region_validation",
            "skip_requesting_account_id",
        ] {
            settings[name] = Value::Bool(true);
        }
    }
    json!({"s3": settings})
}

/// Creates a directory that only this user can read: plans and states may contain secrets.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn unusable(path: &Path, source: std::io::Error) -> MachineProviderError {
    MachineProviderError::File {
        path: path.to_owned(),
        source,
    }
}
