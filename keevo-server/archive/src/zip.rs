//! Compression by zstd, of whole pieces whose size is known.

use keevo_core::{Error, Result};
use zstd_safe::{DCtx, InBuffer, OutBuffer};

/// The level: a few hundred MB a second on one processor.
const LEVEL: i32 = 1;
/// Memory for what is unpacked grows by so much, as it comes, so that a size that is a lie takes none.
const STEP_BYTES: usize = 1 << 20;

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
    let bad = |why: String| Error::corrupt(format!("it does not unpack: {why}"));
    let mut context = DCtx::try_create().ok_or_else(|| Error::invalid("zstd has no memory"))?;
    let mut input = InBuffer::around(packed);
    let mut out = Vec::new();
    let mut step = vec![0; STEP_BYTES.min(raw_bytes.max(1))];
    loop {
        let (read, mut output) = (input.pos, OutBuffer::around(step.as_mut_slice()));
        let left = context
            .decompress_stream(&mut output, &mut input)
            .map_err(|code| bad(zstd_safe::get_error_name(code).to_owned()))?;
        let written = output.pos();
        let written = step.get(..written).unwrap_or_default();
        if out.len() + written.len() > raw_bytes {
            return Err(bad(format!("it has more than the {raw_bytes} bytes that it says")));
        }
        out.extend_from_slice(written);
        if left == 0 {
            break;
        }
        if written.is_empty() && input.pos == read {
            return Err(bad("it is cut short".to_owned()));
        }
    }
    if input.pos < packed.len() || out.len() != raw_bytes {
        return Err(bad(format!("it unpacks to {} bytes, not to {raw_bytes}", out.len())));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_are_lies_are_refused_and_take_no_memory() {
        let raw = b"rows ".repeat(700_000);
        let packed = compress(&raw).expect("packed");
        assert!(decompress(&packed, raw.len()).expect("unpacked") == raw);
        for wrong in [raw.len() - 1, raw.len() + 1, 0, usize::MAX] {
            assert_eq!(decompress(&packed, wrong).expect_err("a lie").kind(), keevo_core::ErrorKind::Corrupt);
        }
        assert!(decompress(&packed[..packed.len() - 1], raw.len()).is_err(), "cut short");
        assert!(decompress(&[&packed[..], b"x"].concat(), raw.len()).is_err(), "more behind it");
        assert!(decompress(&compress(b"").expect("packed"), 0).expect("unpacked").is_empty());
        assert!(decompress(b"", 0).is_err() && decompress(b"no zstd", 7).is_err());
    }
}
