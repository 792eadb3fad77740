//! Backups of encrypted keys outside the database: in a folder, or in an S3 bucket.
//!
//! A backup contains what the database contains: an encrypted key, which is useless without its wrapping key. There
//! is one object per key, named by its node and its name. Each has its own digest, is verified by reading it back,
//! and is rewritten when the key is rewrapped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, TryStreamExt};
use host_domain::ids::{KeyId, NodeId};
use host_domain::key::{NodeKey, SealedKey};
use host_domain::time::Millis;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    Certificate, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::{BackupConfig, BackupPlace, S3Config};

/// The version of the backup format.
const FORM: u32 = 1;
/// The maximum size of a backup object.
const COPY_MAX: u64 = 64 * 1024;
/// How often the client itself retries a request to a bucket.
const RETRIES_MAX: usize = 2;

/// The place of the backups.
pub struct KeyBackup {
    store: Arc<dyn ObjectStore>,
    /// The folder, if the place is a folder.
    folder: Option<PathBuf>,
    prefix: ObjectPath,
    place: String,
    timeout: Duration,
}

/// Why a backup could not be written, read or deleted. A retry may succeed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder or the bucket returned an error.
    #[error("the key backup {place} returned an error; check `keys.backup`")]
    Away {
        /// The place.
        place: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// The request timed out.
    #[error("the key backup {place} did not answer in time; check `keys.backup`")]
    Silent {
        /// The place.
        place: String,
    },
    /// The backup differs from what was written.
    #[error(
        "the key backup {path} in {place} is damaged; the host writes it again from the database"
    )]
    Damaged {
        /// The place.
        place: String,
        /// The object.
        path: String,
    },
}

/// The first line of a backup object. The second line is `sha256:` and the digest of the first.
#[derive(Serialize, Deserialize)]
struct KeyCopy {
    bellwether_key: u32,
    id: KeyId,
    node_id: NodeId,
    name: String,
    algorithm: host_domain::key::KeyAlgorithm,
    public_key: String,
    wrapped_by: String,
    data_key: String,
    material: String,
    created_at: Millis,
}

impl KeyBackup {
    /// Opens the configured place without a request. Creates a missing folder.
    pub fn open(config: &BackupConfig) -> anyhow::Result<Self> {
        let mut in_folder = None;
        let (store, prefix): (Arc<dyn ObjectStore>, ObjectPath) = match config.place()? {
            BackupPlace::Folder(folder) => {
                let store = folder_store(&folder)?;
                in_folder = Some(folder);
                (store, ObjectPath::default())
            }
            BackupPlace::Bucket { bucket, prefix } => {
                let store = bucket_store(&bucket, config.s3.as_ref(), config.timeout)?;
                (store, ObjectPath::from(prefix.as_str()))
            }
        };
        Ok(Self {
            store,
            folder: in_folder,
            prefix,
            place: config.url.to_string(),
            timeout: config.timeout,
        })
    }

    /// The place as rows store it.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Writes a backup and reads it back.
    pub async fn write(&self, key: &NodeKey) -> Result<(), BackupError> {
        let path = self.path(key.node_id, &key.name);
        let text = written(key);
        let payload = PutPayload::from(text.clone());
        self.within(self.store.put(&path, payload)).await?;
        let read = self.read(&path).await?;
        if Sha256::digest(&read) == Sha256::digest(&text) {
            return Ok(());
        }
        Err(self.damaged(&path))
    }

