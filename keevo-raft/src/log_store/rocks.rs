//! The log store on disk: a RocksDB of its own, beside the one of the data.
//!
//! Its write-ahead log is what makes appends and votes durable: one synced batch serves many groups. After
//! a power cut RocksDB recovers the longest sound prefix of the batches, which holds everything synced.
//!
//! Invariant: all rows of an operation are in one batch, and the batches are written in the order of the
//! queue; so the disk always holds a prefix of the calls.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator,
    DBRecoveryMode, FlushOptions, Options, ReadOptions, WriteBatch, WriteOptions, properties,
};

use super::codec::{self, STAMP_KEY, Tag};
use super::group::LoadedGroup;
use super::op::LogOp;
use super::pipeline::{Limits, Pipeline};
use super::writer::{Backend, Loaded};
use super::{GroupId, LogStore};
use crate::types::{Entry, LogId};
use crate::wire;

#[cfg(test)]
mod tests;

const ENTRIES: &str = "entries";
const STATE: &str = "state";

/// How much memory and disk a log store takes.
#[derive(Debug, Clone)]
pub struct RocksLogOptions {
    /// Bytes of new entries kept in memory, over all groups. Default 64 MiB.
    pub cache_bytes_max: usize,
    /// Bytes of calls that wait for the writer; beyond it callers wait. Default 64 MiB.
    pub queue_bytes_max: usize,
    /// Calls written as one batch. Default 4,096.
    pub batch_ops_max: usize,
    /// Bytes of one memtable; there are up to four. Default 64 MiB.
    pub memtable_bytes: usize,
    /// Bytes of RocksDB's block cache. Default 16 MiB.
    pub block_cache_bytes: usize,
    /// Bytes of write-ahead log at which memtables are flushed. Default 256 MiB.
    pub wal_bytes_max: u64,
}

impl Default for RocksLogOptions {
    fn default() -> Self {
        Self {
            cache_bytes_max: 64 << 20,
            queue_bytes_max: 64 << 20,
            batch_ops_max: 4096,
            memtable_bytes: 64 << 20,
            block_cache_bytes: 16 << 20,
            wal_bytes_max: 256 << 20,
        }
    }
}

/// Opens the log store in the folder `path`, which is created if it is new. Dropping the last handle
/// writes what is queued and closes the folder.
///
/// Errors: `Unavailable` when it is open already; `NewerFormat` when a newer version wrote it; `Corrupt`;
/// `Io`. A group with damaged rows does not fail the call: the group's own calls do.
pub fn open_rocks_log_store(path: impl AsRef<Path>, options: &RocksLogOptions) -> Result<Arc<dyn LogStore>> {
    let backend = RocksBackend::open(path.as_ref(), options)?;
    let limits = Limits {
        queue_bytes: options.queue_bytes_max,
        cache_bytes: options.cache_bytes_max,
        batch_ops: options.batch_ops_max,
        linger: Duration::ZERO,
    };
    Ok(Arc::new(Pipeline::start(backend, limits)?))
}

struct RocksBackend {
    db: DB,
    path: PathBuf,
}

impl fmt::Debug for RocksBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksBackend").field("path", &self.path).finish_non_exhaustive()
    }
}

fn translate(what: &str, source: rocksdb::Error) -> Error {
    let message = source.to_string();
    let kind = match source.kind() {
        rocksdb::ErrorKind::Corruption => ErrorKind::Corrupt,
        _ if message.contains("lock hold by current process") || message.contains("While lock file") => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("the log store could not {what}: {message}")).with_source(source)
}

fn database_options(options: &RocksLogOptions) -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    // A torn end is what a crash leaves; damage before it would hide synced records, and the store must not open.
    db.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // A write-ahead log that was synced and is gone or too short is found at the next start.
    db.set_track_and_verify_wals_in_manifest(true);
    db.set_max_total_wal_size(options.wal_bytes_max);
    db.set_keep_log_file_num(4);
    db.set_max_log_file_size(8 << 20);
    db
}

fn column_options(options: &RocksLogOptions, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    let mut column = Options::default();
    column.set_block_based_table_factory(&table);
    column.set_write_buffer_size(options.memtable_bytes);
    column.set_max_write_buffer_number(4);
    column.set_compression_type(DBCompressionType::Lz4);
    column
}

