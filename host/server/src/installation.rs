//! What every host of one database shares: the authority that agents trust, and the key of API key hashes.
//!
//! Both are files, because a copy of the database alone must not be enough to speak for the installation. A host that had
//! made its own ones would refuse the agents and the API keys of the others, so it is refused itself.

use std::path::Path;

use anyhow::bail;
use aws_lc_rs::{digest, hmac};

use crate::gateway::CertificateAuthority;
use crate::store::Db;

/// Where the prints are kept.
const META: &str = "installation";

/// Writes the prints of both files down at the first start, and compares them at every other one.
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
