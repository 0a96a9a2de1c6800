//! JSON objects: what applications store with activities, users, entries and reactions.

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// The largest data of a user or of an entry of a collection, in bytes of JSON.
pub const DATA_BYTES_MAX: usize = 64 * 1024;

/// `value` as a JSON object; `Invalid` for anything else. `what` names it in the error.
///
/// ```
/// # use serde_json::json;
/// assert!(keevo_feeds::json_object(json!({"name": "alice"}), "data").is_ok());
/// let error = keevo_feeds::json_object(json!("alice"), "data").unwrap_err();
/// assert_eq!(error.message(), "data must be a JSON object, not a string");
/// ```
pub fn json_object(value: Value, what: &str) -> Result<Map<String, Value>> {
    let found = match value {
        Value::Object(map) => return Ok(map),
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
    };
    Err(Error::invalid(format!("{what} must be a JSON object, not {found}")))
}

/// The stored form of an object; an empty one takes no bytes.
pub(crate) fn encode_object(object: &Map<String, Value>) -> Result<Bytes> {
    if object.is_empty() {
        return Ok(Bytes::new());
    }
    serde_json::to_vec(object)
        .map(Bytes::from)
        .map_err(|error| Error::invalid("the fields cannot be written as JSON").with_source(error))
}

/// The stored form of an object of at most `bytes_max`; `BatchTooLarge` for a larger one.
pub(crate) fn encode_bounded(object: &Map<String, Value>, what: &str, bytes_max: usize) -> Result<Bytes> {
    let bytes = encode_object(object)?;
    if bytes.len() > bytes_max {
        let message = format!("{what} has {} bytes, more than {bytes_max}", bytes.len());
        return Err(Error::new(ErrorKind::BatchTooLarge, message));
    }
    Ok(bytes)
}

/// The object in stored bytes.
pub(crate) fn decode_object(bytes: &Bytes) -> Result<Map<String, Value>> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt("stored fields are no JSON object").with_source(error))
}
