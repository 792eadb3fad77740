//! Where the agent keeps what, below its state folder.
//!
//! One place for every name, so that the layout can be read at a glance and nothing collides.

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
    /// Makes the folders that are missing. The path becomes absolute, because processes are told theirs.
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

    /// Held by the one agent that works on this folder.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("agent.lock")
    }

    /// Key, certificate and ids.
    pub(crate) fn identity(&self) -> PathBuf {
        self.root.join("identity.json")
    }

    /// The key of an enrolment that has no answer yet.
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

    /// What the runtime compiled from components.
    pub(crate) fn compiled(&self) -> PathBuf {
        self.root.join("cache/compiled")
    }

    /// What the agent measures.
    pub(crate) fn assignments(&self) -> PathBuf {
        self.root.join("assignments.pb")
    }
}
