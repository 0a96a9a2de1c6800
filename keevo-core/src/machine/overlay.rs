//! What the entries of one apply call have done so far, over the store.
//!
//! Invariant: a look-up sees what the store would answer if everything before it in the call were written.
//! The order is: a point written in the call, else a range deleted in it, else the store. A range delete
//! drops the points in it, so on leaving, all ranges may be written first and all points after them.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::guards::{GuardSort, Guards};
use crate::error::Result;
use crate::ids::Revision;
use crate::record::{Record, StoredRecord};
use crate::scan::Direction;
use crate::store::{Column, Store, StoreOp};

/// `None` = deleted.
type Slot = Option<StoredRecord>;

/// What a scan calls for each stored record, tombstones and expired ones included.
pub(super) type VisitRecord<'a> = &'a mut dyn FnMut(&[u8], &StoredRecord) -> Result<ControlFlow<()>>;

#[derive(Debug)]
pub(super) struct Overlay<'a> {
    points: BTreeMap<Bytes, Slot>,
    /// Disjoint deleted ranges, start → end.
    ranges: BTreeMap<Bytes, Bytes>,
    /// What the store answered for keys that were read ahead.
    reads: BTreeMap<Bytes, Slot>,
    /// How to take back what was done since `begin`.
    undo: Option<Undo>,
    /// What is known without asking the store.
    guards: &'a mut Guards,
}

#[derive(Debug, Default)]
struct Undo {
    /// Former states of points, oldest first; the outer `None` = there was no point.
    points: Vec<(Bytes, Option<Slot>)>,
    /// All ranges as they were before the first range delete.
    ranges: Option<BTreeMap<Bytes, Bytes>>,
}

fn bounds<'a>(lower: &'a [u8], upper: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (Bound::Included(lower), Bound::Excluded(upper))
}

impl<'a> Overlay<'a> {
    /// Nothing is done yet.
    pub(super) fn new(guards: &'a mut Guards) -> Self {
        let (points, ranges, reads) = Default::default();
        Self { points, ranges, reads, undo: None, guards }
    }

    /// Reads keys ahead, in one call of the store.
    pub(super) fn read_ahead<S: Store>(&mut self, store: &S, mut keys: Vec<Bytes>) -> Result<()> {
        keys.retain(|key| !self.points.contains_key(key) && !self.reads.contains_key(key) && !self.is_deleted(key));
        if keys.is_empty() {
            return Ok(());
        }
        keys.sort_unstable();
        keys.dedup();
        for (key, found) in keys.iter().zip(store.multi_get(Column::Data, &keys)?) {
            let slot = found.map(|stored| StoredRecord::decode(key, &stored)).transpose()?;
            self.reads.insert(key.clone(), slot);
        }
        Ok(())
    }

    /// Forgets what was read ahead.
    pub(super) fn forget_reads(&mut self) {
        self.reads.clear();
    }

    /// The record under `key`: a tombstone or an expired one too.
    pub(super) fn get<S: Store>(&self, store: &S, key: &Bytes) -> Result<Slot> {
        if let Some(slot) = self.points.get(key) {
            return Ok(slot.clone());
        }
        if self.is_deleted(key) {
            return Ok(None);
        }
        if let Some(slot) = self.reads.get(key) {
            return Ok(slot.clone());
        }
        store.get(Column::Data, key)?.map(|stored| StoredRecord::decode(key, &stored)).transpose()
    }

    /// The record under `key` as a reader at `now_ms` sees it.
    pub(super) fn visible<S: Store>(&self, store: &S, key: &Bytes, now_ms: u64) -> Result<Option<Record>> {
        Ok(self.get(store, key)?.filter(|stored| stored.is_visible(now_ms)).map(|stored| stored.record))
    }

    /// How the sort key of guards is told to the calls that look for them.
    pub(super) fn guard_sort(&self, sort: &[u8]) -> GuardSort {
        self.guards.sort(sort)
    }

    /// The revision of the guard under `key`, if it is known without asking the store.
    pub(super) fn known_guard(&mut self, sort: GuardSort, key: &[u8]) -> Option<Revision> {
        self.guards.find(sort, key)
    }

    /// The revision of the guard under `key` as a reader at `now_ms` sees it; with `sort` it is known from now on.
    pub(super) fn guard<S: Store>(
        &mut self,
        store: &S,
        sort: Option<GuardSort>,
        key: &Bytes,
        now_ms: u64,
    ) -> Result<Option<Revision>> {
        let Some(record) = self.visible(store, key, now_ms)? else { return Ok(None) };
        if let Some(sort) = sort
            && record.expires_at_ms.is_none()
        {
            self.guards.learn(sort, key, record.revision);
        }
        Ok(Some(record.revision))
    }

    /// Whether writing under this sort key may change a guard that is known.
    pub(super) fn may_guard(&self, sort: &[u8]) -> bool {
        self.guards.may_know(sort)
    }

    fn is_deleted(&self, key: &[u8]) -> bool {
        let before = (Bound::Unbounded, Bound::Included(key));
        self.ranges.range::<[u8], _>(before).next_back().is_some_and(|(_, end)| end.as_ref() > key)
    }

    /// From here on [`Self::roll_back`] can take back what is done.
    pub(super) fn begin(&mut self) {
        self.undo = Some(Undo::default());
    }

