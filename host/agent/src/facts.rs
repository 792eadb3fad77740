//! Facts about the agent and its machine.

use std::path::Path;

use proto::v1 as pb;
use sysinfo::System;

/// The agent and its machine, as each session reports them once.
pub(crate) fn agent_facts(name: &str) -> pb::AgentFacts {
    let (_, memory_bytes) = memory();
    pb::AgentFacts {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpus: cpus(),
        memory_bytes,
    }
}

/// The number of processors.
pub(crate) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// The load of the machine. The disk is the one that holds `folder`.
pub(crate) fn machine_load(folder: &Path) -> pb::MachineLoad {
    let (memory_used_bytes, memory_total_bytes) = memory();
    let disk = std::fs::File::open(folder)
        .ok()
        .and_then(|dir| rustix::fs::fstatvfs(dir).ok());
    let (used, total) = disk.map_or((0, 0), |disk| {
        let free = disk.f_blocks.saturating_sub(disk.f_bfree);
        (
            free.saturating_mul(disk.f_frsize),
            disk.f_blocks.saturating_mul(disk.f_frsize),
        )
    });
    pb::MachineLoad {
        load1: System::load_average().map_or(0.0, |load| load.one),
        memory_used_bytes,
        memory_total_bytes,
        disk_used_bytes: used,
        disk_total_bytes: total,
    }
}

/// Used and total memory in bytes; zero where the operating system does not report it.
fn memory() -> (u64, u64) {
    let Ok(mut system) = System::new() else {
        return (0, 0);
    };
    system.refresh_memory();
    (system.used_memory(), system.total_memory())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_measured() {
        let load = machine_load(Path::new("/"));
        assert!(load.memory_total_bytes > 0 && load.memory_used_bytes <= load.memory_total_bytes);
        assert!(load.disk_total_bytes > 0 && load.disk_used_bytes <= load.disk_total_bytes);
        assert!(cpus() > 0);
    }
}
