//! A notifier that uses a secret and keeps state between its calls.

#![forbid(unsafe_code)]

use bellwether_plugin_sdk::notifier::{Notification, Receipt};
use bellwether_plugin_sdk::{Failure, Notifier, http, kv, register, secrets};

/// Where to send, and with which secret.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to.
    url: String,
    /// The secret's name.
    secret: String,
    /// `plain`, `bearer` or `basic`.
    form: String,
}

struct Keeper;

impl Notifier for Keeper {
    type Config = Config;

    fn deliver(config: &Config, _notification: &Notification) -> Result<Receipt, Failure> {
        let calls = kv::get_json("calls")?.unwrap_or(0_u64) + 1;
        kv::set_json("calls", &calls)?;
        let secret = secrets::get(&config.secret)?;
        let request = http::post(&config.url).header("x-calls", calls.to_string());
        let request = match config.form.as_str() {
            "bearer" => request.bearer_header("authorization", &secret),
            "basic" => request.basic_header("authorization", "ops", &secret),
            _ => request.secret_header("x-api-key", &secret),
        };
        let answer = request.send()?;
        Ok(Receipt {
            reference: answer.header("x-echo").map(Into::into),
            detail: answer.text(),
        })
    }
}

register!(notifier: Keeper);
