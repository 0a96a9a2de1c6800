//! RocksDB's write-ahead logs, checked before they are opened: a torn end is told from damage.
//!
//! ```text
//! file     blocks of 32 KiB; fewer than 7 bytes at the end of a block are padding
//! record   [CRC-32C of type and payload, masked u32 LE][length u16 LE][type u8: 1 whole, 2 first, 3 middle, 4 last][payload]
//! ```
//!
//! A crash leaves the last record torn, and nothing begins after it: each batch is synced before the next is written.
//! RocksDB, which tolerates such an end, takes a damaged length near the end of a file for one, and everything behind
//! it would be gone without a word. Invariant: a file in which a record begins behind a damaged one is refused.
//!
//! Format: the RocksDB wiki, "Write Ahead Log File Format".

use std::path::Path;

use crate::error::{Error, Result};
use crate::store::files::io_error;

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
const WHOLE: u8 = 1;
const FIRST: u8 = 2;
/// The reflected polynomial of CRC-32C.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const MASK_DELTA: u32 = 0xa282_ead8;

/// Refuses a folder with a write-ahead log that is damaged before its end: `Corrupt`. Blocks.
pub fn check_wals(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let table = table();
    let failed = |source| io_error("list the store", folder, source);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(|source| io_error("read the write-ahead log", &path, source))?;
        if let Some(at) = damage(&bytes, &table) {
            return Err(Error::corrupt(format!(
                "the write-ahead log {} is damaged at byte {at}, and acknowledged writes lie behind it",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Where the file is damaged, if a record begins behind that place.
fn damage(bytes: &[u8], table: &[u32; 256]) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        let left = BLOCK - at % BLOCK;
        if left < HEADER {
            at += left;
            continue;
        }
        match record(bytes, at, table) {
            Some((_, length)) => at += HEADER + length,
            None => break,
        }
    }
    let begins = |from: &usize| {
        matches!(bytes.get(from.saturating_add(HEADER - 1)), Some(&(WHOLE | FIRST)))
            && record(bytes, *from, table).is_some()
    };
    (at.saturating_add(1)..bytes.len()).find(begins).map(|_| at)
}

/// The type and the payload's length of the record at a place, if a sound one lies there.
fn record(bytes: &[u8], at: usize, table: &[u32; 256]) -> Option<(u8, usize)> {
    let left = BLOCK - at % BLOCK;
    let header = bytes.get(at..at.checked_add(HEADER)?)?;
    let &[c0, c1, c2, c3, l0, l1, kind] = header else { return None };
    let length = usize::from(u16::from_le_bytes([l0, l1]));
    if kind == 0 || HEADER + length > left {
        return None;
    }
    let summed = bytes.get(at + HEADER - 1..at + HEADER + length)?;
    (crc_masked(summed, table) == u32::from_le_bytes([c0, c1, c2, c3])).then_some((kind, length))
}

fn table() -> [u32; 256] {
    let mut table = [0; 256];
    for (byte, slot) in (0_u32..).zip(table.iter_mut()) {
        let mut crc = byte;
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
        }
        *slot = crc;
    }
    table
}

/// CRC-32C in the form in which it is stored beside data that may hold CRCs itself.
fn crc_masked(bytes: &[u8], table: &[u32; 256]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        let slot = table.get(usize::from(crc.to_le_bytes()[0] ^ byte)).copied().unwrap_or_default();
        crc = slot ^ (crc >> 8);
    }
    (!crc).rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::store::{Column, Durability, RocksOptions, RocksStore, Store, StoreBatch, StoreOp};

    #[test]
    fn the_checksum_is_castagnolis() {
        let crc = crc_masked(b"123456789", &table()).wrapping_sub(MASK_DELTA).rotate_left(15);
        assert_eq!(crc, 0xe306_9283);
    }

    /// The bytes of a log with records of all shapes, one of them over several blocks, and where the last begins.
    fn real_log() -> (Vec<u8>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let store = RocksStore::open(dir.path(), RocksOptions::default()).unwrap();
        let put = |number: usize, bytes: usize| {
            let key = format!("key{number}").into_bytes().into();
            StoreBatch { ops: vec![StoreOp::Put(Column::Data, key, vec![7; bytes].into())] }
        };
        let file = || {
            let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
            let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
            std::fs::read(logs.max_by_key(|path| path.metadata().unwrap().len()).unwrap()).unwrap()
        };
        for (number, bytes) in [10, 300, 100_000, 0, 32_700, 20].into_iter().enumerate() {
            store.write(put(number, bytes), Durability::Sync).unwrap();
        }
        let last = file().len();
        store.write(put(99, 40), Durability::Sync).unwrap();
        (file(), last)
    }

    #[test]
    fn every_flip_before_the_last_record_is_found_and_every_torn_end_is_taken() {
        let (bytes, last) = real_log();
        let table = table();
        assert_eq!(damage(&bytes, &table), None);
        let interesting =
            (0..bytes.len()).filter(|at| at % 251 == 0 || *at < 400 || at % BLOCK < 16 || *at > last - 100);
        for at in interesting {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let found = damage(&flipped, &table);
            // Padding between blocks and the zeros after a header that did not fit are no record.
            let padding = bytes[at] == 0 && damage_free_padding(&bytes, at, &table);
            assert!(found.is_some() || at >= last || padding, "the flip at {at} of {} went unnoticed", bytes.len());
        }
        for end in (last..bytes.len()).chain([1, 6, 7, 100, 50_000, 70_000]) {
            assert_eq!(damage(&bytes[..end], &table), None, "torn at {end}");
        }
    }

    /// Whether the byte lies in the padding of a block.
    fn damage_free_padding(bytes: &[u8], at: usize, table: &[u32; 256]) -> bool {
        let mut record_at = 0;
        while record_at <= at {
            let left = BLOCK - record_at % BLOCK;
            if left < HEADER {
                if at < record_at + left {
                    return true;
                }
                record_at += left;
                continue;
            }
            let Some((_, length)) = record(bytes, record_at, table) else { return false };
            record_at += HEADER + length;
        }
        false
    }

    #[test]
    fn a_damaged_folder_says_where() {
        let (mut bytes, _) = real_log();
        bytes[4] ^= 0x40;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("000004.log"), bytes).unwrap();
        let error = check_wals(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("000004.log is damaged at byte 0"), "{error}");
    }
}
