//! Converts rendered recipe steps to the protocol's steps.

use std::time::Duration;

use host_domain::config::profile::KeyEncoding;
use host_domain::config::recipe::PackageManager;
use host_domain::config::runtime::{Adapter, RestartPolicy};
use host_domain::config::step::{RenderedAction, RenderedProcess, RenderedStep, WaitTarget};
use proto::v1;

/// Converts a step.
pub(crate) fn step(step: &RenderedStep) -> v1::Step {
    v1::Step {
        name: step.name.clone(),
        timeout_ms: millis(step.timeout),
        retry: Some(v1::Retry {
            attempts: step.retry.attempts,
            backoff_ms: millis(step.retry.backoff),
        }),
        creates: step.creates.clone().unwrap_or_default(),
        action: Some(action(&step.action)),
    }
}

/// Whole milliseconds. It saturates far above every configured duration.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn action(action: &RenderedAction) -> v1::step::Action {
    use v1::step::Action as To;
    match action.clone() {
        RenderedAction::Package {
            manager,
            name,
            version,
            integrity,
            binaries,
        } => To::Package(v1::Package {
            manager: package_manager(manager).into(),
            name,
            version,
            integrity,
            binaries: binaries.into_iter().collect(),
        }),
        RenderedAction::Directory { path, mode } => To::Directory(v1::Directory { path, mode }),
        RenderedAction::File {
            path,
            content,
            mode,
        } => To::File(v1::File {
            path,
            content: content.into_bytes(),
            mode,
        }),
        RenderedAction::Download {
            url,
            path,
            checksum,
        } => To::Download(v1::Download {
            url,
            path,
            checksum,
        }),
        RenderedAction::Extract {
            archive,
            path,
            strip,
        } => To::Extract(v1::Extract {
            archive,
            path,
            strip,
        }),
        RenderedAction::Binary {
            name,
            source,
            version,
        } => To::Binary(v1::Binary {
            name,
            source,
            version,
        }),
        RenderedAction::Key {
            name,
            path,
            encoding,
        } => To::Key(v1::KeyFile {
            name,
            path,
            encoding: key_encoding(encoding).into(),
        }),
        RenderedAction::Process(rendered) => To::Process(process(rendered)),
        RenderedAction::WaitFor { target, interval } => To::WaitFor(v1::WaitFor {
            target: Some(wait_target(target)),
            interval_ms: millis(interval),
        }),
    }
}

fn wait_target(target: WaitTarget) -> v1::wait_for::Target {
    match target {
        WaitTarget::Tcp(address) => v1::wait_for::Target::Tcp(address),
        WaitTarget::Http(url) => v1::wait_for::Target::Http(url),
        WaitTarget::Path(path) => v1::wait_for::Target::Path(path),
    }
}

fn key_encoding(encoding: KeyEncoding) -> v1::key_file::Encoding {
    match encoding {
        KeyEncoding::Hex => v1::key_file::Encoding::Hex,
        KeyEncoding::Base64 => v1::key_file::Encoding::Base64,
        KeyEncoding::Raw => v1::key_file::Encoding::Raw,
    }
}

fn package_manager(manager: PackageManager) -> v1::package::Manager {
    match manager {
        PackageManager::Npm => v1::package::Manager::Npm,
        PackageManager::Pip => v1::package::Manager::Pip,
        PackageManager::Apt => v1::package::Manager::Apt,
    }
}

fn process(process: RenderedProcess) -> v1::Process {
    let policy = match process.restart.policy {
        RestartPolicy::Always => v1::process::RestartPolicy::Always,
        RestartPolicy::OnFailure => v1::process::RestartPolicy::OnFailure,
        RestartPolicy::Never => v1::process::RestartPolicy::Never,
    };
    v1::Process {
        name: process.name,
        command: process.command,
        args: process.args,
        env: process.env.into_iter().collect(),
        restart: policy.into(),
        backoff_ms: millis(process.restart.backoff),
        backoff_max_ms: millis(process.restart.backoff_max),
        restarts_max: process.restart.max_restarts,
        stop_grace_ms: millis(process.stop_grace),
        log_bytes_max: process.log.max_size.0,
        log_files: process.log.files,
        adapter: adapter_name(process.adapter).to_owned(),
    }
}

/// The name by which the agent selects the runtime adapter.
fn adapter_name(adapter: Adapter) -> &'static str {
    match adapter {
        Adapter::Process => "process",
    }
}
