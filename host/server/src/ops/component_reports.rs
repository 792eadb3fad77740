//! Incidents of collectors that an agent can't load: one per plugin and agent, resolved when that agent can load the plugin.
//!
//! The agent keeps measuring with the old revision, so nothing else would show that a reload has not reached a machine.

use host_domain::ids::AgentId;
use host_domain::incident::{Cause, IncidentState, Severity, category};
use host_domain::node::Reason;
use host_gateway::ComponentReport;

use super::records::Records;
use super::{OpError, Subject, raise, resolve};
use crate::catalogue::Chains;

/// Raises or resolves the incident of a component that an agent could not, or could, load.
pub(crate) async fn report_component(
    records: &Records,
    chains: &Chains,
    agent_id: AgentId,
    report: &ComponentReport,
) -> Result<(), OpError> {
    let catalogue = chains.catalogue();
    let Some(agent) = records.db.agent(agent_id).await? else {
        return Ok(());
    };
    for (chain, collectors) in &catalogue.collectors {
        let used = collectors.iter().find(|one| one.digest == report.digest);
        let Some(used) = used else { continue };
        let mut subject = Subject::plugin(chain, &used.settings.plugin);
        subject.id = format!("{}@{agent_id}", subject.id);
        let key = subject.key(category::PLUGIN_ERROR);
        let before = records.db.newest_incident(&key).await?;
        let is_open = before.is_some_and(|one| one.state != IncidentState::Resolved);
        if report.ready && !is_open {
            continue;
        }
        let now = records.now();
        let mut tx = records.db.begin().await?;
        if report.ready {
            resolve(&mut tx, &catalogue, &subject, category::PLUGIN_ERROR, now).await?;
        } else {
            let cause = Cause {
                category: category::PLUGIN_ERROR.to_owned(),
                severity: Severity::Warning,
                title: format!(
                    "agent {} can't load collector plugin {}; the one before it goes on there",
                    agent.name, subject.name
                ),
                reasons: vec![Reason::new("plugin_error", report.error.clone())],
            };
            raise(&mut tx, &catalogue, &subject, &cause, now).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use host_domain::agent::{Agent, Machine};
    use host_domain::config::observation::CollectorUse;
    use host_domain::ids::MachineId;
    use host_domain::plugin::{Grants, Limits, PluginKind};
    use host_domain::time::Clock as _;
    use uuid::Uuid;

    use super::*;
    use crate::catalogue::{ActiveCollector, Catalogue};
    use crate::test_bed::Bed;

    fn collector(digest: &str) -> ActiveCollector {
        ActiveCollector {
            settings: CollectorUse {
                name: "see".to_owned(),
                plugin: "eye".to_owned(),
                every: Duration::from_secs(1),
                timeout: None,
                with: serde_json::Map::new(),
            },
            digest: digest.to_owned(),
            config: serde_json::json!({}),
            grants: Grants::default(),
            limits: Limits::of(PluginKind::Collector),
            broken: None,
        }
    }

    async fn stored_agent(bed: &Bed, name: &str) -> AgentId {
        let now = bed.clock.now();
        let host = Machine {
            id: MachineId(Uuid::now_v7()),
            name: name.to_owned(),
            provider: "local".to_owned(),
            region: "here".to_owned(),
            ip: None,
            created_at: now,
        };
        let agent = Agent {
            id: AgentId(Uuid::now_v7()),
            machine_id: host.id,
            name: name.to_owned(),
            version: "1".to_owned(),
            certificate_not_after: now,
            last_seen_at: None,
            revoked_at: None,
            created_at: now,
        };
        let mut tx = bed.records.db.begin().await.unwrap();
        tx.insert_machine(&host).await.unwrap();
        tx.insert_agent(&agent).await.unwrap();
        tx.commit().await.unwrap();
        agent.id
    }

    #[tokio::test]
    async fn a_collector_that_an_agent_can_not_load_is_an_incident_until_it_can() {
        let bed = Bed::new().await;
        let mut catalogue = Catalogue::default();
        let collectors = vec![collector("sha256:aa")];
        catalogue.collectors.insert("toy".to_owned(), collectors);
        bed.services.chains.switch(catalogue);
        let (one, two) = (
            stored_agent(&bed, "one").await,
            stored_agent(&bed, "two").await,
        );
        let tell = async |agent, digest: &str, error: &str| {
            let report = ComponentReport {
                digest: digest.to_owned(),
                ready: error.is_empty(),
                error: error.to_owned(),
            };
            report_component(&bed.records, &bed.services.chains, agent, &report).await
        };
        tell(one, "sha256:aa", "").await.unwrap();
        tell(one, "sha256:bb", "of another time").await.unwrap();
        assert!(bed.incidents().await.is_empty());

        tell(one, "sha256:aa", "it does not compile").await.unwrap();
        tell(one, "sha256:aa", "it does not compile").await.unwrap();
        tell(two, "sha256:aa", "").await.unwrap();
        let [incident] = bed.incidents().await.try_into().unwrap();
        assert_eq!(
            (incident.state, incident.occurrences),
            (IncidentState::Open, 2)
        );
        assert!(incident.title.contains("agent one") && incident.title.contains("toy/eye"));
        assert_eq!(incident.reasons[0].message, "it does not compile");

        tell(one, "sha256:aa", "").await.unwrap();
        let [incident] = bed.incidents().await.try_into().unwrap();
        assert_eq!(incident.state, IncidentState::Resolved);
        assert!(!bed.commits(tell(one, "sha256:aa", "")).await);
    }
}
