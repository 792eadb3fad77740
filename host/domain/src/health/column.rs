//! The columns that policies read: `node.height@unchanged_s_5m` is a name, an aggregate and a window.
//!
//! The host computes them natively and once, because calls into a component are expensive.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::observation::Scalar;
use crate::time::{Millis, format_duration, parse_duration};

/// How the samples of a window become one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aggregate {
    /// The newest value, of any type.
    Last,
    /// Newest minus oldest.
    Delta,
    /// `Delta` per second.
    Rate,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Seconds since the newest sample.
    AgeS,
    /// Seconds since the value last changed, or since the oldest sample when it never did.
    UnchangedS,
    /// The number of samples.
    Count,
    /// The largest `Last` among the other nodes of the same chain.
    MaxSiblings,
}

const AGGREGATES: &[(&str, Aggregate)] = &[
    ("last", Aggregate::Last),
    ("delta", Aggregate::Delta),
    ("rate", Aggregate::Rate),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("age_s", Aggregate::AgeS),
    ("unchanged_s", Aggregate::UnchangedS),
    ("count", Aggregate::Count),
    ("max_siblings", Aggregate::MaxSiblings),
];

/// One column of a sheet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column {
    /// The observation's name.
    pub observation: String,
    /// How its samples become one value.
    pub aggregate: Aggregate,
    /// The window; the policy's own when `None`.
    pub window: Option<Duration>,
}

/// A text that is not a column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a column; write an observation's name, `@`, one of {names}, and an optional window such as `_5m`",
    names = AGGREGATES.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
)]
pub struct BadColumn(pub String);

impl FromStr for Column {
    type Err = BadColumn;

    fn from_str(text: &str) -> Result<Self, BadColumn> {
        let bad = || BadColumn(text.to_owned());
        let (observation, rest) = text.split_once('@').ok_or_else(bad)?;
        if observation.is_empty() {
            return Err(bad());
        }
        let exact = AGGREGATES
            .iter()
            .find(|(name, _)| *name == rest)
            .map(|(_, aggregate)| (*aggregate, None));
        let windowed = || {
            let (name, window) = rest.rsplit_once('_')?;
            let (_, aggregate) = AGGREGATES.iter().find(|(known, _)| *known == name)?;
            Some((*aggregate, Some(parse_duration(window).ok()?)))
        };
        let (aggregate, window) = exact.or_else(windowed).ok_or_else(bad)?;
        Ok(Self {
            observation: observation.to_owned(),
            aggregate,
            window,
        })
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = AGGREGATES
            .iter()
            .find(|(_, known)| *known == self.aggregate)
            .map_or("", |(name, _)| name);
        write!(f, "{}@{name}", self.observation)?;
        self.window
            .map_or(Ok(()), |window| write!(f, "_{}", format_duration(window)))
    }
}

/// One value of an observation at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it was measured.
    pub at: Millis,
    /// What was measured.
    pub value: Scalar,
}

/// The two largest newest values of a chain's nodes: enough to compute for each node the largest value of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SiblingValues {
    largest: Option<f64>,
    second: Option<f64>,
}

impl SiblingValues {
    /// Adds one node's newest value.
    pub fn add(&mut self, value: f64) {
        if self.largest.is_none_or(|largest| value > largest) {
            self.second = self.largest;
            self.largest = Some(value);
        } else if self.second.is_none_or(|second| value > second) {
            self.second = Some(value);
        }
    }

    /// The largest value of the nodes other than the one with the value `own`.
    fn max_of_others(&self, own: Option<f64>) -> Option<f64> {
        if self.largest == own {
            self.second
        } else {
            self.largest
        }
    }
}