    /// Deletes a backup; a missing one is not an error.
    pub async fn delete(&self, node: NodeId, name: &str) -> Result<(), BackupError> {
        let path = self.path(node, name);
        let deleted = async {
            match self.store.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                outcome => outcome,
            }
        };
        if let Some(folder) = &self.folder {
            let (folder, begins) = (folder.join(node.to_string()), format!("{name}.json#"));
            self.within(delete_half_written(folder, begins)).await?;
        }
        self.within(deleted).await
    }

    /// All backups: each path with its key or error.
    pub async fn all(&self) -> Result<Vec<(String, Result<NodeKey, BackupError>)>, BackupError> {
        let listed = self.store.list(Some(&self.prefix));
        let listed = listed.map_ok(|object| object.location).try_collect();
        let mut paths: Vec<ObjectPath> = self.within(listed).await?;
        paths.sort();
        let copies = futures_util::stream::iter(paths).then(async |path| {
            let read = self.read(&path).await;
            let key = read.and_then(|text| understood(&text).ok_or_else(|| self.damaged(&path)));
            (path.to_string(), key)
        });
        Ok(copies.collect().await)
    }

    async fn read(&self, path: &ObjectPath) -> Result<Vec<u8>, BackupError> {
        let got = self.within(self.store.get(path)).await?;
        if got.meta.size > COPY_MAX {
            return Err(self.damaged(path));
        }
        Ok(self.within(got.bytes()).await?.to_vec())
    }

    fn path(&self, node: NodeId, name: &str) -> ObjectPath {
        self.prefix
            .clone()
            .join(node.to_string())
            .join(format!("{name}.json"))
    }

    fn damaged(&self, path: &ObjectPath) -> BackupError {
        BackupError::Damaged {
            place: self.place.clone(),
            path: path.to_string(),
        }
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, BackupError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(done) => done.map_err(|source| BackupError::Away {
                place: self.place.clone(),
                source,
            }),
            Err(_) => Err(BackupError::Silent {
                place: self.place.clone(),
            }),
        }
    }
}

/// Deletes the partial file `NAME.json#1` that a killed host left while it wrote.
async fn delete_half_written(folder: PathBuf, begins: String) -> object_store::Result<()> {
    let deleted = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&begins) {
                match std::fs::remove_file(entry.path()) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    });
    deleted
        .await?
        .map_err(|error| object_store::Error::Generic {
            store: "folder",
            source: Box::new(error),
        })
}

fn folder_store(folder: &Path) -> anyhow::Result<Arc<dyn ObjectStore>> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(folder)
        .with_context(|| format!("the host can't create the folder {}", folder.display()))?;
    let store = LocalFileSystem::new_with_prefix(folder)?
        .with_fsync(true)
        .with_automatic_cleanup(true);
    Ok(Arc::new(store))
}

fn bucket_store(
    bucket: &str,
    s3: Option<&S3Config>,
    timeout: Duration,
) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let retry = RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: timeout,
        ..RetryConfig::default()
    };
    let mut options = ClientOptions::new().with_timeout(timeout);
    // A machine with its own role needs no access key.
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_retry(retry);
    if let Some(s3) = s3 {
        builder = builder.with_region(&s3.region);
        if let Some(endpoint) = &s3.endpoint {
            let address = endpoint.as_str().trim_end_matches('/');
            builder = builder.with_endpoint(address);
            options = options.with_allow_http(endpoint.scheme() == "http");
        }
        if let (Some(id), Some(file)) = (&s3.access_key_id, &s3.secret_access_key_file) {
            let secret = std::fs::read_to_string(file).with_context(|| {
                format!(
                    "the host can't read `s3.secret_access_key_file` {}",
                    file.display()
                )
            })?;
            builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(secret.trim());
        }
        if let Some(file) = &s3.ca_file {
            let pem = std::fs::read(file)
                .with_context(|| format!("the host can't read `s3.ca_file` {}", file.display()))?;
            for certificate in Certificate::from_pem_bundle(&pem)? {
                options = options.with_root_certificate(certificate);
            }
        }
    }
    Ok(Arc::new(builder.with_client_options(options).build()?))
}

