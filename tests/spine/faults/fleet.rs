//! An installation in whose work something goes wrong, and what is counted in it.

use std::collections::BTreeSet;
use std::time::Duration;

use host_domain::incident::{IncidentKey, Severity, SubjectKind};
use host_store::{Db, DbOptions};
use serde_json::{Value, json};

use super::host::{Fault, Files, Mishap};
use crate::spine::scene::Scene;
use crate::spine::toy::{self, id_of};
use crate::support::exhaustive::Extent;

/// Everything together, on a busy machine, with an engine that takes its time after each kill.
const ENDED: Duration = Duration::from_mins(4);
/// How long an agent may take to find its host again.
const SETTLED: Duration = Duration::from_mins(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// A workflow on a node, and what goes wrong in it.
pub(super) struct Case {
    pub(super) node: String,
    pub(super) workflow: String,
    pub(super) faults: Vec<Fault>,
}

impl Case {
    /// Whether it has to fail: all but what it shows.
    pub(super) fn is_refused(&self) -> bool {
        self.faults.iter().any(|fault| {
            matches!(fault.mishap, Mishap::Refused | Mishap::Lost)
                && !fault.call.starts_with("report_step ")
        })
    }
}

/// Which of the cases a sample takes. Each number is prime to the number of mishaps, so that the calls meet all of them in
/// turn.
#[derive(Clone, Copy)]
pub(super) struct OneIn {
    pub(super) embedded: usize,
    pub(super) scaled: usize,
}

/// One list of faults for each mishap of each call, behind one that comes before in each.
pub(super) fn cases(
    calls: &[String],
    mishaps: &[Mishap],
    before: Option<&Fault>,
) -> Vec<Vec<Fault>> {
    let mut cases = Vec::new();
    for call in calls {
        for mishap in mishaps {
            let fault = Fault {
                call: call.clone(),
                mishap: *mishap,
            };
            cases.push(before.cloned().into_iter().chain([fault]).collect());
        }
    }
    cases
}

/// The mishaps that occur in some cases.
fn mishaps(cases: &[Vec<Fault>]) -> BTreeSet<Mishap> {
    cases.iter().map(|case| mishap(case)).collect()
}

/// The mishap that a case is about: those before it are the way to it.
fn mishap(case: &[Fault]) -> Mishap {
    case.last().unwrap().mishap
}

/// The activities that were called.
pub(super) fn names<'a>(calls: &[&'a Vec<String>]) -> BTreeSet<&'a str> {
    let calls = calls.iter().flat_map(|calls| calls.iter());
    calls
        .map(|call| call.split(' ').next().unwrap_or_default())
        .collect()
}

/// The installation.
pub(super) struct Fleet {
    pub(super) scene: Scene,
    pub(super) files: Files,
    /// How often its host ended and was started again.
    pub(super) n_ended: usize,
    n_made: usize,
    one_in: usize,
}

impl Fleet {
    pub(super) async fn start(scene: Scene, settings: &str, sample: OneIn) -> Self {
        let one_in = if scene.is_scaled() {
            sample.scaled
        } else {
            sample.embedded
        };
        let mut scene = scene.served();
        let dev = &mut scene.dev;
        let folder = dev.path("faults");
        std::fs::create_dir(&folder).unwrap();
        let files = Files::in_folder(&folder);
        let (variable, value, args) = files.host();
        dev.set(variable, &value);
        let copies = format!("file://{}", dev.path("copies").display());
        dev.set("BELLWETHER_KEYS__BACKUP__URL", &copies);
        dev.serve_by(std::env::current_exe().unwrap(), &args);
        let data = json!({ "name": "data", "type": "wait_for", "with": { "path": "data" } });
        toy::declare(dev, "toy", &data);
        dev.be_patient();
        dev.configure(settings);
        dev.start().await;
        dev.start_agent().await;
        dev.keep_addresses().await;
        Self {
            scene,
            files,
            n_ended: 0,
            n_made: 0,
            one_in,
        }
    }

    /// The cases that this run takes. Every mishap is among those of a sample.
    pub(super) fn some_of(&self, cases: Vec<Vec<Fault>>) -> Vec<Vec<Fault>> {
        let extent = Extent::of_this_run();
        let mut chosen = extent.choose(cases.clone(), self.one_in);
        if extent == Extent::Sample {
            for case in cases {
                if !mishaps(&chosen).contains(&mishap(&case)) {
                    chosen.push(case);
                }
            }
        }
        chosen
    }

    /// Begins to make a node for each list of faults.
    pub(super) async fn provision(&mut self, wanted: Vec<Vec<Fault>>) -> Vec<Case> {
        let mut nodes = Vec::new();
        for _ in &wanted {
            self.n_made += 1;
            let node = json!({ "chain": "toy", "name": format!("n{:03}", self.n_made) });
            let accepted = self.scene.dev.post("nodes", &node).await;
            nodes.push(accepted["node_id"].as_str().unwrap().to_owned());
        }
        self.plan("provision-", nodes, wanted)
    }

