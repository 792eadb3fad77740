//! The `bellwether` binary.

fn main() -> std::process::ExitCode {
    host_server::cli::run()
}
