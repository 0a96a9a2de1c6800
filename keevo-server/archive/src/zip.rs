//! Compression by zstd, of whole pieces whose size is known.

use keevo_core::{Error, Result};

/// The level: a few hundred MB a second on one processor.
const LEVEL: i32 = 1;

/// The compressed bytes of `raw`.
pub(crate) fn compress(raw: &[u8]) -> Result<Vec<u8>> {
    let mut out = vec![0; zstd_safe::compress_bound(raw.len())];
    let bytes = zstd_safe::compress(out.as_mut_slice(), raw, LEVEL)
        .map_err(|code| Error::invalid(format!("zstd cannot compress: {}", zstd_safe::get_error_name(code))))?;
    out.truncate(bytes);
    Ok(out)
}

/// What was compressed, which had `raw_bytes` bytes: any other number of them is `Corrupt`. The caller has bounded it.
pub(crate) fn decompress(packed: &[u8], raw_bytes: usize) -> Result<Vec<u8>> {
    let mut out = vec![0; raw_bytes];
    match zstd_safe::decompress(out.as_mut_slice(), packed) {
        Ok(bytes) if bytes == raw_bytes => Ok(out),
        Ok(bytes) => Err(Error::corrupt(format!("it unpacks to {bytes} bytes, not to {raw_bytes}"))),
        Err(code) => Err(Error::corrupt(format!("it does not unpack: {}", zstd_safe::get_error_name(code)))),
    }
}
