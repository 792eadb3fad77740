//! The master keys of this installation, and what they seal: one data key per node key, wrapped by the newest master key.
//!
//! The file holds a line of 64 hexadecimal digits per master key, the newest first. A key is rotated by a new first line:
//! what the older ones wrapped is wrapped anew, and only then may an old line go.

use std::path::Path;

use anyhow::{Context, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use host_domain::ids::NodeId;
use host_domain::key::SealedKey;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::generate::random;
use super::{KEY_BYTES, KeyError, Material};
use crate::host::write_private;

/// Bytes that tell two master keys apart.
const ID_BYTES: usize = 8;
/// More lines than any rotation leaves behind.
const KEYS_MAX: usize = 100;

/// What a sealed key belongs to: it opens nowhere else.
pub(crate) struct SealScope<'a> {
    /// The node.
    pub(crate) node_id: NodeId,
    /// The key's name.
    pub(crate) name: &'a str,
}

impl SealScope<'_> {
    fn aad(&self) -> Aad<Vec<u8>> {
        Aad::from(format!("bellwether node key {} {}", self.node_id, self.name).into_bytes())
    }
}

/// All master keys, the newest first; there is at least one.
pub(crate) struct MasterKeys(Vec<MasterKey>);

struct MasterKey {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl MasterKeys {
    /// Reads the file, or makes it with one new key. Only its owner may read it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::read(Zeroizing::new(text), path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let bytes = random().context("no random numbers")?;
                let text = Zeroizing::new(format!("{}\n", hex::encode(*bytes)));
                write_private(path, text.as_bytes())?;
                Self::read(text, path)
            }
            Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
        }
    }

    fn read(text: Zeroizing<String>, path: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path)?.permissions().mode();
        ensure!(
            matches!(mode & 0o777, 0o600 | 0o400),
            "{} can be read by others; run `chmod 600` on it",
            path.display()
        );
        let lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty());
        let keys = lines.map(|(index, line)| {
            MasterKey::parse(line.trim()).with_context(|| {
                format!(
                    "{}, line {}: not 64 hexadecimal digits",
                    path.display(),
                    index + 1
                )
            })
        });
        let keys: Vec<_> = keys.collect::<anyhow::Result<_>>()?;
        ensure!(
            (1..=KEYS_MAX).contains(&keys.len()),
            "{} must hold 1 to {KEYS_MAX} keys, a line each",
            path.display()
        );
        Ok(Self(keys))
    }

    /// The id of the newest, by which everything should be wrapped.
    pub(crate) fn newest(&self) -> &str {
        &self.0[0].id
    }

    /// Whether it has the key of that id.
    pub(crate) fn holds(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: &str) -> Option<&MasterKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// Seals material for one key of one node.
    pub(crate) fn seal(
        &self,
        scope: &SealScope<'_>,
        material: &Material,
    ) -> Result<SealedKey, KeyError> {
        let data_key = random()?;
        Ok(SealedKey {
            master_key: self.newest().to_owned(),
            data_key: encrypt(&self.0[0].bytes, scope, &*data_key)?,
            material: encrypt(&data_key, scope, material.expose())?,
        })
    }

    /// Opens what was sealed for that key of that node.
    pub(crate) fn open_sealed(
        &self,
        scope: &SealScope<'_>,
        sealed: &SealedKey,
    ) -> Result<Material, KeyError> {
        let data_key = self.unwrap(scope, sealed)?;
        decrypt(&data_key, scope, &sealed.material).map(Material)
    }

    /// The same sealed key, wrapped by the newest master key; the material is not touched.
    pub(crate) fn rewrap(
        &self,
        scope: &SealScope<'_>,
        sealed: &SealedKey,
    ) -> Result<SealedKey, KeyError> {
        let data_key = self.unwrap(scope, sealed)?;
        Ok(SealedKey {
            master_key: self.newest().to_owned(),
            data_key: encrypt(&self.0[0].bytes, scope, &*data_key)?,
            material: sealed.material.clone(),
        })
    }

    fn unwrap(
        &self,
        scope: &SealScope<'_>,
        sealed: &SealedKey,
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
        let key = self.find(&sealed.master_key);
        let key = key.ok_or_else(|| KeyError::MasterKeyMissing(sealed.master_key.clone()))?;
        decrypt(&key.bytes, scope, &sealed.data_key)
    }
}

