//! Conversion between the wire and the types of `keevo-core`.
//!
//! Invariant: core → wire → core is the identity on every valid value; wire → core refuses what core → wire never
//! makes. Nothing is copied but references: payloads stay shared `Bytes`.

mod fan_out;
mod keys;
mod reads;
mod watches;
mod writes;

use bytes::Bytes;
use keevo_core::{Error, Result};

/// The 16 bytes of a 128-bit id (cluster, client, pair).
pub fn id_bytes(id: u128) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// The 128-bit id of 16 bytes; `what` names the field in the error, which is `Invalid`.
pub fn id_from_bytes(bytes: &[u8], what: &str) -> Result<u128> {
    <[u8; 16]>::try_from(bytes)
        .map(u128::from_be_bytes)
        .map_err(|error| Error::invalid(format!("{what} has {} bytes, not 16", bytes.len())).with_source(error))
}

/// The field's value, or `Invalid` naming the field.
fn required<T>(field: Option<T>, what: &str) -> Result<T> {
    field.ok_or_else(|| Error::invalid(format!("{what} is missing")))
}

#[cfg(test)]
mod tests;
