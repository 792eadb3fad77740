//! A notifier that misbehaves in the way its configuration names.

#![forbid(unsafe_code)]

use bellwether_plugin_sdk::notifier::{Notification, Receipt};
use bellwether_plugin_sdk::{Failure, Notifier, register};

/// How to misbehave.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "act")]
enum Config {
    /// Says that it delivered.
    Behave,
    /// Ends in a trap.
    Trap,
}

struct Hostile;

impl Notifier for Hostile {
    type Config = Config;

    fn deliver(config: &Config, notification: &Notification) -> Result<Receipt, Failure> {
        match config {
            Config::Behave => Ok(Receipt {
                reference: Some(notification.id.clone()),
                detail: "taken".into(),
            }),
            Config::Trap => panic!("a trap was asked for"),
        }
    }
}

register!(notifier: Hostile);
