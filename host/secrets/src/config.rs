//! Where the value of each plugin secret is: the settings section `secrets`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use host_domain::setting::SettingError;
use host_vault::VaultKvConfig;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Secrets of one process; more would be a mistake.
const SECRETS_MAX: usize = 500;

/// The places of values by the name that grants use.
pub type SecretsConfig = BTreeMap<String, SecretPlace>;

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(into = "Keys")]
#[schemars(with = "Keys")]
pub enum SecretPlace {
    /// In a file; white space around it does not count.
    File(PathBuf),
    /// In a variable of the process's environment.
    Env(String),
    /// In a field of a secret of the vault's KV engine.
    Vault(VaultField),
}

/// A field of a secret in the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultField {
    /// Path of the secret below `vault.mount`.
    #[schemars(example = &"bellwether/rpc")]
    pub path: String,
    /// Name of the field.
    #[schemars(example = &"token")]
    pub field: String,
}

/// As YAML has it: exactly one key.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    /// File with the value; white space around it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/bellwether/secrets/api-token")]
    file: Option<PathBuf>,
    /// Name of the environment variable with the value.
    #[schemars(example = &"API_TOKEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    /// Field of a secret in the vault's KV engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    vault: Option<VaultField>,
}

/// What an entry must look like.
const SHAPE: &str =
    "write exactly one of `file`, `env` and `vault`; the value itself does not belong here";

impl<'de> Deserialize<'de> for SecretPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceVisitor)
    }
}

/// Refuses everything but a map without repeating it: who writes the value itself here must not find it in a log.
struct PlaceVisitor;

impl<'de> Visitor<'de> for PlaceVisitor {
    type Value = SecretPlace;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`file`, `env` or `vault`")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretPlace, A::Error> {
        let keys = Keys::deserialize(MapAccessDeserializer::new(map))?;
        SecretPlace::try_from(keys).map_err(A::Error::custom)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<SecretPlace, E> {
        Err(E::custom(SHAPE))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<SecretPlace, E> {
        Err(E::custom(SHAPE))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<SecretPlace, E> {
        Err(E::custom(SHAPE))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<SecretPlace, E> {
        Err(E::custom(SHAPE))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<SecretPlace, E> {
        Err(E::custom(SHAPE))
    }
}

impl TryFrom<Keys> for SecretPlace {
    type Error = &'static str;

    fn try_from(keys: Keys) -> Result<Self, Self::Error> {
        match keys {
            Keys {
                file: Some(file),
                env: None,
                vault: None,
            } => Ok(Self::File(file)),
            Keys {
                file: None,
                env: Some(name),
                vault: None,
            } => Ok(Self::Env(name)),
            Keys {
                file: None,
                env: None,
                vault: Some(field),
            } => Ok(Self::Vault(field)),
            _ => Err(SHAPE),
        }
    }
}

impl From<SecretPlace> for Keys {
    fn from(place: SecretPlace) -> Self {
        let mut keys = Self::default();
        match place {
            SecretPlace::File(path) => keys.file = Some(path),
            SecretPlace::Env(name) => keys.env = Some(name),
            SecretPlace::Vault(field) => keys.vault = Some(field),
        }
        keys
    }
}

/// Checks the rules that join the sections `secrets` and `vault`.
pub fn check(secrets: &SecretsConfig, vault: Option<&VaultKvConfig>) -> Result<(), SettingError> {
    if let Some(vault) = vault {
        vault.check()?;
    }
    if secrets.len() > SECRETS_MAX {
        let message = format!("has more than {SECRETS_MAX} entries");
        return Err(SettingError::new("secrets", message));
    }
    for (name, place) in secrets {
        if matches!(place, SecretPlace::Vault(_)) && vault.is_none() {
            let message =
                "names the vault, but the section `vault` is missing; say where the vault is";
            return Err(SettingError::new(format!("secrets.{name}.vault"), message));
        }
    }
    Ok(())
}
