//! Converts between the protocol's messages and the domain, and validates what agents send, item by item.
//!
//! The gateway drops and counts an invalid item. Valid items of the same message are stored, and the message is
//! acknowledged, so the agent does not repeat the invalid item forever.

use host_domain::command::{CommandOutcome, CommandState};
use host_domain::heartbeat::{ProcessState, ProcessStatus};
use host_domain::ids::NodeId;
use host_domain::node_event::NodeEventEntry;
use host_domain::observation::{Observation, Scalar};
use host_domain::plugin::{AddressRange, Grants, Limits};
use host_domain::time::Millis;
use proto::v1;
use uuid::Uuid;

use crate::assignments::{AgentAssignments, CollectorAssignment, NodeAssignment};
use crate::events::CommandProgress;
use crate::steps::millis;

const NAME_BYTES_MAX: usize = 128;
const TEXT_BYTES_MAX: usize = 4 * 1024;
const MESSAGE_BYTES_MAX: usize = 2 * 1024;
const OUTPUT_BYTES_MAX: usize = 32 * 1024;
const PATH_BYTES_MAX: usize = 4 * 1024;
/// How far an agent's clock may be ahead.
const AHEAD_MS_MAX: i64 = 5 * 60 * 1_000;
/// An older observation comes from a wrong clock, not from the agent's spool.
const AGE_MS_MAX: i64 = 30 * 24 * 3_600 * 1_000;

/// The result of a command; `None` when the message has no outcome.
pub(crate) fn outcome(result: v1::CommandResult) -> Option<(CommandState, CommandOutcome)> {
    use v1::command_result::Outcome;
    let state = match result.outcome() {
        Outcome::Succeeded => CommandState::Succeeded,
        Outcome::Failed => CommandState::Failed,
        Outcome::Stuck => CommandState::Stuck,
        Outcome::Unspecified => return None,
    };
    let mut outcome = CommandOutcome {
        step: cut(result.step, NAME_BYTES_MAX),
        error: cut(result.error, TEXT_BYTES_MAX),
        output: cut_front(result.output, OUTPUT_BYTES_MAX),
        root: None,
        ports: std::collections::BTreeMap::new(),
    };
    if let Some(prepared) = result.prepared {
        outcome.root = Some(cut(prepared.root, PATH_BYTES_MAX));
        let port = |(name, port)| Some((name, u16::try_from(port).ok()?));
        outcome.ports = prepared.ports.into_iter().filter_map(port).collect();
    }
    Some((state, outcome))
}

/// The progress of a command.
pub(crate) fn progress(progress: v1::CommandProgress) -> CommandProgress {
    CommandProgress {
        step: cut(progress.step, NAME_BYTES_MAX),
        step_index: progress.step_index,
        step_count: progress.step_count,
        fraction: progress
            .fraction
            .filter(|f| f.is_finite())
            .map(|f| f.clamp(0.0, 1.0)),
        message: cut(progress.message, MESSAGE_BYTES_MAX),
    }
}

/// One observation; `None` when its name, value or time is not valid.
pub(crate) fn observation(item: v1::Observation, at: Millis, now: Millis) -> Option<Observation> {
    use v1::observation::Value;
    if !is_name(&item.name) || !is_plausible(at, now) {
        return None;
    }
    let value = match item.value {
        None => Scalar::Absent,
        Some(Value::Flag(flag)) => Scalar::Flag(flag),
        Some(Value::Integer(number)) => Scalar::Int(number),
        Some(Value::Real(number)) if number.is_finite() => Scalar::Real(number),
        Some(Value::Text(text)) if text.len() <= TEXT_BYTES_MAX => Scalar::Text(text),
        Some(Value::Real(_) | Value::Text(_)) => return None,
    };
    Some(Observation {
        name: item.name,
        value,
        at,
    })
}

