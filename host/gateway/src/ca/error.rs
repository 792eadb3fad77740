//! Errors of the certificate authority, each with its remedy.

use std::io;
use std::path::PathBuf;

/// Why the authority failed.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file can't be read or written.
    #[error(
        "can't read or write `{path}`; check that this user owns the folder and that the disk has free space"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Other users can read a key.
    #[error(
        "other users can read the key `{path}`; run `chmod 600 {path}` and treat the key as compromised"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The certificate exists and its key does not, so the authority can't sign.
    #[error(
        "`{certificate}` exists but its key `{key}` does not; restore the key from a backup, or remove the certificate to \
         create a new authority, with which every agent must enrol again"
    )]
    KeyMissing {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The content of a file is not valid.
    #[error("`{path}` does not contain a valid {what}; restore the file from a backup")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the file should contain.
        what: &'static str,
        /// The cause.
        #[source]
        source: anyhow::Error,
    },
    /// An agent's request can't be signed.
    #[error(
        "the certificate signing request is not valid; send PKCS#10 in DER, signed by its own key"
    )]
    BadRequest(#[source] anyhow::Error),
    /// A name for the gateway's certificate is not valid.
    #[error(
        "`{0}` is not a valid name of the gateway; set host names or addresses in `gateway.names`"
    )]
    BadName(String),
    /// The certificate library failed; this is a bug.
    #[error("can't create a certificate")]
    Internal(#[source] anyhow::Error),
}
