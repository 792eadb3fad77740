//! The keyring on a real vault: what it wraps, what it says when the vault is away, and how it keeps its token.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::NodeId;
use host_domain::key::{KeyAlgorithm, SealedKey};
use host_domain::time::Clock;
use host_keys::{AppRole, KeysConfig, VaultConfig, WrappedBy};
use host_keys::{KeyError, Keyring, Material, SealScope, generate};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::bao::Bao;
use crate::support::fake_clock::FakeClock;

const SCOPE: SealScope<'static> = SealScope {
    node_id: NodeId(Uuid::from_u128(7)),
    name: "p2p",
};

struct Bed {
    bao: Bao,
    state: TempDir,
    clock: FakeClock,
    config: KeysConfig,
}

impl Bed {
    async fn new() -> Self {
        let bao = Bao::start().await;
        let vault = VaultConfig {
            address: bao.address().parse().unwrap(),
            mount: "transit".to_owned(),
            key: "bellwether".to_owned(),
            namespace: None,
            ca_file: None,
            token_file: Some(bao.token_file("token", "1h").await),
            approle: None,
            timeout: Duration::from_secs(5),
        };
        Self {
            bao,
            state: tempfile::tempdir().unwrap(),
            clock: FakeClock::new(),
            config: KeysConfig {
                wrapped_by: WrappedBy::Vault,
                vault: Some(vault),
                backup: None,
            },
        }
    }

    fn keyring(&self) -> Keyring {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        Keyring::open(&self.config, self.state.path(), &clock).unwrap()
    }

    fn wrapped_by(&mut self, wrapped_by: WrappedBy) -> Keyring {
        self.config.wrapped_by = wrapped_by;
        self.keyring()
    }

    fn vault(&mut self) -> &mut VaultConfig {
        self.config.vault.as_mut().unwrap()
    }
}

async fn sealed(keyring: &Keyring) -> (Material, SealedKey) {
    let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
    let sealed = keyring.seal(&SCOPE, &material).await.unwrap();
    (material, sealed)
}

async fn opens(keyring: &Keyring, sealed: &SealedKey, material: &Material) {
    let opened = keyring.open_sealed(&SCOPE, sealed).await.unwrap();
    assert_eq!(opened.expose(), material.expose());
}

