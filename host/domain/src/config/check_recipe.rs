//! Checks recipes: renders every template with sample values, and validates every result as a field of its step.

use super::check::{name, unique};
use super::diagnostics::{Diagnostic, Path};
use super::load::{ChainFiles, Doc};
use super::names::names;
use super::profile::{InputType, Profile};
use super::recipe::{Recipe, Step, StepAction};
use super::render::{Fault, Renderer};
use super::render_fields::stays_inside;
use super::runtime::Runtime;
use super::step::TemplateValues;
use super::tree::{Kind, Node};

/// Checks all recipes of a chain.
pub(super) fn recipes(files: &ChainFiles, found: &mut Vec<Diagnostic>) {
    for doc in files.recipes.values() {
        if let Some(recipe) = &doc.model {
            unique(
                doc,
                "steps",
                recipe.steps.iter().map(|step| &step.name),
                found,
            );
            literal_names(doc, recipe, found);
        }
    }
    let (Some(profile), Some(runtime)) = (&files.profile, &files.runtime) else {
        return;
    };
    let (Some(of_profile), Some(of_runtime)) = (&profile.model, &runtime.model) else {
        return;
    };
    for (node_type, doc) in &files.recipes {
        let Some(recipe) = &doc.model else { continue };
        if !of_profile.node_types.contains_key(node_type) {
            continue;
        }
        let values = sample(of_profile, of_runtime);
        let names = names(of_profile, of_runtime, node_type, &values);
        let renderer = Renderer::new(names, &values.root, &of_runtime.process, &of_profile.keys);
        let process = Path::default().at("process");
        for field in ["command", "args", "env"] {
            templates(runtime, &process.at(field), &renderer, found);
        }
        let is_right = found.iter().all(|one| one.file != runtime.source.file);
        let runtime = is_right.then_some(runtime);
        for (index, step) in recipe.steps.iter().enumerate() {
            self::step(doc, runtime, &renderer, (index, step), found);
        }
    }
}

/// Checks one step: first each template by itself, then the whole step, regardless of its `when`. `runtime` is `None`
/// when runtime.yaml has a mistake.
fn step(
    doc: &Doc<Recipe>,
    runtime: Option<&Doc<Runtime>>,
    renderer: &Renderer<'_>,
    (index, step): (usize, &Step),
    found: &mut Vec<Diagnostic>,
) {
    let path = Path::default().at("steps").at(index);
    let before = found.len();
    for field in ["when", "creates", "with"] {
        templates(doc, &path.at(field), renderer, found);
    }
    if found.len() > before {
        return;
    }
    let always = Step {
        when: None,
        ..step.clone()
    };
    if let Err(Fault {
        in_runtime,
        path: inner,
        message,
        mend,
    }) = renderer.step(&always)
    {
        let mistake = match (in_runtime, runtime) {
            (true, Some(runtime)) => runtime.at(&inner, message, mend),
            // The mistake in the runtime is reported there already.
            (true, None) => return,
            (false, _) => {
                let parts = inner.segments().iter();
                let whole = parts.fold(path, |path, segment| path.at(segment.clone()));
                doc.at(&whole, message, mend)
            }
        };
        // Each recipe checks the process of runtime.yaml again.
        if !found.contains(&mistake) {
            found.push(mistake);
        }
    }
}

/// Checks every text below a path that is a template.
fn templates<T>(doc: &Doc<T>, path: &Path, renderer: &Renderer<'_>, found: &mut Vec<Diagnostic>) {
    let Some(node) = doc.tree.node_at(path) else {
        return;
    };
    let mut open: Vec<(&Node, Path)> = vec![(node, path.clone())];
    while let Some((node, path)) = open.pop() {
        match &node.kind {
            Kind::Text(text) => {
                if let Err(fault) = renderer.template(text) {
                    let needle = fault.needle.unwrap_or_default();
                    let mistake = doc.at_part(&path, &needle, fault.message, fault.mend);
                    if !found.contains(&mistake) {
                        found.push(mistake);
                    }
                }
            }
            Kind::List(items) => {
                open.extend(
                    items
                        .iter()
                        .enumerate()
                        .map(|(index, item)| (item, path.at(index))),
                );
            }
            Kind::Map(entries) => {
                open.extend(
                    entries
                        .iter()
                        .map(|entry| (&entry.value, path.at(&entry.key))),
                );
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) => {}
        }
    }
}

/// Checks names that must not be templates.
fn literal_names(doc: &Doc<Recipe>, recipe: &Recipe, found: &mut Vec<Diagnostic>) {
    let mut processes = Vec::new();
    for (index, step) in recipe.steps.iter().enumerate() {
        let with = Path::default().at("steps").at(index).at("with");
        match &step.action {
            StepAction::Package(package) => {
                for key in package.binaries.keys() {
                    file_name(doc, &with.at("binaries").at(key), key, found);
                }
            }
            StepAction::Binary(binary) => file_name(doc, &with.at("name"), &binary.name, found),
            StepAction::Process(process) => {
                let path = with.at("name");
                name(doc, &path, &process.name, "process", found);
                if processes.contains(&&process.name) {
                    let message = format!("the process name `{}` occurs twice", process.name);
                    found.push(doc.at(&path, message, "give each process a unique name"));
                }
                processes.push(&process.name);
            }
            StepAction::Directory(_)
            | StepAction::File(_)
            | StepAction::Download(_)
            | StepAction::Extract(_)
            | StepAction::Key(_)
            | StepAction::WaitFor(_) => {}
        }
    }
}

fn file_name(doc: &Doc<Recipe>, path: &Path, name: &str, found: &mut Vec<Diagnostic>) {
    let is_right = stays_inside(name) && name != "." && !name.contains(['/', '{', '}']);
    if !is_right {
        let message = format!("`{}` is not a file name", super::schema_words::short(name));
        found.push(doc.at_key(
            path,
            message,
            "write one name without `/` and without a template",
        ));
    }
}

/// Sample values of the right types for a node that does not exist.
fn sample(profile: &Profile, runtime: &Runtime) -> TemplateValues {
    let inputs = profile.inputs.iter().map(|(name, input)| {
        let value = match input.kind {
            InputType::String => "sample",
            InputType::Integer => "1",
            InputType::Boolean => "true",
        };
        (name.clone(), value.to_owned())
    });
    let ports = (20_000..)
        .zip(runtime.ports.keys())
        .map(|(port, name)| (name.clone(), port));
    TemplateValues {
        root: "/var/lib/bellwether/nodes/sample".to_owned(),
        ports: ports.collect(),
        inputs: inputs.collect(),
        node_id: "0192f0c1-2345-7000-8000-000000000000".to_owned(),
        provider: "sample".to_owned(),
        region: "sample".to_owned(),
    }
}
