//! The recipient of an exported key: a key pair for one export, to which the host seals the key by HPKE (RFC 9180).

use anyhow::{Context, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host_domain::ids::NodeId;
use host_domain::key::{EXPORT_INFO, export_aad};
use host_wire::{ExportKeyRequest, ExportedKeyView};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey};
use zeroize::Zeroizing;

/// A key pair for one export.
pub(crate) struct Recipient {
    private: HpkePrivateKey,
    public: Vec<u8>,
}

impl Recipient {
    /// A new pair.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let pair = DH_KEM_X25519_HKDF_SHA256_AES_256.generate_key_pair();
        let (public, private) = pair.context("no key pair can be generated for the export")?;
        Ok(Self {
            private,
            public: public.0,
        })
    }

    /// The request that names this recipient.
    pub(crate) fn request(&self) -> ExportKeyRequest {
        ExportKeyRequest {
            recipient: STANDARD.encode(&self.public),
        }
    }

    /// Opens the export, which has to be of the node that the answer names and of the key that the caller asked for.
    pub(crate) fn open(
        &self,
        key: &str,
        export: &ExportedKeyView,
    ) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let decode = |text: &str| STANDARD.decode(text).context("the answer is not base64");
        let id = export.aad.split('/').next().and_then(|id| id.parse().ok());
        let node_id = NodeId(id.context("the answer names no node")?);
        let opened = DH_KEM_X25519_HKDF_SHA256_AES_256.open(
            &EncapsulatedSecret(decode(&export.encapsulated_key)?),
            EXPORT_INFO.as_bytes(),
            export_aad(node_id, key).as_bytes(),
            &decode(&export.ciphertext)?,
            &self.private,
        );
        opened.map(Zeroizing::new).map_err(|_| {
            anyhow!("the export does not open: it was changed, or it is for another key")
        })
    }
}

#[cfg(test)]
mod tests {
    use host_wire::{KeyAlgorithm, NodeKeyView};
    use rustls::crypto::hpke::HpkePublicKey;
    use uuid::Uuid;

    use super::*;

    const NODE: NodeId = NodeId(Uuid::from_u128(7));

    fn exported(public: &[u8]) -> ExportedKeyView {
        let sealed = DH_KEM_X25519_HKDF_SHA256_AES_256.seal(
            EXPORT_INFO.as_bytes(),
            export_aad(NODE, "p2p").as_bytes(),
            &[9; 32],
            &HpkePublicKey(public.to_vec()),
        );
        let (encapsulated, ciphertext) = sealed.unwrap();
        ExportedKeyView {
            suite: String::new(),
            info: String::new(),
            aad: export_aad(NODE, "p2p"),
            encapsulated_key: STANDARD.encode(encapsulated.0),
            ciphertext: STANDARD.encode(ciphertext),
            key: NodeKeyView {
                name: "p2p".to_owned(),
                algorithm: KeyAlgorithm::Bytes32,
                source: None,
                is_exportable: true,
                is_present: true,
                public_key: None,
                wrapped_by: None,
                backup: None,
                created_at: None,
                delete_after: None,
            },
        }
    }

    #[test]
    fn an_export_opens_for_its_recipient_and_the_requested_key_only() {
        let recipient = Recipient::generate().unwrap();
        let export = exported(&STANDARD.decode(recipient.request().recipient).unwrap());
        assert_eq!(&recipient.open("p2p", &export).unwrap()[..], [9; 32]);
        assert!(recipient.open("engine", &export).is_err());
        let other = Recipient::generate().unwrap();
        assert!(other.open("p2p", &export).is_err());
        let elsewhere = ExportedKeyView {
            aad: export_aad(NodeId(Uuid::from_u128(8)), "p2p"),
            ..export
        };
        assert!(recipient.open("p2p", &elsewhere).is_err());
    }
}
