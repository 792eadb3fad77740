//! The `bellwether` binary.

fn main() -> std::process::ExitCode {
    // `dev` runs an agent, whose processes with keys are guarded by this program.
    host_agent::answer_guard(std::env::args_os().skip(1)).unwrap_or_else(host_server::cli::run)
}
