//! The recent changes of a shard: rows of the changes column that watches read.
//!
//! ```text
//! [shard u64 BE][revision u64 BE] → the changes of one entry
//! [shard u64 BE][ff × 8]          → revision of the last entry that this column knows of, and the floor it was at
//!
//! segments  │ start₀ … │ start₁ … │ … │ current …      floor = start₀; a full segment is dropped whole
//! ```
//!
//! Invariant: every row from the floor on is there. The floor lies in the data column and travels with a
//! snapshot, the rows do not; the last row above tells them apart, and where revision or floor differ the changes
//! are forgotten, so that a watch gets `CursorCompacted` and never a gap.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{Error, Result};
use crate::ids::{Revision, ShardId};
use crate::scan::Direction;
use crate::store::{Column, Store, StoreOp};
use crate::system::{CHANGES_FLOOR, ShardState, check_format, row_key};

const FLOOR_FORMAT: u8 = 1;
/// Into how many segments the retained changes are cut, the current one apart.
const SEGMENTS: usize = 16;

/// How many recent changes a shard keeps: up to a sixteenth more than either bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Entries that changed something.
    pub entries_max: usize,
    /// Bytes of their change rows.
    pub bytes_max: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { entries_max: 65_536, bytes_max: 256 << 20 }
    }
}

/// The key of the change row of `revision`.
pub(super) fn change_key(shard: ShardId, revision: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(16);
    key.put_u64(shard.0);
    key.put_u64(revision);
    key.freeze()
}

/// The key after the last change row: that of the last known revision.
pub(super) fn last_key(shard: ShardId) -> Bytes {
    change_key(shard, u64::MAX)
}

#[derive(Debug)]
pub(super) struct ChangeLog {
    shard: ShardId,
    retention: Retention,
    /// The first revision of each segment; the last one is the current segment.
    starts: VecDeque<u64>,
    current_entries: usize,
    current_bytes: usize,
    /// Rows to write with the current call.
    pending: Vec<(u64, Bytes)>,
    /// The floor as the store has it.
    stored_floor: u64,
    /// Whether a segment was begun in the current call.
    moved: bool,
}

impl ChangeLog {
    /// Loads what is known of the shard's changes. Where they don't reach up to `state` they are forgotten:
    /// the operations returned remove them, to be written before the first entry is applied.
    pub(super) fn load<S: Store>(
        store: &S,
        shard: ShardId,
        retention: Retention,
        state: &ShardState,
    ) -> Result<(Self, Vec<StoreOp>)> {
        let last = store.get(Column::Changes, &last_key(shard))?;
        let last = last.map(|row| decode_last(&row)).transpose()?.unwrap_or((Revision(0), Some(0)));
        let floor_row = store.get(Column::Data, &row_key(shard, CHANGES_FLOOR))?;
        let starts = floor_row.map(|row| decode_starts(&row)).transpose()?.unwrap_or_else(|| [0].into());
        let mut log = Self {
            shard,
            retention,
            stored_floor: starts.front().copied().unwrap_or_default(),
            starts,
            current_entries: 0,
            current_bytes: 0,
            pending: Vec::new(),
            moved: false,
        };
        if last == (state.revision, Some(log.stored_floor)) {
            log.count_current(store)?;
            return Ok((log, Vec::new()));
        }
        log.stored_floor = state.revision.0.saturating_add(1);
        log.starts = [log.stored_floor].into();
        let ops = vec![
            StoreOp::DeleteRange(Column::Changes, change_key(shard, 0), last_key(shard)),
            StoreOp::Put(Column::Data, row_key(shard, CHANGES_FLOOR), encode_starts(&log.starts)),
            log.last_op(state),
        ];
        Ok((log, ops))
    }

    fn count_current<S: Store>(&mut self, store: &S) -> Result<()> {
        let start = self.starts.back().copied().unwrap_or_default();
        let (mut entries, mut bytes) = (0, 0);
        let lower = change_key(self.shard, start);
        store.scan(Column::Changes, &lower, &last_key(self.shard), Direction::Forward, &mut |_, row| {
            entries += 1;
            bytes += row.len();
            Ok(ControlFlow::Continue(()))
        })?;
        (self.current_entries, self.current_bytes) = (entries, bytes);
        Ok(())
    }

    /// The first revision from which on every row is there.
    pub(super) fn floor(&self) -> u64 {
        self.starts.front().copied().unwrap_or_default()
    }

    /// Takes in the row of an entry; may begin a segment and drop the oldest.
    pub(super) fn push(&mut self, revision: Revision, row: Bytes) {
        self.current_entries += 1;
        self.current_bytes += row.len();
        self.pending.push((revision.0, row));
        let full = self.current_entries >= (self.retention.entries_max / SEGMENTS).max(1)
            || self.current_bytes >= (self.retention.bytes_max / SEGMENTS).max(1);
        if full {
            self.starts.push_back(revision.0.saturating_add(1));
            (self.current_entries, self.current_bytes) = (0, 0);
            if self.starts.len() > SEGMENTS + 1 {
                self.starts.pop_front();
            }
            self.moved = true;
        }
    }

    /// Moves the rows of the current call into its batch.
    pub(super) fn drain_ops(&mut self, state: &ShardState, ops: &mut Vec<StoreOp>) {
        let floor = self.floor();
        if self.moved {
            ops.push(StoreOp::Put(Column::Data, row_key(self.shard, CHANGES_FLOOR), encode_starts(&self.starts)));
        }
        if floor > self.stored_floor {
            let [lower, upper] = [self.stored_floor, floor].map(|revision| change_key(self.shard, revision));
            ops.push(StoreOp::DeleteRange(Column::Changes, lower, upper));
        }
        let shard = self.shard;
        let kept = self.pending.drain(..).filter(|(revision, _)| *revision >= floor);
        ops.extend(kept.map(|(revision, row)| StoreOp::Put(Column::Changes, change_key(shard, revision), row)));
        ops.push(self.last_op(state));
        (self.stored_floor, self.moved) = (floor, false);
    }

    fn last_op(&self, state: &ShardState) -> StoreOp {
        let mut row = BytesMut::with_capacity(16);
        row.put_u64(state.revision.0);
        row.put_u64(self.floor());
        StoreOp::Put(Column::Changes, last_key(self.shard), row.freeze())
    }
}

/// The last revision and the floor; rows of the first version had no floor, so that theirs is not known.
pub(crate) fn decode_last(mut row: &[u8]) -> Result<(Revision, Option<u64>)> {
    match row.len() {
        8 => Ok((Revision(row.get_u64()), None)),
        16 => Ok((Revision(row.get_u64()), Some(row.get_u64()))),
        length => Err(Error::corrupt(format!("the last row of the changes has {length} bytes, not 16"))),
    }
}

fn encode_starts(starts: &VecDeque<u64>) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + 8 * starts.len());
    out.put_u8(FLOOR_FORMAT);
    for start in starts {
        out.put_u64(*start);
    }
    out.freeze()
}

pub(crate) fn decode_starts(mut row: &[u8]) -> Result<VecDeque<u64>> {
    check_format(row, FLOOR_FORMAT, "changes floor")?;
    row.advance(1);
    if row.is_empty() || !row.len().is_multiple_of(8) {
        return Err(Error::corrupt(format!("a changes floor has {} bytes after its format", row.len())));
    }
    let mut starts = VecDeque::with_capacity(row.len() / 8);
    while row.has_remaining() {
        starts.push_back(row.get_u64());
    }
    Ok(starts)
}
