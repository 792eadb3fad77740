//! Notifiers, which deliver notifications to people.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::about::{self, Description, PluginKind};
use crate::bindings::notifier::exports::bellwether;
use crate::{BadField, Capability, Failure, Identity, config};

pub use bellwether::notifier::notify::{
    Action, Callback, CallbackAction, Incident, IncidentState, Notification, Reason, Receipt,
    Severity, Status,
};

/// Delivers one notification at a time. The host stores the attempts and retries.
pub trait Notifier {
    /// The receiver's `with` block: derive `serde::Deserialize` and `schemars::JsonSchema`. The host validates it by
    /// that schema, so declare defaults, ranges and `#[serde(deny_unknown_fields)]` there.
    type Config: DeserializeOwned + JsonSchema;
    /// Capabilities that it requires.
    const WANTS: &[Capability] = &[];

    /// Validates what the schema can't express, such as two fields that must agree.
    fn check(_config: &Self::Config) -> Result<(), BadField> {
        Ok(())
    }

    /// Delivers one notification. The host retries after [`Failure::Upstream`] only.
    fn deliver(config: &Self::Config, notification: &Notification) -> Result<Receipt, Failure>;

    /// Handles a request from the channel, such as a pressed button.
    fn on_callback(
        _config: &Self::Config,
        _callback: &Callback,
    ) -> Result<Vec<CallbackAction>, Failure> {
        Err(Failure::other("this notifier does not support callbacks"))
    }
}

/// The exports of a notifier for [`register!`](crate::register).
#[derive(Debug)]
pub struct NotifierComponent<T>(PhantomData<T>);

impl<T: Notifier + Identity> about::Guest for NotifierComponent<T> {
    fn describe() -> Description {
        about::description(
            T::PACKAGE,
            PluginKind::Notifier,
            config::schema::<T::Config>(),
            T::WANTS,
        )
    }
}

impl<T: Notifier> bellwether::notifier::notify::Guest for NotifierComponent<T> {
    fn deliver(config: String, notification: Notification) -> Result<Receipt, Failure> {
        T::deliver(&config::read(&config, T::check)?, &notification)
    }

    fn on_callback(config: String, callback: Callback) -> Result<Vec<CallbackAction>, Failure> {
        T::on_callback(&config::read(&config, T::check)?, &callback)
    }
}
