//! A collector that uses a secret and keeps state between its calls, in the way that its configuration names.

#![forbid(unsafe_code)]

use bellwether_plugin_sdk::{
    Capability, Collector, Emits, Failure, Node, Observation, http, kv, register, secrets,
};

/// What to do.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "act")]
enum Config {
    /// Sends the number of its calls so far, with a secret in a header, and emits the whole answer.
    Send {
        /// Where to.
        url: String,
        /// The secret's name.
        secret: String,
        /// The form of the header `authorization`.
        form: Form,
    },
    /// Sets so many keys of so many bytes.
    Fill {
        /// How many.
        keys: usize,
        /// Bytes of each value.
        bytes: usize,
    },
    /// Tries to go around the rules for secrets.
    Steal {
        /// Where to, with a header of its own that asks for an encoding or a part.
        url: String,
        /// The secret's name.
        secret: String,
        /// A request header, such as `range`.
        header: String,
        /// Its value.
        value: String,
    },
}

/// The form of a header.
#[derive(Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// The secret alone.
    Plain,
    /// `Bearer` and the secret.
    Bearer,
    /// `Basic` with the user `ops`.
    Basic,
}

struct Keeper;

impl Collector for Keeper {
    type Config = Config;
    const WANTS: &[Capability] = &[Capability::Http];
    const EMITS: &[Emits] = &[
        Emits::counter("keeper.calls", "", "Number of calls so far."),
        Emits::state("keeper.answer", "The headers and the body of the answer."),
    ];

    fn collect(_node: &Node, config: &Config) -> Result<Vec<Observation>, Failure> {
        match config {
            Config::Send { url, secret, form } => {
                let calls = kv::get_json("calls")?.unwrap_or(0_u64) + 1;
                kv::set_json("calls", &calls)?;
                let secret = secrets::get(secret)?;
                let request = http::get(url).header("x-calls", calls.to_string());
                let request = match form {
                    Form::Plain => request.secret_header("authorization", &secret),
                    Form::Bearer => request.bearer_header("authorization", &secret),
                    Form::Basic => request.basic_header("authorization", "ops", &secret),
                };
                Ok(vec![
                    Observation::new("keeper.calls", calls),
                    answer(&request.send()?),
                ])
            }
            Config::Fill { keys, bytes } => {
                for key in 0..*keys {
                    kv::set(&key.to_string(), &vec![7; *bytes])?;
                }
                Ok(Vec::new())
            }
            Config::Steal {
                url,
                secret,
                header,
                value,
            } => {
                let secret = secrets::get(secret)?;
                let request = http::get(url)
                    .header(header, value)
                    .bearer_header("x-token", &secret);
                Ok(vec![answer(&request.send()?)])
            }
        }
    }
}

fn answer(answer: &http::Response) -> Observation {
    let echo = answer.header("x-echo").unwrap_or_default();
    let location = answer.header("location").unwrap_or_default();
    let text = format!("{} {echo} {location} {}", answer.status, answer.text());
    Observation::new("keeper.answer", text)
}

register!(collector: Keeper);
