//! Authentication as the parts of a host ask for it, with the host's own database, clock and pepper.

use std::collections::BTreeSet;

use secrecy::SecretString;

use super::api_keys::{self, Authentication, Expiry, NewApiKey};
use super::{OpError, Principal, Scope};
use crate::app::App;

impl App {
    /// Finds out who bears a token.
    pub async fn authenticate(&self, bearer: &SecretString) -> Result<Authentication, OpError> {
        let now = self.clock.now();
        api_keys::authenticate(&self.db, &self.pepper, bearer, now).await
    }

    /// Creates a key of the host's own, which never expires, and returns its token, the only time that the token is known.
    pub async fn create_api_key(
        &self,
        name: &str,
        scopes: &BTreeSet<Scope>,
    ) -> Result<SecretString, OpError> {
        let names = scopes.iter().map(|scope| scope.as_str().to_owned());
        let new = NewApiKey {
            name: name.to_owned(),
            scopes: names.collect(),
            expiry: Expiry::Never,
        };
        let (host, now) = (Principal::host(), self.clock.now());
        let created = api_keys::create_api_key(&self.db, &self.pepper, &host, new, now).await?;
        Ok(created.token)
    }
}
