//! JSON text, the only form in which workflows, activities and engines exchange values.
//!
//! It is text because one engine stores strings and the other stores payloads, and both keep text unchanged. It is
//! bounded because every replay reads a whole history.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The maximum size of one input, output or message.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// Why a value can't be exchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The value is too large for a history.
    #[error(
        "{what} has {bytes} bytes, more than the {TEXT_BYTES_MAX} that a workflow's history accepts; pass an id and keep the data in the database"
    )]
    TooLarge {
        /// The name of the value.
        what: String,
        /// Its size.
        bytes: usize,
    },
    /// The value is not JSON or has an unexpected type.
    #[error("{what} does not have the expected type: {message}; give a changed type a new version")]
    Malformed {
        /// The name of the value.
        what: String,
        /// The parser's message.
        message: String,
    },
}

/// Writes a value as bounded JSON text.
pub fn encode<T: Serialize>(what: &str, value: &T) -> Result<String, ExchangeError> {
    let text = serde_json::to_string(value).map_err(|error| malformed(what, &error))?;
    check(what, &text)?;
    Ok(text)
}

/// Reads a value from JSON text.
pub fn decode<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, ExchangeError> {
    check(what, text)?;
    serde_json::from_str(text).map_err(|error| malformed(what, &error))
}

/// Rejects text that is too large.
pub fn check(what: &str, text: &str) -> Result<(), ExchangeError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ExchangeError::TooLarge {
            what: what.to_owned(),
            bytes: text.len(),
        });
    }
    Ok(())
}

fn malformed(what: &str, error: &serde_json::Error) -> ExchangeError {
    ExchangeError::Malformed {
        what: what.to_owned(),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_exact() {
        let fits = "x".repeat(TEXT_BYTES_MAX - 2);
        assert_eq!(
            decode::<String>("it", &encode("it", &fits).unwrap()).unwrap(),
            fits
        );
        let error = encode("the input of `install`", &"x".repeat(TEXT_BYTES_MAX - 1)).unwrap_err();
        assert_eq!(
            error,
            ExchangeError::TooLarge {
                what: "the input of `install`".into(),
                bytes: TEXT_BYTES_MAX + 1
            }
        );
    }

    #[test]
    fn another_type_is_named() {
        let error = decode::<u32>("the output of `check_agent`", "\"text\"").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the output of `check_agent` does not have the expected type"),
            "{error}"
        );
    }
}
