//! Validates each field of a step after its template is rendered.

use url::Url;

use super::diagnostics::Path;
use super::render::{Fault, Renderer, fault};
use super::scalars::Sha256;
use super::schema_words::short;

impl Renderer<'_> {
    /// Renders a text.
    pub(super) fn text(&self, text: &str, at: &Path) -> Result<String, Fault> {
        let rendered = self
            .templates
            .render(text)
            .map_err(|f| fault(at, f.message, &f.mend))?;
        if rendered.contains('\0') {
            return Err(fault(
                at,
                "the value contains a NUL character".to_owned(),
                "delete the character",
            ));
        }
        Ok(rendered)
    }

    /// Renders a text that must not be empty.
    pub(super) fn filled(&self, text: &str, at: &Path) -> Result<String, Fault> {
        let rendered = self.text(text, at)?;
        if rendered.trim().is_empty() {
            return Err(fault(
                at,
                "the value is empty after rendering".to_owned(),
                "write a value",
            ));
        }
        Ok(rendered)
    }

    /// Renders a path within the node's folder, relative to it.
    pub(super) fn path(&self, text: &str, at: &Path) -> Result<String, Fault> {
        let rendered = self.filled(text, at)?;
        let inner = match rendered.strip_prefix(&self.root) {
            Some("") => ".",
            Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/'),
            Some(_) | None => &rendered,
        };
        stays_inside(inner)
            .then(|| inner.to_owned())
            .ok_or_else(|| {
                let message = format!("`{}` leads outside the node's folder", short(&rendered));
                fault(
                    at,
                    message,
                    "write a path below the node's folder, such as `{{.Paths.data}}/x` or `data/x`",
                )
            })
    }

    /// Renders a complete URL.
    pub(super) fn url(&self, text: &str, at: &Path) -> Result<String, Fault> {
        let rendered = self.filled(text, at)?;
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        match Url::parse(&rendered) {
            Ok(url) if is_http(&url) => Ok(rendered),
            Ok(_) | Err(_) => {
                let message = format!("`{}` is not a URL", short(&rendered));
                Err(fault(
                    at,
                    message,
                    "write a complete URL that starts with `https://` or `http://`",
                ))
            }
        }
    }

    /// Renders `host:port`.
    pub(super) fn address(&self, text: &str, at: &Path) -> Result<String, Fault> {
        let rendered = self.filled(text, at)?;
        let port = rendered
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty());
        if port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Ok(rendered);
        }
        let message = format!("`{}` is not `host:port`", short(&rendered));
        Err(fault(
            at,
            message,
            "write for example `127.0.0.1:{{.Ports.rpc}}`",
        ))
    }

    /// Renders `sha256:` and its digits.
    pub(super) fn checksum(&self, text: &str, at: &Path) -> Result<String, Fault> {
        let rendered = self.filled(text, at)?;
        match rendered.parse::<Sha256>() {
            Ok(checksum) => Ok(checksum.as_str().to_owned()),
            Err(bad) => {
                let mend = "write the digest of the file, or `{{.Binaries.<name>.checksum}}`";
                Err(fault(at, bad.to_string(), mend))
            }
        }
    }

    /// Renders one version, not a range.
    pub(super) fn exact_version(&self, text: &str, at: &Path) -> Result<String, Fault> {
        let version = self.filled(text, at)?;
        let exact = version.starts_with(|c: char| c.is_ascii_digit())
            && version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-+~:_".contains(c));
        if !exact {
            let message = format!("`{}` is not an exact version", short(&version));
            return Err(fault(
                at,
                message,
                "write one version, such as `1.7.1`; no range and no tag",
            ));
        }
        Ok(version)
    }

    /// Renders a package name; the client would read a leading dash as an option.
    pub(super) fn package_name(&self, text: &str, at: &Path) -> Result<String, Fault> {
        let name = self.filled(text, at)?;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '@')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "@/._+-".contains(c));
        if !is_name {
            let message = format!("`{}` is not a valid package name", short(&name));
            return Err(fault(
                at,
                message,
                "write the name as the registry lists it",
            ));
        }
        Ok(name)
    }
}

/// Whether a relative path can't leave the folder that it starts in.
pub(super) fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.contains('\\')
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| part != "..")
}

/// Whether the text is `sha512-` and the base64 of a SHA-512.
pub(super) fn is_sha512(text: &str) -> bool {
    let digest = text.strip_prefix("sha512-").unwrap_or_default();
    digest.len() == 88
        && digest.ends_with("==")
        && digest[..86]
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

/// Parses octal permissions.
pub(super) fn mode(text: &str, at: &Path) -> Result<u32, Fault> {
    u32::from_str_radix(text, 8).map_err(|_| {
        fault(
            at,
            format!("`{}` are not permissions", short(text)),
            "write for example `\"0750\"`",
        )
    })
}
