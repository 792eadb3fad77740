//! `bellwether:host/facts`: load, memory and disk of the machine that the node runs on, as numbers.
//!
//! The agent knows the machine and the node's folder; it hands in a source with each call. Nothing else has facts to offer.

use crate::bindings::shared::bellwether::host::facts::{Host, MachineFacts as WitFacts};
use crate::bindings::shared::bellwether::types::failures::Failure;
use crate::state::HostState;

/// What the machine looks like now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MachineFacts {
    /// Processors that the agent may use.
    pub cpus: u32,
    /// Load average of the last minute.
    pub load1: f64,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Memory of the machine.
    pub memory_total_bytes: u64,
    /// In use on the file system that holds the node's folder.
    pub disk_used_bytes: u64,
    /// Size of that file system.
    pub disk_total_bytes: u64,
}

/// Reads the facts; called on the thread that runs the plugin, so it must not block for long.
pub trait FactSource: Send + Sync + 'static {
    /// The facts now, or why they can't be read.
    fn read(&self) -> Result<MachineFacts, String>;
}

impl Host for HostState {
    fn read(&mut self) -> wasmtime::Result<Result<WitFacts, Failure>> {
        self.count_call()?;
        let Some(source) = &self.node.context.facts else {
            return Ok(Err(Failure::Denied(
                "no facts are offered where this plugin runs".to_owned(),
            )));
        };
        Ok(source.read().map(WitFacts::from).map_err(Failure::Other))
    }
}

impl From<MachineFacts> for WitFacts {
    fn from(facts: MachineFacts) -> Self {
        Self {
            cpus: facts.cpus,
            load1: facts.load1,
            memory_used_bytes: facts.memory_used_bytes,
            memory_total_bytes: facts.memory_total_bytes,
            disk_used_bytes: facts.disk_used_bytes,
            disk_total_bytes: facts.disk_total_bytes,
        }
    }
}
