//! Reads nextest's JUnit report: the slowest tests, and how the run compares with its budget.

use std::path::Path;
use std::time::Duration;

/// How many tests are listed.
const SLOWEST: usize = 10;

/// How long a run may take on two cores.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    /// All tests.
    pub(crate) tests: Duration,
    /// The whole command, with a cold build.
    pub(crate) total: Duration,
}

/// What a report says.
#[derive(Debug, PartialEq)]
struct Report {
    seconds: f64,
    /// Seconds and names, the slowest first.
    tests: Vec<(f64, String)>,
}

/// Prints the slowest tests and the budget.
pub(crate) fn print(report: &Path, total: Duration, budget: Option<Budget>) {
    let Ok(text) = std::fs::read_to_string(report) else {
        eprintln!("nextest wrote no report to {}", report.display());
        return;
    };
    let report = read(&text);
    eprintln!("The slowest tests:");
    for (seconds, name) in report.tests.iter().take(SLOWEST) {
        eprintln!("  {seconds:7.1} s  {name}");
    }
    if let Some(budget) = budget {
        eprintln!("{}", line("Running tests", report.seconds, budget.tests));
        eprintln!("{}", line("In total", total.as_secs_f64(), budget.total));
    }
}

fn line(what: &str, seconds: f64, budget: Duration) -> String {
    let budget = budget.as_secs_f64();
    let verdict = if seconds > budget {
        "over the budget"
    } else {
        "within the budget"
    };
    format!("{what}: {seconds:.0} s of {budget:.0} s on two cores, {verdict}")
}

fn read(text: &str) -> Report {
    let mut tests: Vec<(f64, String)> = text.split("<testcase ").skip(1).filter_map(case).collect();
    tests.sort_by(|one, other| other.0.total_cmp(&one.0));
    let whole = text.split("<testsuites ").nth(1).and_then(seconds);
    Report {
        seconds: whole.unwrap_or_default(),
        tests,
    }
}

fn case(element: &str) -> Option<(f64, String)> {
    let (class, name) = (
        attribute(element, "classname")?,
        attribute(element, "name")?,
    );
    Some((seconds(element)?, format!("{class} {name}")))
}

fn seconds(element: &str) -> Option<f64> {
    attribute(element, "time")?.parse().ok()
}

/// An attribute of the element that the text starts in.
fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let element = element.split('>').next()?;
    let mut parts = element.split('"');
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        if key.trim() == format!("{name}=") {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_lists_the_slowest_tests_first() {
        let text = r#"<testsuites name="nextest-run" tests="2" time="7.250">
    <testsuite name="tests::it" tests="2">
        <testcase name="store::fast" classname="tests::it" timestamp="x" time="0.250">
        </testcase>
        <testcase name="spine::slow" classname="tests::it" timestamp="x" time="7.000"/>"#;
        let expected = Report {
            seconds: 7.25,
            tests: vec![
                (7.0, "tests::it spine::slow".to_owned()),
                (0.25, "tests::it store::fast".to_owned()),
            ],
        };
        assert_eq!(read(text), expected);
    }
}
