//! Generates `docs/metrics.md` from the lists of metrics.

use std::fmt::Write as _;

use host_domain::metric::Metric;

use super::keep;

const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from the lists in each crate's metrics.rs by tests/reference/metrics.rs; do not edit. -->

A host shows its metrics at `/metrics` in the text format of Prometheus. The path needs no key.

| name | kind | unit | labels | description |
|---|---|---|---|---|
";

/// The whole page.
fn page() -> String {
    let mut metrics: Vec<&Metric> = host_server::metrics::all().collect();
    metrics.sort_by_key(|metric| metric.name);
    let mut page = INTRODUCTION.to_owned();
    for metric in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|one| format!("`{one}`")).collect();
        writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            metric.unit.as_str(),
            labels.join(", "),
            metric.description,
        )
        .unwrap();
    }
    page
}

#[test]
fn the_page_of_metrics_is_the_one_that_is_generated() {
    keep("docs/metrics.md", &page());
}
