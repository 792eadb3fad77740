//! Makes keys: 32 random bytes that are right for their algorithm, with the public part.

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

/// A new key and its public part, which is empty where there is none.
pub fn generate(algorithm: KeyAlgorithm) -> Result<(Material, Vec<u8>), KeyError> {
    match algorithm {
        KeyAlgorithm::Ed25519 => {
            let seed = random()?;
            let pair =
                Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| KeyError::Library)?;
            Ok((Material(seed), pair.public_key().as_ref().to_vec()))
        }
        KeyAlgorithm::X25519 => {
            let bytes = random()?;
            let key = agreement::PrivateKey::from_private_key(&X25519, &*bytes)
                .map_err(|_| KeyError::Library)?;
            let public = key.compute_public_key()?;
            Ok((Material(bytes), public.as_ref().to_vec()))
        }
        KeyAlgorithm::Secp256k1 => secp256k1(),
        KeyAlgorithm::Bytes32 => Ok((Material(random()?), Vec::new())),
    }
}

/// Not every 32 bytes are a scalar of the curve, so the library makes it. The public key is uncompressed (SEC 1, 2.3.3).
fn secp256k1() -> Result<(Material, Vec<u8>), KeyError> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256K1_SHA256_FIXED_SIGNING)?;
    let scalar = pair.private_key().as_be_bytes()?;
    let mut material = Zeroizing::new([0; KEY_BYTES]);
    let start = KEY_BYTES
        .checked_sub(scalar.as_ref().len())
        .ok_or(Unspecified)?;
    material[start..].copy_from_slice(scalar.as_ref());
    Ok((Material(material), pair.public_key().as_ref().to_vec()))
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
        }
    }
}