    /// Keeps what was done since [`Self::begin`].
    pub(super) fn keep(&mut self) {
        self.undo = None;
    }

    /// Takes back what was done since [`Self::begin`].
    pub(super) fn roll_back(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        for (key, before) in undo.points.into_iter().rev() {
            match before {
                Some(slot) => self.points.insert(key, slot),
                None => self.points.remove(&key),
            };
        }
        if let Some(ranges) = undo.ranges {
            self.ranges = ranges;
        }
    }

    pub(super) fn put(&mut self, key: Bytes, record: StoredRecord) {
        self.set(key, Some(record));
    }

    pub(super) fn delete(&mut self, key: Bytes) {
        self.set(key, None);
    }

    /// Puts what certainly is no guard that is known.
    pub(super) fn put_unguarding(&mut self, key: Bytes, record: StoredRecord) {
        self.insert(key, Some(record));
    }

    fn set(&mut self, key: Bytes, slot: Slot) {
        self.guards.forget(&key);
        self.insert(key, slot);
    }

    fn insert(&mut self, key: Bytes, slot: Slot) {
        if let Some(undo) = &mut self.undo {
            let before = self.points.insert(key.clone(), slot);
            undo.points.push((key, before));
        } else {
            self.points.insert(key, slot);
        }
    }

    /// Deletes `[lower, upper)`; nothing when it is empty.
    pub(super) fn delete_range(&mut self, mut lower: Bytes, mut upper: Bytes) {
        if lower >= upper {
            return;
        }
        self.guards.forget_all();
        let covered = self.points.range::<[u8], _>(bounds(&lower, &upper)).map(|(key, _)| key.clone());
        for key in covered.collect::<Vec<_>>() {
            let before = self.points.remove(&key);
            if let Some(undo) = &mut self.undo {
                undo.points.push((key, before));
            }
        }
        if let Some(undo) = &mut self.undo {
            undo.ranges.get_or_insert_with(|| self.ranges.clone());
        }
        // Ranges that overlap or touch become one, so that a look-up needs to ask its neighbour alone.
        let before = self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(lower.as_ref()))).next_back();
        if let Some((start, end)) = before.filter(|(_, end)| **end >= lower) {
            upper = upper.max(end.clone());
            lower = start.clone();
        }
        let touched = (Bound::Included(lower.as_ref()), Bound::Included(upper.as_ref()));
        let starts: Vec<Bytes> = self.ranges.range::<[u8], _>(touched).map(|(start, _)| start.clone()).collect();
        for start in starts {
            if let Some(end) = self.ranges.remove(&start) {
                upper = upper.max(end);
            }
        }
        self.ranges.insert(lower, upper);
    }

    /// Visits the records of `[lower, upper)` in key order, as the store would hold them after the call.
    pub(super) fn scan<S: Store>(&self, store: &S, lower: &[u8], upper: &[u8], visit: VisitRecord<'_>) -> Result<()> {
        if lower >= upper {
            return Ok(());
        }
        let mut points = self.points.range::<[u8], _>(bounds(lower, upper)).peekable();
        let mut flow = ControlFlow::Continue(());
        store.scan(Column::Data, lower, upper, Direction::Forward, &mut |key, stored| {
            while let Some((point, slot)) = points.next_if(|(point, _)| flow.is_continue() && point.as_ref() < key) {
                flow = visit_slot(point, slot, visit)?;
            }
            if flow.is_break() {
                return Ok(flow);
            }
            if let Some((point, slot)) = points.next_if(|(point, _)| point.as_ref() == key) {
                flow = visit_slot(point, slot, visit)?;
            } else if !self.is_deleted(key) {
                flow = visit(key, &StoredRecord::decode(key, &Bytes::copy_from_slice(stored))?)?;
            }
            Ok(flow)
        })?;
        while let Some((point, slot)) = points.next_if(|_| flow.is_continue()) {
            flow = visit_slot(point, slot, visit)?;
        }
        Ok(())
    }

    /// Whether a reader at `now_ms` sees any record in `[lower, upper)`.
    pub(super) fn any_visible<S: Store>(&self, store: &S, lower: &[u8], upper: &[u8], now_ms: u64) -> Result<bool> {
        let mut found = false;
        self.scan(store, lower, upper, &mut |_, stored| {
            found = stored.is_visible(now_ms);
            Ok(if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    }

    /// The operations that bring the store to the overlay's state.
    pub(super) fn into_ops(self, ops: &mut Vec<StoreOp>) {
        ops.reserve(self.ranges.len() + self.points.len());
        ops.extend(self.ranges.into_iter().map(|(lower, upper)| StoreOp::DeleteRange(Column::Data, lower, upper)));
        ops.extend(self.points.into_iter().map(|(key, slot)| match slot {
            Some(record) => {
                let stored = record.encode(&key);
                StoreOp::Put(Column::Data, key, stored)
            }
            None => StoreOp::Delete(Column::Data, key),
        }));
    }
}

fn visit_slot(key: &[u8], slot: &Slot, visit: VisitRecord<'_>) -> Result<ControlFlow<()>> {
    match slot {
        Some(record) => visit(key, record),
        None => Ok(ControlFlow::Continue(())),
    }
}
