//! The `bellwether` binary.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    host_server::cli::run().await
}
