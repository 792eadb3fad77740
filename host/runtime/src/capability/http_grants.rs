//! Which requests the grants of a plugin allow: the part of `bellwether:host/http` that needs no network.
//!
//! A `node:` target is a port of the node that the call is about, on this machine. An absolute target allows its scheme, host and
//! port, and the paths below its own; where its name leads is checked when it has been resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use host_domain::plugin::{AddressRange, HttpGrant};
use url::{Host, Url};

use super::address::{AddressClass, classify};
use crate::error::PluginError;

/// The grants, understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpGrants {
    node_ports: BTreeSet<String>,
    targets: Vec<Target>,
}

/// One absolute target.
#[derive(Clone, Debug)]
struct Target {
    url: Url,
    ranges: Vec<AddressRange>,
}

/// A request that the grants allow, and the addresses that it may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Where to send it.
    pub(crate) url: Url,
    /// How its host may resolve.
    pub(crate) reach: Reach,
}

/// What a request may connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// The node, on this machine.
    Node,
    /// An address that the URL spells out and the grant opens.
    Literal,
    /// A name, resolved to public addresses and these ranges.
    Name(Vec<AddressRange>),
}

/// Why a request is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not granted.
    Denied(String),
    /// Not a request that can be sent.
    Invalid(String),
}

impl HttpGrants {
    /// Reads the grants as the configuration has them.
    pub(crate) fn parse(grants: &[HttpGrant]) -> Result<Self, PluginError> {
        let mut parsed = Self::default();
        for grant in grants {
            let bad = |reason: &str| PluginError::BadGrant {
                grant: grant.target.clone(),
                reason: reason.to_owned(),
            };
            if let Some(port) = grant.target.strip_prefix("node:") {
                if port.is_empty() || port.contains('/') {
                    return Err(bad(
                        "a port of the node is granted as `node:<port>`, without a path",
                    ));
                }
                parsed.node_ports.insert(port.to_owned());
                continue;
            }
            let url = Url::parse(&grant.target)
                .map_err(|_| bad("write `node:<port>` or an absolute URL"))?;
            if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
                return Err(bad("only http and https can be granted"));
            }
            if has_userinfo(&url) || url.query().is_some() || url.fragment().is_some() {
                return Err(bad("leave user, password, query and fragment out"));
            }
            parsed.targets.push(Target {
                url,
                ranges: grant.addresses.clone(),
            });
        }
        Ok(parsed)
    }

    /// Whether a request to `target` may be sent, and where to.
    pub(crate) fn check(
        &self,
        target: &str,
        ports: &BTreeMap<String, u16>,
    ) -> Result<Allowed, Refusal> {
        match target.strip_prefix("node:") {
            Some(rest) => self.check_node(rest, ports),
            None => self.check_absolute(target),
        }
    }

    fn check_node(&self, rest: &str, ports: &BTreeMap<String, u16>) -> Result<Allowed, Refusal> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (name, path) = rest.split_at(end);
        if !self.node_ports.contains(name) {
            return Err(Refusal::Denied(format!("`node:{name}` is not granted")));
        }
        let Some(port) = ports.get(name) else {
            return Err(Refusal::Invalid(format!("the node has no port `{name}`")));
        };
        // The port is a number and the path begins with a separator, so neither can change the host.
        let url = Url::parse(&format!("http://127.0.0.1:{port}{path}"))
            .map_err(|error| Refusal::Invalid(format!("`node:{rest}` is no URL: {error}")))?;
        Ok(Allowed {
            url,
            reach: Reach::Node,
        })
    }

    fn check_absolute(&self, target: &str) -> Result<Allowed, Refusal> {
        let url =
            Url::parse(target).map_err(|error| Refusal::Invalid(format!("not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Invalid(format!(
                "`{}` is no scheme for a request; use http or https",
                url.scheme()
            )));
        }
        if has_userinfo(&url) {
            return Err(Refusal::Invalid(
                "a URL with user or password is not sent; use a secret in a header".to_owned(),
            ));
        }
        let matching: Vec<_> = self
            .targets
            .iter()
            .filter(|granted| granted.covers(&url))
            .collect();
        if matching.is_empty() {
            return Err(Refusal::Denied(format!("{} is not granted", origin(&url))));
        }
        let ranges: BTreeSet<_> = matching
            .iter()
            .flat_map(|granted| granted.ranges.iter().copied())
            .collect();
        let ranges: Vec<_> = ranges.into_iter().collect();
        let reach = match url.host() {
            Some(Host::Ipv4(v4)) => literal(IpAddr::V4(v4), &ranges)?,
            Some(Host::Ipv6(v6)) => literal(IpAddr::V6(v6), &ranges)?,
            Some(Host::Domain(_)) => Reach::Name(ranges),
            None => return Err(Refusal::Invalid("the URL has no host".to_owned())),
        };
        Ok(Allowed { url, reach })
    }
}

impl Target {
    fn covers(&self, url: &Url) -> bool {
        self.url.scheme() == url.scheme()
            && self.url.host() == url.host()
            && self.url.port_or_known_default() == url.port_or_known_default()
            && covers_path(self.url.path(), url.path())
    }
}

/// Whether `path` is `granted` or lies below it, segment by segment. `Url` has resolved dots already; an escaped separator could
/// bring them back behind our back, so it is not below anything but the root.
fn covers_path(granted: &str, path: &str) -> bool {
    let granted = granted.strip_suffix('/').unwrap_or(granted);
    if granted.is_empty() {
        return true;
    }
    let lower = path.to_ascii_lowercase();
    let is_escaped = lower.contains("%2f") || lower.contains("%5c");
    path.strip_prefix(granted)
        .is_some_and(|rest| !is_escaped && (rest.is_empty() || rest.starts_with('/')))
}

/// Spelling an address out in a grant opens it, except where clouds keep their metadata: that always needs the range.
fn literal(address: IpAddr, ranges: &[AddressRange]) -> Result<Reach, Refusal> {
    let class = classify(address);
    let is_spelt_out = match class {
        AddressClass::Public
        | AddressClass::Special(AddressRange::Loopback | AddressRange::Private) => true,
        AddressClass::Special(AddressRange::LinkLocal) | AddressClass::Never => false,
    };
    if is_spelt_out || class.is_open_to(ranges) {
        return Ok(Reach::Literal);
    }
    Err(Refusal::Denied(format!(
        "{address} is a {} address, which the grant does not open",
        class.word()
    )))
}

fn has_userinfo(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Scheme, host and port: a path may hold what nobody should read in a log.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests;
