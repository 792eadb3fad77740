//! How processes are run on a machine. Today: plain supervision, which needs neither root nor systemd nor Docker.

pub(crate) mod process;
