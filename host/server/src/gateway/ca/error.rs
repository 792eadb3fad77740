//! What can go wrong with the authority, each with the way to mend it.

use std::io;
use std::path::PathBuf;

/// Why the authority could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file can't be read or written.
    #[error(
        "`{path}` can't be used; check that this user owns the folder and that the disk has room"
    )]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may read a key.
    #[error(
        "the key `{path}` can be read by others; run `chmod 600 {path}` and think of it as known"
    )]
    Exposed {
        /// Which one.
        path: PathBuf,
    },
    /// The certificate is there and its key is not, so that nothing more can be signed.
    #[error(
        "`{certificate}` is there but its key `{key}` is not; restore the key from a backup, or move the certificate away \
         to make a new authority, with which every agent has to enrol anew"
    )]
    KeyMissing {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// A file does not hold what its name says.
    #[error("`{path}` does not hold a {what} that can be used; restore it from a backup")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// The request of an agent can't be signed.
    #[error(
        "the certificate signing request can't be used; send PKCS#10 in DER, signed by its own key"
    )]
    BadRequest(#[source] anyhow::Error),
    /// A name for the gateway's certificate can't be used.
    #[error(
        "`{0}` can't be a name of the gateway; write a host name or an address in `gateway.names`"
    )]
    BadName(String),
    /// The library refused; a bug.
    #[error("a certificate could not be made")]
    Internal(#[source] anyhow::Error),
}
