//! Secrets in the headers of one request: put in here, outside of the guest, and masked where the answer repeats them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use wasmtime::component::{Resource, ResourceTable};
use zeroize::Zeroizing;

use super::secrets::Secret;
use crate::bindings::shared::bellwether::host::http::HeaderValue as WitValue;

/// Headers by which a guest could have an answer in a form in which a secret is not recognised: compressed, or in parts.
pub(super) const ENCODING_HEADERS: [&str; 3] = ["accept-encoding", "range", "if-range"];
/// Stands for each byte of a secret in an answer.
const MASK: u8 = b'*';

/// What a request carries that its guest must not see. The values are wiped when it is dropped.
#[derive(Default)]
pub(super) struct Injected(Vec<Zeroizing<Vec<u8>>>);

impl Injected {
    /// Whether the request carries no secret.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of one header; `None` when it can't be one, or when its handle is unknown.
    pub(super) fn header_value(
        &mut self,
        table: &ResourceTable,
        value: WitValue,
    ) -> Option<HeaderValue> {
        let secret = |handle: &Resource<Secret>| table.get(handle).ok().map(|found| &found.value);
        let (prefix, text) = match &value {
            WitValue::Plain(text) => return HeaderValue::try_from(text).ok(),
            WitValue::Secret(handle) => ("", self.keep(secret(handle)?.expose_secret())),
            WitValue::Bearer(handle) => ("Bearer ", self.keep(secret(handle)?.expose_secret())),
            WitValue::Basic(credentials) => {
                let password = self.keep(secret(&credentials.password)?.expose_secret());
                // A colon in the name would move the border to the password.
                if credentials.user.contains(':') {
                    return None;
                }
                let pair = Zeroizing::new(format!("{}:{}", credentials.user, *password));
                let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
                ("Basic ", self.keep(&encoded))
            }
        };
        let text = Zeroizing::new(format!("{prefix}{}", *text));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn keep(&mut self, text: &str) -> Zeroizing<String> {
        self.0.push(Zeroizing::new(text.as_bytes().to_vec()));
        Zeroizing::new(text.to_owned())
    }

    /// The same bytes, with every secret in them masked: a server that repeats its request must not show them to the guest.
    pub(super) fn masked<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut masked = Cow::Borrowed(bytes);
        for secret in self.0.iter().filter(|secret| !secret.is_empty()) {
            let mut from = 0;
            while let Some(at) = memchr::memmem::find(&masked[from..], secret) {
                let end = from + at + secret.len();
                masked.to_mut()[from + at..end].fill(MASK);
                from = end;
            }
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (ResourceTable, Resource<Secret>) {
        let mut table = ResourceTable::new();
        let value = "s3cret".to_owned().into();
        let handle = table.push(Secret { value }).unwrap();
        (table, handle)
    }

    #[test]
    fn each_form_has_its_header_and_is_sensitive() {
        let (table, handle) = table();
        let again = || Resource::new_borrow(handle.rep());
        let basic = |user: &str| {
            WitValue::Basic(
                crate::bindings::shared::bellwether::host::http::BasicCredentials {
                    user: user.to_owned(),
                    password: again(),
                },
            )
        };
        for (value, expected) in [
            (WitValue::Secret(again()), "s3cret"),
            (WitValue::Bearer(again()), "Bearer s3cret"),
            (basic("ops"), "Basic b3BzOnMzY3JldA=="),
        ] {
            let mut injected = Injected::default();
            let header = injected.header_value(&table, value).unwrap();
            assert_eq!(header.to_str().unwrap(), expected);
            assert!(header.is_sensitive() && !injected.is_empty());
        }
        let mut injected = Injected::default();
        let refused = injected.header_value(&table, basic("ops:more"));
        assert_eq!(refused, None);
    }

    #[test]
    fn an_answer_that_repeats_a_secret_is_masked() {
        let (table, handle) = table();
        let mut injected = Injected::default();
        let plain = WitValue::Plain("s3cret".to_owned());
        injected.header_value(&table, plain).unwrap();
        assert!(matches!(
            injected.masked(b"s3cret"),
            Cow::Borrowed(b"s3cret")
        ));
        let bearer = WitValue::Bearer(Resource::new_borrow(handle.rep()));
        injected.header_value(&table, bearer).unwrap();
        let masked = injected.masked(b"s3crets3cret Bearer s3cret, s3cre");
        assert_eq!(*masked, *b"************ Bearer ******, s3cre");
    }
}
