//! The master keys in a file of `state_dir`, which wrap data keys where there is no Vault.
//!
//! The file has a line of 64 hexadecimal digits per master key, the newest first. A rotation adds a new first line;
//! the host rewraps what older keys wrapped, and only then may an old line be deleted.

use std::path::Path;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::envelope::{DataKey, SealScope, decrypt, encrypt};
use super::generate::random;
use super::kek::{Kek, Wrapped};
use super::{KEY_BYTES, KeyError};
use host_system::write_private;

/// The number of bytes of a master key's id.
const ID_BYTES: usize = 8;
/// More lines than any rotation needs.
const KEYS_MAX: usize = 100;

/// All master keys, the newest first; there is at least one.
pub(super) struct MasterKeys(Vec<MasterKey>);

struct MasterKey {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl MasterKeys {
    /// Reads the file, or creates it with one new key. Only its owner may have access.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::read(Zeroizing::new(text), path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let bytes = random().context("the system provides no random numbers")?;
                let text = Zeroizing::new(format!("{}\n", hex::encode(*bytes)));
                write_private(path, text.as_bytes())?;
                Self::read(text, path)
            }
            Err(error) => {
                Err(error).with_context(|| format!("the host can't read {}", path.display()))
            }
        }
    }

    fn read(text: Zeroizing<String>, path: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path)?.permissions().mode();
        ensure!(
            matches!(mode & 0o777, 0o600 | 0o400),
            "other users can read {}; run `chmod 600` on the file",
            path.display()
        );
        let lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty());
        let keys = lines.map(|(index, line)| {
            MasterKey::parse(line.trim()).with_context(|| {
                format!(
                    "{}, line {}: the line is not 64 hexadecimal digits",
                    path.display(),
                    index + 1
                )
            })
        });
        let keys: Vec<_> = keys.collect::<anyhow::Result<_>>()?;
        ensure!(
            (1..=KEYS_MAX).contains(&keys.len()),
            "{} must contain 1 to {KEYS_MAX} keys, one per line",
            path.display()
        );
        Ok(Self(keys))
    }

    fn find(&self, id: &str) -> Option<&MasterKey> {
        self.0.iter().find(|key| key.id == id)
    }
}

#[async_trait]
impl Kek for MasterKeys {
    fn is_own(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    async fn newest(&self) -> Result<String, KeyError> {
        Ok(self.0[0].id.clone())
    }

    async fn wrap(&self, scope: &SealScope<'_>, key: &DataKey) -> Result<Wrapped, KeyError> {
        Ok(Wrapped {
            kek: self.0[0].id.clone(),
            bytes: encrypt(&self.0[0].bytes, scope, &**key)?,
        })
    }

    async fn unwrap(&self, scope: &SealScope<'_>, wrapped: &Wrapped) -> Result<DataKey, KeyError> {
        let key = self.find(&wrapped.kek);
        let key = key.ok_or_else(|| KeyError::KekMissing(wrapped.kek.clone()))?;
        decrypt(&key.bytes, scope, &wrapped.bytes)
    }
}

impl MasterKey {
    fn parse(line: &str) -> anyhow::Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(line, &mut *bytes)?;
        // A digest identifies a key without revealing it.
        let digest = Sha256::digest(*bytes);
        Ok(Self {
            id: hex::encode(&digest[..ID_BYTES]),
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_can_not_be_right_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master-keys");
        MasterKeys::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refused = |path: &Path| format!("{:#}", MasterKeys::open(path).err().unwrap());
        std::fs::write(&path, "ab\n").unwrap();
        assert!(refused(&path).contains("line 1: the line is not 64 hexadecimal digits"));
        std::fs::write(&path, "\n").unwrap();
        assert!(refused(&path).contains("must contain 1 to"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused(&path).contains("chmod 600"));
    }
}
