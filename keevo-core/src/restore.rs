//! Rows of a backup on their way into a shard, as they were: with their revisions, expiries and tombstones.
//!
//! Why not writes: other records name a record's revision (a guard of a fan-out does), so a row that came back under a
//! new one would break what refers to it. New revisions start above all restored ones: they never go back.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{RESTORE_BYTES_MAX, RESTORE_ROWS_MAX};
use crate::record::StoredRecord;

/// The highest base that a restore may ask for: what is left above it lasts for ever.
const BASE_MAX: u64 = 1 << 62;

/// Rows to be stored as they are, in one shard. Repeatable. No watch hears of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// At least this much is added to a log index to give a revision, from this entry on.
    pub base: u64,
    /// Encoded keys, all in the shard, with what is stored under them ([`StoredRecord::encode`]).
    pub rows: Vec<(Bytes, Bytes)>,
}

impl Restore {
    /// Checks the limits and every row's checksum: `Invalid`, `BatchTooLarge`, `Corrupt`, `NewerFormat`.
    pub fn validate(&self) -> Result<()> {
        if self.base > BASE_MAX {
            return Err(Error::invalid(format!("a restore raises revisions to {BASE_MAX} at most, not {}", self.base)));
        }
        let bytes: usize = self.rows.iter().map(|(key, stored)| key.len() + stored.len()).sum();
        if self.rows.len() > RESTORE_ROWS_MAX || bytes > RESTORE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!(
                    "a restore of {} rows and {bytes} bytes; at once go {RESTORE_ROWS_MAX} rows and {RESTORE_BYTES_MAX} bytes",
                    self.rows.len()
                ),
            ));
        }
        self.rows.iter().try_for_each(|(key, stored)| StoredRecord::decode(key, stored).map(drop))
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(|(key, stored)| key.len() + stored.len()).sum()
    }
}

/// How far the archive holds a shard's log, without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archived {
    /// The first log index of the unbroken run.
    pub from: u64,
    /// The last one.
    pub upto: u64,
}
