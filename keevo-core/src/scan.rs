//! Scans: a partition, or a range of an ordered keyspace, page by page, in both directions.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::key::{Key, Keyspace, KeyspaceKind, validate_partition, validate_sort};
use crate::limits::SCAN_LIMIT_MAX;
use crate::read::Consistency;
use crate::record::Record;
use crate::watch::Cursor;

/// What a scan covers. `start` is included, `end` is not; an empty `end` means no end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanRange {
    /// Sort keys within one partition.
    Partition {
        /// The keyspace.
        keyspace: Keyspace,
        /// The partition.
        partition: Bytes,
        /// The first sort key.
        start: Bytes,
        /// The sort key after the last; empty = to the end.
        end: Bytes,
    },
    /// `partition ++ sort` bytes of an ordered keyspace.
    Ordered {
        /// The keyspace, an ordered one.
        keyspace: Keyspace,
        /// The first `partition ++ sort`; may be shorter than a partition.
        start: Bytes,
        /// The `partition ++ sort` after the last; empty = to the end.
        end: Bytes,
    },
}

/// In which order a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Smallest key first.
    #[default]
    Forward,
    /// Largest key first.
    Backward,
}

/// One page of a scan: where, which way, how much, and where the last page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// What to cover.
    pub range: ScanRange,
    /// Which way.
    pub direction: Direction,
    /// The most records to return, 1 to [`SCAN_LIMIT_MAX`]. A page may hold fewer and still have a `next`.
    pub limit: usize,
    /// [`ScanPage::next`] of the page before; `None` = the first page.
    pub after: Option<PageToken>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// Where a page ended: the last key returned, encoded. Opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken(pub Bytes);

/// One page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// The records, in the order of the scan. They may share memory: who keeps one of them for long copies it.
    pub records: Vec<(Key, Record)>,
    /// Where the next page starts; `None` at the end of the range.
    pub next: Option<PageToken>,
    /// A cursor not newer than the page's read view: a watch from here misses nothing after the page.
    pub as_of: Cursor,
}

impl Scan {
    /// A forward scan of all of a partition, first page.
    pub fn partition(keyspace: Keyspace, partition: impl Into<Bytes>, limit: usize) -> Self {
        Self {
            range: ScanRange::Partition {
                keyspace,
                partition: partition.into(),
                start: Bytes::new(),
                end: Bytes::new(),
            },
            direction: Direction::Forward,
            limit,
            after: None,
            consistency: Consistency::default(),
        }
    }

    /// A forward scan of the sort keys of a partition that start with `prefix`, first page.
    pub fn prefix(keyspace: Keyspace, partition: impl Into<Bytes>, prefix: impl Into<Bytes>, limit: usize) -> Self {
        let start = prefix.into();
        let end = crate::key::prefix_end(&start);
        Self {
            range: ScanRange::Partition { keyspace, partition: partition.into(), start, end },
            ..Self::partition(keyspace, Bytes::new(), limit)
        }
    }

    /// The same scan from the largest key down.
    #[must_use]
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }

    /// The same scan, the page after `token`.
    #[must_use]
    pub fn after(mut self, token: Option<PageToken>) -> Self {
        self.after = token;
        self
    }

    /// Checks keys and limits. Every engine calls it first.
    pub fn validate(&self) -> Result<()> {
        if self.limit == 0 || self.limit > SCAN_LIMIT_MAX {
            return Err(Error::invalid(format!("a scan's limit is 1 to {SCAN_LIMIT_MAX}, not {}", self.limit)));
        }
        match &self.range {
            ScanRange::Partition { keyspace, partition, start, end } => {
                validate_partition(*keyspace, partition)?;
                validate_sort(start)?;
                validate_sort(end)
            }
            ScanRange::Ordered { keyspace, .. } if keyspace.kind == KeyspaceKind::Hashed => {
                Err(Error::invalid("a scan across partitions needs an ordered keyspace"))
            }
            ScanRange::Ordered { .. } => Ok(()),
        }
    }

    /// The encoded range `[lower, upper)` that is left to scan, the page token taken into account.
    pub fn encoded_bounds(&self) -> (Bytes, Bytes) {
        let (prefix, start, end) = match &self.range {
            ScanRange::Partition { keyspace, partition, start, end } => {
                (crate::key::encode_partition(*keyspace, partition, 0).freeze(), start, end)
            }
            ScanRange::Ordered { keyspace, start, end } => {
                (crate::key::encode_ordered_prefix(keyspace.id).freeze(), start, end)
            }
        };
        let mut lower: Bytes = [prefix.as_ref(), start].concat().into();
        let mut upper: Bytes =
            if end.is_empty() { crate::key::prefix_end(&prefix) } else { [prefix.as_ref(), end].concat().into() };
        if let Some(PageToken(last)) = &self.after {
            match self.direction {
                Direction::Forward => lower = lower.max([last.as_ref(), &[0]].concat().into()),
                Direction::Backward => upper = upper.min(last.clone()),
            }
        }
        (lower, upper)
    }
}

#[cfg(test)]
mod tests;
