//! The plugin host with real components: the first-party ones, and guests that misbehave on purpose.

mod compile;
mod hostile;
mod http;
mod load;
mod policy;
pub(crate) mod support;
mod work;