    /// Begins to remove these nodes, with all that can be asked for.
    pub(super) async fn terminate(&self, nodes: Vec<String>, wanted: Vec<Vec<Fault>>) -> Vec<Case> {
        for node in &nodes {
            let path = format!("nodes/{node}/terminate?backup_keys=true");
            self.scene.dev.post(&path, &Value::Null).await;
        }
        self.plan("terminate-", nodes, wanted)
    }

    /// Lets the workflows go on, now that all of them were asked for: some of them end the host.
    pub(super) fn plan(
        &self,
        kind: &str,
        nodes: Vec<String>,
        wanted: Vec<Vec<Fault>>,
    ) -> Vec<Case> {
        let cases = nodes.into_iter().zip(wanted).map(|(node, faults)| Case {
            workflow: format!("{kind}{node}"),
            node,
            faults,
        });
        let cases: Vec<Case> = cases.collect();
        for case in &cases {
            self.files.plan(&case.workflow, &case.faults);
        }
        cases
    }

    /// Waits until no operation and no workflow is at work, starts the host again each time it ends, and checks that each
    /// fault came to be. Gives all nodes.
    pub(super) async fn ended(&mut self, kind: &str, cases: &[Case]) -> Vec<Value> {
        let mut seen = String::new();
        let nodes = tokio::time::timeout(ENDED, async {
            loop {
                if self.scene.dev.host_has_ended() {
                    self.n_ended += 1;
                    self.scene.dev.spawn();
                }
                match self.at_work().await {
                    Ok(nodes) => return nodes,
                    Err(what) => seen = what,
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        let nodes = nodes.await;
        let nodes = nodes.unwrap_or_else(|_| panic!("{kind}: {seen}\n{}", self.scene.dev.log()));
        for case in cases {
            let planned: Vec<&str> = case.faults.iter().map(|fault| &*fault.call).collect();
            let met = self.files.met(&case.workflow);
            assert_eq!(met, planned, "{:?}", self.files.calls(&case.workflow));
        }
        nodes
    }

    /// Waits until each node is as its case wants it: one whose host was away for long is `down` for a moment.
    pub(super) async fn all_are(&self, cases: &[Case], wanted: impl Fn(&Case) -> &'static str) {
        let mut seen = String::new();
        let as_wanted = tokio::time::timeout(SETTLED, async {
            loop {
                let nodes = toy::all_nodes(&self.scene.dev).await.unwrap_or_default();
                let differs = |case: &&Case| {
                    let node = nodes.iter().find(|node| id_of(node) == case.node);
                    node.is_none_or(|node| node["state"] != wanted(case))
                };
                let Some(case) = cases.iter().find(differs) else {
                    return;
                };
                let node = nodes.iter().find(|node| id_of(node) == case.node);
                seen = format!("not {}: {:?} {node:#?}", wanted(case), case.faults);
                tokio::time::sleep(PAUSE).await;
            }
        });
        let as_wanted = as_wanted.await.is_ok();
        assert!(as_wanted, "{seen}");
    }

    /// All nodes when nothing is at work, or what still is.
    async fn at_work(&self) -> Result<Vec<Value>, String> {
        let dev = &self.scene.dev;
        for list in [
            "operations?state=running",
            "operations?state=undoing",
            "admin/workflows?state=running",
        ] {
            let page = dev.try_get(list).await.ok_or("the host does not answer")?;
            if page["items"] != json!([]) {
                return Err(format!("{:#}", page["items"]));
            }
        }
        let nodes = toy::all_nodes(dev).await;
        nodes.ok_or_else(|| "the host does not answer".to_owned())
    }

    /// Each node that failed has one incident, which names no leftover, and no other node has any.
    pub(super) async fn incidents_are_of_the_failed(&self, category: &str, nodes: &[Value]) {
        let db = self.db().await;
        for node in nodes {
            let key = IncidentKey {
                subject_kind: SubjectKind::Node,
                subject_id: id_of(node),
                category: category.to_owned(),
            };
            let incident = db.newest_incident(&key).await.unwrap();
            assert_eq!(incident.is_some(), node["state"] == "failed", "{node:#}");
            if let Some(incident) = incident {
                assert_eq!(incident.occurrences, 1, "{incident:#?}");
                assert_eq!(incident.severity, Severity::Warning, "{incident:#?}");
            }
        }
        db.close().await;
    }

    /// Keys of a node that is gone wait for their end, and no command of it waits.
    pub(super) async fn keys_are_retired(&self, node: &str) {
        let (db, id) = (self.db().await, node.parse().unwrap());
        let keys = db.node_keys(id).await.unwrap();
        assert!(keys.len() == 1 && keys[0].delete_after.is_some(), "{node}");
        let copies = self.scene.dev.path("copies").join(node);
        let copies = std::fs::read_dir(copies).unwrap();
        // Those that a killed host has half written go with the key.
        let whole = copies
            .filter(|copy| copy.as_ref().unwrap().path().extension() == Some("json".as_ref()));
        assert_eq!(whole.count(), 1, "{node}");
        assert_eq!(db.n_unfinished_commands(id).await.unwrap(), 0, "{node}");
        db.close().await;
    }

    pub(super) async fn db(&self) -> Db {
        let options = DbOptions::default();
        Db::open(&self.scene.database(), &options).await.unwrap()
    }
}
