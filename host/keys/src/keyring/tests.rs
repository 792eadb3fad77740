//! Tests the keyring with the local file; `tests/keys/` uses a real Vault.

use host_domain::ids::NodeId;
use host_domain::key::KeyAlgorithm;
use uuid::Uuid;

use super::super::{KEY_BYTES, generate};
use super::*;
use host_system::SystemClock;

const NODE: NodeId = NodeId(Uuid::from_u128(7));

fn scope(name: &str) -> SealScope<'_> {
    SealScope {
        node_id: NODE,
        name,
    }
}

fn open(folder: &Path) -> Keyring {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Keyring::open(&KeysConfig::default(), folder, &clock).unwrap()
}

#[tokio::test]
async fn what_is_sealed_opens_for_its_node_and_name_only() {
    let folder = tempfile::tempdir().unwrap();
    let keys = open(folder.path());
    let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
    let sealed = keys.seal(&scope("p2p"), &material).await.unwrap();
    let holds = |bytes: &[u8]| {
        bytes
            .windows(KEY_BYTES)
            .any(|part| part == material.expose())
    };
    assert!(!holds(&sealed.material) && !holds(&sealed.data_key));
    let opened = keys.open_sealed(&scope("p2p"), &sealed).await.unwrap();
    assert_eq!(opened.expose(), material.expose());
    let elsewhere = SealScope {
        node_id: NodeId(Uuid::from_u128(8)),
        name: "p2p",
    };
    for foreign in [scope("engine"), elsewhere] {
        assert!(matches!(
            keys.open_sealed(&foreign, &sealed).await,
            Err(KeyError::Damaged)
        ));
    }
    for at in 0..sealed.material.len() {
        let mut changed = sealed.clone();
        changed.material[at] ^= 1;
        assert!(matches!(
            keys.open_sealed(&scope("p2p"), &changed).await,
            Err(KeyError::Damaged)
        ));
    }
}

#[tokio::test]
async fn a_new_first_line_wraps_anew_and_leaves_the_material_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master-keys");
    let before = open(folder.path());
    let (material, _) = generate(KeyAlgorithm::Bytes32).unwrap();
    let sealed = before.seal(&scope("engine"), &material).await.unwrap();
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{}\n{old}", "ab".repeat(KEY_BYTES))).unwrap();
    let both = open(folder.path());
    let first = before.newest().await.unwrap();
    assert_ne!(both.newest().await.unwrap(), first);
    let wrapped = both.rewrap(&scope("engine"), &sealed).await.unwrap();
    assert_eq!(wrapped.material, sealed.material);
    std::fs::write(&path, "ab".repeat(KEY_BYTES)).unwrap();
    let after = open(folder.path());
    let opened = after.open_sealed(&scope("engine"), &wrapped).await.unwrap();
    assert_eq!(opened.expose(), material.expose());
    assert!(matches!(
        after.open_sealed(&scope("engine"), &sealed).await,
        Err(KeyError::KekMissing(id)) if id == first
    ));
}
