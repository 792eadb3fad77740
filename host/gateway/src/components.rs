//! Streams components to the agents whose assignments name them.

use std::path::Path;
use std::sync::Arc;

use host_domain::ids::AgentId;
use proto::v1;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::metrics;
use crate::shared::Shared;

const CHUNK_BYTES: usize = 256 * 1024;
const CHUNKS_WAITING: usize = 4;

type Chunk = Result<v1::ComponentChunk, Status>;

/// Streams a component that one of the agent's assignments names.
pub(crate) async fn fetch(
    shared: &Arc<Shared>,
    agent_id: AgentId,
    digest: &str,
) -> Result<ReceiverStream<Chunk>, Status> {
    let assignments = shared.parts.assignments.assignments(agent_id).await.map_err(|error| {
        tracing::warn!(agent.id = %agent_id, error = &*error as &dyn std::error::Error, "can't determine the assignments of an agent");
        Status::unavailable("the host can't determine this agent's assignments now; retry in a few seconds")
    })?;
    let is_assigned = assignments
        .nodes
        .iter()
        .flat_map(|node| &node.collectors)
        .any(|collector| collector.component_digest == digest);
    if !is_assigned {
        metrics::refused("component", 1);
        return Err(Status::permission_denied(
            "no assignment of this agent names the component; wait for new assignments",
        ));
    }
    let missing = || {
        Status::not_found("the host does not have the component any more; wait for new assignments")
    };
    let path = (shared.parts.components)(digest).ok_or_else(missing)?;
    let file = open(&path).await.ok_or_else(missing)?;
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    let timeout = shared.options.send_timeout;
    let stop = shared.parts.shutdown.clone();
    shared.parts.tasks.spawn(async move {
        tokio::select! {
            () = send_file(file, &sender, timeout) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(ReceiverStream::new(chunks))
}

async fn open(path: &Path) -> Option<File> {
    match File::open(path).await {
        Ok(file) => Some(file),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, path = %path.display(), "can't open a component that is in use");
            None
        }
    }
}

/// Sends a file in chunks. The agent verifies the digest, so it detects a truncated file.
async fn send_file(mut file: File, to: &mpsc::Sender<Chunk>, timeout: std::time::Duration) {
    loop {
        let mut data = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut file)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut data)
            .await;
        let chunk = match read {
            Ok(0) => return,
            Ok(_) => Ok(v1::ComponentChunk { data }),
            Err(_) => Err(Status::unavailable(
                "the host can't read the component; retry",
            )),
        };
        let is_last = chunk.is_err();
        match tokio::time::timeout(timeout, to.send(chunk)).await {
            Ok(Ok(())) if !is_last => {}
            _ => return,
        }
    }
}
