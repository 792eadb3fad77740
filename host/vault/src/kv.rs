//! The KV engine, version 2: one field of one secret at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use host_domain::time::Clock;
use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::connection::{VaultKvConfig, is_path};
use crate::{Vault, VaultError};

/// One KV engine.
pub struct VaultKv {
    vault: Vault,
    mount: String,
}

#[derive(Deserialize)]
struct Secret {
    data: BTreeMap<String, Field>,
}

/// Text is the only type that a secret can have; other fields are skipped.
struct Field(Option<SecretString>);

impl VaultKv {
    /// Reads the files that the settings name; makes no call.
    pub fn new(config: &VaultKvConfig, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        Ok(Self {
            vault: Vault::new(&config.connection(), clock)?,
            mount: config.mount.clone(),
        })
    }

    /// The newest value of a field.
    pub async fn field(&self, path: &str, field: &str) -> Result<SecretString, VaultError> {
        let path = path.trim_matches('/');
        if !is_path(path) {
            return Err(VaultError::Refused(format!(
                "`{}` is not a path: write letters, digits, `-`, `_`, `.` and `/`",
                path.escape_debug()
            )));
        }
        let of_secret = format!("{}/data/{path}", self.mount);
        let read = self.vault.call(Method::GET, &of_secret, None).await;
        let mut secret: Secret = read.map_err(|error| match error {
            // A vault says `404` without a word.
            VaultError::Refused(why) if why.starts_with("404") => {
                VaultError::Refused(format!("there is no secret `{path}` in `{}`", self.mount))
            }
            error => error,
        })?;
        match secret.data.remove(field) {
            Some(Field(Some(value))) => Ok(value),
            Some(Field(None)) => Err(VaultError::Refused(format!(
                "the field `{field}` of `{path}` is not text"
            ))),
            None => Err(VaultError::Refused(format!(
                "the secret `{path}` has no field `{field}`"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field(Some(SecretString::from(text))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field(None))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn text_is_read_and_every_other_type_is_skipped() {
        let body = r#"{"data": {"token": "t\"0k", "n": 1, "deep": {"a": ["b"]}, "none": null, "f": 1.5, "yes": true}}"#;
        let secret: Secret = serde_json::from_str(body).unwrap();
        let texts = secret.data.iter().filter_map(|(name, field)| {
            let text = field.0.as_ref()?;
            Some((name.as_str(), text.expose_secret()))
        });
        assert_eq!(texts.collect::<Vec<_>>(), [("token", "t\"0k")]);
        assert_eq!(secret.data.len(), 6);
    }
}
