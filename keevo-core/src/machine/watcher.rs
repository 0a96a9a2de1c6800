//! A watch of one shard: pulls change rows from the store, woken by the applied revision.
//!
//! Invariant: no gap. Rows are read first, the floor is looked at after; if the first row that was wanted may
//! have been trimmed, the watch ends with `CursorCompacted`. A watcher holds one chunk of rows and no more, so
//! a slow one costs nothing but its own lag.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::{StreamExt, stream};
use tokio::sync::watch;

use super::changes::{change_key, last_key};
use super::shared::{Shared, closed};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Revision;
use crate::key::{Key, prefix_end};
use crate::mutants::{self, Mutant};
use crate::scan::Direction;
use crate::store::{Column, Store};
use crate::watch::{Change, Changes, CommitEvent, Cursor, Watch, WatchRange};
use crate::wire::ChangeRow;

/// The most rows of one chunk.
const CHUNK_ROWS_MAX: usize = 256;
/// A chunk ends with the row that reaches this size.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// The most chunks that one reading goes through.
const CHUNKS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Watcher<S> {
    store: S,
    shared: Arc<Shared>,
    applied_rx: watch::Receiver<Revision>,
    range: WatchRange,
    /// The row to read next, and the offset in the first row to deliver.
    next: (u64, u32),
    chunk: VecDeque<(u64, ChangeRow)>,
}

impl<S: Store> Watcher<S> {
    pub(super) fn new(store: S, shared: Arc<Shared>, range: WatchRange, after: Cursor) -> Result<Self> {
        let next = match after.offset.checked_add(1) {
            Some(offset) => (after.revision.0, offset),
            None => (after.revision.0.saturating_add(1), 0),
        };
        let applied_rx = shared.applied_rx();
        let watcher = Self { store, shared, applied_rx, range, next, chunk: VecDeque::new() };
        watcher.check_floor()?;
        Ok(watcher)
    }

    pub(super) fn into_stream(self) -> Watch {
        let events = stream::unfold(Some(self), |watcher| async move {
            let mut watcher = watcher?;
            match watcher.next_event().await {
                Ok(event) => Some((Ok(event), Some(watcher))),
                Err(error) => Some((Err(error), None)),
            }
        });
        events.boxed()
    }

    /// The next events, at most `max` and about `bytes_max` bytes of them, and up to where nothing was left out; does not wait
    /// for more.
    pub(super) fn read(mut self, after: Cursor, max: usize, bytes_max: usize) -> Result<Changes> {
        // What is applied by now and has no row says nothing.
        let applied = self.shared.applied();
        let mut found = Changes { events: Vec::new(), reached: after };
        let (mut bytes, mut chunks) = (0, 0);
        while found.events.len() < max && bytes < bytes_max {
            if let Some(event) = self.buffered_event() {
                bytes += event.bytes();
                found.reached = event.cursor;
                found.events.push(event);
                continue;
            }
            // The whole chunk is through, so everything before the next row is.
            let passed = Cursor { revision: Revision(self.next.0.saturating_sub(1)), offset: u32::MAX, ..after };
            if chunks > 0 {
                found.reached = found.reached.max(passed);
            }
            if chunks == CHUNKS_MAX {
                return Ok(found);
            }
            if !self.read_chunk()? {
                let now = Cursor { revision: applied, offset: u32::MAX, ..after };
                found.reached = found.reached.max(now);
                return Ok(found);
            }
            chunks += 1;
        }
        Ok(found)
    }

    async fn next_event(&mut self) -> Result<CommitEvent> {
        loop {
            if let Some(event) = self.buffered_event() {
                return Ok(event);
            }
            // What is applied from here on wakes the wait below, even if the read has seen it already.
            drop(self.applied_rx.borrow_and_update());
            if self.read_chunk()? {
                tokio::task::yield_now().await;
            } else {
                let changed = self.applied_rx.changed().await;
                changed.map_err(|gone| closed(&self.shared.place).with_source(gone))?;
            }
        }
    }

    /// The next event of the chunk that is in range.
    fn buffered_event(&mut self) -> Option<CommitEvent> {
        while let Some((revision, changes)) = self.chunk.front() {
            let revision = *revision;
            while let Some((key, change)) = changes.event(self.next.1) {
                let offset = self.next.1;
                self.next.1 = offset.saturating_add(1);
                if wants(&self.range, &key, change) {
                    let place = &self.shared.place;
                    let cursor =
                        Cursor { cluster: place.cluster, shard: place.shard, revision: Revision(revision), offset };
                    return Some(CommitEvent { cursor, key, change: change.clone() });
                }
            }
            self.chunk.pop_front();
            self.next.1 = 0;
        }
        None
    }

    /// Reads the next rows; false when there are none yet.
    fn read_chunk(&mut self) -> Result<bool> {
        let shard = self.shared.place.shard;
        let (lower, upper) = (change_key(shard, self.next.0), last_key(shard));
        let mut rows = Vec::new();
        let mut bytes = 0;
        if lower < upper {
            self.store.scan(Column::Changes, &lower, &upper, Direction::Forward, &mut |key, row| {
                let revision =
                    key.get(8..16).ok_or_else(|| Error::corrupt("a change row's key is too short"))?.get_u64();
                bytes += row.len();
                rows.push((revision, Bytes::copy_from_slice(row)));
                let full = rows.len() == CHUNK_ROWS_MAX || bytes >= CHUNK_BYTES_MAX;
                Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        }
        self.check_floor()?;
        let Some((last, _)) = rows.last() else { return Ok(false) };
        // An offset belongs to the row of the cursor alone.
        if rows.first().is_some_and(|(first, _)| *first != self.next.0) {
            self.next.1 = 0;
        }
        self.next.0 = last.saturating_add(1);
        if rows.len() == CHUNK_ROWS_MAX && mutants::is_on(Mutant::WatchPageBorder) {
            rows.pop();
        }
        for (revision, row) in rows {
            let changes = ChangeRow::decode(&row)?;
            if may_concern(&self.range, &changes) {
                self.chunk.push_back((revision, changes));
            } else if self.chunk.is_empty() {
                self.next.1 = 0;
            }
        }
        Ok(true)
    }

    fn check_floor(&self) -> Result<()> {
        let floor = self.shared.floor();
        if self.next.0 >= floor {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::CursorCompacted,
            format!(
                "shard {} keeps its changes from revision {floor} on; the watch needs revision {}",
                self.shared.place.shard, self.next.0
            ),
        ))
    }
}

/// Whether any change of an entry can be in range.
fn may_concern(range: &WatchRange, changes: &ChangeRow) -> bool {
    match range {
        WatchRange::Keyspace(keyspace) => keyspace.id == changes.keyspace.id,
        WatchRange::Partition { keyspace, partition, .. } => {
            keyspace.id == changes.keyspace.id && changes.partitions.contains(partition)
        }
    }
}

fn wants(range: &WatchRange, key: &Key, change: &Change) -> bool {
    match range {
        WatchRange::Keyspace(keyspace) => keyspace.id == key.keyspace.id,
        WatchRange::Partition { keyspace, partition, prefix } => {
            keyspace.id == key.keyspace.id
                && *partition == key.partition
                && match change {
                    Change::DeleteRange { end } => {
                        let after = prefix_end(prefix);
                        (after.is_empty() || key.sort < after) && (end.is_empty() || end > prefix)
                    }
                    Change::Put { .. } | Change::Delete => key.sort.starts_with(prefix),
                }
        }
    }
}
