//! API keys: `bw_live_` and 43 random characters. The database has only a keyed hash, found by its first characters.

use std::collections::BTreeSet;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};

use super::audit::audit;
use super::records::Records;
use super::{OpError, Principal, Scope};
use host_store::{ApiKey, retried};

/// The prefix of every key, for scanners of leaked secrets.
const KEY_PREFIX: &str = "bw_live_";
/// Characters by which a key is found; they are not secret.
const LOOKUP_CHARS: usize = KEY_PREFIX.len() + 8;

/// Use cases on API keys.
#[derive(Clone)]
pub struct ApiKeys {
    records: Records,
    /// The key of the hashes of API keys.
    pepper: hmac::Key,
}

impl ApiKeys {
    pub(crate) fn new(records: Records, pepper: hmac::Key) -> Self {
        Self { records, pepper }
    }

    /// The owner of this key; `None` if the key is unknown or revoked.
    pub async fn authenticate(&self, bearer: &SecretString) -> Result<Option<Principal>, OpError> {
        let text = bearer.expose_secret();
        let Some(lookup) = text
            .get(..LOOKUP_CHARS)
            .filter(|text| text.starts_with(KEY_PREFIX))
        else {
            return Ok(None);
        };
        let Some(row) = self.records.db.api_key(lookup).await? else {
            return Ok(None);
        };
        let hash = self.key_hash(text);
        let is_same =
            constant_time::verify_slices_are_equal(hash.as_bytes(), row.hash.as_bytes()).is_ok();
        if !is_same || row.revoked_at.is_some() {
            return Ok(None);
        }
        let scopes = row
            .scopes
            .iter()
            .filter_map(|scope| Scope::parse(scope))
            .collect();
        Ok(Some(Principal {
            name: row.name,
            scopes,
            request: None,
        }))
    }

    /// Creates a key and returns it; the key is not stored.
    pub async fn create(
        &self,
        name: &str,
        scopes: &BTreeSet<Scope>,
    ) -> Result<SecretString, OpError> {
        let random: [u8; 32] = rand::rng().random();
        let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let now = self.records.now();
        let row = ApiKey {
            prefix: key[..LOOKUP_CHARS].to_owned(),
            hash: self.key_hash(&key),
            name: name.to_owned(),
            scopes: scopes
                .iter()
                .map(|scope| scope.as_str().to_owned())
                .collect(),
            created_at: now,
            revoked_at: None,
        };
        let host = Principal::host();
        let write = || async {
            let mut tx = self.records.db.begin().await?;
            tx.insert_api_key(&row).await?;
            let target = format!("api_key/{}", row.prefix);
            audit(&mut tx, &host, "create_api_key", target, now).await?;
            Ok::<(), OpError>(tx.commit().await?)
        };
        retried(write).await?;
        Ok(SecretString::from(key))
    }

    /// Keyed with the installation's own secret, so that a copy of the table alone reveals nothing.
    fn key_hash(&self, key: &str) -> String {
        let tag = hmac::sign(&self.pepper, key.as_bytes());
        hex::encode(tag.as_ref())
    }
}