impl RocksBackend {
    fn open(path: &Path, options: &RocksLogOptions) -> Result<Self> {
        keevo_core::check_wals(path)?;
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        let columns = [ENTRIES, STATE].map(|name| ColumnFamilyDescriptor::new(name, column_options(options, &cache)));
        let db = DB::open_cf_descriptors(&database_options(options), path, columns)
            .map_err(|error| translate(&format!("open {}", path.display()), error))?;
        let backend = Self { db, path: path.to_owned() };
        backend.column(ENTRIES)?;
        backend.column(STATE)?;
        Ok(backend)
    }

    fn column(&self, name: &str) -> Result<&ColumnFamily> {
        self.db.cf_handle(name).ok_or_else(|| Error::corrupt(format!("the log store has no column {name}")))
    }

    fn load_marks(&self, loaded: &mut Loaded) -> Result<()> {
        let mut rows = self.db.raw_iterator_cf(self.column(STATE)?);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            let value = Bytes::copy_from_slice(value);
            if key == STAMP_KEY {
                loaded.stamp = Some(codec::decode_value(key, &value)?);
            } else {
                let (group, tag) = codec::parse_state_key(key)?;
                let slot = loaded.groups.entry(group).or_insert_with(|| Ok(LoadedGroup::default()));
                let marked = codec::decode_value(key, &value).and_then(|body| match slot {
                    Ok(group) => set_mark(group, tag, &body),
                    Err(_) => Ok(()),
                });
                damage(slot, group, marked)?;
            }
            rows.next();
        }
        finish(&rows)
    }

    /// Finds the ends of each group's entries.
    fn load_ends(&self, groups: &mut BTreeMap<GroupId, Result<LoadedGroup>>) -> Result<()> {
        let mut rows = self.db.raw_iterator_cf(self.column(ENTRIES)?);
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            let (group, first) = codec::parse_entry_key(key)?;
            rows.seek_for_prev(codec::entry_key(group, u64::MAX));
            let Some((key, value)) = rows.item() else { break };
            let last = decode_entry(key, &Bytes::copy_from_slice(value)).map(|entry| entry.log_id);
            let slot = groups.entry(group).or_insert_with(|| Ok(LoadedGroup::default()));
            let placed = last.and_then(|last| match slot {
                Ok(group) => set_ends(group, first, last),
                Err(_) => Ok(()),
            });
            damage(slot, group, placed)?;
            rows.seek(codec::entry_key_after(group, u64::MAX));
        }
        finish(&rows)
    }

    fn add(&self, batch: &mut WriteBatch, buffer: &mut Vec<u8>, op: &LogOp) -> Result<()> {
        let (entries_column, state_column) = (self.column(ENTRIES)?, self.column(STATE)?);
        let mut mark = |group: GroupId, tag: Tag, body: &Bytes| {
            let key = codec::state_key(group, tag);
            codec::encode_value(&key, buffer, |buffer| buffer.extend_from_slice(body));
            batch.put_cf(state_column, key, &buffer);
        };
        match op {
            LogOp::Vote { group, vote } => mark(*group, Tag::Vote, &wire::encode_vote(vote)),
            LogOp::Committed { group, committed: Some(id) } => mark(*group, Tag::Committed, &wire::encode_log_id(id)),
            LogOp::Committed { group, committed: None } => {
                batch.delete_cf(state_column, codec::state_key(*group, Tag::Committed));
            }
            LogOp::Append { group, entries } => {
                for entry in entries {
                    let key = codec::entry_key(*group, entry.log_id.index);
                    codec::encode_value(&key, buffer, |buffer| wire::encode_entry_into(entry, buffer));
                    batch.put_cf(entries_column, key, &buffer);
                }
            }
            LogOp::Truncate { group, from } => {
                let end = codec::entry_key_after(*group, u64::MAX);
                batch.delete_range_cf(entries_column, &codec::entry_key(*group, *from)[..], &end[..]);
            }
            LogOp::Purge { group, from, upto } => {
                mark(*group, Tag::Purged, &wire::encode_log_id(upto));
                let end = codec::entry_key_after(*group, upto.index);
                batch.delete_range_cf(entries_column, &codec::entry_key(*group, *from)[..], &end[..]);
            }
            LogOp::Destroy { group } => {
                for tag in Tag::ALL {
                    batch.delete_cf(state_column, codec::state_key(*group, tag));
                }
                let end = codec::entry_key_after(*group, u64::MAX);
                batch.delete_range_cf(entries_column, &codec::entry_key(*group, 0)[..], &end[..]);
            }
            LogOp::Stamp(stamp) => {
                codec::encode_value(STAMP_KEY, buffer, |buffer| buffer.extend_from_slice(stamp));
                batch.put_cf(state_column, STAMP_KEY, &buffer);
            }
            LogOp::Sync => {}
        }
        Ok(())
    }
}

