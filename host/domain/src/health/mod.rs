//! Health: missed beats, verdicts of policies, and the windows that policies look at.

mod column;
mod heartbeat;
mod verdict;

pub use column::{Aggregate, BadColumn, Column, Sample, SiblingValues};
pub use heartbeat::{HeartbeatConfig, HeartbeatDecision, HeartbeatSnapshot, evaluate_heartbeat};
pub use verdict::{FLAP_CHANGES_MAX, FLAP_WINDOW, HealthChange, HealthTrack, Verdict};