fn written(key: &NodeKey) -> Vec<u8> {
    let copy = KeyCopy {
        bellwether_key: FORM,
        id: key.id,
        node_id: key.node_id,
        name: key.name.clone(),
        algorithm: key.algorithm,
        public_key: STANDARD.encode(&key.public_key),
        wrapped_by: key.sealed.master_key.clone(),
        data_key: STANDARD.encode(&key.sealed.data_key),
        material: STANDARD.encode(&key.sealed.material),
        created_at: key.created_at,
    };
    // A struct of texts and numbers always serialises.
    let line = serde_json::to_string(&copy).unwrap_or_default();
    let digest = hex::encode(Sha256::digest(line.as_bytes()));
    format!("{line}\nsha256:{digest}\n").into_bytes()
}

/// The key, if the backup is intact and has a known format.
fn understood(text: &[u8]) -> Option<NodeKey> {
    let text = std::str::from_utf8(text).ok()?;
    let (line, digest) = text.split_once('\n')?;
    let expected = hex::encode(Sha256::digest(line.as_bytes()));
    if digest.trim_end().strip_prefix("sha256:")? != expected {
        return None;
    }
    let copy: KeyCopy = serde_json::from_str(line).ok()?;
    let bytes = |text: &str| STANDARD.decode(text).ok();
    (copy.bellwether_key == FORM).then_some(NodeKey {
        id: copy.id,
        node_id: copy.node_id,
        name: copy.name,
        algorithm: copy.algorithm,
        public_key: bytes(&copy.public_key)?,
        sealed: SealedKey {
            master_key: copy.wrapped_by,
            data_key: bytes(&copy.data_key)?,
            material: bytes(&copy.material)?,
        },
        created_at: copy.created_at,
        delete_after: None,
        backup: None,
        version: 1,
    })
}

#[cfg(test)]
mod tests {
    use host_domain::key::KeyAlgorithm;
    use url::Url;
    use uuid::Uuid;

    use super::*;

    fn key(name: &str) -> NodeKey {
        NodeKey {
            id: KeyId(Uuid::from_u128(1)),
            node_id: NodeId(Uuid::from_u128(7)),
            name: name.to_owned(),
            algorithm: KeyAlgorithm::Ed25519,
            public_key: vec![1],
            sealed: SealedKey {
                master_key: "m".to_owned(),
                data_key: vec![2],
                material: vec![3],
            },
            created_at: Millis(5),
            delete_after: None,
            backup: None,
            version: 1,
        }
    }

    fn in_folder(folder: &Path) -> KeyBackup {
        let config = BackupConfig {
            url: Url::from_directory_path(folder).unwrap(),
            s3: None,
            timeout: Duration::from_secs(5),
        };
        KeyBackup::open(&config).unwrap()
    }

    #[tokio::test]
    async fn a_copy_in_a_folder_is_whole_or_told_as_damaged_and_deleted_twice() {
        let folder = tempfile::tempdir().unwrap();
        let backup = in_folder(&folder.path().join("keys"));
        backup.write(&key("p2p")).await.unwrap();
        backup.write(&key("engine")).await.unwrap();
        let all = backup.all().await.unwrap();
        let names: Vec<_> = all.iter().map(|(path, _)| path.as_str()).collect();
        let node = key("p2p").node_id;
        let expected = [format!("{node}/engine.json"), format!("{node}/p2p.json")];
        assert_eq!(names, expected);
        assert_eq!(all[1].1.as_ref().unwrap(), &key("p2p"));

        let file = folder.path().join("keys").join(&expected[1]);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"AQ==\"", "\"AA==\"")).unwrap();
        let all = backup.all().await.unwrap();
        assert!(matches!(all[1].1, Err(BackupError::Damaged { .. })));
        // The state after a host was killed while it wrote.
        std::fs::write(file.with_extension("json#1"), text).unwrap();
        for name in ["p2p", "p2p", "engine", "engine"] {
            backup.delete(node, name).await.unwrap();
        }
        let left = std::fs::read_dir(folder.path().join("keys")).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[tokio::test]
    async fn a_folder_that_is_away_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let backup = in_folder(&path);
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "in the way").unwrap();
        let error = backup.write(&key("p2p")).await.unwrap_err().to_string();
        assert!(error.contains("keys.backup"), "{error}");
    }
}
