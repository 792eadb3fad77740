//! Keys: the agent fetches them when their step runs, and only the owner can read them.

use std::os::unix::fs::PermissionsExt as _;

use proto::v1 as pb;
use proto::v1::command_result::Outcome;
use proto::v1::key_file::Encoding;
use proto::v1::step::Action as StepAction;

use super::bed::{Bed, step};

fn key(name: &str, path: &str, encoding: Encoding) -> pb::Step {
    let key = pb::KeyFile {
        name: name.to_owned(),
        path: path.to_owned(),
        encoding: encoding.into(),
    };
    step(name, StepAction::Key(key))
}

#[tokio::test]
async fn a_key_is_written_for_its_owner_only_and_is_in_no_journal() {
    let bed = Bed::new().await;
    bed.prepare().await;
    let install = bed.install(vec![
        key("p2p-identity", "config/p2p.key", Encoding::Hex),
        key("engine", "config/engine.raw", Encoding::Raw),
    ]);
    bed.gateway.run_well(install).await;
    let file = bed.root().join("config/p2p.key");
    let hex = hex::encode("p2p-identity");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), hex);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let raw = bed.root().join("config/engine.raw");
    assert_eq!(std::fs::read(raw).unwrap(), b"engine");
    let state = bed.folder.path().join("state");
    let holding = crate::support::files::holding(&state, hex.as_bytes());
    assert_eq!(holding, [file], "the key is nowhere else");
}

#[tokio::test]
async fn a_host_that_is_away_for_a_moment_costs_no_installation() {
    let bed = Bed::new().await;
    bed.prepare().await;
    let install = bed.install(vec![key("late", "late.key", Encoding::Raw)]);
    bed.gateway.run_well(install).await;
    assert_eq!(std::fs::read(bed.root().join("late.key")).unwrap(), b"late");
}

#[tokio::test]
async fn a_key_that_the_node_does_not_have_undoes_the_installation() {
    let bed = Bed::new().await;
    bed.prepare().await;
    let install = bed.install(vec![
        key("p2p", "config/p2p.key", Encoding::Base64),
        key("none", "config/none.key", Encoding::Hex),
    ]);
    let result = bed.gateway.run(install).await;
    assert_eq!(result.outcome(), Outcome::Failed, "{result:#?}");
    assert_eq!(result.step, "none");
    assert!(
        result
            .error
            .contains("no node of this agent has such a key"),
        "{}",
        result.error
    );
    assert_eq!(bed.files(), Vec::<String>::new());
}
