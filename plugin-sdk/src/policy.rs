//! Health policies, which judge nodes by the columns they declare. They are pure: no clock, no network, no state
//! between calls.

use std::marker::PhantomData;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::about::{self, Description, PluginKind};
use crate::bindings::policy::exports::bellwether;
use crate::{BadField, Failure, Identity, Scalar, config};

pub use bellwether::policy::judge::{Health, Incident, Reason, Severity, Sync, Verdict};

/// Judges one node at a time; one call of the host contains many nodes.
pub trait HealthPolicy {
    /// The policy's `with` block: derive `serde::Deserialize` and `schemars::JsonSchema`. The host validates it by
    /// that schema, so declare defaults, ranges and `#[serde(deny_unknown_fields)]` there.
    type Config: DeserializeOwned + JsonSchema + Send + std::marker::Sync + 'static;
    /// The columns that it reads, such as `node.height@last`; see docs/chain-author.md for the aggregates.
    const READS: &[&str];

    /// Validates what the schema can't express, such as two fields that must agree.
    fn check(_config: &Self::Config) -> Result<(), BadField> {
        Ok(())
    }

    /// Judges one node. The result must depend only on the arguments, because `plan` and `replay` evaluate past data
    /// again.
    fn judge(config: &Self::Config, row: Row<'_>) -> Verdict;
}

/// The values of one node, in the order of the policy's `READS`.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    values: &'a [Scalar],
    now_ms: i64,
}

impl<'a> Row<'a> {
    /// The values as an array: `let [height, peers] = row.values();`. Values beyond the row are absent.
    pub fn values<const N: usize>(&self) -> [&'a Scalar; N] {
        std::array::from_fn(|index| self.values.get(index).unwrap_or(&Scalar::Absent))
    }

    /// The time of the evaluation, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }
}

impl Verdict {
    /// A healthy verdict.
    pub fn ok(sync: Sync) -> Self {
        Self {
            health: Health::Ok,
            sync,
            reasons: Vec::new(),
            incidents: Vec::new(),
        }
    }

    /// Adds a reason and worsens the health to at least `health`.
    pub fn worsen(&mut self, health: Health, code: impl Into<String>, message: impl Into<String>) {
        self.health = match (self.health, health) {
            (Health::Critical, _) | (_, Health::Critical) => Health::Critical,
            (Health::Degraded, _) | (_, Health::Degraded) => Health::Degraded,
            (Health::Ok, Health::Ok) => Health::Ok,
        };
        self.reasons.push(Reason {
            code: code.into(),
            message: message.into(),
        });
    }
}

/// Stores the configuration between `configure` and `evaluate`; [`register!`](crate::register) implements it.
#[doc(hidden)]
pub trait Configured: HealthPolicy {
    /// The configuration's place.
    fn configured() -> &'static OnceLock<Self::Config>;
}

/// The exports of a health policy for [`register!`](crate::register).
#[derive(Debug)]
pub struct PolicyComponent<T>(PhantomData<T>);

impl<T: HealthPolicy + Identity> about::Guest for PolicyComponent<T> {
    fn describe() -> Description {
        Description {
            reads: T::READS.iter().map(ToString::to_string).collect(),
            ..about::description(
                T::PACKAGE,
                PluginKind::HealthPolicy,
                config::schema::<T::Config>(),
                &[],
            )
        }
    }
}

impl<T: Configured> bellwether::policy::judge::Guest for PolicyComponent<T> {
    fn configure(config: String) -> Result<(), Failure> {
        T::configured()
            .set(config::read(&config, T::check)?)
            .map_err(|_| Failure::other("configure was called twice"))
    }

    fn evaluate(sheet: bellwether::policy::judge::Sheet) -> Result<Vec<Verdict>, Failure> {
        let config = T::configured()
            .get()
            .ok_or_else(|| Failure::other("evaluate was called before configure"))?;
        if !sheet.names.iter().eq(T::READS) {
            return Err(Failure::other(format!(
                "the host sent the columns {:?}, expected {:?}",
                sheet.names,
                T::READS
            )));
        }
        let judge = |row: &bellwether::policy::judge::Row| {
            T::judge(
                config,
                Row {
                    values: &row.values,
                    now_ms: sheet.now_ms,
                },
            )
        };
        Ok(sheet.rows.iter().map(judge).collect())
    }
}
