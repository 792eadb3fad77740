//! Caches compiled components: on disk across restarts, and in memory by digest.
//!
//! A compiled file is native code that this process maps and runs. So it is in a folder that only this user can
//! access, its name contains the component's digest and the engine's compatibility, and a file beside it contains its
//! own digest.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compile::{self, CompileMode};
use crate::error::{PluginError, RuntimeError};
use crate::load::Digest;

/// The maximum of unused components in memory.
const RECENT_MAX: usize = 32;
/// The maximum of compiled files on disk.
const FILES_MAX: usize = 128;

/// The cache of one plugin host.
pub(crate) struct Cache {
    dir: PathBuf,
    mode: CompileMode,
    compatibility: String,
    recent: Mutex<VecDeque<Recent>>,
    /// Only one compiler runs at a time, because it can use all memory of a machine.
    compiling: tokio::sync::Mutex<()>,
}

struct Recent {
    digest: Digest,
    component: Component,
}

impl Cache {
    /// Opens the folder, or creates it.
    pub(crate) fn open(
        dir: &Path,
        mode: CompileMode,
        compatibility: String,
    ) -> Result<Self, RuntimeError> {
        let dir = dir.join("compiled");
        prepare(&dir).map_err(|source| RuntimeError::Cache {
            path: dir.clone(),
            source,
        })?;
        Ok(Self {
            dir,
            mode,
            compatibility,
            recent: Mutex::default(),
            compiling: tokio::sync::Mutex::default(),
        })
    }

    /// The component, compiled for `engine`: from memory, from disk, or by the compiler.
    pub(crate) async fn component(
        &self,
        engine: &Engine,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<Component, PluginError> {
        if let Some(component) = self.recent(engine, digest) {
            return Ok(component);
        }
        let _one = self.compiling.lock().await;
        if let Some(component) = self.recent(engine, digest) {
            return Ok(component);
        }
        let path = self.path(digest);
        let component = if let Some(component) = Self::load(engine, &path) {
            component
        } else {
            self.compile(bytes, &path).await?;
            Self::load(engine, &path).ok_or_else(|| {
                PluginError::Internal(anyhow::anyhow!(
                    "the host can't load the compiled component"
                ))
            })?
        };
        self.remember(digest, component.clone());
        Ok(component)
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir
            .join(format!("{}-{}.cwasm", digest.hex(), self.compatibility))
    }

    fn recent(&self, engine: &Engine, digest: Digest) -> Option<Component> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent
            .iter()
            .find(|known| known.digest == digest && Engine::same(known.component.engine(), engine));
        found.map(|known| known.component.clone())
    }

    fn remember(&self, digest: Digest, component: Component) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(Recent { digest, component });
    }

    /// Loads an intact compiled file. A damaged one counts as missing and is compiled again.
    fn load(engine: &Engine, path: &Path) -> Option<Component> {
        let stated = fs::read_to_string(sidecar(path)).ok()?;
        let actual = Digest::of(&fs::read(path).ok()?);
        if stated != actual.to_string() {
            tracing::warn!(path = %path.display(), "a compiled component is damaged; the host compiles it again");
            return None;
        }
        #[expect(
            unsafe_code,
            reason = "the file was written by our own compiler into a folder that only this user can access, and its digest matches"
        )]
        let loaded = unsafe { Component::deserialize_file(engine, path) };
        loaded
            .inspect_err(|error| tracing::warn!(path = %path.display(), error = format!("{error:#}"), "the host can't load a compiled component"))
            .ok()
    }

    async fn compile(&self, bytes: &[u8], path: &Path) -> Result<(), PluginError> {
        let internal = |error: io::Error| {
            PluginError::Internal(
                anyhow::Error::new(error).context(format!("the cache at {}", self.dir.display())),
            )
        };
        let work = tempfile::tempdir_in(&self.dir).map_err(internal)?;
        let (input, output) = (work.path().join("in.wasm"), work.path().join("out.cwasm"));
        fs::write(&input, bytes).map_err(internal)?;
        compile::compile(&self.mode, &input, &output).await?;
        Self::publish(work.path(), &output, path).map_err(PluginError::Internal)?;
        self.prune();
        Ok(())
    }

    /// Moves a compiled file to its place after its digest, so that a crash never leaves an incomplete file with a
    /// valid digest.
    fn publish(work: &Path, output: &Path, path: &Path) -> anyhow::Result<()> {
        let compiled = fs::File::open(output).context("the compiled file")?;
        compiled.sync_all().context("the compiled file")?;
        let digest = Digest::of(&fs::read(output).context("the compiled file")?);
        let note = work.join("digest");
        fs::write(&note, digest.to_string()).context("the compiled file's digest")?;
        fs::rename(&note, sidecar(path)).context("the compiled file's digest")?;
        fs::rename(output, path).context("the compiled file")
    }

    /// Deletes the oldest files. A mapped file stays usable after its deletion.
    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        let mut files: Vec<_> = entries
            .flatten()
            .filter(|entry| {
                entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "cwasm")
            })
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        for (_, path) in files.into_iter().take(surplus) {
            for gone in [sidecar(&path), path] {
                if let Err(error) = fs::remove_file(&gone) {
                    tracing::debug!(path = %gone.display(), %error, "the host can't delete an old compiled component");
                }
            }
        }
    }
}

fn sidecar(path: &Path) -> PathBuf {
    path.with_extension("digest")
}

fn prepare(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = fs::symlink_metadata(dir)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it is not a folder that this user owns"));
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests;
