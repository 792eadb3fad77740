//! Measures the cost of an idle host: the time to start, and its memory and CPU time without work.
//!
//! It starts a whole host process with the project's chain configurations, without agent and node, and polls until
//! the host is ready. The baseline is the same program with `--version`, which measures loading it. `cargo bench
//! --bench start` needs the program and the components; an error names the command that builds them.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures the time that passes"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The number of starts with existing state, of which the median is reported.
const STARTS: usize = 7;
/// How long the host is idle before its memory is read, and then measured.
const IDLE: Duration = Duration::from_secs(20);
/// The time limit of a start.
const START_MAX: Duration = Duration::from_mins(2);
/// Clock ticks per second on every current Linux (`man 5 proc`, utime).
const TICKS_PER_S: f64 = 100.0;

fn main() {
    let program = program();
    let chains = project().join("chain-configs");
    assert!(
        chains.join("components/evm.wasm").exists(),
        "the components are missing; run `cargo run -- plugin build plugins --out chain-configs/components` first"
    );
    let folder = tempfile::tempdir().expect("a folder for the host");

    let bare = median((0..STARTS).map(|_| version(&program)).collect());
    let (first, mut host) = start(&program, &chains, folder.path());
    std::thread::sleep(IDLE);
    let (rss, pss) = host.memory_kib();
    let before = host.cpu_ticks();
    std::thread::sleep(IDLE);
    let used = host.cpu_ticks() - before;
    host.stop();
    let later = median(
        (0..STARTS)
            .map(|_| {
                let (took, mut host) = start(&program, &chains, folder.path());
                host.stop();
                took
            })
            .collect(),
    );

    println!(
        "baseline: `bellwether --version`        {:>9.1} ms",
        ms(bare)
    );
    println!(
        "first start until ready (compiles)     {:>9.1} ms",
        ms(first)
    );
    println!(
        "later start until ready                {:>9.1} ms",
        ms(later)
    );
    println!(
        "idle memory, resident                  {:>9.1} MiB",
        mib(rss)
    );
    println!(
        "idle memory, own share (PSS)           {:>9.1} MiB",
        mib(pss)
    );
    println!(
        "idle CPU                               {:>9.2} % of a core",
        used / TICKS_PER_S / IDLE.as_secs_f64() * 100.0
    );
}

fn project() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The program of the same profile, in the parent folder of this benchmark.
fn program() -> PathBuf {
    let this = std::env::current_exe().expect("this program knows its path");
    let folder = this
        .parent()
        .and_then(Path::parent)
        .expect("a target folder");
    let program = folder.join("bellwether");
    assert!(
        program.exists(),
        "{} is missing; run `cargo build --release` first",
        program.display()
    );
    program
}

fn version(program: &Path) -> Duration {
    let begun = Instant::now();
    let output = Command::new(program).arg("--version").output();
    assert!(output.expect("the program runs").status.success());
    begun.elapsed()
}

/// Starts a host in `folder` and waits until it is ready.
fn start(program: &Path, chains: &Path, folder: &Path) -> (Duration, Host) {
    let address_file = folder.join(".bellwether/host");
    let _ = std::fs::remove_file(&address_file);
    let begun = Instant::now();
    let child = Command::new(program)
        .args(["dev", "--no-node", "--no-agent"])
        .args([
            "--http",
            "127.0.0.1:0",
            "--gateway",
            "127.0.0.1:0",
            "--chains",
        ])
        .arg(chains)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let host = Host(child.expect("the host can be started"));
    loop {
        let is_ready = std::fs::read_to_string(&address_file)
            .is_ok_and(|url| is_ready(url.trim().trim_start_matches("http://")));
        let took = begun.elapsed();
        if is_ready {
            return (took, host);
        }
        assert!(took < START_MAX, "the host is not ready after {took:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_ready(address: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// A running host, which is killed on drop.
struct Host(Child);

impl Host {
    /// Resident and proportional memory in KiB.
    fn memory_kib(&self) -> (u32, u32) {
        let path = format!("/proc/{}/smaps_rollup", self.0.id());
        let text = std::fs::read_to_string(&path).expect("the kernel reports the memory");
        let field = |name: &str| -> u32 {
            let line = text.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            number
                .and_then(|number| number.parse().ok())
                .expect("a number of KiB")
        };
        (field("Rss:"), field("Pss:"))
    }

    /// CPU time so far, in ticks.
    fn cpu_ticks(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.0.id());
        let text = std::fs::read_to_string(&path).expect("the kernel reports the CPU time");
        // The name before may contain spaces; fields 3 and following come after it, of which 14 and 15 are user and
        // system time.
        let (_, fields) = text.rsplit_once(')').expect("a name in brackets");
        let ticks = |at: usize| -> f64 {
            let field = fields.split_whitespace().nth(at - 3);
            field
                .and_then(|field| field.parse().ok())
                .expect("a number of ticks")
        };
        ticks(14) + ticks(15)
    }

    fn stop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn mib(kib: u32) -> f64 {
    f64::from(kib) / 1_024.0
}
