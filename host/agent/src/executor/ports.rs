//! The ports of this machine that nodes have reserved. No two nodes of this agent share a port.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use host_domain::ids::NodeId;
use serde::{Deserialize, Serialize};

use crate::durable;

/// The range for ports without a preference. Operating systems use higher ports for outgoing connections.
const RANGE: std::ops::Range<u16> = 20_000..32_000;
/// How many random ports to try.
const ATTEMPTS: usize = 500;

type ByNode = BTreeMap<NodeId, BTreeMap<String, u16>>;

/// All reserved ports.
pub(crate) struct Ports {
    path: PathBuf,
    reserved: Mutex<Reservations>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Reservations {
    nodes: ByNode,
}

impl Ports {
    /// Reads the reserved ports.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let reserved = durable::read_json(&path)?.unwrap_or_default();
        Ok(Self {
            path,
            reserved: Mutex::new(reserved),
        })
    }

    /// Reserves a port for each name: the port that it has already, the preferred one if that is free, or another one.
    pub(crate) fn reserve(
        &self,
        node: NodeId,
        preferred: &BTreeMap<String, u16>,
    ) -> anyhow::Result<BTreeMap<String, u16>> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = reserved.clone();
        let mut taken: BTreeSet<u16> = next
            .nodes
            .values()
            .flat_map(|ports| ports.values().copied())
            .collect();
        let ports = next.nodes.entry(node).or_default();
        for (name, preferred) in preferred {
            if !ports.contains_key(name) {
                let port = choose(*preferred, &taken)
                    .with_context(|| format!("this machine has no free port for `{name}`; the agent tried {ATTEMPTS} ports"))?;
                taken.insert(port);
                ports.insert(name.clone(), port);
            }
        }
        let ports = ports.clone();
        durable::write_json(&self.path, &next)?;
        *reserved = next;
        Ok(ports)
    }

    /// Releases a node's ports.
    pub(crate) fn release(&self, node: NodeId) -> io::Result<()> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = reserved.clone();
        if next.nodes.remove(&node).is_some() {
            durable::write_json(&self.path, &next)?;
            *reserved = next;
        }
        Ok(())
    }
}

fn choose(preferred: u16, taken: &BTreeSet<u16>) -> Option<u16> {
    let random = (0..ATTEMPTS).map(|_| rand::random_range(RANGE));
    let preferred = Some(preferred).filter(|port| *port != 0);
    preferred
        .into_iter()
        .chain(random)
        .find(|port| !taken.contains(port) && is_free(*port))
}

/// Whether the port is free now. Another program may still take it before the node does.
fn is_free(port: u16) -> bool {
    [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST]
        .into_iter()
        .all(|address| {
            TcpListener::bind((address, port)).is_ok() && UdpSocket::bind((address, port)).is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferred(ports: &[(&str, u16)]) -> BTreeMap<String, u16> {
        ports
            .iter()
            .map(|(name, port)| ((*name).to_owned(), *port))
            .collect()
    }

    #[test]
    fn ports_stay_and_are_never_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ports.json");
        let (one, two) = (NodeId(uuid::Uuid::now_v7()), NodeId(uuid::Uuid::now_v7()));
        let ports = Ports::open(path.clone()).unwrap();
        let first = ports
            .reserve(one, &preferred(&[("rpc", 0), ("p2p", 0)]))
            .unwrap();
        assert_ne!(first["rpc"], first["p2p"]);
        let other = ports
            .reserve(two, &preferred(&[("rpc", first["rpc"])]))
            .unwrap();
        assert_ne!(other["rpc"], first["rpc"]);

        let ports = Ports::open(path).unwrap();
        assert_eq!(
            ports
                .reserve(one, &preferred(&[("rpc", 0), ("p2p", 0)]))
                .unwrap(),
            first
        );
        ports.release(one).unwrap();
        let freed = ports
            .reserve(two, &preferred(&[("more", first["p2p"])]))
            .unwrap();
        assert_eq!(freed["more"], first["p2p"]);
    }

    #[test]
    fn a_port_in_use_is_not_given() {
        let dir = tempfile::tempdir().unwrap();
        let ports = Ports::open(dir.path().join("ports.json")).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let given = ports
            .reserve(NodeId(uuid::Uuid::now_v7()), &preferred(&[("rpc", port)]))
            .unwrap();
        assert_ne!(given["rpc"], port);
    }
}
