//! The registry with adapters that only record their calls.

use super::*;
use crate::layout::Layout;

type Calls = Arc<std::sync::Mutex<Vec<String>>>;

/// Writes and deletes records as an adapter does, and runs nothing.
struct FakeAdapter {
    name: &'static str,
    calls: Calls,
}

impl FakeAdapter {
    fn note(&self, call: &str, process: &str) {
        let call = format!("{} {call} {process}", self.name);
        self.calls.lock().unwrap().push(call);
    }
}

#[async_trait]
impl RuntimeAdapter for FakeAdapter {
    fn name(&self) -> &'static str {
        self.name
    }

    fn check(&self, process: &pb::Process) -> anyhow::Result<()> {
        self.note("check", &process.name);
        Ok(())
    }

    fn resume(&self, _: &NodeRoot, record: ProcessRecord) -> io::Result<()> {
        self.note("resume", &record.process.name);
        Ok(())
    }

    async fn start(&self, root: &NodeRoot, process: &pb::Process) -> anyhow::Result<()> {
        self.note("start", &process.name);
        let record = ProcessRecord {
            process: process.clone(),
            desired: DesiredState::Running,
        };
        Ok(record::save(root, &record)?)
    }

    async fn stop(&self, _: &NodeRoot, name: &str) -> anyhow::Result<()> {
        self.note("stop", name);
        Ok(())
    }

    async fn remove(&self, root: &NodeRoot, name: &str) -> anyhow::Result<()> {
        self.note("remove", name);
        Ok(record::remove(root, name)?)
    }

    fn is_running(&self, _: &NodeRoot, process: &pb::Process) -> anyhow::Result<bool> {
        self.note("is_running", &process.name);
        Ok(true)
    }

    fn statuses(&self) -> Vec<(NodeId, Status)> {
        vec![(NodeId(uuid::Uuid::nil()), Status::stopped(self.name))]
    }
}

fn bed() -> (tempfile::TempDir, NodeRoot, Adapters, Calls) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(dir.path()).unwrap();
    let root = NodeRoot::create(&layout, NodeId(uuid::Uuid::now_v7())).unwrap();
    let calls = Calls::default();
    let adapter = |name| -> Box<dyn RuntimeAdapter> {
        let calls = Arc::clone(&calls);
        Box::new(FakeAdapter { name, calls })
    };
    let all = vec![adapter("one"), adapter("two")];
    (dir, root, Adapters { all }, calls)
}

fn process(name: &str, adapter: &str) -> pb::Process {
    pb::Process {
        name: name.to_owned(),
        adapter: adapter.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn each_process_is_run_by_the_adapter_that_it_names() {
    let (_dir, root, adapters, calls) = bed();
    for (name, adapter) in [("b", "two"), ("a", "one")] {
        adapters
            .start(&root, &process(name, adapter))
            .await
            .unwrap();
    }
    adapters.resume(&root).unwrap();
    adapters.stop(&root, &process("b", "two")).await.unwrap();
    assert!(adapters.is_running(&root, &process("a", "one")).unwrap());
    assert_eq!(
        *calls.lock().unwrap(),
        [
            "two start b",
            "one start a",
            "one resume a",
            "two resume b",
            "two stop b",
            "one is_running a",
        ]
    );
    let statuses = adapters.statuses().into_values().flatten();
    let names: Vec<_> = statuses.map(|status| status.name).collect();
    assert_eq!(names, ["one", "two"]);
}

#[tokio::test]
async fn a_process_that_changes_its_adapter_leaves_the_old_one_first() {
    let (_dir, root, adapters, calls) = bed();
    for adapter in ["one", "two"] {
        adapters.start(&root, &process("p", adapter)).await.unwrap();
    }
    assert_eq!(
        *calls.lock().unwrap(),
        ["one start p", "one remove p", "two start p"]
    );
    let records = Adapters::records(&root).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].process.adapter, "two");
}

#[tokio::test]
async fn an_unknown_adapter_is_an_error_that_names_the_known_ones() {
    let (_dir, root, adapters, calls) = bed();
    let error = adapters.start(&root, &process("p", "three")).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("`three`") && error.contains("one, two"),
        "{error}"
    );
    assert!(adapters.check(&process("p", "")).is_err());
    assert!(calls.lock().unwrap().is_empty());
}
