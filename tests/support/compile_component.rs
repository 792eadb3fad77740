//! The compiler's process of the plugin host, alone: what `bellwether` and `bellwether-agent` have as a hidden command.
//!
//! The tests run it as the child that compiles, because their own binary takes no commands.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    match paths.as_slice() {
        [input, output] => host_runtime::compile_main(Path::new(input), Path::new(output)),
        _ => ExitCode::FAILURE,
    }
}
