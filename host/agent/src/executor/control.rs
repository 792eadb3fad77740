//! The commands that are idempotent as a whole: prepare, start, stop, restart, uninstall.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use host_domain::ids::{CommandId, NodeId};
use proto::v1 as pb;
use proto::v1::command::Action;

use super::Executor;
use crate::adapters::Adapters;
use crate::journal::{Payload, Record, StepRecord, StepState};
use crate::node_root::NodeRoot;
use crate::steps::kill_tools;

/// The part of a restart that must not run twice, as the journal names it.
const STOP: &str = "stop";

impl Executor {
    pub(super) async fn control(
        &self,
        node: NodeId,
        id: CommandId,
        action: &Action,
    ) -> anyhow::Result<Option<pb::Prepared>> {
        match action {
            Action::Prepare(prepare) => return self.prepare(node, prepare).map(Some),
            Action::Start(pb::Start {}) => self.start_all(&self.node_root(node)?).await?,
            Action::Stop(pb::Stop {}) => self.stop_all(&self.node_root(node)?).await?,
            Action::Restart(pb::Restart {}) => {
                let root = self.node_root(node)?;
                // After a crash, a restart must not stop again what it has started since.
                if self.begin_stop(id).await? {
                    self.stop_all(&root).await?;
                    self.finish_stop(id).await?;
                }
                self.start_all(&root).await?;
            }
            Action::Uninstall(pb::Uninstall {}) => self.uninstall(node).await?,
            Action::Install(_) => anyhow::bail!("an installation runs as a sequence of steps"),
        }
        Ok(None)
    }

    fn prepare(&self, node: NodeId, prepare: &pb::Prepare) -> anyhow::Result<pb::Prepared> {
        let mut preferred = BTreeMap::new();
        for (name, port) in &prepare.ports {
            let port = u16::try_from(*port)
                .with_context(|| format!("port `{name}` is {port}; ports are below 65536"))?;
            preferred.insert(name.clone(), port);
        }
        let root = NodeRoot::create(&self.layout, node)
            .context("the agent can't create the node's folder")?;
        let ports = self.ports.reserve(node, &preferred)?;
        Ok(pb::Prepared {
            root: root.path.to_string_lossy().into_owned(),
            ports: ports
                .into_iter()
                .map(|(name, port)| (name, u32::from(port)))
                .collect(),
        })
    }

    /// Starts every process. A process that fails to start does not prevent the others from starting.
    async fn start_all(&self, root: &NodeRoot) -> anyhow::Result<()> {
        let mut result = Ok(());
        for record in Adapters::records(root)? {
            let started = self.adapters.start(root, &record.process).await;
            result = result.and(started);
        }
        result
    }

    async fn stop_all(&self, root: &NodeRoot) -> anyhow::Result<()> {
        // The last process may need the others until it has ended.
        for record in Adapters::records(root)?.iter().rev() {
            self.adapters.stop(root, &record.process).await?;
        }
        Ok(())
    }

    async fn uninstall(&self, node: NodeId) -> anyhow::Result<()> {
        if let Some(root) = NodeRoot::open(&self.layout, node)? {
            let records = match Adapters::records(&root) {
                // An interrupted uninstallation may have removed the folder of the records.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                records => records?,
            };
            for record in records.iter().rev() {
                self.adapters.remove(&root, &record.process).await?;
            }
            kill_tools(&root);
            remove_tree(root.path).await?;
        }
        self.ports.release(node)?;
        Ok(())
    }

    fn node_root(&self, node: NodeId) -> anyhow::Result<NodeRoot> {
        NodeRoot::open(&self.layout, node)?.with_context(|| {
            format!("node {node} has no folder on this machine; prepare and install it first")
        })
    }

    /// Records that the stop begins. Returns `false` when the stop was finished before a crash.
    async fn begin_stop(&self, id: CommandId) -> io::Result<bool> {
        let is_finished = self.journal.get(id).is_some_and(|record| {
            let mut steps = record.steps.iter();
            steps.any(|step| step.state == StepState::Finished)
        });
        if is_finished {
            return Ok(false);
        }
        let started = StepRecord {
            index: 0,
            name: STOP.to_owned(),
            kind: STOP.to_owned(),
            payload: Payload::none(),
            state: StepState::Started,
        };
        let begin = |record: &mut Record| record.steps = vec![started];
        self.journal.update(id, begin).await?;
        Ok(true)
    }

    async fn finish_stop(&self, id: CommandId) -> io::Result<()> {
        let finish = |record: &mut Record| {
            for step in &mut record.steps {
                step.state = StepState::Finished;
            }
        };
        self.journal.update(id, finish).await
    }
}

/// Renames the folder before removing it, so that a crash leaves no incomplete node.
async fn remove_tree(path: PathBuf) -> anyhow::Result<()> {
    let removal = tokio::task::spawn_blocking(move || {
        let gone = path.with_file_name(format!(".gone-{}", uuid::Uuid::now_v7().simple()));
        std::fs::rename(&path, &gone)?;
        make_removable(&gone)?;
        match std::fs::remove_dir_all(&gone) {
            // A collector wrote its state meanwhile; no other call finds the folder under its new name.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::fs::remove_dir_all(&gone)
            }
            removed => removed,
        }
    });
    removal
        .await
        .context("removing the node's folder was interrupted")?
        .context("the agent can't remove the node's folder; check its owner")
}

/// Makes folders writable, because files in a read-only folder can't be removed.
fn make_removable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let mode = entry.metadata()?.permissions().mode();
            if mode & 0o700 != 0o700 {
                std::fs::set_permissions(
                    entry.path(),
                    std::fs::Permissions::from_mode(mode | 0o700),
                )?;
            }
            make_removable(&entry.path())?;
        }
    }
    Ok(())
}
