//! A scrub: everything that a store has on its disk, read and verified.
//!
//! It reads a checkpoint of its own, opened beside the store and read-only: so it sees what the disk holds and not
//! what the store's cache does, its files stay until it is done, and damage that it meets stops nothing.
//! RocksDB verifies each block of a table, the scrub each record.
//!
//! Invariant: damage is told and passed over, never an error and never a panic. What could not be verified for it is
//! part of what is told.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{DB, LiveFile, ReadOptions};

use super::errors::translate;
use super::options::Built;
use super::seals::open_value;
use super::{RocksOptions, RocksStore};
use crate::columns;
use crate::error::{Error, ErrorKind, Result};
use crate::key::CLASS_SYSTEM;
use crate::record::StoredRecord;
use crate::seal::Sealer;
use crate::store::Column;
use crate::system::{STATE, ShardState};

const CACHE_BYTES: usize = 8 << 20;
const READAHEAD_BYTES: usize = 1 << 20;
const OPEN_FILES_MAX: i32 = 256;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file or the key.
    pub place: String,
    /// What is wrong with it.
    pub detail: String,
}

/// What one step of a scrub has read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scrubbed {
    /// Where the next step goes on; `None` = the range is done.
    pub next: Option<Bytes>,
    /// Keys read.
    pub keys: u64,
    /// Bytes of keys and values read.
    pub bytes: u64,
    /// The damage found.
    pub damages: Vec<Damage>,
}

/// A store's files as they were when it was begun. Dropping it removes them.
pub struct Scrub {
    /// `None` only while it is being dropped.
    db: Option<DB>,
    dir: PathBuf,
    /// The folder of the store itself, whose files these are.
    store: PathBuf,
    files: Vec<LiveFile>,
    /// What opens values.
    sealer: Option<Arc<Sealer>>,
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrub").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.db = None;
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "the files of a scrub could not be removed");
        }
    }
}

impl RocksStore {
    /// Begins a scrub of all that is written so far, with files of its own in the new folder `dir`, on the store's
    /// disk. Blocks for a flush.
    ///
    /// Errors: those of a checkpoint; `Corrupt` when what names the store's files is itself damaged.
    pub fn begin_scrub(&self, dir: &Path) -> Result<Scrub> {
        self.checkpoint(dir)?;
        let sealer = self.shared.built.sealer.as_ref().map(Arc::clone);
        let store = self.shared.path.clone();
        let mut scrub = Scrub { db: None, dir: dir.to_owned(), store, files: Vec::new(), sealer };
        let settings = RocksOptions {
            block_cache_bytes: CACHE_BYTES,
            open_files_max: OPEN_FILES_MAX,
            statistics: false,
            background_bytes_per_s_max: 0,
            ..self.shared.settings.clone()
        };
        let built = Built::new(&settings)?;
        // Those that were dropped are gone since the store was opened.
        let descriptors = built.descriptors(&settings, &[])?;
        let opened = DB::open_cf_descriptors_read_only(&built.db, dir, descriptors, false);
        let db = opened.map_err(|source| translate("open the store's files for a scrub", source))?;
        scrub.files = db.live_files().map_err(|source| translate("list the store's files", source))?;
        scrub.db = Some(db);
        Ok(scrub)
    }
}

impl Scrub {
    /// The size of the store's files in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| u64::try_from(file.size).unwrap_or(u64::MAX)).sum()
    }

    /// Verifies keys of `[from, upper)` until about `bytes_max` bytes are read or the range ends; an empty `upper`
    /// means no end.
    pub fn step(&self, column: Column, from: &Bytes, upper: &[u8], bytes_max: u64) -> Result<Scrubbed> {
        let name = columns::name_of(column);
        let db = self.db.as_ref().ok_or_else(|| Error::new(ErrorKind::Closed, "the scrub is closed"))?;
        let family = db.cf_handle(name).ok_or_else(|| Error::corrupt(format!("there is no column family {name}")))?;
        let mut how = ReadOptions::default();
        how.fill_cache(false);
        how.set_verify_checksums(true);
        how.set_readahead_size(READAHEAD_BYTES);
        how.set_iterate_lower_bound(from.as_ref());
        if !upper.is_empty() {
            how.set_iterate_upper_bound(upper);
        }
        let mut rows = db.raw_iterator_cf_opt(family, how);
        rows.seek_to_first();
        let mut done = Scrubbed::default();
        let mut last = from.clone();
        while let Some((key, value)) = rows.item() {
            if done.bytes >= bytes_max {
                done.next = Some(Bytes::copy_from_slice(key));
                return Ok(done);
            }
            done.keys += 1;
            done.bytes += u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
            if let ControlFlow::Break(damage) = verify(self.sealer.as_deref(), column, key, value) {
                done.damages.push(damage);
            }
            last = Bytes::copy_from_slice(key);
            rows.next();
        }
        if let Err(source) = rows.status() {
            let (damage, next) = self.pass_over(name, &last, upper, &source);
            done.damages.push(damage);
            done.next = next;
        }
        Ok(done)
    }

    /// What to tell of a table that cannot be read behind the key `last`, and where to go on: behind the file.
    fn pass_over(&self, family: &str, last: &[u8], upper: &[u8], source: &rocksdb::Error) -> (Damage, Option<Bytes>) {
        let message = source.to_string();
        let file = self
            .files
            .iter()
            .find(|file| file.column_family_name == family && message.contains(file.name.trim_start_matches('/')));
        let place = file.map_or_else(
            || self.store.display().to_string(),
            |file| self.store.join(file.name.trim_start_matches('/')).display().to_string(),
        );
        let behind = file.and_then(|file| file.end_key.as_ref()).map(|end| [end.as_slice(), &[0]].concat());
        // A file that ends before the last key read cannot be what is damaged: then nothing tells where to go on.
        let next = behind.filter(|next| next.as_slice() > last && (upper.is_empty() || next.as_slice() < upper));
        let end = next.as_deref().unwrap_or(upper);
        let gap = format!(
            "not verified: keys from {} to {}",
            shown(last),
            if end.is_empty() { "the end".to_owned() } else { shown(end) }
        );
        (Damage { place, detail: format!("{message}; {gap}") }, next.map(Bytes::from))
    }
}

