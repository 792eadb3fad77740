//! API keys: `bw_live_` and 43 characters of randomness; stored is only a keyed hash, found by its first characters.

use std::collections::BTreeSet;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};

use super::audit::audit;
use super::{OpError, Principal, Scope};
use crate::app::App;
use host_store::{ApiKey, retried};

/// How every key begins, for scanners of leaked secrets.
const KEY_PREFIX: &str = "bw_live_";
/// Characters by which a key is found; they are no secret.
const LOOKUP_CHARS: usize = KEY_PREFIX.len() + 8;

impl App {
    /// Who holds this key; `None` when nobody does or it was revoked.
    pub async fn authenticate(&self, bearer: &SecretString) -> Result<Option<Principal>, OpError> {
        let text = bearer.expose_secret();
        let Some(lookup) = text
            .get(..LOOKUP_CHARS)
            .filter(|text| text.starts_with(KEY_PREFIX))
        else {
            return Ok(None);
        };
        let Some(row) = self.db.api_key(lookup).await? else {
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

    /// Makes a key and returns it, the only time that it is known.
    pub async fn create_api_key(
        &self,
        name: &str,
        scopes: &BTreeSet<Scope>,
    ) -> Result<SecretString, OpError> {
        let random: [u8; 32] = rand::rng().random();
        let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let now = self.clock.now();
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
            let mut tx = self.db.begin().await?;
            tx.insert_api_key(&row).await?;
            let target = format!("api_key/{}", row.prefix);
            audit(&mut tx, &host, "create_api_key", target, now).await?;
            Ok::<(), OpError>(tx.commit().await?)
        };
        retried(write).await?;
        Ok(SecretString::from(key))
    }

    /// Keyed with the installation's own secret, so that a copy of the table alone tells nothing.
    fn key_hash(&self, key: &str) -> String {
        let tag = hmac::sign(&self.pepper, key.as_bytes());
        hex::encode(tag.as_ref())
    }
}
