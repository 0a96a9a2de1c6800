//! The rocksdb crate by itself, with the options of Keevo's own store.
//!
//! RocksDB keeps its options in a file beside the data, so the peer opens with what the file of a fresh Keevo store says:
//! the two cannot drift apart. Four things are not in that file, or not read from it, and are set here as keevo-core sets
//! them: the cache with its write-buffer manager, the rate limiter, the counters, and the filter of the tables. One option differs on purpose: memtables take writes of
//! several threads at once, RocksDB's default, since here there are several.

use std::path::Path;

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result, RocksOptions, RocksStore};
use rocksdb::statistics::StatsLevel;
use rocksdb::{
    BottommostLevelCompaction, Cache, ColumnFamily, CompactOptions, DB, Direction, Env, FlushOptions, IteratorMode,
    Options, ReadOptions, WriteBufferManager, WriteOptions,
};

use super::{Embedded, SCAN_RECORDS, split};

/// The column family that holds a Keevo store's records, and the peer's.
const FAMILY: &str = "data";

/// The tables' filter as keevo-core sets it; RocksDB writes its kind into the options file and does not read it.
const FILTER: (&str, &str) = ("block_based_table_factory", "{filter_policy=bloomfilter:10:false;}");

/// The crate's own database.
pub(super) struct RocksSide {
    db: DB,
    synced: WriteOptions,
}

impl RocksSide {
    /// Opens a database in the folder with the options of a Keevo store, which is made in `pattern`.
    pub(super) fn open(folder: &Path, pattern: &Path) -> Result<Self> {
        let settings = RocksOptions::default();
        drop(RocksStore::open(pattern, settings.clone())?);
        let cache = Cache::new_lru_cache(settings.block_cache_bytes);
        let env = Env::new().map_err(failed)?;
        let (mut options, families) = Options::load_latest(pattern, env, false, cache.clone()).map_err(failed)?;
        let bytes = settings.write_buffer_bytes;
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager_with_cache(bytes, false, cache));
        if let Ok(rate @ 1..) = i64::try_from(settings.background_bytes_per_s_max) {
            options.set_auto_tuned_ratelimiter(rate, 100_000, 10);
        }
        options.enable_statistics();
        options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
        // Here every thread writes for itself, in Keevo one writes for all.
        options.set_allow_concurrent_memtable_write(true);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let db = DB::open_cf_descriptors(&options, folder, families).map_err(failed)?;
        let family = db.cf_handle(FAMILY).ok_or_else(no_family)?;
        db.set_options_cf(family, &[FILTER]).map_err(failed)?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(Self { db, synced })
    }

    fn family(&self) -> Result<&ColumnFamily> {
        self.db.cf_handle(FAMILY).ok_or_else(no_family)
    }
}

impl Embedded for RocksSide {
    fn put(&self, key: u64, value: Bytes) -> Result<()> {
        self.db.put_cf_opt(self.family()?, joined(key), value, &self.synced).map_err(failed)
    }

    fn get(&self, key: u64) -> Result<Option<usize>> {
        let found = self.db.get_cf(self.family()?, joined(key)).map_err(failed)?;
        Ok(found.map(|value| value.len()))
    }

    fn scan(&self, from: u64) -> Result<usize> {
        let (partition, _) = split(from);
        let mut within = ReadOptions::default();
        // No sort key reaches this byte.
        within.set_iterate_upper_bound([partition.as_slice(), &[0xff]].concat());
        let start = joined(from);
        let mode = IteratorMode::From(&start, Direction::Forward);
        let mut records = Vec::with_capacity(SCAN_RECORDS);
        for record in self.db.iterator_cf_opt(self.family()?, within, mode).take(SCAN_RECORDS) {
            records.push(record.map_err(failed)?);
        }
        Ok(std::hint::black_box(records).len())
    }

    fn compact(&self) -> Result<()> {
        let mut how = FlushOptions::default();
        how.set_wait(true);
        self.db.flush_cf_opt(self.family()?, &how).map_err(failed)?;
        let mut whole = CompactOptions::default();
        whole.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(self.family()?, None::<&[u8]>, None::<&[u8]>, &whole);
        Ok(())
    }
}

/// The key of a number, as a program would write it without Keevo.
fn joined(key: u64) -> Vec<u8> {
    let (partition, sort) = split(key);
    [partition, sort].concat()
}

fn no_family() -> Error {
    Error::corrupt("the peer has no column family for its records")
}

fn failed(error: rocksdb::Error) -> Error {
    Error::new(ErrorKind::Io, "the rocksdb crate failed").with_source(error)
}

/// RocksDB's version, from the options file of the database in `folder`.
pub(crate) fn version(folder: &Path) -> Result<String> {
    let unreadable = || Error::new(ErrorKind::Io, format!("{} holds no RocksDB options file", folder.display()));
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable().with_source(error))?;
    let mut paths = entries.filter_map(std::result::Result::ok).map(|entry| entry.path());
    let is_options =
        |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("OPTIONS-"));
    let path = paths.find(is_options).ok_or_else(unreadable)?;
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable().with_source(error))?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("rocksdb_version="));
    version.map(str::to_owned).ok_or_else(unreadable)
}
