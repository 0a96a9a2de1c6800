//! The settings of a [`RocksStore`](super::RocksStore), and what they mean to RocksDB.
//!
//! Filters cover whole keys. There is no prefix extractor: partitions have no fixed length, and a shorter
//! fixed prefix would put every scan across it under prefix-seek rules, where keys can be missed.

use std::sync::Arc;

use rocksdb::statistics::StatsLevel;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options, WriteBufferManager,
};

use crate::columns::{FAMILIES, Family, Profile, Use};
use crate::error::{Error, ErrorKind, Result};
use crate::key_file::KeyRing;
use crate::seal::{Purpose, Sealer};
use crate::store::Column;
use crate::store::files::EXPORT_FILE_BYTES;

use super::expiry::{Expiry, ExpiryFilters};

const MIB: usize = 1 << 20;
const BLOCK_BYTES: usize = 16 << 10;
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const BYTES_PER_SYNC: u64 = 1 << 20;
const LOG_FILES_MAX: usize = 4;
const BLOB_FILE_BYTES: u64 = 64 << 20;
/// What part of a memtable its filter may take: some 20 bits a key where keys and values are small.
const MEMTABLE_FILTER_RATIO: f64 = 0.02;
/// Batches are sorted, so the next key belongs near the last one: a memtable begins its search there, apart for keys
/// of each class, which the first byte tells.
const INSERT_HINTS: &str = "memtable_insert_with_hint_prefix_extractor=capped:1";

/// The settings of a [`RocksStore`](super::RocksStore).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocksOptions {
    /// Whether writes go through RocksDB's write-ahead log. Without it a write is durable after the next
    /// flush only, and all column families are flushed together: for callers that have a log of their own.
    pub wal: bool,
    /// The cache of blocks, filters and memtables of all column families together, in bytes.
    pub block_cache_bytes: usize,
    /// The memtables of all column families together, in bytes.
    pub write_buffer_bytes: usize,
    /// Threads for flushes and compactions.
    pub max_background_jobs: i32,
    /// The most bytes a second that flushes and compactions write; RocksDB tunes itself below it. 0 = no limit.
    pub background_bytes_per_s_max: u64,
    /// The most files kept open; -1 = all.
    pub open_files_max: i32,
    /// The size in bytes at which an exported snapshot file is ended.
    pub export_file_bytes: u64,
    /// The size in bytes from which on values lie in blob files beside the tables; 0 = all values lie in the tables.
    /// See docs/decisions/0014.
    pub blob_bytes_min: u64,
    /// Whether to count what RocksDB does; see [`RocksStats`](super::RocksStats).
    pub statistics: bool,
    /// The keys that values are sealed with from now on; `None` = they are stored as they are. A store that has sealed values
    /// does not open without their keys.
    pub keys: Option<Arc<KeyRing>>,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            wal: true,
            block_cache_bytes: 128 * MIB,
            write_buffer_bytes: 64 * MIB,
            max_background_jobs: 2,
            background_bytes_per_s_max: 256 << 20,
            open_files_max: 2_048,
            export_file_bytes: EXPORT_FILE_BYTES,
            blob_bytes_min: 0,
            statistics: true,
            keys: None,
        }
    }
}

impl RocksOptions {
    /// The settings of a store whose caller has a log of its own: no write-ahead log, atomic flushes.
    #[must_use]
    pub fn without_wal() -> Self {
        Self { wal: false, ..Self::default() }
    }

    /// Refuses settings that RocksDB would take to mean something else.
    pub(super) fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Config, message));
        if self.write_buffer_bytes < MIB {
            return refuse(format!("write_buffer_bytes is {}, less than {MIB}", self.write_buffer_bytes));
        }
        if self.block_cache_bytes < MIB {
            return refuse(format!("block_cache_bytes is {}, less than {MIB}", self.block_cache_bytes));
        }
        if !(1..=256).contains(&self.max_background_jobs) {
            return refuse(format!("max_background_jobs is {}, not 1 to 256", self.max_background_jobs));
        }
        if self.export_file_bytes == 0 {
            return refuse("export_file_bytes is 0".to_owned());
        }
        if i64::try_from(self.background_bytes_per_s_max).is_err() {
            return refuse(format!("background_bytes_per_s_max is {}, too large", self.background_bytes_per_s_max));
        }
        Ok(())
    }
}

