//! How everything of a backup lies in the storage: compressed, and under one checksum.
//!
//! ```text
//! [magic 8][version u8 = 1, of a shard's file 2][0 u8][0 u16][unpacked bytes u64][zstd of the contents][crc32c u32 of all before]
//! ```
//!
//! Numbers are big endian. Invariant: no bytes make [`open`] panic or take more memory than they unpack to, which is bounded by
//! their kind.

use bytes::{Buf, BufMut, Bytes};
use keevo_core::{Error, ErrorKind, Result};

use crate::storage::encrypted;
use crate::zip;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rows of a shard.
    Chunk,
    /// What a shard consisted of.
    Shard,
    /// A backup.
    Manifest,
}

const HEAD_BYTES: usize = 20;
const CRC_BYTES: usize = 4;

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Chunk => b"KEEVOCHK",
            Self::Shard => b"KEEVOSHD",
            Self::Manifest => b"KEEVOBKP",
        }
    }

    /// What is written; a shard's file of version 1 does not know how its chunks end, and is read all the same.
    fn version(self) -> u8 {
        match self {
            Self::Shard => 2,
            Self::Chunk | Self::Manifest => 1,
        }
    }

    fn bytes_max(self) -> u64 {
        match self {
            Self::Chunk => 64 << 20,
            Self::Shard | Self::Manifest => 128 << 20,
        }
    }
}

/// The object with these contents. `Invalid` when they are too large for its kind.
pub(crate) fn seal(kind: Kind, contents: &[u8]) -> Result<Bytes> {
    let bytes = u64::try_from(contents.len()).unwrap_or(u64::MAX);
    if bytes > kind.bytes_max() {
        return Err(Error::invalid(format!("{bytes} bytes are too much for a {kind:?} of a backup")));
    }
    let body = zip::compress(contents)?;
    let mut out = Vec::with_capacity(HEAD_BYTES + body.len() + CRC_BYTES);
    out.put_slice(kind.magic());
    out.put_u8(kind.version());
    out.put_u8(0);
    out.put_u16(0);
    out.put_u64(bytes);
    out.put_slice(&body);
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    Ok(out.into())
}

/// The contents of an object. `Corrupt` when it is of another kind or damaged, `NewerFormat`.
pub(crate) fn open(kind: Kind, object: &[u8]) -> Result<Bytes> {
    let cut_short = || Error::corrupt("it is cut short");
    let (covered, mut end) =
        object.len().checked_sub(CRC_BYTES).and_then(|at| object.split_at_checked(at)).ok_or_else(cut_short)?;
    if covered.len() < HEAD_BYTES {
        return Err(cut_short());
    }
    if encrypted::is_encrypted(covered) {
        return Err(encrypted::no_key());
    }
    if !covered.starts_with(kind.magic()) {
        return Err(Error::corrupt(format!("it is no {kind:?} of a backup")));
    }
    let mut head = covered.get(kind.magic().len()..).unwrap_or_default();
    let version = head.get_u8();
    if version > kind.version() {
        let message = format!("it is of version {version}; this one reads up to {}", kind.version());
        return Err(Error::new(ErrorKind::NewerFormat, message));
    }
    head.advance(3);
    let bytes = head.get_u64();
    if version == 0 || end.get_u32() != crc32c::crc32c(covered) {
        return Err(Error::corrupt("it fails its checksum"));
    }
    if bytes > kind.bytes_max() {
        return Err(Error::corrupt(format!("it says that it unpacks to {bytes} bytes")));
    }
    zip::decompress(head, usize::try_from(bytes).unwrap_or(usize::MAX)).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_and_damage_is_found() {
        let sealed = seal(Kind::Chunk, &b"rows ".repeat(20)).expect("small");
        assert_eq!(open(Kind::Chunk, &sealed).expect("intact"), b"rows ".repeat(20));
        assert_eq!(open(Kind::Manifest, &sealed).expect_err("another kind").kind(), ErrorKind::Corrupt);
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let kind = open(Kind::Chunk, &bad).expect_err("a flipped bit").kind();
            assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::NewerFormat), "bit {bit}: {kind}");
        }
        for length in 0..sealed.len() {
            assert_eq!(
                open(Kind::Chunk, b"KEEVOENC and what follows it").expect_err("no key").kind(),
                ErrorKind::Config
            );
            assert!(open(Kind::Chunk, &sealed[..length]).is_err(), "cut to {length}");
        }
        assert!(open(Kind::Chunk, &seal(Kind::Chunk, b"").expect("empty")).expect("intact").is_empty());
    }
}
