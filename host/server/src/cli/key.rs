//! `bellwether key`: keys of nodes. Material comes from a file and goes into one, never through an argument or onto a terminal.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use super::Session;
use super::client::typed;
use super::error::CliError;
use super::output::{self, plain, word};
use crate::api::{ExportedKeyView, NodeKeyView};
use crate::host::open_database;
use crate::ops::restore_keys;
use crate::serve::SettingsArgs;
use host_domain::ids::NodeId;
use host_domain::time::Clock;
use host_keys::{BackupConfig, WrappedBy};
use host_keys::{KeyBackup, Keyring, Recipient, SealScope, SealedExport};
use host_store::DbOptions;
use host_system::SystemClock;

/// Bytes of every key.
const KEY_BYTES: usize = 32;
/// More than any file with a key.
const FILE_MAX: u64 = 4096;

/// What to do with keys of nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Lists a node's keys: those that its chain declares, and those that it has.
    List {
        /// The node's name or id.
        node: String,
    },
    /// Brings a key that the chain declares with `source: user`.
    Import {
        /// The node's name or id.
        node: String,
        /// The key's name in the chain's profile.
        key: String,
        /// A file with its 32 bytes as they are, in hexadecimal or in base64; `-` reads standard input.
        #[arg(long)]
        file: PathBuf,
    },
    /// Takes a key that the chain declares with `exportable: true` into a file, in hexadecimal, for its owner only.
    Export {
        /// The node's name or id.
        node: String,
        /// The key's name in the chain's profile.
        key: String,
        /// The file; it must not exist.
        #[arg(long)]
        file: PathBuf,
    },
    /// Brings keys back from their copies into the database of the settings. What is there stays as it is.
    Restore(RestoreArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RestoreArgs {
    /// Where the copies are, `file:///FOLDER` or `s3://BUCKET/PREFIX`; `keys.backup.url` of the settings when absent.
    #[arg(long)]
    from: Option<Url>,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) async fn run(command: KeyCommand, session: &Session) -> Result<(), CliError> {
    match command {
        KeyCommand::List { node } => list(&node, session).await,
        KeyCommand::Import { node, key, file } => import(&node, &key, &file, session).await,
        KeyCommand::Export { node, key, file } => export(&node, &key, &file, session).await,
        KeyCommand::Restore(args) => restore(args).await,
    }
}

async fn list(node: &str, session: &Session) -> Result<(), CliError> {
    let value = session
        .client()?
        .get(&format!("/api/v1/nodes/{node}/keys"))
        .await?;
    if session.is_json() {
        return output::json(&value);
    }
    let keys: Vec<NodeKeyView> = typed(value)?;
    let mut table = output::table(&[
        "name",
        "algorithm",
        "source",
        "state",
        "wrapped by",
        "backup",
    ]);
    for key in keys {
        let state = match (key.is_present, key.delete_after) {
            (false, _) => "missing",
            (true, None) => "present",
            (true, Some(_)) => "retired",
        };
        table.add_row([
            plain(&key.name).into(),
            word(key.algorithm).into(),
            key.source.map(word).unwrap_or_default().into(),
            output::state(state),
            plain(&key.wrapped_by.unwrap_or_default()).into(),
            plain(&key.backup.unwrap_or_default()).into(),
        ]);
    }
    output::show(&table, "The node's chain declares no keys.");
    Ok(())
}

async fn import(node: &str, key: &str, file: &Path, session: &Session) -> Result<(), CliError> {
    let material = read(file)?;
    let body = json!({ "material": *Zeroizing::new(STANDARD.encode(&material[..])) });
    let path = format!("/api/v1/nodes/{node}/keys/{key}");
    let value = session.client()?.put(&path, &body).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let kept: NodeKeyView = typed(value)?;
    output::say(&match kept.public_key {
        Some(public) => format!("The node has the key; its public part is {public}."),
        None => "The node has the key.".to_owned(),
    });
    Ok(())
}

/// The bytes themselves, or text that is unmistakably one of the two encodings of 32 bytes.
fn read(file: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(FILE_MAX)?));
    let n_read = if file == Path::new("-") {
        std::io::stdin().take(FILE_MAX).read_to_end(&mut bytes)
    } else {
        let opened = std::fs::File::open(file);
        opened.and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes))
    };
    n_read.with_context(|| format!("can't read {}", file.display()))?;
    if bytes.len() == KEY_BYTES {
        return Ok(bytes);
    }
    let text = bytes.trim_ascii();
    let decoded = if text.len() == 2 * KEY_BYTES {
        hex::decode(text).ok()
    } else {
        STANDARD.decode(text).ok()
    };
    let decoded = Zeroizing::new(decoded.unwrap_or_default());
    ensure!(
        decoded.len() == KEY_BYTES,
        "{} holds no key: it must be 32 bytes as they are, 64 hexadecimal digits, or base64 of 32 bytes",
        file.display()
    );
    Ok(decoded)
}