impl Backend for RocksBackend {
    fn load(&self) -> Result<Loaded> {
        let mut loaded = Loaded::default();
        self.load_marks(&mut loaded)?;
        self.load_ends(&mut loaded.groups)?;
        Ok(loaded)
    }

    fn write(&self, ops: &[LogOp], sync: bool) -> Result<u64> {
        let mut batch = WriteBatch::default();
        let mut buffer = Vec::new();
        for op in ops {
            self.add(&mut batch, &mut buffer, op)?;
        }
        let bytes = u64::try_from(batch.size_in_bytes()).unwrap_or(u64::MAX);
        if batch.is_empty() {
            let synced = if sync { self.db.flush_wal(true) } else { Ok(()) };
            return synced.map(|()| 0).map_err(|error| translate("sync", error));
        }
        let mut how = WriteOptions::default();
        how.set_sync(sync);
        self.db.write_opt(batch, &how).map_err(|error| translate("write", error))?;
        Ok(bytes)
    }

    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>> {
        let mut how = ReadOptions::default();
        how.set_iterate_upper_bound(codec::entry_key_after(group, range.end.saturating_sub(1)));
        let mut rows = self.db.raw_iterator_cf_opt(self.column(ENTRIES)?, how);
        rows.seek(codec::entry_key(group, range.start));
        let mut entries = Vec::new();
        let mut total = 0_usize;
        for index in range {
            let Some((key, value)) = rows.item().filter(|(key, _)| *key == codec::entry_key(group, index)) else {
                finish(&rows)?;
                return Err(Error::corrupt(format!("the log of group {group} lacks its entry {index}")));
            };
            let entry = decode_entry(key, &Bytes::copy_from_slice(value))?;
            total = total.saturating_add(wire::entry_bytes(&entry));
            if total > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
            rows.next();
        }
        Ok(entries)
    }

    /// A flush leaves out what was purged, and frees the write-ahead log, which holds it still.
    fn reclaim(&self, free_bytes: u64) -> Result<()> {
        let mut held = 0;
        for name in [ENTRIES, STATE] {
            let bytes = self.db.property_int_value_cf(self.column(name)?, properties::CUR_SIZE_ALL_MEM_TABLES);
            held += bytes.map_err(|error| translate("tell its size", error))?.unwrap_or(0);
        }
        // At worst nothing of it was purged, and all of it is written again before the old is removed.
        if held > free_bytes / 2 {
            return Ok(());
        }
        let mut how = FlushOptions::default();
        how.set_wait(true);
        let columns = [self.column(ENTRIES)?, self.column(STATE)?];
        self.db.flush_cfs_opt(&columns, &how).map_err(|error| translate("flush", error))
    }
}

fn finish(rows: &DBRawIterator<'_>) -> Result<()> {
    rows.status().map_err(|error| translate("read", error))
}

/// Keeps damage with its group; other errors go on.
fn damage(slot: &mut Result<LoadedGroup>, group: GroupId, outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::error!(group, %error, "the log of a group is damaged");
            *slot = Err(error);
            Ok(())
        }
        other => other,
    }
}

fn set_mark(group: &mut LoadedGroup, tag: Tag, body: &Bytes) -> Result<()> {
    match tag {
        Tag::Vote => group.vote = Some(wire::decode_vote(body)?),
        Tag::Committed => group.committed = Some(wire::decode_log_id(body)?),
        Tag::Purged => group.purged = Some(wire::decode_log_id(body)?),
    }
    Ok(())
}

fn set_ends(group: &mut LoadedGroup, first: u64, last: LogId) -> Result<()> {
    if group.purged.is_some_and(|purged| purged.index >= first) {
        return Err(Error::corrupt(format!("the log has the entry {first}, which was purged")));
    }
    group.entries = Some((first, last));
    Ok(())
}

fn decode_entry(key: &[u8], value: &Bytes) -> Result<Entry> {
    let (group, index) = codec::parse_entry_key(key)?;
    let named = |error: Error| {
        Error::new(error.kind(), format!("entry {index} of group {group}: {}", error.message())).with_source(error)
    };
    let entry = codec::decode_value(key, value).and_then(|body| wire::decode_entry(&body)).map_err(named)?;
    if entry.log_id.index == index {
        Ok(entry)
    } else {
        Err(Error::corrupt(format!("entry {index} of group {group} says that it is {}", entry.log_id)))
    }
}
