//! The snapshot files of the store in memory: rows one after the other, each with a CRC.
//!
//! ```text
//! ["KEEVOMS1"] then per row [crc32 u32][key length u32][value length u32][key][value], the CRC over all that follows it
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read};

use bytes::Bytes;

use crate::error::{Error, Result};

/// How a file begins.
pub(crate) const MAGIC: &[u8; 8] = b"KEEVOMS1";
/// No key or value of the engine comes near; a longer one is damage.
const FIELD_BYTES_MAX: u32 = 64 << 20;

/// One row.
pub(crate) fn frame(key: &[u8], value: &[u8]) -> Result<Vec<u8>> {
    let length = |field: &[u8]| match u32::try_from(field.len()) {
        Ok(length) if length <= FIELD_BYTES_MAX => Ok(length.to_be_bytes()),
        _ => Err(Error::invalid(format!("a row of {} bytes is too long for a snapshot", field.len()))),
    };
    let body = [length(key)?.as_slice(), length(value)?.as_slice(), key, value].concat();
    Ok([crc32fast::hash(&body).to_be_bytes().as_slice(), &body].concat())
}

/// The rows of a file of `bytes` bytes, all of them within `bounds`. Damage is `Corrupt`.
pub(crate) fn read(input: impl Read, bytes: u64, bounds: &(Bytes, Bytes)) -> Result<BTreeMap<Bytes, Bytes>> {
    let mut input = input.take(bytes);
    let failed = |source: io::Error| Error::corrupt(format!("it does not read: {source}")).with_source(source);
    let mut magic = [0; 8];
    input.read_exact(&mut magic).map_err(failed)?;
    if magic != *MAGIC {
        return Err(Error::corrupt("it does not start like one"));
    }
    let mut rows = BTreeMap::new();
    while input.limit() > 0 {
        let (mut crc, mut lengths) = ([0; 4], [0; 8]);
        input.read_exact(&mut crc).map_err(failed)?;
        input.read_exact(&mut lengths).map_err(failed)?;
        let (key_length, value_length) = lengths.split_at(4);
        let key = read_field(&mut input, key_length).map_err(failed)?;
        let value = read_field(&mut input, value_length).map_err(failed)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&lengths);
        hasher.update(&key);
        hasher.update(&value);
        if hasher.finalize().to_be_bytes() != crc {
            return Err(Error::corrupt("it holds a row that fails its checksum"));
        }
        if key < bounds.0 || key >= bounds.1 {
            return Err(Error::corrupt("it holds a key outside its range"));
        }
        rows.insert(key, value);
    }
    Ok(rows)
}

fn read_field(input: &mut impl Read, length: &[u8]) -> io::Result<Bytes> {
    let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let length = length.try_into().map_err(|source| io::Error::new(io::ErrorKind::InvalidData, source))?;
    let length = u32::from_be_bytes(length);
    if length > FIELD_BYTES_MAX {
        return Err(invalid("a length out of bounds"));
    }
    let mut field = Vec::new();
    input.take(u64::from(length)).read_to_end(&mut field)?;
    if u32::try_from(field.len()).ok() != Some(length) {
        return Err(invalid("the file ends within a row"));
    }
    Ok(field.into())
}
