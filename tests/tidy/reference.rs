//! Every metric and every setting in the sources is in its list and on its generated page.

use regex::Regex;

use super::{File, check, files, root};

/// Whether this is the one source of a crate that records metrics.
fn is_list(path: &str) -> bool {
    Regex::new(r"^host/[a-z]+/src/metrics\.rs$")
        .unwrap()
        .is_match(path)
}

fn sources() -> Vec<File> {
    let sources = files(".rs").into_iter();
    let ours = ["host/", "plugin-sdk/", "plugins/", "proto/"];
    sources
        .filter(|file| ours.iter().any(|folder| file.path.starts_with(folder)))
        .collect()
}

/// Metrics that are recorded elsewhere than in their crate's list, or by a name that is no constant of it.
fn unlisted_metrics(file: &File) -> Vec<String> {
    let recorded = Regex::new(r"\b(?:counter|gauge|histogram)!\s*\(\s*([^\s,)]+)").unwrap();
    let constants = Regex::new(r"(?m)^pub const ([A-Z_]+): Metric =").unwrap();
    let list = file.text.split_once("pub const METRICS");
    let list = list.map_or("", |(_, list)| list.split("];").next().unwrap_or_default());
    let listed: Vec<&str> = list
        .split(|letter: char| !(letter.is_ascii_uppercase() || letter == '_'))
        .collect();
    let mut found = Vec::new();
    for call in recorded.captures_iter(&file.text) {
        let constant = call[1].strip_suffix(".name").unwrap_or_default();
        let is_listed = !constant.is_empty() && listed.contains(&constant);
        // The host gives all descriptions in a loop.
        if !(is_list(&file.path) && (is_listed || constant == "metric")) {
            found.push(format!(
                "records `{}`, which is not in the list of the crate's metrics.rs",
                &call[1]
            ));
        }
    }
    for constant in constants.captures_iter(&file.text) {
        let constant = &constant[1];
        if !listed.contains(&constant) {
            found.push(format!("`{constant}` is not in `METRICS`"));
        }
        if !file.text.contains(&format!("{constant}.name")) {
            found.push(format!("`{constant}` is recorded nowhere"));
        }
    }
    found
}

#[test]
fn every_metric_is_in_the_list_of_its_crate() {
    check(
        unlisted_metrics,
        &sources(),
        &File::new(
            "host/bus/src/x.rs",
            "metrics::counter!(\"events_total\").increment(1);\n",
        ),
    );
    let mut list = File::new(
        "host/bus/src/metrics.rs",
        "pub const A: Metric = Metric {};\npub const METRICS: &[Metric] = &[\n    A,\n];\nmetrics::gauge!(A.name);\n",
    );
    assert_eq!(unlisted_metrics(&list), Vec::<String>::new());
    list.text = list.text.replace("    A,\n", "");
    assert_eq!(unlisted_metrics(&list).len(), 2);
}

#[test]
fn every_metric_is_on_the_page_of_metrics() {
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let name = Regex::new(r#"(?m)^    name: "([a-z_]+)",$"#).unwrap();
    let rule = |file: &File| {
        let names = name.captures_iter(&file.text);
        let lacking = names.filter(|name| !page.contains(&format!("| `{}` |", &name[1])));
        lacking
            .map(|name| format!("docs/metrics.md lacks `{}`", &name[1]))
            .collect()
    };
    let lists: Vec<File> = sources()
        .into_iter()
        .filter(|file| is_list(&file.path))
        .collect();
    assert!(lists.len() >= 6, "the crates have lost their lists");
    let unknown = "pub const A: Metric = Metric {\n    name: \"events_nobody_lists\",\n};\n";
    check(rule, &lists, &File::new("host/bus/src/metrics.rs", unknown));
}

/// The public fields of the structs that a configuration file is read into.
fn setting_names(file: &File) -> Vec<String> {
    let section = Regex::new(
        r"(?s)JsonSchema\)\]\n#\[serde\(deny_unknown_fields[^\n]*\)\]\npub struct \w+ \{\n(.*?)\n\}",
    )
    .unwrap();
    let field = Regex::new(r"(?m)^    pub (\w+):").unwrap();
    let sections = section.captures_iter(&file.text);
    sections
        .flat_map(|section| {
            let fields = field.captures_iter(section.get(1).unwrap().as_str());
            fields
                .map(|found| found[1].to_owned())
                .collect::<Vec<String>>()
        })
        .collect()
}

/// Sources with sections of the host's configuration. (Chain configurations have the same attributes, and pages of their own.)
fn is_configuration(path: &str) -> bool {
    let of_an_adapter = Regex::new(r"^host/(?:[a-z]+)/src/config(?:/\w+)?\.rs$").unwrap();
    let of_the_domain = ["subscription.rs", "health/heartbeat.rs", "migration.rs"];
    let of_the_domain = of_the_domain.map(|file| format!("host/domain/src/{file}"));
    (of_an_adapter.is_match(path) && !path.starts_with("host/domain/"))
        || of_the_domain.iter().any(|file| file == path)
}

#[test]
fn every_setting_is_on_the_page_of_settings() {
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let lacks = |name: &str| {
        let endings = [
            format!(".{name}` |"),
            format!("| `{name}` |"),
            format!("## {name}\n"),
        ];
        !endings.iter().any(|ending| page.contains(ending))
            // A section that is always there has no row, but its keys have.
            && !page.contains(&format!(".{name}."))
    };
    let rule = |file: &File| {
        let names = setting_names(file).into_iter();
        let lacking = names.filter(|name| lacks(name));
        lacking
            .map(|name| format!("docs/configuration.md lacks `{name}`"))
            .collect()
    };
    let sections: Vec<File> = sources()
        .into_iter()
        .filter(|file| is_configuration(&file.path))
        .collect();
    let n_names: usize = sections.iter().map(|file| setting_names(file).len()).sum();
    assert!(n_names > 60, "only {n_names} settings were found");
    let unknown = "#[derive(JsonSchema)]\n#[serde(deny_unknown_fields, default)]\npub struct X {\n    /// A.\n    pub nobody_sets: bool,\n}\n";
    check(
        rule,
        &sections,
        &File::new("host/bus/src/config.rs", unknown),
    );
}
