//! Types of values that YAML writes as text: durations, sizes, digests, instants.
//!
//! Each has one Rust type and one JSON Schema with a pattern, so that editors, the loader and the published schema
//! agree. The loader shows `x-expects` for any other value.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::time::Millis;

/// The version of the file formats that this host reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum SchemaVersion {
    /// The first version.
    #[serde(rename = "1.0")]
    V1,
}

macro_rules! text_schema {
    ($name:ident, $pattern:literal, $expects:literal) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "x-expects": $expects })
            }
        }
    };
}

/// The schema of a [`std::time::Duration`], which is written as `30s`.
pub struct DurationText;
text_schema!(
    DurationText,
    "^[0-9]{1,12}(ms|s|m|h|d)$",
    "a duration such as `500ms`, `30s`, `5m`, `1h` or `7d`"
);

/// `#[serde(with = "optional_duration")]`: an optional duration.
pub mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::time::{format_duration, parse_duration};

    /// Writes the duration as text.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.serialize_str(&format_duration(*value)),
            None => to.serialize_none(),
        }
    }

    /// Reads the duration from text.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| parse_duration(&text).map_err(de::Error::custom))
            .transpose()
    }
}

/// A number of bytes, written as `64MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);
text_schema!(
    ByteSize,
    "^[0-9]{1,12}(B|KiB|MiB|GiB|TiB)$",
    "a size such as `512KiB`, `64MiB` or `1GiB`"
);

const SIZE_UNITS: [(u64, &str); 5] = [
    (1 << 40, "TiB"),
    (1 << 30, "GiB"),
    (1 << 20, "MiB"),
    (1 << 10, "KiB"),
    (1, "B"),
];

/// A text that is not a valid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct BadText {
    text: String,
    expected: &'static str,
}

impl FromStr for ByteSize {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadText {
            text: text.to_owned(),
            expected: "a size such as `64MiB`",
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let (factor, _) = SIZE_UNITS
            .iter()
            .find(|(_, name)| *name == unit)
            .ok_or_else(bad)?;
        number.checked_mul(*factor).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (factor, unit) in SIZE_UNITS {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// The digest of a file or component: `sha256:` and 64 lowercase hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(String);
text_schema!(
    Sha256,
    "^sha256:[0-9a-f]{64}$",
    "`sha256:` and 64 lowercase hexadecimal digits"
);

impl Sha256 {
    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Sha256 {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self(text.to_owned()));
        }
        Err(BadText {
            text: text.to_owned(),
            expected: "`sha256:` and 64 lowercase hexadecimal digits",
        })
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A point in time in UTC, written as `2026-12-31T23:59:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub Millis);
text_schema!(
    Instant,
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
    "a time in UTC such as `2026-12-31T23:59:00Z`"
);

impl FromStr for Instant {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadText {
            text: text.to_owned(),
            expected: "a time in UTC such as `2026-12-31T23:59:00Z`",
        };
        let bytes = text.as_bytes();
        let shape = bytes.len() == 20
            && b"dddd-dd-ddTdd:dd:ddZ"
                .iter()
                .zip(bytes)
                .all(|(want, got)| match want {
                    b'd' => got.is_ascii_digit(),
                    _ => want == got,
                });
        if !shape {
            return Err(bad());
        }
        let part = |from: usize, to: usize| text[from..to].parse::<i64>().map_err(|_| bad());
        let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
        let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
            return Err(bad());
        }
        if hour > 23 || minute > 59 || second > 59 {
            return Err(bad());
        }
        let seconds = ((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
        Ok(Self(Millis(seconds * 1_000)))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.0.div_euclid(1_000);
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; years start in March, so that a leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

macro_rules! serde_by_text {
    ($($name:ident),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

serde_by_text!(ByteSize, Sha256, Instant);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes) in [
            ("0B", 0),
            ("512KiB", 524_288),
            ("64MiB", 67_108_864),
            ("3B", 3),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size, ByteSize(bytes));
            assert_eq!(size.to_string(), text);
        }
        for text in ["", "5", "5MB", "-1KiB", "99999999999TiB", "1.5GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn instants_read_and_write() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-12-31T23:59:59Z", 1_798_761_599_000),
        ] {
            let instant: Instant = text.parse().unwrap();
            assert_eq!(instant.0, Millis(ms));
            assert_eq!(instant.to_string(), text);
        }
        for text in [
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "2026-01-01T24:00:00Z",
        ] {
            assert!(text.parse::<Instant>().is_err(), "{text}");
        }
    }
}