#[tokio::test]
async fn a_vaults_new_version_wraps_anew_and_leaves_the_material_alone() {
    let bed = Bed::new().await;
    let keyring = bed.keyring();
    let (material, first) = sealed(&keyring).await;
    assert_eq!(first.master_key, "vault:transit/bellwether:v1");
    assert_eq!(keyring.newest().await.unwrap(), first.master_key);
    opens(&keyring, &first, &material).await;
    // The vault binds nothing to a node; the seal of the material does.
    let elsewhere = SealScope {
        name: "engine",
        ..SCOPE
    };
    let foreign = keyring.open_sealed(&elsewhere, &first).await;
    assert!(matches!(foreign, Err(KeyError::Damaged)), "{foreign:?}");

    bed.bao.rotate().await;
    assert_eq!(
        keyring.newest().await.unwrap(),
        "vault:transit/bellwether:v2"
    );
    let second = keyring.rewrap(&SCOPE, &first).await.unwrap();
    assert_eq!(second.master_key, "vault:transit/bellwether:v2");
    assert_eq!(second.material, first.material);
    let only_new = json!({ "min_decryption_version": 2 });
    bed.bao
        .ask("transit/keys/bellwether/config", &only_new)
        .await;
    opens(&keyring, &second, &material).await;
    let refused = keyring.open_sealed(&SCOPE, &first).await;
    assert!(matches!(refused, Err(KeyError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_move_to_the_vault_and_back_is_a_rewrap() {
    let mut bed = Bed::new().await;
    let local = bed.wrapped_by(WrappedBy::Local);
    let (material, by_file) = sealed(&local).await;
    let vault = bed.wrapped_by(WrappedBy::Vault);
    opens(&vault, &by_file, &material).await;
    let by_vault = vault.rewrap(&SCOPE, &by_file).await.unwrap();
    assert_eq!(by_vault.master_key, "vault:transit/bellwether:v1");
    assert_eq!(by_vault.material, by_file.material);

    let back = bed.wrapped_by(WrappedBy::Local);
    opens(&back, &by_vault, &material).await;
    let again = back.rewrap(&SCOPE, &by_vault).await.unwrap();
    assert_eq!(again.master_key, by_file.master_key);
    bed.config.vault = None;
    let without = bed.keyring();
    opens(&without, &again, &material).await;
    let missing = without.open_sealed(&SCOPE, &by_vault).await;
    assert!(
        matches!(missing, Err(KeyError::KekMissing(_))),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_vault_that_is_sealed_or_away_is_told_so_and_heals() {
    let mut bed = Bed::new().await;
    let keyring = bed.keyring();
    let (material, key) = sealed(&keyring).await;
    bed.bao.seal().await;
    let error = keyring.open_sealed(&SCOPE, &key).await.unwrap_err();
    assert!(error.may_heal() && format!("{error}").contains("unseal it"));
    assert!(keyring.newest().await.unwrap_err().may_heal());
    bed.bao.unseal().await;
    opens(&keyring, &key, &material).await;

    // Nothing listens there.
    bed.vault().address = "http://127.0.0.1:1".parse().unwrap();
    let error = bed.keyring().newest().await.unwrap_err();
    assert!(
        matches!(&error, KeyError::Away(_)),
        "{error:?} may heal by itself"
    );
    // Something listens there and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bed.vault().address = format!("http://{}", silent.local_addr().unwrap())
        .parse()
        .unwrap();
    bed.vault().timeout = Duration::from_millis(200);
    let limit = Duration::from_secs(5);
    let error = tokio::time::timeout(limit, bed.keyring().newest()).await;
    assert!(matches!(error.unwrap(), Err(KeyError::Away(_))));
}

#[tokio::test]
async fn a_wrong_token_is_told_with_its_setting_and_the_next_one_taken_from_its_file() {
    let mut bed = Bed::new().await;
    let good = std::fs::read_to_string(bed.bao.path("token")).unwrap();
    let file = bed.bao.file("token", "not-a-token");
    let keyring = bed.keyring();
    let said = keyring.newest().await.unwrap_err().to_string();
    assert!(said.contains("keys.vault.token_file"), "{said}");
    assert!(!said.contains("not-a-token"), "{said}");
    std::fs::write(&file, good.clone()).unwrap();
    let (material, key) = sealed(&keyring).await;

    let revoked = json!({ "token": good });
    bed.bao.ask("auth/token/revoke", &revoked).await;
    let denied = keyring.open_sealed(&SCOPE, &key).await.unwrap_err();
    assert!(matches!(denied, KeyError::Denied(_)) && denied.may_heal());
    bed.bao.token_file("token", "1h").await;
    opens(&keyring, &key, &material).await;

    // A key that does not exist is not made by using it.
    bed.vault().key = "other".to_owned();
    assert!(bed.keyring().newest().await.is_err());
}

#[tokio::test]
async fn a_token_is_renewed_when_two_thirds_of_its_life_are_over() {
    let mut bed = Bed::new().await;
    let file = bed.bao.token_file("short", "300s").await;
    bed.vault().token_file = Some(file.clone());
    let keyring = bed.keyring();
    keyring.newest().await.unwrap();
    let renewed = async || {
        let token = std::fs::read_to_string(&file).unwrap();
        let found = bed
            .bao
            .ask("auth/token/lookup", &json!({ "token": token }))
            .await;
        found["data"]["last_renewal_time"].is_number()
    };
    bed.clock.advance(Duration::from_secs(190));
    keyring.newest().await.unwrap();
    assert!(!renewed().await, "it has time yet");
    bed.clock.advance(Duration::from_secs(11));
    keyring.newest().await.unwrap();
    assert!(renewed().await);
}

#[tokio::test]
async fn a_role_logs_in_and_again_when_its_token_is_used_up() {
    let mut bed = Bed::new().await;
    let (role, bao) = ("auth/approle/role/bellwether", &bed.bao);
    bao.ask("sys/auth/approle", &json!({ "type": "approle" }))
        .await;
    let wanted = json!({ "token_policies": ["bellwether"], "token_num_uses": 3 });
    bao.ask(role, &wanted).await;
    let known = json!({ "role_id": "bellwether-host" });
    bao.ask(&format!("{role}/role-id"), &known).await;
    let made = bao.ask(&format!("{role}/secret-id"), &json!({})).await;
    let secret = made["data"]["secret_id"].as_str().unwrap();
    let secret_id_file = bao.file("secret-id", secret);
    let vault = bed.vault();
    vault.token_file = None;
    vault.approle = Some(AppRole {
        mount: "approle".to_owned(),
        role_id: "bellwether-host".to_owned(),
        secret_id_file: secret_id_file.clone(),
    });
    let keyring = bed.keyring();
    let (material, key) = sealed(&keyring).await;
    for _ in 0..10 {
        opens(&keyring, &key, &material).await;
    }
    let refused = |path: &Path, content: &str| std::fs::write(path, content).unwrap();
    refused(&secret_id_file, "wrong");
    let said = bed.keyring().newest().await.unwrap_err().to_string();
    assert!(said.contains("keys.vault.approle"), "{said}");
}