impl MasterKey {
    fn parse(line: &str) -> anyhow::Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(line, &mut *bytes)?;
        // A digest tells keys apart and gives nothing of them away.
        let digest = Sha256::digest(*bytes);
        Ok(Self {
            id: hex::encode(&digest[..ID_BYTES]),
            bytes,
        })
    }
}

/// AES-256-GCM with a random nonce, which stands before the ciphertext.
fn encrypt(
    key: &[u8; KEY_BYTES],
    scope: &SealScope<'_>,
    clear: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key)?;
    // Room for the tag from the start: growing would leave a copy of the clear text behind.
    let mut sealed = Vec::with_capacity(clear.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(clear);
    let nonce = key.seal_in_place_append_tag(scope.aad(), &mut sealed)?;
    let mut out = nonce.as_ref().to_vec();
    out.append(&mut sealed);
    Ok(out)
}

fn decrypt(
    key: &[u8; KEY_BYTES],
    scope: &SealScope<'_>,
    sealed: &[u8],
) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key)?;
    let (nonce, ciphertext) = sealed
        .split_at_checked(NONCE_LEN)
        .ok_or(KeyError::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KeyError::Damaged)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let clear = key
        .open_in_place(nonce, scope.aad(), &mut buffer)
        .map_err(|_| KeyError::Damaged)?;
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if clear.len() != KEY_BYTES {
        return Err(KeyError::Damaged);
    }
    bytes.copy_from_slice(clear);
    clear.zeroize();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use host_domain::key::KeyAlgorithm;
    use uuid::Uuid;

    use super::super::generate;
    use super::*;

    const NODE: NodeId = NodeId(Uuid::from_u128(7));

    fn scope(name: &str) -> SealScope<'_> {
        SealScope {
            node_id: NODE,
            name,
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_node_and_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let keys = MasterKeys::open(&folder.path().join("master-keys")).unwrap();
        let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
        let sealed = keys.seal(&scope("p2p"), &material).unwrap();
        let holds = |bytes: &[u8]| {
            bytes
                .windows(KEY_BYTES)
                .any(|part| part == material.expose())
        };
        assert!(!holds(&sealed.material) && !holds(&sealed.data_key));
        let opened = keys.open_sealed(&scope("p2p"), &sealed).unwrap();
        assert_eq!(opened.expose(), material.expose());
        let elsewhere = SealScope {
            node_id: NodeId(Uuid::from_u128(8)),
            name: "p2p",
        };
        for foreign in [scope("engine"), elsewhere] {
            assert!(matches!(
                keys.open_sealed(&foreign, &sealed),
                Err(KeyError::Damaged)
            ));
        }
        for at in 0..sealed.material.len() {
            let mut changed = sealed.clone();
            changed.material[at] ^= 1;
            assert!(matches!(
                keys.open_sealed(&scope("p2p"), &changed),
                Err(KeyError::Damaged)
            ));
        }
    }

    #[test]
    fn a_new_first_line_wraps_anew_and_leaves_the_material_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master-keys");
        let before = MasterKeys::open(&path).unwrap();
        let (material, _) = generate(KeyAlgorithm::Bytes32).unwrap();
        let sealed = before.seal(&scope("engine"), &material).unwrap();
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{}\n{old}", "ab".repeat(KEY_BYTES))).unwrap();
        let both = MasterKeys::open(&path).unwrap();
        assert_ne!(both.newest(), before.newest());
        let wrapped = both.rewrap(&scope("engine"), &sealed).unwrap();
        assert_eq!(wrapped.material, sealed.material);
        std::fs::write(&path, "ab".repeat(KEY_BYTES)).unwrap();
        let after = MasterKeys::open(&path).unwrap();
        let opened = after.open_sealed(&scope("engine"), &wrapped).unwrap();
        assert_eq!(opened.expose(), material.expose());
        assert!(matches!(
            after.open_sealed(&scope("engine"), &sealed),
            Err(KeyError::MasterKeyMissing(id)) if id == before.newest()
        ));
    }

    #[test]
    fn a_file_that_can_not_be_right_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master-keys");
        MasterKeys::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refused = |path: &Path| format!("{:#}", MasterKeys::open(path).err().unwrap());
        std::fs::write(&path, "ab\n").unwrap();
        assert!(refused(&path).contains("line 1: not 64 hexadecimal digits"));
        std::fs::write(&path, "\n").unwrap();
        assert!(refused(&path).contains("must hold 1 to"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused(&path).contains("chmod 600"));
    }
}
