//! What most packages do: serde takes each value of an object from JavaScript to Rust, one call a
//! value, and back. `cargo xtask bench node` measures it beside the npm package's codec.

use serde::Serialize as _;
use serde_json::Value;
use serde_wasm_bindgen::Serializer;
use wasm_bindgen::prelude::{JsError, JsValue, wasm_bindgen};

/// A value as MessagePack.
#[wasm_bindgen]
pub fn encode(value: JsValue) -> Result<Vec<u8>, JsError> {
    let value: Value = serde_wasm_bindgen::from_value(value)?;
    Ok(rmp_serde::to_vec_named(&value)?)
}

/// The value of MessagePack. Objects are objects: by default they would be of class `Map`, which
/// `JSON.stringify` writes as `{}`.
#[wasm_bindgen]
pub fn decode(bytes: &[u8]) -> Result<JsValue, JsError> {
    let value: Value = rmp_serde::from_slice(bytes)?;
    Ok(value.serialize(&Serializer::json_compatible())?)
}