async fn export(node: &str, key: &str, file: &Path, session: &Session) -> Result<(), CliError> {
    // Before the host is asked: what was exported and could not be kept is an entry of the audit log for nothing.
    let mut options = std::fs::OpenOptions::new();
    let kept = options.write(true).create_new(true).mode(0o600).open(file);
    let mut kept = kept.with_context(|| format!("can't make {}", file.display()))?;
    let written = async {
        let text = exported(node, key, session).await?;
        let written = kept
            .write_all(text.as_bytes())
            .and_then(|()| kept.sync_all());
        written.with_context(|| format!("can't write {}", file.display()))?;
        Ok::<(), CliError>(())
    };
    if let Err(error) = written.await {
        drop(std::fs::remove_file(file));
        return Err(error);
    }
    if !session.is_json() {
        output::say(&format!("The key is in {}, for you alone.", file.display()));
    }
    Ok(())
}

async fn exported(node: &str, key: &str, session: &Session) -> Result<Zeroizing<String>, CliError> {
    let recipient = Recipient::generate().map_err(anyhow::Error::new)?;
    let body = json!({ "recipient": STANDARD.encode(&recipient.public) });
    let path = format!("/api/v1/nodes/{node}/keys/{key}/export");
    let value = session.client()?.post(&path, Some(&body)).await?;
    let answer: ExportedKeyView = typed(value)?;
    let decode = |text: &str| {
        STANDARD
            .decode(text)
            .context("the host's answer is no export")
    };
    let sealed = SealedExport {
        encapsulated_key: decode(&answer.encapsulated_key)?,
        ciphertext: decode(&answer.ciphertext)?,
    };
    let id = answer.aad.split('/').next().and_then(|id| id.parse().ok());
    let scope = SealScope {
        node_id: NodeId(id.context("the host's answer names no node")?),
        name: &answer.key.name,
    };
    let material = recipient
        .open(&scope, &sealed)
        .map_err(anyhow::Error::new)?;
    Ok(Zeroizing::new(format!(
        "{}\n",
        *Zeroizing::new(hex::encode(&material[..]))
    )))
}

async fn restore(args: RestoreArgs) -> Result<(), CliError> {
    let config = args.settings.read()?;
    let place = match (config.keys.backup.clone(), args.from) {
        (Some(backup), None) => backup,
        (Some(backup), Some(url)) => BackupConfig { url, ..backup },
        (None, Some(url)) => BackupConfig::at(url),
        (None, None) => {
            return Err(CliError::NotFoundHere(
                "nothing says where the copies are; name them with --from or `keys.backup.url`"
                    .to_owned(),
            ));
        }
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let backup = KeyBackup::open(&place)?;
    // A new file would open nothing, and keep the right one from being missed.
    let file = config.state_dir.join("master-keys");
    if config.keys.wrapped_by == WrappedBy::Local && !file.exists() {
        return Err(CliError::NotFoundHere(format!(
            "{} is missing, without which no copy opens; bring it back first",
            file.display()
        )));
    }
    let keyring = Keyring::open(&config.keys, &config.state_dir, &clock)?;
    let options = DbOptions {
        create: false,
        ..DbOptions::default()
    };
    let db = open_database(&config, &config.state_dir, &options).await?;
    db.check_schema().await.map_err(anyhow::Error::from)?;
    let outcome = restore_keys(&db, &keyring, &backup, clock.now())
        .await
        .map_err(anyhow::Error::new)?;
    db.close().await;
    for skipped in &outcome.skipped {
        output::say(&format!("not restored: {skipped}"));
    }
    output::say(&format!(
        "{} keys restored, {} were there, {} copies not used.",
        outcome.restored,
        outcome.present,
        outcome.skipped.len()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_a_key_in_one_of_three_forms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = [7_u8; KEY_BYTES];
        for content in [
            key.to_vec(),
            format!("{}\n", hex::encode(key)).into_bytes(),
            STANDARD.encode(key).into_bytes(),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(&read(&path).unwrap()[..], key);
        }
        for content in [&b"short"[..], &[b'z'; 64], &[7; 33]] {
            std::fs::write(&path, content).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
    }
}
