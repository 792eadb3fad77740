//! `bellwether:host/secrets`: handles to secrets. The value stays in the host; only `http` reads it, to put it into a header.

use std::collections::BTreeMap;

use secrecy::SecretString;
use wasmtime::component::Resource;

use crate::bindings::shared::bellwether::host::secrets::{Host, HostSecret};
use crate::bindings::shared::bellwether::types::failures::Failure;
use crate::state::HostState;

/// Where secrets come from. It is asked at each use, so a rotated value is taken up without a reload.
pub trait SecretSource: Send + Sync + 'static {
    /// The value now, if there is one.
    fn secret(&self, name: &str) -> Option<SecretString>;
}

/// A place without secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl SecretSource for NoSecrets {
    fn secret(&self, _name: &str) -> Option<SecretString> {
        None
    }
}

impl SecretSource for BTreeMap<String, SecretString> {
    fn secret(&self, name: &str) -> Option<SecretString> {
        self.get(name).cloned()
    }
}

/// What a handle stands for. `SecretString` never prints itself.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Secret {
    pub(crate) value: SecretString,
}

impl Host for HostState {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Resource<Secret>, Failure>> {
        self.count_call()?;
        if !self.plugin.secrets.contains(&name) {
            return Ok(Err(Failure::Denied(format!(
                "the secret `{name}` is not granted"
            ))));
        }
        let Some(value) = self.plugin.services.secrets.secret(&name) else {
            return Ok(Err(Failure::Other(format!(
                "the secret `{name}` has no value here"
            ))));
        };
        Ok(match self.table.push(Secret { value }) {
            Ok(handle) => Ok(handle),
            Err(_full) => Err(Failure::Other(
                "too many handles to secrets are open; drop some".to_owned(),
            )),
        })
    }
}

impl HostSecret for HostState {
    fn drop(&mut self, handle: Resource<Secret>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
