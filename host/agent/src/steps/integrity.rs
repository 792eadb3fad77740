//! Digests that recipes pin, and the verification of files against them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::digest::{Algorithm, Context, SHA256, SHA512};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A pinned digest.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// `sha256:<hex>`.
    Sha256(Vec<u8>),
    /// `sha512-<base64>`, the form of npm.
    Sha512(Vec<u8>),
}

impl Integrity {
    /// Parses either form.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let parsed = if let Some(digest) = text.strip_prefix("sha256:") {
            hex::decode(digest)
                .ok()
                .filter(|bytes| bytes.len() == 32)
                .map(Self::Sha256)
        } else if let Some(digest) = text.strip_prefix("sha512-") {
            STANDARD
                .decode(digest)
                .ok()
                .filter(|bytes| bytes.len() == 64)
                .map(Self::Sha512)
        } else {
            None
        };
        parsed.with_context(|| {
            format!("`{text}` is not a digest; write `sha256:<hex>` or `sha512-<base64>`")
        })
    }

    /// A file name for this digest.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Sha256(digest) => format!("sha256-{}", hex::encode(digest)),
            Self::Sha512(digest) => format!("sha512-{}", hex::encode(digest)),
        }
    }

    /// The digest in hexadecimal.
    pub(crate) fn hex(&self) -> String {
        match self {
            Self::Sha256(digest) | Self::Sha512(digest) => hex::encode(digest),
        }
    }

    /// Fails unless the file has this digest. Blocks.
    pub(crate) fn check(&self, path: &Path) -> anyhow::Result<()> {
        self.check_read(File::open(path).context("the agent can't open the file")?)
    }

    /// Fails unless the content of `from` has this digest. Blocks.
    pub(crate) fn check_read(&self, from: impl Read) -> anyhow::Result<()> {
        let actual = self.same_kind(self.digest(from).context("the agent can't read the file")?);
        anyhow::ensure!(
            actual == *self,
            "the content has the digest {actual}, but the recipe pins {self}; \
             check the source and pin the new digest only if you trust it"
        );
        Ok(())
    }

    fn digest(&self, mut from: impl Read) -> io::Result<Vec<u8>> {
        let algorithm: &'static Algorithm = match self {
            Self::Sha256(_) => &SHA256,
            Self::Sha512(_) => &SHA512,
        };
        let mut context = Context::new(algorithm);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(context.finish().as_ref().to_vec()),
                n => context.update(&buffer[..n]),
            }
        }
    }

    fn same_kind(&self, digest: Vec<u8>) -> Self {
        match self {
            Self::Sha256(_) => Self::Sha256(digest),
            Self::Sha512(_) => Self::Sha512(digest),
        }
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => write!(f, "sha256:{}", hex::encode(digest)),
            Self::Sha512(digest) => write!(f, "sha512-{}", STANDARD.encode(digest)),
        }
    }
}

impl fmt::Debug for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_verified() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = Integrity::parse(empty).unwrap();
        assert_eq!(digest.to_string(), empty);
        digest.check_read(&b""[..]).unwrap();
        let error = digest.check_read(&b"x"[..]).unwrap_err().to_string();
        assert!(
            error.contains("sha256:2d711642") && error.contains(empty),
            "{error}"
        );
    }

    #[test]
    fn invalid_digests_are_rejected() {
        for text in [
            "",
            "sha256:",
            "sha256:00",
            "sha512-AAAA",
            "md5:00",
            "e3b0c442",
        ] {
            assert!(Integrity::parse(text).is_err(), "{text}");
        }
    }
}
