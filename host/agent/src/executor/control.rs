//! The commands that are one act, and idempotent as a whole: prepare, start, stop, restart, uninstall.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use host_domain::ids::{CommandId, NodeId};
use proto::v1 as pb;
use proto::v1::command::Action;

use super::Executor;
use crate::adapters::process::{Supervisor, kill_marked};
use crate::journal::{Record, StepRecord, StepState};
use crate::node_root::NodeRoot;
use crate::steps::Trace;

impl Executor {
    pub(super) async fn control(
        &self,
        node: NodeId,
        id: CommandId,
        action: &Action,
    ) -> anyhow::Result<Option<pb::Prepared>> {
        match action {
            Action::Prepare(prepare) => return self.prepare(node, prepare).map(Some),
            Action::Start(pb::Start {}) => self.start_all(&self.prepared(node)?).await?,
            Action::Stop(pb::Stop {}) => self.stop_all(&self.prepared(node)?).await?,
            Action::Restart(pb::Restart {}) => {
                let root = self.prepared(node)?;
                // A restart that was cut off after its stop must not stop again what was started since.
                if self.begin_once(id, "stop").await? {
                    self.stop_all(&root).await?;
                    self.finish_once(id).await?;
                }
                self.start_all(&root).await?;
            }
            Action::Uninstall(pb::Uninstall {}) => self.uninstall(node).await?,
            Action::Install(_) => anyhow::bail!("an installation is run step by step"),
        }
        Ok(None)
    }

    fn prepare(&self, node: NodeId, prepare: &pb::Prepare) -> anyhow::Result<pb::Prepared> {
        let mut wishes = BTreeMap::new();
        for (name, port) in &prepare.ports {
            let port = u16::try_from(*port)
                .with_context(|| format!("port `{name}` is not below 65536"))?;
            wishes.insert(name.clone(), port);
        }
        let root =
            NodeRoot::create(&self.layout, node).context("the node's folder can't be made")?;
        let ports = self.ports.reserve(node, &wishes)?;
        Ok(pb::Prepared {
            root: root.path.to_string_lossy().into_owned(),
            ports: ports
                .into_iter()
                .map(|(name, port)| (name, u32::from(port)))
                .collect(),
        })
    }

    /// Tells every process to run. One that can't yet, or not at all, keeps none of the others from it.
    async fn start_all(&self, root: &NodeRoot) -> anyhow::Result<()> {
        let mut started = Ok(());
        for record in Supervisor::records(root)? {
            let outcome = self.supervisor.start(root, record.spec).await;
            started = started.and(outcome);
        }
        Ok(started?)
    }

    async fn stop_all(&self, root: &NodeRoot) -> anyhow::Result<()> {
        // The last one started may need the others until it has ended.
        for record in Supervisor::records(root)?.iter().rev() {
            self.supervisor.stop(root, &record.spec.name).await?;
        }
        Ok(())
    }

    async fn uninstall(&self, node: NodeId) -> anyhow::Result<()> {
        if let Some(root) = NodeRoot::open(&self.layout, node)? {
            let records = match Supervisor::records(&root) {
                // An uninstallation that was cut off may have removed this folder already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                records => records?,
            };
            for record in records.iter().rev() {
                self.supervisor.remove(&root, &record.spec.name).await?;
            }
            kill_marked(&format!("BELLWETHER_PROCESS={node}/.tool"));
            remove_tree(root.path).await?;
        }
        self.ports.release(node)?;
        Ok(())
    }

    fn prepared(&self, node: NodeId) -> anyhow::Result<NodeRoot> {
        NodeRoot::open(&self.layout, node)?.with_context(|| {
            format!("node {node} has no folder on this machine; prepare and install it first")
        })
    }

    async fn begin_once(&self, id: CommandId, name: &str) -> io::Result<bool> {
        let known = self.journal.get(id).is_some_and(|record| {
            record
                .steps
                .iter()
                .any(|step| step.state == StepState::Finished)
        });
        if known {
            return Ok(false);
        }
        let begun = StepRecord {
            index: 0,
            name: name.to_owned(),
            trace: Trace::default(),
            state: StepState::Begun,
        };
        let begin = |record: &mut Record| record.steps = vec![begun];
        self.journal.update(id, begin).await?;
        Ok(true)
    }

    async fn finish_once(&self, id: CommandId) -> io::Result<()> {
        let finish = |record: &mut Record| {
            for step in &mut record.steps {
                step.state = StepState::Finished;
            }
        };
        self.journal.update(id, finish).await
    }
}

/// Moves the folder away before removing it, so that a crash does not leave half a node.
async fn remove_tree(path: std::path::PathBuf) -> anyhow::Result<()> {
    let removal = tokio::task::spawn_blocking(move || {
        let gone = path.with_file_name(format!(".gone-{}", uuid::Uuid::now_v7().simple()));
        std::fs::rename(&path, &gone)?;
        make_removable(&gone)?;
        std::fs::remove_dir_all(&gone)
    });
    removal
        .await
        .context("removing broke off")?
        .context("the node's folder can't be removed; check its owner")
}

/// Folders that a process made read-only would keep their content.
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
