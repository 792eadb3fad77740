//! State on disk, its limits and its end.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct Bed {
    layout: Layout,
    node: NodeId,
    _folder: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        let node = NodeId(uuid::Uuid::now_v7());
        NodeRoot::create(&layout, node).unwrap();
        Self {
            layout,
            node,
            _folder: folder,
        }
    }

    /// As after a start of the agent.
    fn kv(&self) -> FileKv {
        FileKv::new(self.layout.clone())
    }

    fn scope(&self, plugin: &str) -> KvScope {
        KvScope {
            plugin: plugin.to_owned(),
            node: self.node.to_string(),
        }
    }

    fn file(&self, plugin: &str) -> PathBuf {
        let folder = self.layout.node(self.node).join("run/kv");
        folder.join(format!("{plugin}.json"))
    }
}

#[tokio::test]
async fn state_outlives_the_agent_and_is_private_to_plugin_and_node() {
    let bed = Bed::new();
    let one = bed.scope("one");
    let value = vec![0, 255, 7];
    bed.kv().set(&one, "k", value.clone()).await.unwrap();
    assert_eq!(bed.kv().get(&one, "k").await, Ok(Some(value)));
    assert_eq!(bed.kv().get(&bed.scope("two"), "k").await, Ok(None));
    let mode = std::fs::metadata(bed.file("one"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    bed.kv().delete(&one, "k").await.unwrap();
    bed.kv().delete(&one, "k").await.unwrap();
    assert_eq!(bed.kv().get(&one, "k").await, Ok(None));
    let files = std::fs::read_dir(bed.file("one").parent().unwrap()).unwrap();
    assert_eq!(files.count(), 1, "no temporary file is left");
}

#[tokio::test]
async fn writers_of_one_file_lose_nothing_of_each_other() {
    let bed = Bed::new();
    let (kv, scope) = (bed.kv(), bed.scope("one"));
    let sets = (0..32u8).map(|n| kv.set(&scope, KEYS[usize::from(n)], vec![n]));
    for done in futures_util::future::join_all(sets).await {
        done.unwrap();
    }
    for n in 0..32u8 {
        let found = bed.kv().get(&scope, KEYS[usize::from(n)]).await;
        assert_eq!(found, Ok(Some(vec![n])));
    }
}

const KEYS: [&str; 32] = [
    "00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14", "15",
    "16", "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31",
];

#[tokio::test]
async fn limits_hold_and_what_has_no_place_is_refused() {
    let bed = Bed::new();
    let (kv, scope) = (bed.kv(), bed.scope("one"));
    for key in &KEYS[..15] {
        kv.set(&scope, key, vec![7; 16 * 1024]).await.unwrap();
    }
    let refused = kv.set(&scope, "15", vec![7; 16 * 1024]).await;
    assert!(
        matches!(refused, Err(KvError::TooManyBytes { .. })),
        "{refused:?}"
    );
    for (plugin, node) in [
        ("../one", bed.node.to_string()),
        ("one", String::new()),
        ("one", NodeId(uuid::Uuid::now_v7()).to_string()),
    ] {
        let scope = KvScope {
            plugin: plugin.to_owned(),
            node,
        };
        let refused = kv.set(&scope, "k", vec![]).await;
        assert!(
            matches!(refused, Err(KvError::Unavailable(_))),
            "{refused:?}"
        );
    }
    std::fs::write(bed.file("one"), "{").unwrap();
    let damaged = kv.get(&scope, "k").await.unwrap_err().to_string();
    assert!(damaged.contains("is damaged; delete the file"), "{damaged}");
}

#[tokio::test]
async fn state_of_a_plugin_that_went_is_deleted_after_its_time() {
    let bed = Bed::new();
    let (kv, scope) = (bed.kv(), bed.scope("one"));
    kv.set(&scope, "k", vec![1]).await.unwrap();
    let file = || File::of(&bed.layout, &scope).unwrap();
    let start = time::now();
    let late = start.plus(KEEP).plus(Duration::from_secs(1));

    kv.forget_unused(Used::new()).await;
    assert!(file().read().unwrap().unused_since.is_some());
    look_after(&file(), true, late).unwrap();
    assert_eq!(file().read().unwrap().unused_since, None);
    look_after(&file(), false, start).unwrap();
    look_after(&file(), false, start.plus(KEEP)).unwrap();
    assert_eq!(kv.get(&scope, "k").await, Ok(Some(vec![1])));
    look_after(&file(), false, late).unwrap();
    assert!(!bed.file("one").exists());

    kv.set(&scope, "k", vec![2]).await.unwrap();
    let used = Used::from([(scope.node.clone(), BTreeSet::from(["one".to_owned()]))]);
    kv.forget_unused(used).await;
    assert_eq!(file().read().unwrap().unused_since, None);
}