fn shown(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// Verifies one row as far as it carries a checksum or a format of its own.
fn verify(sealer: Option<&Sealer>, column: Column, key: &[u8], value: &[u8]) -> ControlFlow<Damage> {
    let opened = match sealer {
        Some(sealer) => open_value(sealer, column, key, value),
        None => Ok(Cow::Borrowed(value)),
    };
    let outcome = opened.and_then(|value| match (column, key) {
        (Column::Data, [CLASS_SYSTEM, rest @ ..]) if rest.len() == 9 && rest.last() == Some(&STATE) => {
            ShardState::decode(&value).map(drop)
        }
        (Column::Data, [CLASS_SYSTEM, ..]) | (Column::Changes, _) => Ok(()),
        (Column::Data, _) => StoredRecord::decode(key, &Bytes::copy_from_slice(&value)).map(drop),
    });
    match outcome {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            ControlFlow::Break(Damage { place: format!("key {}", shown(key)), detail: error.message().to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Revision;
    use crate::record::Record;
    use crate::store::{Durability, Store, StoreBatch, StoreOp};

    fn key(number: u32) -> Bytes {
        Bytes::from([&[crate::key::CLASS_HASHED][..], &number.to_be_bytes()].concat())
    }

    fn record(number: u32) -> Bytes {
        let mut state = number;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let value: Vec<u8> = std::iter::repeat_with(&mut noise).take(200).collect();
        let record = Record { revision: Revision(1), expires_at_ms: None, value: value.into() };
        StoredRecord::value(record).encode(&key(number))
    }

    /// A store of `count` records, in files of their own for each thousand.
    fn store(count: u32) -> (tempfile::TempDir, RocksStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = RocksStore::open(dir.path().join("db"), RocksOptions::without_wal()).unwrap();
        store.spare_disk(true).unwrap();
        for start in (0..count).step_by(1_000) {
            let ops = (start..(start + 1_000).min(count)).map(|n| StoreOp::Put(Column::Data, key(n), record(n)));
            store.write(StoreBatch { ops: ops.collect() }, Durability::Unlogged).unwrap();
            store.flush().unwrap();
        }
        (dir, store)
    }

    fn whole(scrub: &Scrub) -> (u64, Vec<Damage>) {
        let (mut keys, mut damages) = (0, Vec::new());
        let mut from = Bytes::new();
        loop {
            let done = scrub.step(Column::Data, &from, b"", 10_000).unwrap();
            keys += done.keys;
            damages.extend(done.damages);
            let Some(next) = done.next else { return (keys, damages) };
            assert!(next > from, "a scrub moves on");
            from = next;
        }
    }

    #[test]
    fn a_sound_store_has_no_damage_and_the_files_of_the_scrub_go() {
        let (dir, store) = store(2_500);
        let staged = dir.path().join("scrub");
        let scrub = store.begin_scrub(&staged).unwrap();
        assert!(scrub.total_bytes() > 100_000 && staged.exists());
        assert_eq!(whole(&scrub), (2_500, vec![]));
        drop(scrub);
        assert!(!staged.exists());
    }

    #[test]
    fn a_record_that_fails_its_checksum_is_named_and_the_scrub_goes_on() {
        let (dir, store) = store(100);
        let mut bad = record(7).to_vec();
        *bad.last_mut().unwrap() ^= 1;
        let ops = vec![StoreOp::Put(Column::Data, key(7), bad.into())];
        store.write(StoreBatch { ops }, Durability::Unlogged).unwrap();
        let (keys, damages) = whole(&store.begin_scrub(&dir.path().join("scrub")).unwrap());
        assert_eq!((keys, damages.len()), (100, 1));
        assert_eq!(damages[0].place, format!("key {}", shown(&key(7))));
        assert!(damages[0].detail.contains("checksum"), "{damages:?}");
    }

    #[test]
    fn a_damaged_table_is_named_passed_over_and_hurts_nobody() {
        let (dir, store) = store(5_000);
        // The store's own cache holds all blocks, so reads of it go on; the disk says otherwise.
        assert!(store.get(Column::Data, &key(2_500)).unwrap().is_some());
        let tables = || {
            let files = std::fs::read_dir(dir.path().join("db")).unwrap().map(|entry| entry.unwrap().path());
            files.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).collect::<Vec<_>>()
        };
        assert!(tables().len() >= 3, "{:?}", tables());
        let damaged = tables().into_iter().max().unwrap();
        let mut bytes = std::fs::read(&damaged).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        std::fs::write(&damaged, bytes).unwrap();
        let (keys, damages) = whole(&store.begin_scrub(&dir.path().join("scrub")).unwrap());
        assert_eq!(damages.len(), 1, "{damages:?}");
        assert_eq!(damages[0].place, damaged.display().to_string());
        assert!(damages[0].detail.contains("not verified: keys from"), "{damages:?}");
        assert!((4_000..5_000).contains(&keys), "{keys} of 5,000 keys could be verified");
        store.check_writable().unwrap();
        store.write(StoreBatch { ops: vec![StoreOp::Delete(Column::Data, key(1))] }, Durability::Unlogged).unwrap();
    }
}
