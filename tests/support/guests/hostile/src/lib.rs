//! A collector that misbehaves in the way its configuration names.
//!
//! One component for all ways, so that tests compile one; each act is what a careless or a wicked author could write.

#![forbid(unsafe_code)]

use std::hint::black_box;

use bellwether_plugin_sdk::{
    Capability, Collector, Emits, Failure, Node, Observation, clock, http, log, register,
};

/// How to misbehave.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "act")]
enum Config {
    /// Answers like a good plugin, so that a test sees that the others go on.
    Behave,
    /// Computes without end.
    Loop,
    /// Takes memory without end.
    Memory,
    /// Answers with so many bytes.
    Answer {
        /// How many.
        bytes: usize,
    },
    /// Calls itself without end.
    Recurse,
    /// Ends in a trap.
    Trap,
    /// Asks an address and reports the status of the answer.
    Http {
        /// The address.
        url: String,
    },
    /// Asks the host for the time so many times.
    HostCalls {
        /// How many times.
        times: u64,
    },
    /// Writes so many lines to the log.
    Log {
        /// How many.
        lines: u64,
    },
    /// Emits what it never said that it emits.
    Undeclared,
}

struct Hostile;

impl Collector for Hostile {
    type Config = Config;
    const WANTS: &[Capability] = &[Capability::Http];
    const EMITS: &[Emits] = &[
        Emits::gauge("hostile.done", "", "1 when the act came to its end."),
        Emits::gauge("hostile.status", "", "The status of an answer."),
        Emits::state("hostile.text", "Many bytes."),
    ];

    fn collect(_node: &Node, config: &Config) -> Result<Vec<Observation>, Failure> {
        let mut done = vec![Observation::new("hostile.done", 1_u32)];
        match config {
            Config::Behave => {}
            Config::Loop => loop {
                black_box(());
            },
            Config::Memory => take_memory(),
            Config::Answer { bytes } => {
                done.push(Observation::new("hostile.text", "x".repeat(*bytes)))
            }
            Config::Recurse => {
                done.push(Observation::new("hostile.done", ackermann(4, black_box(5))))
            }
            Config::Trap => panic!("a trap was asked for"),
            Config::Http { url } => {
                let status = http::get(url).send()?.status;
                done.push(Observation::new("hostile.status", u32::from(status)));
            }
            Config::HostCalls { times } => (0..*times).for_each(|_| {
                black_box(clock::now_ms());
            }),
            Config::Log { lines } => (0..*lines).for_each(|line| log::info(format!("line {line}"))),
            Config::Undeclared => done.push(Observation::new("hostile.undeclared", 1_u32)),
        }
        Ok(done)
    }
}

fn take_memory() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(black_box(vec![1; 1 << 20]));
    }
}

/// Deep without any use of linear memory, so that the limit on the machine's stack is what stops it.
fn ackermann(m: u64, n: u64) -> u64 {
    match (m, n) {
        (0, n) => n + 1,
        (m, 0) => ackermann(m - 1, 1),
        (m, n) => ackermann(m - 1, ackermann(m, n - 1)),
    }
}

register!(collector: Hostile);
