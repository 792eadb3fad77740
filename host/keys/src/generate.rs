//! Generates keys: 32 random bytes that are valid for their algorithm, with the public part.

use aws_lc_rs::agreement::{self, X25519};
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use aws_lc_rs::signature::{
    ECDSA_P256K1_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use host_domain::key::KeyAlgorithm;
use zeroize::Zeroizing;

use super::{KEY_BYTES, KeyError, Material};

/// RFC 5915 around a scalar of secp256k1: a structure, version 1, 32 bytes, the curve's name.
const SEC1_HEAD: [u8; 7] = [0x30, 0x2e, 0x02, 0x01, 0x01, 0x04, 0x20];
const SEC1_TAIL: [u8; 9] = [0xa0, 0x07, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];

/// A new key and its public part, which is empty for algorithms without one.
pub fn generate(algorithm: KeyAlgorithm) -> Result<(Material, Vec<u8>), KeyError> {
    let bytes = match algorithm {
        KeyAlgorithm::Secp256k1 => scalar()?,
        KeyAlgorithm::Ed25519 | KeyAlgorithm::X25519 | KeyAlgorithm::Bytes32 => random()?,
    };
    let public = public_of(algorithm, &bytes)?;
    Ok((Material(bytes), public))
}

/// A person's key and its public part.
pub fn import(algorithm: KeyAlgorithm, bytes: &[u8]) -> Result<(Material, Vec<u8>), KeyError> {
    let mut material = Zeroizing::new([0; KEY_BYTES]);
    if bytes.len() != KEY_BYTES {
        return Err(KeyError::Unusable("a key must have 32 bytes"));
    }
    material.copy_from_slice(bytes);
    let public = public_of(algorithm, &material)?;
    Ok((Material(material), public))
}

fn public_of(algorithm: KeyAlgorithm, bytes: &[u8; KEY_BYTES]) -> Result<Vec<u8>, KeyError> {
    match algorithm {
        KeyAlgorithm::Ed25519 => {
            let pair = Ed25519KeyPair::from_seed_unchecked(bytes).map_err(|_| KeyError::Library)?;
            Ok(pair.public_key().as_ref().to_vec())
        }
        KeyAlgorithm::X25519 => {
            let key = agreement::PrivateKey::from_private_key(&X25519, bytes)
                .map_err(|_| KeyError::Library)?;
            Ok(key.compute_public_key()?.as_ref().to_vec())
        }
        // Uncompressed (SEC 1, 2.3.3).
        KeyAlgorithm::Secp256k1 => {
            let der = Zeroizing::new([&SEC1_HEAD[..], bytes, &SEC1_TAIL].concat());
            let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256K1_SHA256_FIXED_SIGNING, &der);
            let pair =
                pair.map_err(|_| KeyError::Unusable("the key is not a scalar of secp256k1"))?;
            Ok(pair.public_key().as_ref().to_vec())
        }
        KeyAlgorithm::Bytes32 => Ok(Vec::new()),
    }
}

/// Not every 32 bytes are a scalar of the curve, so the library generates it.
fn scalar() -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256K1_SHA256_FIXED_SIGNING)?;
    let scalar = pair.private_key().as_be_bytes()?;
    let mut material = Zeroizing::new([0; KEY_BYTES]);
    let start = KEY_BYTES
        .checked_sub(scalar.as_ref().len())
        .ok_or(Unspecified)?;
    material[start..].copy_from_slice(scalar.as_ref());
    Ok(material)
}

pub(super) fn random() -> Result<Zeroizing<[u8; KEY_BYTES]>, Unspecified> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(&mut *bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_gives_a_key_of_its_own_with_its_public_part() {
        for (algorithm, public_bytes) in [
            (KeyAlgorithm::Ed25519, 32),
            (KeyAlgorithm::X25519, 32),
            (KeyAlgorithm::Secp256k1, 65),
            (KeyAlgorithm::Bytes32, 0),
        ] {
            let (one, public) = generate(algorithm).unwrap();
            let (other, _) = generate(algorithm).unwrap();
            assert_eq!(public.len(), public_bytes, "{algorithm}");
            assert_ne!(one.expose(), other.expose(), "{algorithm}");
            assert_eq!(format!("{one:?}"), "Material");
            let (again, same) = import(algorithm, one.expose()).unwrap();
            assert_eq!(
                (again.expose(), same),
                (one.expose(), public),
                "{algorithm}"
            );
        }
    }

    /// Known pairs: RFC 8032, section 7.1, test 1, and the base point of secp256k1 (SEC 2, section 2.4.1).
    #[test]
    fn a_key_that_is_brought_has_the_public_part_of_its_standard() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let (_, public) = import(KeyAlgorithm::Ed25519, &hex::decode(seed).unwrap()).unwrap();
        let expected = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(hex::encode(public), expected);
        let mut one = [0; KEY_BYTES];
        one[KEY_BYTES - 1] = 1;
        let (_, public) = import(KeyAlgorithm::Secp256k1, &one).unwrap();
        let x = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        assert_eq!(hex::encode(&public[1..=KEY_BYTES]), x);
        for (algorithm, bytes) in [
            (KeyAlgorithm::Secp256k1, &[0; KEY_BYTES][..]),
            (KeyAlgorithm::Secp256k1, &[0xff; KEY_BYTES]),
            (KeyAlgorithm::Bytes32, &[1; 31]),
        ] {
            let refused = import(algorithm, bytes);
            assert!(matches!(refused, Err(KeyError::Unusable(_))), "{algorithm}");
        }
    }
}
