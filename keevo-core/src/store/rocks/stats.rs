//! What a [`RocksStore`](super::RocksStore) tells about itself.

use std::ffi::CStr;

use rocksdb::statistics::Ticker;
use rocksdb::{DB, Options, properties};

use super::errors::translate;
use crate::columns::{FAMILIES, Use};
use crate::error::Result;
use crate::store::StoreLoad;

/// A property that the crate has no name for.
const LIVE_BLOB_BYTES: &CStr = c"rocksdb.live-blob-file-size";

/// Counters and sizes of a store. Counters start at 0 when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RocksStats {
    /// Times the write-ahead log was synced.
    pub wal_syncs: u64,
    /// Bytes written to the write-ahead log.
    pub wal_bytes: u64,
    /// Bytes that flushes wrote.
    pub flush_bytes: u64,
    /// Bytes that compactions wrote.
    pub compaction_bytes: u64,
    /// Bytes that flushes and compactions wrote to blob files.
    pub blob_bytes_written: u64,
    /// Bytes in live blob files now.
    pub blob_bytes: u64,
    /// Time that writers waited for flushes and compactions, in microseconds.
    pub stall_micros: u64,
    /// Block reads that the cache answered.
    pub cache_hits: u64,
    /// Block reads that went to a file.
    pub cache_misses: u64,
    /// Bytes in memtables now.
    pub memtable_bytes: u64,
    /// Bytes in live table files now.
    pub table_bytes: u64,
    /// Bytes that compactions have yet to rewrite.
    pub pending_compaction_bytes: u64,
    /// Full memtables that wait for their flush now, of the column family that has the most.
    pub immutable_memtables: u64,
    /// Files of level 0 now, of the column family that has the most.
    pub level0_files: u64,
    /// Bytes that the block cache holds now, memtables included.
    pub cache_bytes: u64,
    /// Reads that a filter kept from looking into a file.
    pub filter_hits: u64,
    /// Flushes and compactions that failed. With the write-ahead log the store takes no more writes above 0.
    pub background_errors: u64,
}

/// Reads the counters and sizes of a database.
pub(super) fn collect(db: &DB, options: &Options, counted: bool) -> Result<RocksStats> {
    let ticker = |ticker| if counted { options.get_ticker_count(ticker) } else { 0 };
    let total = |property: &CStr| each(db, property).map(|values| values.into_iter().sum());
    Ok(RocksStats {
        wal_syncs: ticker(Ticker::WalFileSynced),
        wal_bytes: ticker(Ticker::WalFileBytes),
        flush_bytes: ticker(Ticker::FlushWriteBytes),
        compaction_bytes: ticker(Ticker::CompactWriteBytes),
        blob_bytes_written: ticker(Ticker::BlobDbBlobFileBytesWritten),
        blob_bytes: total(LIVE_BLOB_BYTES)?,
        stall_micros: ticker(Ticker::StallMicros),
        cache_hits: ticker(Ticker::BlockCacheHit),
        cache_misses: ticker(Ticker::BlockCacheMiss),
        memtable_bytes: total(properties::CUR_SIZE_ALL_MEM_TABLES)?,
        table_bytes: total(properties::LIVE_SST_FILES_SIZE)?,
        pending_compaction_bytes: total(properties::ESTIMATE_PENDING_COMPACTION_BYTES)?,
        immutable_memtables: most(db, properties::NUM_IMMUTABLE_MEM_TABLE)?,
        level0_files: most(db, &properties::num_files_at_level(0))?,
        // All column families share one cache.
        cache_bytes: most(db, properties::BLOCK_CACHE_USAGE)?,
        filter_hits: ticker(Ticker::BloomFilterUseful),
        background_errors: background_errors(db)?,
    })
}

/// What waits in the background; `made_good` failures of it count no more.
pub(super) fn load(db: &DB, out_of_space: bool, made_good: u64) -> Result<StoreLoad> {
    Ok(StoreLoad {
        unflushed_bytes: each(db, properties::CUR_SIZE_ALL_MEM_TABLES)?.into_iter().sum(),
        immutable_memtables: most(db, properties::NUM_IMMUTABLE_MEM_TABLE)?,
        level0_files: most(db, &properties::num_files_at_level(0))?,
        pending_compaction_bytes: each(db, properties::ESTIMATE_PENDING_COMPACTION_BYTES)?.into_iter().sum(),
        failing: out_of_space || background_errors(db)? > made_good,
    })
}

/// A property of each column family in use.
fn each(db: &DB, property: &CStr) -> Result<Vec<u64>> {
    let used = FAMILIES.iter().filter(|family| matches!(family.role, Use::Holds(..)));
    let read = |handle| db.property_int_value_cf(handle, property).map(|value| value.unwrap_or(0));
    let values: std::result::Result<_, _> = used.filter_map(|family| db.cf_handle(family.name)).map(read).collect();
    values.map_err(|source| translate("read a property of the store", source))
}

/// The largest value that a property has in any column family.
fn most(db: &DB, property: &CStr) -> Result<u64> {
    Ok(each(db, property)?.into_iter().max().unwrap_or(0))
}

/// How many flushes and compactions have failed since the database was opened.
pub(super) fn background_errors(db: &DB) -> Result<u64> {
    let count = db.property_int_value(properties::BACKGROUND_ERRORS);
    Ok(count.map_err(|source| translate("ask the store for background errors", source))?.unwrap_or(0))
}
