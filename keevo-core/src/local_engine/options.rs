//! The settings of a [`LocalEngine`](super::LocalEngine), and what it tells about itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Revision;
use crate::limits::{BATCH_BYTES_MAX, FAN_OUT_EXPANDED_BYTES_MAX};
use crate::machine::Retention;
use crate::store::{Durability, RocksOptions, RocksStats};
use crate::views::ViewLimits;

/// The settings of a [`LocalEngine`](super::LocalEngine). The defaults suit a program that embeds it.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// What a write waits for: [`Durability::Sync`] or [`Durability::Buffered`].
    pub durability: Durability,
    /// The most writes that wait for the writer; further callers wait for a place.
    pub queue_writes_max: usize,
    /// The most bytes of writes that wait or are being applied; further callers wait for room.
    pub queue_bytes_max: usize,
    /// The most writes that share one sync.
    pub group_writes_max: usize,
    /// A group of writes that share one sync is full when it reaches this many bytes.
    pub group_bytes_max: usize,
    /// How many recent changes are kept for watches.
    pub retention: Retention,
    /// Bounds on the read views of consistent scans.
    pub views: ViewLimits,
    /// The store underneath. Its `wal` is always on.
    pub store: RocksOptions,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            queue_writes_max: 4_096,
            queue_bytes_max: 64 << 20,
            group_writes_max: 1_024,
            group_bytes_max: 8 << 20,
            retention: Retention::default(),
            views: ViewLimits { linger: Duration::ZERO, ..ViewLimits::default() },
            store: RocksOptions::default(),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

impl LocalOptions {
    pub(super) fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Config, message));
        if self.durability == Durability::Unlogged {
            return refuse("an embedded engine has no log of its own: choose durability sync or buffered".to_owned());
        }
        let largest = BATCH_BYTES_MAX.max(FAN_OUT_EXPANDED_BYTES_MAX);
        if self.queue_bytes_max < largest || u32::try_from(self.queue_bytes_max).is_err() {
            return refuse(format!("queue_bytes_max is {}, not {largest} to {}", self.queue_bytes_max, u32::MAX));
        }
        for (name, value) in [("queue_writes_max", self.queue_writes_max), ("group_writes_max", self.group_writes_max)]
        {
            if !(1..=1 << 20).contains(&value) {
                return refuse(format!("{name} is {value}, not 1 to {}", 1 << 20));
            }
        }
        Ok(())
    }
}

/// What an engine has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalStats {
    /// Writes, fan-outs and opened sessions that were applied or refused by their preconditions.
    pub writes: u64,
    /// Groups of them: each was written, and with [`Durability::Sync`] synced, once.
    pub groups: u64,
    /// The revision of the last write.
    pub revision: Revision,
    /// Counters and sizes of the store.
    pub store: RocksStats,
}

impl fmt::Display for LocalStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writes, groups, revision, store } = self;
        write!(
            f,
            "revision {revision}, {writes} writes in {groups} groups, {} syncs, {} bytes in files, {} in memory",
            store.wal_syncs, store.table_bytes, store.memtable_bytes
        )
    }
}
