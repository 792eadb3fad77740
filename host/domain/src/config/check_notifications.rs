//! Checks `notifications/`, whose files share one set of names.

use std::collections::BTreeSet;
use std::time::Duration;

use super::check::{Context, PluginPlace, exists, plugin, unique, unused, within};
use super::diagnostics::{Diagnostic, Path};
use super::load::Doc;
use super::notifications::NotificationsFile;

/// Checks all notification files together.
pub(super) fn notifications(
    docs: &[Doc<NotificationsFile>],
    context: &Context<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let files = || {
        docs.iter()
            .filter_map(|doc| Some((doc, doc.model.as_ref()?)))
    };
    let all_read = docs.iter().all(|doc| doc.model.is_some());
    let mut seen = BTreeSet::new();
    for (doc, file) in files() {
        unique(
            doc,
            "receivers",
            file.receivers.iter().map(|r| &r.name),
            found,
        );
        unique(doc, "routes", file.routes.iter().map(|r| &r.name), found);
        unique(
            doc,
            "silences",
            file.silences.iter().map(|s| &s.name),
            found,
        );
        for (name, used) in &file.plugins {
            let declared = PluginPlace {
                doc,
                name,
                plugin: used,
                ports: None,
                has_node: false,
            };
            plugin(&declared, context, found);
        }
        let names = (file.plugins.keys().map(|name| ("plugins", name)))
            .chain(file.receivers.iter().map(|r| ("receivers", &r.name)))
            .chain(file.routes.iter().map(|r| ("routes", &r.name)));
        let own: BTreeSet<(&str, &String)> = names.collect();
        for (list, name) in own.iter().filter(|entry| seen.contains(*entry)) {
            let message = format!("another notification file also has `{name}` in its `{list}`");
            let mend = "give it a unique name, because all files of the folder are merged";
            found.push(doc.at_key(&Path::default().at(*list), message, mend));
        }
        seen.extend(own);
    }
    // An unreadable file may declare the missing name.
    if all_read {
        references(&files().collect::<Vec<_>>(), found);
    }
}

fn references(
    files: &[(&Doc<NotificationsFile>, &NotificationsFile)],
    found: &mut Vec<Diagnostic>,
) {
    let plugins: Vec<&str> = files
        .iter()
        .flat_map(|(_, f)| f.plugins.keys().map(String::as_str))
        .collect();
    let receivers: Vec<&str> = files
        .iter()
        .flat_map(|(_, f)| f.receivers.iter().map(|r| r.name.as_str()))
        .collect();
    for (doc, file) in files {
        for (index, receiver) in file.receivers.iter().enumerate() {
            let path = Path::default().at("receivers").at(index).at("plugin");
            exists(doc, &path, &receiver.plugin, ("plugin", &plugins), found);
        }
        for (index, route) in file.routes.iter().enumerate() {
            let path = Path::default().at("routes").at(index);
            exists(
                doc,
                &path.at("receiver"),
                &route.receiver,
                ("receiver", &receivers),
                found,
            );
            let day = Duration::from_hours(24);
            within(
                doc,
                &path.at("group_wait"),
                route.group_wait,
                (Duration::ZERO, day),
                found,
            );
            let minute = Duration::from_mins(1);
            within(
                doc,
                &path.at("repeat_interval"),
                route.repeat_interval,
                (minute, day * 30),
                found,
            );
            let per = path.at("rate_limit").at("per");
            within(
                doc,
                &per,
                route.rate_limit.per,
                (Duration::from_secs(1), day),
                found,
            );
        }
        let used = || {
            files
                .iter()
                .flat_map(|(_, f)| f.receivers.iter().map(|r| r.plugin.as_str()))
        };
        for name in file.plugins.keys() {
            // An unknown name among the uses may be a misspelling of this plugin.
            if used().all(|used| used != name && plugins.contains(&used)) {
                unused(doc, name, "a receiver", found);
            }
        }
    }
}
