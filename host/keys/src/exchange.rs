//! Exports a key to a person: encrypted for their public key by HPKE (RFC 9180), so that neither the network nor a
//! log of the answer contains more than ciphertext.
//!
//! Base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, which every HPKE library supports.

use host_domain::key::{EXPORT_INFO, export_aad};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{Hpke, HpkePublicKey};

use super::envelope::SealScope;
use super::{KEY_BYTES, KeyError, Material};

/// Material that only the holder of one private key can decrypt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedExport {
    /// HPKE's encapsulated key, 32 bytes.
    pub encapsulated_key: Vec<u8>,
    /// The 32 bytes of the material, and a tag of 16 bytes.
    pub ciphertext: Vec<u8>,
}

/// Encrypts for an X25519 public key. Rejects one that is not 32 bytes, or with which no shared secret exists.
pub fn seal_to(
    recipient: &[u8],
    scope: &SealScope<'_>,
    material: &Material,
) -> Result<SealedExport, KeyError> {
    if recipient.len() != KEY_BYTES {
        return Err(KeyError::Unusable("a recipient must have 32 bytes"));
    }
    let recipient = HpkePublicKey(recipient.to_vec());
    let sealed = DH_KEM_X25519_HKDF_SHA256_AES_256.seal(
        EXPORT_INFO.as_bytes(),
        export_aad(scope.node_id, scope.name).as_bytes(),
        material.expose(),
        &recipient,
    );
    let (encapsulated, ciphertext) = sealed
        .map_err(|_| KeyError::Unusable("the recipient's key is not a valid X25519 public key"))?;
    Ok(SealedExport {
        encapsulated_key: encapsulated.0,
        ciphertext,
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
    use aws_lc_rs::error::Unspecified;
    use aws_lc_rs::hmac;
    use host_domain::ids::NodeId;
    use host_domain::key::KeyAlgorithm;
    use rustls::crypto::hpke::{EncapsulatedSecret, HpkePrivateKey};
    use uuid::Uuid;

    use super::super::generate;
    use super::*;

    const SCOPE: SealScope<'static> = SealScope {
        node_id: NodeId(Uuid::from_u128(7)),
        name: "p2p",
    };

    /// A person who exports a key.
    struct Recipient {
        private: HpkePrivateKey,
        public: Vec<u8>,
    }

    impl Recipient {
        fn generate() -> Self {
            let pair = DH_KEM_X25519_HKDF_SHA256_AES_256.generate_key_pair();
            let (public, private) = pair.unwrap();
            Self {
                private,
                public: public.0,
            }
        }

        fn open(&self, scope: &SealScope<'_>, export: &SealedExport) -> Option<Vec<u8>> {
            let opened = DH_KEM_X25519_HKDF_SHA256_AES_256.open(
                &EncapsulatedSecret(export.encapsulated_key.clone()),
                EXPORT_INFO.as_bytes(),
                export_aad(scope.node_id, scope.name).as_bytes(),
                &export.ciphertext,
                &self.private,
            );
            opened.ok()
        }
    }

    #[test]
    fn an_export_opens_for_its_recipient_node_and_name_only() {
        let recipient = Recipient::generate();
        let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
        let export = seal_to(&recipient.public, &SCOPE, &material).unwrap();
        let opened = recipient.open(&SCOPE, &export).unwrap();
        assert_eq!(&opened[..], material.expose());
        let elsewhere = SealScope {
            name: "engine",
            ..SCOPE
        };
        assert!(recipient.open(&elsewhere, &export).is_none());
        let other = Recipient::generate();
        assert!(other.open(&SCOPE, &export).is_none());
        for bad in [&[0_u8; 32][..], &[1; 31], &[]] {
            let refused = seal_to(bad, &SCOPE, &material);
            assert!(matches!(refused, Err(KeyError::Unusable(_))), "{bad:?}");
        }
    }

    fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        for part in parts {
            context.update(part);
        }
        context.sign().as_ref().to_vec()
    }

    /// RFC 9180, section 4: labelled HKDF; no output here is longer than one block.
    fn extract(suite: &[u8], salt: &[u8], label: &[u8], ikm: &[u8]) -> Vec<u8> {
        mac(salt, &[b"HPKE-v1", suite, label, ikm])
    }

    fn expand(suite: &[u8], prk: &[u8], label: &[u8], info: &[u8], length: u8) -> Vec<u8> {
        let mut out = mac(prk, &[&[0, length], b"HPKE-v1", suite, label, info, &[1]]);
        out.truncate(length.into());
        out
    }

    /// Decrypts by RFC 9180 alone, without the library that encrypted: what docs/api-client.md describes.
    fn opened_by_hand(private: &[u8], public: &[u8], export: &SealedExport, aad: &[u8]) -> Vec<u8> {
        let kem: &[u8] = b"KEM\x00\x20";
        let suite: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x02";
        let key = PrivateKey::from_private_key(&X25519, private).unwrap();
        let enc = &export.encapsulated_key;
        let peer = UnparsedPublicKey::new(&X25519, enc);
        let dh = agreement::agree(&key, peer, Unspecified, |dh| Ok(dh.to_vec())).unwrap();
        let eae = extract(kem, b"", b"eae_prk", &dh);
        let shared = expand(kem, &eae, b"shared_secret", &[enc, public].concat(), 32);
        let psk_id = extract(suite, b"", b"psk_id_hash", b"");
        let info = extract(suite, b"", b"info_hash", EXPORT_INFO.as_bytes());
        let context = [&[0][..], &psk_id, &info].concat();
        let secret = extract(suite, &shared, b"secret", b"");
        let key = expand(suite, &secret, b"key", &context, 32);
        let nonce = expand(suite, &secret, b"base_nonce", &context, 12);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
        let nonce = Nonce::try_assume_unique_for_key(&nonce).unwrap();
        let mut text = export.ciphertext.clone();
        key.open_in_place(nonce, Aad::from(aad), &mut text)
            .unwrap()
            .to_vec()
    }

    #[test]
    fn an_export_is_hpke_by_the_letters_of_its_standard() {
        let recipient = Recipient::generate();
        let (material, _) = generate(KeyAlgorithm::Bytes32).unwrap();
        let export = seal_to(&recipient.public, &SCOPE, &material).unwrap();
        let aad = "00000000-0000-0000-0000-000000000007/p2p";
        let opened = opened_by_hand(
            recipient.private.secret_bytes(),
            &recipient.public,
            &export,
            aad.as_bytes(),
        );
        assert_eq!(&opened[..], material.expose());
    }
}
