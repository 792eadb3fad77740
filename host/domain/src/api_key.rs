//! API keys: what is known of one, when it is valid, and which names and lifetimes a new one may have.

use std::time::Duration;

use super::ids::ApiKeyId;
use super::time::Millis;
use crate::text_enum::text_enum;

/// Longest name of a key.
pub const NAME_MAX: usize = 64;
/// Shortest time between the creation of a key and its expiry.
pub const LIFETIME_MIN: Duration = Duration::from_mins(1);
/// Longest time between the creation of a key and its expiry: five years.
pub const LIFETIME_MAX: Duration = Duration::from_hours(24 * 365 * 5);
/// How old the recorded last use of a key may be before a further use is recorded.
pub const LAST_USED_STEP: Duration = Duration::from_mins(1);
/// Actors of the audit log that are no keys.
const RESERVED_NAMES: &[&str] = &["host"];

text_enum! {
    /// Whether a key is valid.
    ApiKeyState {
        /// It authenticates requests.
        Active = "active",
        /// Its time is over.
        Expired = "expired",
        /// Somebody revoked it before its time was over.
        Revoked = "revoked",
    }
}

/// An API key as it is stored: nothing of it can be used to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Names the key in the API.
    pub id: ApiKeyId,
    /// The public part of the token, by which the row is found.
    pub prefix: String,
    /// Keyed hash of the token, in hex.
    pub hash: String,
    /// Names the caller in the audit log; two active keys never share it.
    pub name: String,
    /// What the key may do.
    pub scopes: Vec<String>,
    /// When it was created.
    pub created_at: Millis,
    /// The actor who created it.
    pub created_by: String,
    /// When it expires; `None` for a key that is valid until it is revoked.
    pub expires_at: Option<Millis>,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<Millis>,
    /// When it was revoked, or when an expired key gave its name to a new one.
    pub revoked_at: Option<Millis>,
}

impl ApiKey {
    /// Whether the key is valid now. A key that is revoked after its expiry stays expired.
    pub fn state(&self, now: Millis) -> ApiKeyState {
        let has_expired = |expires_at: Millis| {
            expires_at <= now && self.revoked_at.is_none_or(|at| at >= expires_at)
        };
        match (self.expires_at, self.revoked_at) {
            (Some(at), _) if has_expired(at) => ApiKeyState::Expired,
            (_, Some(_)) => ApiKeyState::Revoked,
            (_, None) => ApiKeyState::Active,
        }
    }

    /// Whether a use of the key at this time is recorded: about one use per minute is.
    pub fn is_use_recorded(&self, at: Millis) -> bool {
        self.last_used_at
            .is_none_or(|last| at.since(last) >= LAST_USED_STEP)
    }
}

/// Checks the name of a new key, and says what a valid one looks like.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_@".contains(&byte);
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_plain) {
        return Err(format!(
            "must have 1 to {NAME_MAX} letters, digits, `.`, `-`, `_` or `@`"
        ));
    }
    if RESERVED_NAMES.contains(&name) {
        return Err(format!(
            "`{name}` is reserved, because the audit log names the host so; choose another name"
        ));
    }
    Ok(())
}

/// The name of the admin key that a host creates at startup: `admin@` and the name of its machine.
pub fn admin_name(hostname: &str) -> String {
    let plain = |char: char| match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' => char,
        _ => '-',
    };
    let name: String = hostname.chars().take(40).map(plain).collect();
    if name.is_empty() {
        return "admin@localhost".to_owned();
    }
    format!("admin@{name}")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn key(expires_at: Option<i64>, revoked_at: Option<i64>) -> ApiKey {
        ApiKey {
            id: ApiKeyId(Uuid::nil()),
            prefix: "p".to_owned(),
            hash: "h".to_owned(),
            name: "n".to_owned(),
            scopes: Vec::new(),
            created_at: Millis(0),
            created_by: "host".to_owned(),
            expires_at: expires_at.map(Millis),
            last_used_at: None,
            revoked_at: revoked_at.map(Millis),
        }
    }

    #[test]
    fn a_key_is_active_until_it_expires_or_is_revoked() {
        use ApiKeyState as S;
        for (expires_at, revoked_at, now, state) in [
            (None, None, i64::MAX, S::Active),
            (Some(10), None, 9, S::Active),
            (Some(10), None, 10, S::Expired),
            (None, Some(5), 5, S::Revoked),
            (Some(10), Some(5), 20, S::Revoked),
            (Some(10), Some(10), 20, S::Expired),
            (Some(10), Some(15), 20, S::Expired),
        ] {
            let found = key(expires_at, revoked_at).state(Millis(now));
            assert_eq!(found, state, "{expires_at:?} {revoked_at:?} {now}");
        }
    }

    #[test]
    fn about_one_use_per_minute_is_recorded() {
        let mut key = key(None, None);
        assert!(key.is_use_recorded(Millis(0)));
        key.last_used_at = Some(Millis(0));
        assert!(!key.is_use_recorded(Millis(59_999)));
        assert!(key.is_use_recorded(Millis(60_000)));
    }

    #[test]
    fn names_are_plain_short_and_not_the_hosts() {
        for name in [
            "ci",
            "admin@machine-1.example.org",
            "A_b-1",
            &"x".repeat(64),
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "a b", "a/b", "ä", "host", "agent:1", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn every_hostname_makes_a_valid_name() {
        assert_eq!(admin_name("web-1.example.org"), "admin@web-1.example.org");
        for hostname in ["", "ä ö", "a@b", &"x".repeat(300)] {
            assert_eq!(check_name(&admin_name(hostname)), Ok(()), "{hostname}");
        }
    }
}
