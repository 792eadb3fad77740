//! The registry of step types.

use anyhow::Context as _;
use proto::v1 as pb;
use proto::v1::step::Action;

use super::Step;

/// The step that a recipe asks for. One line for each type.
pub(crate) fn step_of(step: &pb::Step) -> anyhow::Result<&dyn Step> {
    let action = step.action.as_ref().with_context(|| {
        format!(
            "this agent does not know the type of step `{}`; update the agent",
            step.name
        )
    })?;
    let step: &dyn Step = match action {
        Action::Package(step) => step,
        Action::Directory(step) => step,
        Action::File(step) => step,
        Action::Download(step) => step,
        Action::Extract(step) => step,
        Action::Binary(step) => step,
        Action::Process(step) => step,
        Action::WaitFor(step) => step,
        Action::Key(step) => step,
    };
    Ok(step)
}