/// What opening a database takes, and what has to be kept beside it.
pub(super) struct Built {
    /// The options of the database; they also hold its statistics.
    pub(super) db: Options,
    /// The options of the data column family, for the files of snapshots.
    pub(super) data: Options,
    /// What compactions of the data column family may drop.
    pub(super) expiry: Arc<Expiry>,
    /// What seals and opens values.
    pub(super) sealer: Option<Arc<Sealer>>,
    cache: Cache,
}

impl Built {
    /// Turns settings into options.
    pub(super) fn new(settings: &RocksOptions) -> Result<Self> {
        let cache = Cache::new_lru_cache(settings.block_cache_bytes);
        let sealer = settings.keys.as_ref().map(|keys| Sealer::new(Arc::clone(keys), Purpose::Rows)).transpose()?;
        let (sealer, expiry) = (sealer.map(Arc::new), Arc::default());
        let mut built = Self { db: Options::default(), data: Options::default(), expiry, sealer, cache };
        built.db = built.database(settings);
        built.data = built.family(settings, Profile::Records)?;
        Ok(built)
    }

    /// How to open every column family that is not a tombstone, and those tombstones that exist.
    pub(super) fn descriptors(
        &self,
        settings: &RocksOptions,
        existing: &[String],
    ) -> Result<Vec<ColumnFamilyDescriptor>> {
        let wanted = |family: &&Family| family.role != Use::Dropped || existing.iter().any(|name| name == family.name);
        let describe = |family: &Family| {
            let options = match family.role {
                Use::Holds(column, profile) => {
                    let mut options = self.family(settings, profile)?;
                    if column == Column::Data {
                        let sealer = self.sealer.as_ref().map(Arc::clone);
                        options.set_compaction_filter_factory(ExpiryFilters(Arc::clone(&self.expiry), sealer));
                    }
                    options
                }
                Use::Unused | Use::Dropped => Options::default(),
            };
            Ok(ColumnFamilyDescriptor::new(family.name, options))
        };
        FAMILIES.iter().filter(wanted).map(describe).collect()
    }

    fn database(&self, settings: &RocksOptions) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(!settings.wal);
        // With the write-ahead log one thread writes all batches, so memtables need no defence against several.
        options.set_allow_concurrent_memtable_write(!settings.wal);
        // A torn end is what a crash leaves; damage before it would hide synced writes, and the store must not open.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_max_background_jobs(settings.max_background_jobs);
        options.set_max_open_files(settings.open_files_max);
        options.set_bytes_per_sync(BYTES_PER_SYNC);
        options.set_keep_log_file_num(LOG_FILES_MAX);
        options.set_max_log_file_size(16 * MIB);
        options.set_stats_dump_period_sec(0);
        // Writers wait for flushes through the limits of each family; the manager decides when to flush.
        let manager = WriteBufferManager::new_write_buffer_manager_with_cache(
            settings.write_buffer_bytes,
            false,
            self.cache.clone(),
        );
        options.set_write_buffer_manager(&manager);
        if let Ok(rate @ 1..) = i64::try_from(settings.background_bytes_per_s_max) {
            options.set_auto_tuned_ratelimiter(rate, 100_000, 10);
        }
        if settings.statistics {
            options.enable_statistics();
            options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
        }
        options
    }

    fn family(&self, settings: &RocksOptions, profile: Profile) -> Result<Options> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_block_size(BLOCK_BYTES);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let refused = |source| Error::new(ErrorKind::Config, "RocksDB refuses its options").with_source(source);
        let mut options = Options::default().get_options_from_string(INSERT_HINTS).map_err(refused)?;
        options.set_compression_type(DBCompressionType::Lz4);
        match profile {
            Profile::Records => {
                table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
                table.set_whole_key_filtering(true);
                options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER_RATIO);
                options.set_memtable_whole_key_filtering(true);
                options.set_bottommost_compression_type(DBCompressionType::Zstd);
                if settings.blob_bytes_min > 0 {
                    options.set_enable_blob_files(true);
                    options.set_min_blob_size(settings.blob_bytes_min);
                    options.set_blob_file_size(BLOB_FILE_BYTES);
                    options.set_blob_compression_type(DBCompressionType::Lz4);
                    options.set_enable_blob_gc(true);
                }
            }
            Profile::Queue => options.set_bottommost_compression_type(DBCompressionType::Lz4),
        }
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(settings.write_buffer_bytes / 2);
        options.set_max_write_buffer_number(4);
        Ok(options)
    }
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built").finish_non_exhaustive()
    }
}
