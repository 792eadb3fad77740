//! Agents, their hosts and the tokens by which they join.

use host_domain::agent::{Agent, EnrolmentToken, Host};
use host_domain::ids::{AgentId, HostId, NodeId};
use host_domain::time::Millis;
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::audit::audit;
use super::{IssuedToken, OpError, Page, PageRequest, Principal};
use crate::app::App;
use host_store::{Tx, retried};

impl App {
    /// Agents, oldest first.
    pub async fn list_agents(&self, page: &PageRequest) -> Result<Page<Agent>, OpError> {
        let items = self.db.list_agents(page.after()?, page.rows()).await?;
        Ok(Page::cut(items, page, |agent| agent.id.to_string()))
    }

    /// Whether an agent is connected to this process.
    pub fn is_connected(&self, id: AgentId) -> bool {
        self.sessions.is_connected(id)
    }

    /// Issues a one-time token for the agent of a host, which is made when there is none of that name.
    pub async fn issue_enrolment_token(
        &self,
        who: &Principal,
        host: &str,
    ) -> Result<IssuedToken, OpError> {
        retried(|| self.issue_enrolment_token_once(who, host)).await
    }

    async fn issue_enrolment_token_once(
        &self,
        who: &Principal,
        host: &str,
    ) -> Result<IssuedToken, OpError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let row = ensure_host(&mut tx, host, &MachineOf::provider("byo"), now).await?;
        let issued = self.issue_token(&mut tx, &row, None, now).await?;
        audit(
            &mut tx,
            who,
            "issue_enrolment_token",
            format!("host/{}", row.id),
            now,
        )
        .await?;
        tx.commit().await?;
        Ok(issued)
    }

    /// Cuts an agent off for good; its session ends with its next beat.
    pub async fn revoke_agent(&self, who: &Principal, id: AgentId) -> Result<(), OpError> {
        let now = self.clock.now();
        if who.effect_on("agent") == Some(id) {
            self.sessions.cut_off(id);
            return Ok(());
        }
        let revoke = || async {
            let mut tx = self.db.begin().await?;
            if !tx.revoke_agent(id, now).await? {
                return Err(OpError::not_found("agent", id));
            }
            audit(&mut tx, who, "revoke_agent", format!("agent/{id}"), now).await?;
            Ok(tx.commit().await?)
        };
        retried(revoke).await?;
        self.sessions.cut_off(id);
        Ok(())
    }

    pub(crate) async fn issue_token(
        &self,
        tx: &mut Tx,
        host: &Host,
        node_id: Option<NodeId>,
        now: Millis,
    ) -> Result<IssuedToken, OpError> {
        let random: [u8; 32] = rand::rng().random();
        let token = SecretString::from(format!("bw_join_{}", hex::encode(random)));
        let expires_at = now.plus(self.config.provisioning.token_life);
        tx.insert_enrolment_token(&EnrolmentToken {
            hash: token_hash(&token),
            host_id: host.id,
            node_id,
            expires_at,
            used_at: None,
            revoked_at: None,
        })
        .await?;
        Ok(IssuedToken {
            token,
            host: host.name.clone(),
            expires_at,
        })
    }
}

/// What is stored of a token. It is random over its whole length, so a plain hash tells nothing.
fn token_hash(token: &SecretString) -> String {
    hex::encode(Sha256::digest(token.expose_secret().as_bytes()))
}

/// Whose machine a host is, and where.
pub(crate) struct MachineOf<'a> {
    pub(crate) provider: &'a str,
    pub(crate) region: &'a str,
    pub(crate) address: Option<&'a str>,
}

impl<'a> MachineOf<'a> {
    /// A machine of a provider that knows no regions.
    pub(crate) fn provider(provider: &'a str) -> Self {
        Self {
            provider,
            region: provider,
            address: None,
        }
    }
}

/// The host of that name, made when there is none, also when somebody else makes it at the same time.
pub(crate) async fn ensure_host(
    tx: &mut Tx,
    name: &str,
    machine: &MachineOf<'_>,
    now: Millis,
) -> Result<Host, OpError> {
    if let Some(host) = tx.host_by_name(name).await? {
        return Ok(host);
    }
    let host = Host {
        id: HostId(Uuid::now_v7()),
        name: name.to_owned(),
        provider: machine.provider.to_owned(),
        region: machine.region.to_owned(),
        ip: machine.address.map(str::to_owned),
        created_at: now,
    };
    if tx.insert_host(&host).await? {
        return Ok(host);
    }
    let made = tx.host_by_name(name).await?;
    made.ok_or_else(|| OpError::not_found("host", name))
}
