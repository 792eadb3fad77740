//! What every host of one database shares: the authority that agents trust, the key of API key hashes, and the master keys.
//!
//! All are files, because a copy of the database alone must not be enough to speak for the installation. A host that had
//! made its own ones would refuse the agents and the API keys of the others, so it is refused itself.

use std::path::Path;

use anyhow::{Context, bail};
use aws_lc_rs::{digest, hmac};
use host_gateway::CertificateAuthority;

use host_keys::Keyring;
use host_store::Db;

/// Where the prints are kept.
const META: &str = "installation";
/// Where the id of the master key is kept that seals what is made now.
const MASTER_KEY: &str = "master-key";

/// Writes the prints of authority and pepper down at the first start, and compares them at every other one.
pub(crate) async fn check(
    db: &Db,
    authority: &CertificateAuthority,
    pepper: &hmac::Key,
    state_dir: &Path,
) -> anyhow::Result<()> {
    let authority = digest::digest(&digest::SHA256, authority.certificate_der());
    let pepper = hmac::sign(pepper, META.as_bytes());
    let own = format!("{} {}", hex::encode(authority), hex::encode(pepper));
    let mut tx = db.begin().await?;
    let known = tx.claim_meta(META, &own).await?;
    tx.commit().await?;
    if known != own {
        bail!(
            "the database belongs to an installation with other secrets than those in {}: copy `ca/`, `api-key-pepper` and `master-keys` from the state folder of a host that runs on it, then start again",
            state_dir.display()
        );
    }
    Ok(())
}

/// A host without the key that others seal with could open no key of a node. One that has it and a newer one begins a rotation.
/// What wraps has to answer now: a host that could neither make nor open keys is told so at its start.
pub(crate) async fn check_keyring(
    db: &Db,
    keyring: &Keyring,
    state_dir: &Path,
) -> anyhow::Result<()> {
    let newest = keyring.newest().await.context(
        "what wraps nodes' keys does not answer; mend what is said next, then start again",
    )?;
    let mut tx = db.begin().await?;
    let known = tx.claim_meta(MASTER_KEY, &newest).await?;
    if !keyring.holds(&known) {
        bail!(
            "the keys of the database's nodes are sealed with master key {known}, which is not in {}, nor in a vault of the settings: copy `master-keys` from the state folder of a host that runs on it, or its `keys.vault`, then start again",
            state_dir.join("master-keys").display()
        );
    }
    if known != newest {
        tx.set_meta(MASTER_KEY, &newest).await?;
    }
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_bed::{Bed, keyring};

    #[tokio::test]
    async fn a_host_without_the_master_key_in_use_is_refused() {
        let db = Bed::new().await.records.db.clone();
        let check =
            async |bytes: &[u8]| check_keyring(&db, &keyring(bytes), Path::new("state")).await;
        check(&[1]).await.unwrap();
        let refused = check(&[2]).await.unwrap_err().to_string();
        assert!(refused.contains("copy `master-keys`"), "{refused}");
        check(&[2, 1]).await.unwrap();
        let refused = check(&[1]).await.unwrap_err().to_string();
        assert!(
            refused.contains("state/master-keys"),
            "after a rotation: {refused}"
        );
        check(&[2]).await.unwrap();
    }
}