/// A node's event; `None` when its id or kind is not valid.
pub(crate) fn node_event(
    event: v1::NodeEvent,
    node_id: NodeId,
    now: Millis,
) -> Option<NodeEventEntry> {
    let id = Uuid::parse_str(&event.id).ok()?.to_string();
    let is_kind = !event.kind.is_empty()
        && event.kind.len() <= NAME_BYTES_MAX
        && event
            .kind
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c == b'_');
    is_kind.then(|| NodeEventEntry {
        id,
        node_id,
        // A wrong clock must not hide an event: it happened before the host received it.
        at: Millis(event.at_ms.clamp(now.0.saturating_sub(AGE_MS_MAX), now.0)),
        kind: event.kind,
        message: cut(event.message, MESSAGE_BYTES_MAX),
    })
}

/// The error of a collector, cut to its limit.
pub(crate) fn collector_error(text: String) -> String {
    cut(text, MESSAGE_BYTES_MAX)
}

/// A short text that an agent reports, cut to its limit.
pub(crate) fn label(text: String) -> String {
    cut(text, NAME_BYTES_MAX)
}

/// A node's processes as the database stores them, and whether each of them runs.
pub(crate) fn processes(processes: Vec<v1::ProcessStatus>) -> (String, bool) {
    use v1::process_status::State;
    let mut all_run = true;
    let mut statuses = Vec::with_capacity(processes.len());
    for process in processes {
        let state = match process.state() {
            State::Running => ProcessState::Running,
            State::Stopped => ProcessState::Stopped,
            State::BackingOff => ProcessState::BackingOff,
            State::Failed | State::Unspecified => ProcessState::Failed,
        };
        all_run &= state == ProcessState::Running;
        statuses.push(ProcessStatus {
            name: cut(process.name, NAME_BYTES_MAX),
            state,
            pid: process.pid,
            restarts: process.restarts,
            started_at_ms: process.started_at_ms,
        });
    }
    (serde_json::json!(statuses).to_string(), all_run)
}

/// Converts assignments.
pub(crate) fn assignments(assignments: AgentAssignments) -> v1::Assignments {
    v1::Assignments {
        generation: assignments.generation,
        nodes: assignments.nodes.into_iter().map(node_assignment).collect(),
    }
}

fn node_assignment(node: NodeAssignment) -> v1::NodeAssignment {
    v1::NodeAssignment {
        node_id: node.node_id.to_string(),
        chain: node.chain,
        node_type: node.node_type,
        ports: node
            .ports
            .into_iter()
            .map(|(name, port)| (name, u32::from(port)))
            .collect(),
        collectors: node.collectors.into_iter().map(collector).collect(),
    }
}

fn collector(collector: CollectorAssignment) -> v1::CollectorAssignment {
    v1::CollectorAssignment {
        name: collector.name,
        plugin: collector.plugin,
        component_digest: collector.component_digest,
        config_json: collector.config.to_string(),
        every_ms: millis(collector.every),
        grants: Some(grants(collector.grants)),
        limits: Some(limits(&collector.limits)),
    }
}

fn grants(grants: Grants) -> v1::Grants {
    use v1::http_grant::AddressRange as To;
    let range = |range: &AddressRange| match range {
        AddressRange::Loopback => To::Loopback.into(),
        AddressRange::Private => To::Private.into(),
        AddressRange::LinkLocal => To::LinkLocal.into(),
    };
    let http = grants.http.into_iter().map(|grant| v1::HttpGrant {
        addresses: grant.addresses.iter().map(range).collect(),
        target: grant.target,
    });
    v1::Grants {
        http: http.collect(),
        secrets: grants.secrets,
        kv: grants.kv,
    }
}

fn limits(limits: &Limits) -> v1::Limits {
    v1::Limits {
        memory_mib: limits.memory_mib,
        cpu_ms: millis(limits.cpu),
        wall_ms: millis(limits.wall),
        http_body_kib: limits.http_body_kib,
        host_calls: limits.host_calls,
        log_lines: limits.log_lines,
    }
}

