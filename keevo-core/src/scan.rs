//! Scans: a partition, or a range of an ordered keyspace, page by page, in both directions.
//!
//! Each page is a view of its own, or, for a consistent scan, all pages of a shard are of one.

mod records;
mod token;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::key::{Keyspace, KeyspaceKind, validate_partition, validate_sort};
use crate::limits::SCAN_LIMIT_MAX;
use crate::read::Consistency;
use crate::views::ViewId;
use crate::watch::Cursor;
pub(crate) use records::{Packed, PackedRow};
pub use records::{RecordView, Records};
use token::Place;

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
    /// How fresh the answer must be; of a consistent scan, its first page.
    pub consistency: Consistency,
    /// Whether all pages of a shard come from one read view, as [`Scan::consistent`] says.
    pub consistent: bool,
}

/// Where a page ended. Opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken(pub Bytes);

/// One page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// The records, in the order of the scan. They may share memory: who keeps one of them for long copies it.
    pub records: Records,
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
            consistent: false,
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

    /// The same scan, whose pages come from one read view per shard: they show its state at the first page, whatever
    /// is written meanwhile. A partition lies in one shard; a range of an ordered keyspace may touch several, each of
    /// which gets a view of its own when the scan comes to it.
    ///
    /// The replica that served the first page holds the view. It ends when the scan does, when no page is asked for
    /// in [`ViewLimits::idle`](crate::views::ViewLimits), at [`ViewLimits::age`](crate::views::ViewLimits), and when
    /// its holder stops or takes a snapshot in; the next page is then refused with
    /// [`ErrorKind::ScanExpired`](crate::ErrorKind::ScanExpired). A change of the shard's leader does not end it. A
    /// first page is refused with [`ErrorKind::ResourceExhausted`](crate::ErrorKind::ResourceExhausted) when its
    /// holder has too many views open.
    #[must_use]
    pub fn consistent(mut self) -> Self {
        self.consistent = true;
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
        match self.after.as_ref().map(PageToken::place).transpose()? {
            Some(Place::After { view, .. }) if view.is_some() != self.consistent => {
                return Err(Error::invalid("the page token belongs to a scan of another kind: consistent or not"));
            }
            Some(Place::From(_)) if !self.consistent => {
                return Err(Error::invalid("the page token belongs to a consistent scan"));
            }
            _ => {}
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
        match (self.after.as_ref().and_then(|token| token.place().ok()), self.direction) {
            (None, _) => {}
            (Some(Place::After { last, .. }), Direction::Forward) => {
                lower = lower.max([last.as_ref(), &[0]].concat().into());
            }
            (Some(Place::From(bound)), Direction::Forward) => lower = lower.max(bound),
            (Some(Place::After { last: bound, .. } | Place::From(bound)), Direction::Backward) => {
                upper = upper.min(bound);
            }
        }
        (lower, upper)
    }

    /// The read view that the page is to come from; `None` = the first page, or the first of a shard, or a scan whose
    /// pages are views of their own.
    pub fn view(&self) -> Option<ViewId> {
        match self.after.as_ref()?.place() {
            Ok(Place::After { view, .. }) => view,
            Ok(Place::From(_)) | Err(_) => None,
        }
    }

    /// The encoded key that the page before ended with, or the bound that the next one begins at.
    pub fn resumes_at(&self) -> Option<Bytes> {
        match self.after.as_ref()?.place() {
            Ok(Place::After { last: at, .. } | Place::From(at)) => Some(at),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
