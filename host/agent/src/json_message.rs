//! Stores protocol messages inside JSON: their binary encoding as Base64. For use with `#[serde(with = …)]`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize as _, Deserializer, Serializer, de};

pub(crate) fn serialize<M: prost::Message, S: Serializer>(
    value: &M,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.serialize_str(&STANDARD.encode(value.encode_to_vec()))
}

pub(crate) fn deserialize<'de, M: prost::Message + Default, D: Deserializer<'de>>(
    from: D,
) -> Result<M, D::Error> {
    let bytes = STANDARD
        .decode(String::deserialize(from)?)
        .map_err(de::Error::custom)?;
    M::decode(bytes.as_slice()).map_err(de::Error::custom)
}
