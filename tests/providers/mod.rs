//! Machines from providers, end to end: the real programs against real servers and engines.

mod moving;
mod opentofu;
mod ssh;
mod states;

/// Who the tests are on the machines that they reach.
fn user() -> String {
    let output = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
