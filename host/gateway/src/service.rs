//! The gRPC service: authenticates each call and dispatches it.

use std::sync::Arc;

use proto::v1;
use proto::v1::agent_gateway_server::AgentGateway;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::peer::authorize;
use crate::registry::RegisterError;
use crate::session::Streams;
use crate::shared::Shared;
use crate::{components, delivery, enrolment, inbound, keys, session};

/// Messages that may wait for one agent.
const OUTGOING: usize = 64;

/// The service of one server; a server is replaced when its certificate is.
pub(crate) struct GatewayService {
    pub(crate) shared: Arc<Shared>,
    /// Ends with the server.
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl AgentGateway for GatewayService {
    type ConnectStream = ReceiverStream<Result<v1::HostMessage, Status>>;
    type FetchComponentStream = ReceiverStream<Result<v1::ComponentChunk, Status>>;

    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        enrolment::enrol(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let peer = authorize(&self.shared, &request).await?;
        enrolment::renew(&self.shared, &peer, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn connect(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = authorize(&self.shared, &request).await?;
        let parts = &self.shared.parts;
        let sessions_max = self.shared.options.sessions_max;
        let registered = parts.sessions.register(peer.agent.id, sessions_max);
        let registration = registered.map_err(|error| match error {
            RegisterError::Full => Status::resource_exhausted(
                "this host has its maximum number of agents; connect to another host, or add one",
            ),
            RegisterError::Draining => session::stopping(),
        })?;
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        // Answers before the hello is read: an agent may send its hello only after the answer.
        parts.tasks.spawn(session::run(
            Arc::clone(&self.shared),
            peer,
            registration,
            Streams {
                incoming: request.into_inner(),
                outgoing,
            },
            self.stop.clone(),
        ));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let peer = authorize(&self.shared, &request).await?;
        if let Some(beat) = request.into_inner().beat {
            inbound::single_beat(&self.shared, &peer.agent, beat).await?;
        }
        let commands = delivery::take_pending(&self.shared, peer.agent.id).await?;
        Ok(Response::new(v1::HeartbeatResponse { commands }))
    }

    async fn fetch_component(
        &self,
        request: Request<v1::FetchComponentRequest>,
    ) -> Result<Response<Self::FetchComponentStream>, Status> {
        let peer = authorize(&self.shared, &request).await?;
        let chunks =
            components::fetch(&self.shared, peer.agent.id, &request.into_inner().digest).await?;
        Ok(Response::new(chunks))
    }

    async fn fetch_key(
        &self,
        request: Request<v1::FetchKeyRequest>,
    ) -> Result<Response<v1::KeyMaterial>, Status> {
        let peer = authorize(&self.shared, &request).await?;
        keys::fetch(&self.shared, &peer.agent, &request.into_inner())
            .await
            .map(Response::new)
    }
}
