//! Collectors: what the agent measures, by the assignments of the host.
//!
//! Assignments are kept on the disk, so that measuring goes on while the agent is cut off.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use prost::Message as _;
use proto::v1 as pb;
use proto::v1::agent_message::Message as Out;
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

use crate::durable;
use crate::layout::Layout;
use crate::outbox::observations::Observations;
use crate::tasks::Tasks;

/// The collectors of this agent.
pub(crate) struct Collectors {
    path: PathBuf,
    wanted: watch::Sender<pb::Assignments>,
}

impl Collectors {
    pub(crate) fn open(
        layout: &Layout,
        _observations: Arc<Observations>,
        _tell: mpsc::Sender<Out>,
        _gateway: watch::Receiver<Option<Channel>>,
        _tasks: Tasks,
    ) -> io::Result<Arc<Self>> {
        let kept = durable::read(&layout.assignments())?;
        let kept = kept
            .and_then(|bytes| pb::Assignments::decode(bytes.as_slice()).ok())
            .unwrap_or_default();
        Ok(Arc::new(Self {
            path: layout.assignments(),
            wanted: watch::Sender::new(kept),
        }))
    }

    pub(crate) fn resume(self: &Arc<Self>) {}

    pub(crate) fn assign(&self, assignments: pb::Assignments) {
        if let Err(error) = durable::write(&self.path, &assignments.encode_to_vec()) {
            tracing::warn!(%error, "the assignments can't be kept; check the disk");
        }
        self.wanted.send_replace(assignments);
    }
}
