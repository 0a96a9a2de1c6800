//! What the snapshot files of every store have in common: their checks before an install.
//!
//! Invariant: nothing of a snapshot is used before every file of it has the size and the CRC that its
//! sender named, and the ranges of the files are in order and apart.

pub(crate) mod rows;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::store::SnapshotFile;

/// How large an exported file grows before the next one is begun, in bytes.
pub(crate) const EXPORT_FILE_BYTES: u64 = 64 << 20;

/// Refuses tiles that are empty, open-ended, out of order or overlapping.
pub(crate) fn check_tiles<'a>(tiles: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Result<()> {
    let mut end: Option<&Bytes> = None;
    for (lower, upper) in tiles {
        if lower >= upper {
            return Err(Error::invalid("a tile of a snapshot has no keys: its upper bound is not above its lower one"));
        }
        if end.is_some_and(|end| end > lower) {
            return Err(Error::invalid("the tiles of a snapshot overlap or are out of order"));
        }
        end = Some(upper);
    }
    Ok(())
}

/// Checks ranges, sizes and CRCs of the files of a snapshot, in that order, and gives them back by range.
/// `Invalid` for ranges that are empty or overlap, `Corrupt` for a file that is not what its sender named. Blocks.
pub fn verify(files: &[SnapshotFile]) -> Result<Vec<SnapshotFile>> {
    let mut sorted = files.to_vec();
    sorted.sort_by(|a, b| a.lower.cmp(&b.lower));
    check_tiles(sorted.iter().map(|file| (&file.lower, &file.upper)))?;
    for file in &sorted {
        let (bytes, crc32) = measure(&file.path)?;
        if bytes != file.bytes || crc32 != file.crc32 {
            return Err(Error::corrupt(format!(
                "the snapshot file {} has {bytes} bytes and CRC {crc32:08x}, not {} bytes and CRC {:08x}",
                file.path.display(),
                file.bytes,
                file.crc32
            )));
        }
    }
    Ok(sorted)
}

/// The size and the CRC-32 of a file.
pub(crate) fn measure(path: &Path) -> Result<(u64, u32)> {
    let mut file = File::open(path).map_err(|source| io_error("open the snapshot file", path, source))?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0_u64;
    loop {
        let read = file.read(&mut buffer).map_err(|source| io_error("read the snapshot file", path, source))?;
        let chunk = buffer.get(..read).unwrap_or_default();
        if chunk.is_empty() {
            return Ok((bytes, hasher.finalize()));
        }
        hasher.update(chunk);
        bytes += u64::try_from(read).unwrap_or(u64::MAX);
    }
}

/// Makes a finished file durable.
#[cfg(feature = "rocksdb")]
pub(crate) fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|source| io_error("sync the snapshot file", path, source))
}

/// An error of the file system: `ResourceExhausted` where space or descriptors ran out, else `Io`.
pub(crate) fn io_error(what: &str, path: &Path, source: std::io::Error) -> Error {
    use std::io::ErrorKind as Kind;
    let kind = match source.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("could not {what} {}: {source}", path.display())).with_source(source)
}
