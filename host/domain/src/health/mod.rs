//! Health: missed heartbeats, verdicts of policies, and the columns that policies read.

mod column;
mod heartbeat;
mod own;
mod verdict;

pub use column::{Aggregate, BadColumn, Column, Sample, SiblingValues};
pub use heartbeat::{HeartbeatConfig, HeartbeatDecision, HeartbeatSnapshot, evaluate_heartbeat};
pub use own::{OwnChange, OwnIncident, OwnIncidents, own_category};
pub use verdict::{FLAP_CHANGES_MAX, FLAP_WINDOW, HealthChange, HealthTrack, Verdict};
