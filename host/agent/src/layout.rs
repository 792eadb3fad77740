//! The files and folders in the agent's state folder. All names are here, so no two collide.

use std::io;
use std::path::{Path, PathBuf};

use host_domain::ids::{CommandId, NodeId};

use crate::durable;

/// The agent's state folder.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Creates missing folders. The path becomes absolute, because processes get paths below it.
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        durable::create_dir(state_dir)?;
        let layout = Self {
            root: state_dir.canonicalize()?,
        };
        for folder in [
            layout.nodes(),
            layout.journal(),
            layout.events(),
            layout.observations(),
            layout.artefacts(),
            layout.components(),
            layout.compiled(),
        ] {
            durable::create_dir(&folder)?;
        }
        Ok(layout)
    }

    /// The running agent holds a lock on this file.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("agent.lock")
    }

    /// The agent's key, certificate and ids.
    pub(crate) fn identity(&self) -> PathBuf {
        self.root.join("identity.json")
    }

    /// The key of an unfinished enrolment.
    pub(crate) fn enrolment_key(&self) -> PathBuf {
        self.root.join("enrolment-key.pem")
    }

    /// The node folders.
    pub(crate) fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }

    /// One node's folder.
    pub(crate) fn node(&self, id: NodeId) -> PathBuf {
        self.nodes().join(id.to_string())
    }

    /// The ports that nodes have reserved.
    pub(crate) fn ports(&self) -> PathBuf {
        self.root.join("ports.json")
    }

    /// The records of commands.
    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// One command's record.
    pub(crate) fn journal_of(&self, id: CommandId) -> PathBuf {
        self.journal().join(format!("{id}.json"))
    }

    /// Events that the host has not stored yet.
    pub(crate) fn events(&self) -> PathBuf {
        self.root.join("spool/events")
    }

    /// Observations that the host has not stored yet.
    pub(crate) fn observations(&self) -> PathBuf {
        self.root.join("spool/observations")
    }

    /// Downloaded packages and files, by their digest.
    pub(crate) fn artefacts(&self) -> PathBuf {
        self.root.join("cache/artefacts")
    }

    /// Components, by their digest.
    pub(crate) fn components(&self) -> PathBuf {
        self.root.join("cache/components")
    }

    /// Compiled components.
    pub(crate) fn compiled(&self) -> PathBuf {
        self.root.join("cache/compiled")
    }

    /// The host's last assignments of collectors.
    pub(crate) fn assignments(&self) -> PathBuf {
        self.root.join("assignments.pb")
    }
}
