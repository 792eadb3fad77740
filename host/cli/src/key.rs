//! `bellwether key`: keys of nodes. Key material goes from a file and into a file, never through an argument or a terminal.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use host_wire::{ExportedKeyView, ImportKeyRequest, NodeKeyView};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::Session;
use super::client::{segment, typed};
use super::error::CliError;
use super::output::{self, plain, word};
use super::recipient::Recipient;

/// Bytes of every key.
const KEY_BYTES: usize = 32;
/// More than any file with a key.
const FILE_MAX: u64 = 4096;

/// Commands on the keys of a node.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys that the node's chain declares and the keys that the node has
    List {
        /// Name or id of the node
        node: String,
    },
    /// Import a key that the chain declares with `source: user`
    Import {
        /// Name or id of the node
        node: String,
        /// Name of the key in the chain's profile
        key: String,
        /// File with the key: 32 bytes, 64 hexadecimal digits, or base64; `-` reads standard input
        #[arg(long)]
        file: PathBuf,
    },
    /// Export a key that the chain declares with `exportable: true`
    Export {
        /// Name or id of the node
        node: String,
        /// Name of the key in the chain's profile
        key: String,
        /// File for the key, in hexadecimal, readable by its owner only; it must not exist
        #[arg(long)]
        file: PathBuf,
    },
}

pub(crate) async fn run(command: KeyCommand, session: &Session) -> Result<(), CliError> {
    match command {
        KeyCommand::List { node } => list(&node, session).await,
        KeyCommand::Import { node, key, file } => import(&node, &key, &file, session).await,
        KeyCommand::Export { node, key, file } => export(&node, &key, &file, session).await,
    }
}

fn key_path(node: &str, key: &str) -> String {
    format!("/api/v1/nodes/{}/keys/{}", segment(node), segment(key))
}

async fn list(node: &str, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/nodes/{}/keys", segment(node));
    let value = session.client()?.get(&path).await?;
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
    let request = ImportKeyRequest {
        material: SecretString::from(STANDARD.encode(&material[..])),
    };
    let path = key_path(node, key);
    let value = session.client()?.put(&path, &request).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let kept: NodeKeyView = typed(value)?;
    output::say(&match kept.public_key {
        Some(public) => format!("Node {node} has key {key}, with public key {public}."),
        None => format!("Node {node} has key {key}."),
    });
    Ok(())
}

/// Reads 32 bytes as they are, or text that can only be one of the two encodings of 32 bytes.
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
        "{} holds no key; a key is 32 bytes, 64 hexadecimal digits, or base64 of 32 bytes",
        file.display()
    );
    Ok(decoded)
}

async fn export(node: &str, key: &str, file: &Path, session: &Session) -> Result<(), CliError> {
    // First, because an export that can't be written would still be in the audit log.
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(file);
    let mut opened = opened.with_context(|| format!("can't create {}", file.display()))?;
    let written = async {
        let text = exported(node, key, session).await?;
        let written = opened
            .write_all(text.as_bytes())
            .and_then(|()| opened.sync_all());
        written.with_context(|| format!("can't write {}", file.display()))?;
        Ok::<(), CliError>(())
    };
    if let Err(error) = written.await {
        drop(std::fs::remove_file(file));
        return Err(error);
    }
    if !session.is_json() {
        output::say(&format!(
            "The key is in {}; only you can read the file.",
            file.display()
        ));
    }
    Ok(())
}

async fn exported(node: &str, key: &str, session: &Session) -> Result<Zeroizing<String>, CliError> {
    let recipient = Recipient::generate()?;
    let path = format!("{}/export", key_path(node, key));
    let value = session.client()?.post(&path, &recipient.request()).await?;
    let answer: ExportedKeyView = typed(value)?;
    let material = recipient.open(key, &answer)?;
    Ok(Zeroizing::new(format!(
        "{}\n",
        *Zeroizing::new(hex::encode(&material[..]))
    )))
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
