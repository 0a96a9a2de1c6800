//! Rows of a backup on their way into a shard, as they were: with their revisions, expiries and tombstones.
//!
//! Why not writes: other records name a record's revision (a guard of a fan-out does), so a row that came back under a
//! new one would break what refers to it. New revisions start above all restored ones: they never go back.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{RESTORE_BYTES_MAX, RESTORE_ROWS_MAX, RESTORE_SOURCES_MAX};
use crate::record::StoredRecord;
use crate::system::check_format;

/// The highest base that a restore may ask for: what is left above it lasts for ever.
const BASE_MAX: u64 = 1 << 62;

/// Rows to be stored as they are, in one shard. Repeatable. No watch hears of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// At least this much is added to a log index to give a revision, from this entry on.
    pub base: u64,
    /// Encoded keys, all in the shard, with what is stored under them ([`StoredRecord::encode`]).
    pub rows: Vec<(Bytes, Bytes)>,
    /// Whose rows they are; `None` = nothing is checked, as in a cluster below level 3.
    pub fence: Option<RestoreFence>,
}

/// Which restore into the cluster sends rows, and which stream of it. A shard takes none of an earlier restore than the latest that
/// it has heard of, and none of an earlier stream of the same shard of the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreFence {
    /// Counts the restores into the cluster. The end of one is sent with the number of the next.
    pub restore: u64,
    /// The shard of the backup that the rows are of.
    pub source: u64,
    /// How often that shard was taken up in this restore.
    pub take: u64,
}

/// The latest restore that a shard has heard of: a system row of it.
///
/// ```text
/// [format u8 = 1][restore u64][per shard of the backup, ascending: source u64, take u64]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RestoreFences {
    restore: u64,
    takes: BTreeMap<u64, u64>,
}

const FENCES_FORMAT: u8 = 1;

impl RestoreFences {
    /// Notes who sends rows; `true` = that is news. `Conflict` where somebody later has sent some, `ResourceExhausted` where the
    /// backup has too many shards.
    pub(crate) fn pass(&mut self, fence: RestoreFence) -> Result<bool> {
        let known = self.takes.get(&fence.source).copied();
        if fence.restore < self.restore || fence.restore == self.restore && known.is_some_and(|take| fence.take < take)
        {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "rows of restore {} of this cluster, shard {} of the backup, taken up {} times: another has taken over since, \
                     or the restore has ended",
                    fence.restore, fence.source, fence.take
                ),
            ));
        }
        if fence.restore > self.restore {
            *self = Self { restore: fence.restore, takes: BTreeMap::new() };
        } else if known == Some(fence.take) {
            return Ok(false);
        }
        if self.takes.len() >= RESTORE_SOURCES_MAX && !self.takes.contains_key(&fence.source) {
            let message = format!("a backup of more than {RESTORE_SOURCES_MAX} shards cannot be restored");
            return Err(Error::new(ErrorKind::ResourceExhausted, message));
        }
        self.takes.insert(fence.source, fence.take);
        Ok(true)
    }

    /// Refuses rows without a fence where some with one have come: `Conflict`.
    pub(crate) fn pass_unfenced(&self) -> Result<()> {
        if self.takes.is_empty() {
            return Ok(());
        }
        let message =
            "rows of a restore that began before the cluster was raised to this level: another has taken over since";
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// The row's bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(9 + 16 * self.takes.len());
        out.put_u8(FENCES_FORMAT);
        out.put_u64(self.restore);
        for (&source, &take) in &self.takes {
            out.put_u64(source);
            out.put_u64(take);
        }
        out.freeze()
    }

    /// Reads the row: `Corrupt`, `NewerFormat`.
    pub(crate) fn decode(mut row: &[u8]) -> Result<Self> {
        check_format(row, FENCES_FORMAT, "row of the restores")?;
        if row.len() % 16 != 9 {
            return Err(Error::corrupt(format!("the row of the restores has {} bytes, which do not fit", row.len())));
        }
        row.advance(1);
        let mut fences = Self { restore: row.get_u64(), takes: BTreeMap::new() };
        while row.has_remaining() {
            let source = row.get_u64();
            fences.takes.insert(source, row.get_u64());
        }
        Ok(fences)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_of_the_restores_round_trips_and_refuses_other_bytes() {
        let mut fences = RestoreFences::default();
        for (source, take) in [(0, 1), (7, 2)] {
            assert!(fences.pass(RestoreFence { restore: 3, source, take }).expect("news"));
        }
        let row = fences.encode();
        assert_eq!(RestoreFences::decode(&row).expect("intact"), fences);
        for damaged in [&row[..8], &row[..row.len() - 1], &[]] {
            assert_eq!(RestoreFences::decode(damaged).expect_err("short").kind(), ErrorKind::Corrupt);
        }
        assert_eq!(RestoreFences::decode(&[2; 9]).expect_err("newer").kind(), ErrorKind::NewerFormat);
    }
}