impl Column {
    /// Computes the column from the samples of its observation, ordered by time.
    ///
    /// `last` and `age_s` use the newest sample however old it is, so include it: a node that fell silent before the
    /// window must not look like one without any sample. All other aggregates use the window only. Without samples a
    /// column is absent, except for `count`.
    pub fn compute(
        &self,
        samples: &[Sample],
        siblings: &SiblingValues,
        now: Millis,
        window: Duration,
    ) -> Scalar {
        let oldest_at = now.minus(self.window.unwrap_or(window));
        let newest = samples.last();
        let samples = &samples[samples.partition_point(|sample| sample.at < oldest_at)..];
        let numbers = || samples.iter().filter_map(|sample| sample.value.number());
        let real = |value: Option<f64>| value.map_or(Scalar::Absent, Scalar::Real);
        match self.aggregate {
            Aggregate::Last => newest.map_or(Scalar::Absent, |sample| sample.value.clone()),
            Aggregate::Delta => real(delta(samples).map(|(delta, _)| delta)),
            Aggregate::Rate => {
                real(delta(samples).and_then(|(delta, s)| (s > 0.0).then(|| delta / s)))
            }
            Aggregate::Min => real(numbers().reduce(f64::min)),
            Aggregate::Max => real(numbers().reduce(f64::max)),
            Aggregate::AgeS => real(newest.map(|sample| now.since(sample.at).as_secs_f64())),
            Aggregate::UnchangedS => {
                real(unchanged_since(samples).map(|at| now.since(at).as_secs_f64()))
            }
            Aggregate::Count => Scalar::Int(i64::try_from(samples.len()).unwrap_or(i64::MAX)),
            Aggregate::MaxSiblings => {
                real(siblings.max_of_others(newest.and_then(|sample| sample.value.number())))
            }
        }
    }
}

/// Newest minus oldest number, and the seconds between them.
fn delta(samples: &[Sample]) -> Option<(f64, f64)> {
    let (first, last) = (samples.first()?, samples.last()?);
    Some((
        last.value.number()? - first.value.number()?,
        last.at.since(first.at).as_secs_f64(),
    ))
}

/// The time of the oldest sample of the run of equal values at the end.
fn unchanged_since(samples: &[Sample]) -> Option<Millis> {
    let last = samples.last()?;
    samples
        .iter()
        .rev()
        .take_while(|sample| sample.value == last.value)
        .last()
        .map(|sample| sample.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heights(values: &[(i64, i64)]) -> Vec<Sample> {
        values
            .iter()
            .map(|(s, height)| Sample {
                at: Millis(s * 1_000),
                value: Scalar::Int(*height),
            })
            .collect()
    }

    fn compute(column: &str, samples: &[Sample], now_s: i64) -> Scalar {
        let column: Column = column.parse().unwrap();
        let mut siblings = SiblingValues::default();
        for value in [7.0, 12.0, 11.0] {
            siblings.add(value);
        }
        column.compute(
            samples,
            &siblings,
            Millis(now_s * 1_000),
            Duration::from_mins(1),
        )
    }

    #[test]
    fn aggregates() {
        let samples = heights(&[(10, 5), (20, 7), (30, 12), (40, 12)]);
        for (column, expected) in [
            ("h@last", Scalar::Int(12)),
            ("h@delta", Scalar::Real(7.0)),
            ("h@rate", Scalar::Real(7.0 / 30.0)),
            ("h@min", Scalar::Real(5.0)),
            ("h@max", Scalar::Real(12.0)),
            ("h@age_s", Scalar::Real(5.0)),
            ("h@unchanged_s", Scalar::Real(15.0)),
            ("h@count", Scalar::Int(4)),
            ("h@count_20s", Scalar::Int(2)),
            ("h@max_siblings", Scalar::Real(11.0)),
        ] {
            assert_eq!(compute(column, &samples, 45), expected, "{column}");
        }
    }

    #[test]
    fn silence_longer_than_the_window_keeps_the_last_word() {
        let samples = heights(&[(10, 5), (20, 7)]);
        for (column, expected) in [
            ("h@last", Scalar::Int(7)),
            ("h@age_s", Scalar::Real(280.0)),
            ("h@age_s_5s", Scalar::Real(280.0)),
            ("h@count", Scalar::Int(0)),
            ("h@unchanged_s", Scalar::Absent),
        ] {
            assert_eq!(compute(column, &samples, 300), expected, "{column}");
        }
    }

    #[test]
    fn without_samples_there_is_nothing() {
        for (name, aggregate) in AGGREGATES {
            let expected = match aggregate {
                Aggregate::Count => Scalar::Int(0),
                Aggregate::MaxSiblings => Scalar::Real(12.0),
                _ => Scalar::Absent,
            };
            assert_eq!(compute(&format!("h@{name}"), &[], 45), expected, "{name}");
        }
    }

    #[test]
    fn columns_read_and_write() {
        for text in [
            "node.height@last",
            "node.height@unchanged_s",
            "node.height@unchanged_s_5m",
            "a@rate_30s",
        ] {
            assert_eq!(text.parse::<Column>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "node.height",
            "@last",
            "a@mean",
            "a@last_",
            "a@last_5",
            "a@_5m",
        ] {
            assert!(text.parse::<Column>().is_err(), "{text}");
        }
    }
}