/// Whether a name consists of lower-case words with dots between them, such as `node.height`.
fn is_name(name: &str) -> bool {
    let is_word = |word: &str| {
        word.bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
            && word.starts_with(|c: char| c.is_ascii_lowercase())
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_word)
}

fn is_plausible(at: Millis, now: Millis) -> bool {
    (now.0.saturating_sub(AGE_MS_MAX)..=now.0.saturating_add(AHEAD_MS_MAX)).contains(&at.0)
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
    text
}

/// Keeps the end, because output usually ends with the error.
fn cut_front(text: String, bytes_max: usize) -> String {
    match text.len().checked_sub(bytes_max) {
        None | Some(0) => text,
        Some(excess) => text[text.ceil_char_boundary(excess)..].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_900_000_000_000);

    fn item(name: &str, value: v1::observation::Value) -> v1::Observation {
        v1::Observation {
            name: name.to_owned(),
            value: Some(value),
        }
    }

    #[test]
    fn observations_with_a_bad_name_value_or_time_are_left_out() {
        use v1::observation::Value as V;
        let read = |name: &str, value, at| observation(item(name, value), Millis(at), NOW);
        assert!(read("node.height", V::Integer(7), NOW.0).is_some());
        assert!(read("chain.height_reference", V::Real(1.5), NOW.0 - 1_000).is_some());
        for name in [
            "",
            ".",
            "node.",
            "Node.height",
            "node height",
            "1st",
            &"a".repeat(129),
        ] {
            assert_eq!(read(name, V::Integer(7), NOW.0), None, "{name}");
        }
        for value in [
            V::Real(f64::NAN),
            V::Real(f64::INFINITY),
            V::Text("x".repeat(5_000)),
        ] {
            assert_eq!(read("node.height", value, NOW.0), None);
        }
        for at in [
            NOW.0 + AHEAD_MS_MAX + 1,
            NOW.0 - AGE_MS_MAX - 1,
            i64::MIN,
            i64::MAX,
        ] {
            assert_eq!(read("node.height", V::Integer(7), at), None, "{at}");
        }
    }

    #[test]
    fn texts_are_cut_at_characters() {
        assert_eq!(cut("aéé".to_owned(), 4), "aé");
        assert_eq!(cut_front("ééa".to_owned(), 4), "éa");
        assert_eq!(cut_front("ab".to_owned(), 4), "ab");
    }

    #[test]
    fn processes_run_when_each_of_them_does() {
        use v1::process_status::State as S;
        let process = |state: v1::process_status::State| v1::ProcessStatus {
            name: "anvil".to_owned(),
            state: state.into(),
            pid: 7,
            restarts: 1,
            started_at_ms: 5,
        };
        let (json, run) = processes(vec![process(S::Running)]);
        assert!(run);
        let expected =
            r#"[{"name":"anvil","state":"running","pid":7,"restarts":1,"started_at_ms":5}]"#;
        assert_eq!(json, expected);
        assert!(processes(Vec::new()).1);
        assert!(!processes(vec![process(S::Running), process(S::BackingOff)]).1);
        assert!(!processes(vec![process(S::Stopped)]).1);
    }

    #[test]
    fn an_outcome_is_bounded_and_required() {
        let result = v1::CommandResult {
            outcome: v1::command_result::Outcome::Failed.into(),
            output: "x".repeat(OUTPUT_BYTES_MAX) + "the end",
            prepared: Some(v1::Prepared {
                root: "/nodes/1".to_owned(),
                ports: [("rpc".to_owned(), 8545), ("bad".to_owned(), 70_000)].into(),
            }),
            ..v1::CommandResult::default()
        };
        let (state, read) = outcome(result).unwrap();
        assert_eq!(state, CommandState::Failed);
        assert!(read.output.len() <= OUTPUT_BYTES_MAX && read.output.ends_with("the end"));
        assert_eq!(read.ports, [("rpc".to_owned(), 8545)].into());
        assert_eq!(outcome(v1::CommandResult::default()), None);
    }
}
