//! What a [`RocksStore`](super::RocksStore) tells about itself.

use rocksdb::statistics::Ticker;
use rocksdb::{DB, Options, properties};

use super::errors::translate;
use crate::columns::{FAMILIES, Use};
use crate::error::Result;

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
    /// Flushes and compactions that failed. Above 0 the store takes no more writes.
    pub background_errors: u64,
}

/// Reads the counters and sizes of a database.
pub(super) fn collect(db: &DB, options: &Options, counted: bool) -> Result<RocksStats> {
    let ticker = |ticker| if counted { options.get_ticker_count(ticker) } else { 0 };
    let total = |property: &properties::PropName| -> Result<u64> {
        let mut total = 0;
        for family in FAMILIES.iter().filter(|family| matches!(family.role, Use::Holds(..))) {
            if let Some(handle) = db.cf_handle(family.name) {
                let value = db.property_int_value_cf(handle, property);
                total += value.map_err(|source| translate("read a property of the store", source))?.unwrap_or(0);
            }
        }
        Ok(total)
    };
    Ok(RocksStats {
        wal_syncs: ticker(Ticker::WalFileSynced),
        wal_bytes: ticker(Ticker::WalFileBytes),
        flush_bytes: ticker(Ticker::FlushWriteBytes),
        compaction_bytes: ticker(Ticker::CompactWriteBytes),
        stall_micros: ticker(Ticker::StallMicros),
        cache_hits: ticker(Ticker::BlockCacheHit),
        cache_misses: ticker(Ticker::BlockCacheMiss),
        memtable_bytes: total(properties::CUR_SIZE_ALL_MEM_TABLES)?,
        table_bytes: total(properties::LIVE_SST_FILES_SIZE)?,
        pending_compaction_bytes: total(properties::ESTIMATE_PENDING_COMPACTION_BYTES)?,
        background_errors: background_errors(db)?,
    })
}

/// How many flushes and compactions have failed since the database was opened.
pub(super) fn background_errors(db: &DB) -> Result<u64> {
    let count = db.property_int_value(properties::BACKGROUND_ERRORS);
    Ok(count.map_err(|source| translate("ask the store for background errors", source))?.unwrap_or(0))
}
