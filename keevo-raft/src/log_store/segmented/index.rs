//! What the segments hold, in memory: each group's marks, where each of its entries lies, and how much of every segment
//! is still needed.
//!
//! Invariant: the entries of a group have no holes, and a segment's live bytes are those of the entries that lie in it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use keevo_core::{Error, Result};

use super::folder::SegmentFile;
use super::record::Position;
use crate::log_store::GroupId;
use crate::types::{LogId, Vote};

/// What is this near is read together, whatever lies between.
const NEAR_BYTES: u32 = 4 << 10;

/// Where an entry's record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u32,
    /// Bytes of the record.
    pub(super) bytes: u32,
}

impl Place {
    pub(super) fn position(&self) -> Position {
        Position { segment: self.segment, offset: self.offset }
    }
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct GroupIndex {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// Why nothing of the group can be trusted.
    pub(super) damage: Option<String>,
    /// The index of the first place.
    first: u64,
    places: VecDeque<Place>,
}

impl GroupIndex {
    fn slot(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }

    fn place(&self, index: u64) -> Option<&Place> {
        self.places.get(self.slot(index)?)
    }
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) groups: BTreeMap<GroupId, GroupIndex>,
    pub(super) stamp: Option<Bytes>,
    /// The segments that are read from.
    pub(super) files: BTreeMap<u64, Arc<dyn SegmentFile>>,
    live: BTreeMap<u64, u64>,
}

impl Index {
    /// The group, made if it is new.
    pub(super) fn group(&mut self, group: GroupId) -> &mut GroupIndex {
        self.groups.entry(group).or_default()
    }

    /// Adds the entry after the group's last one; the first one anywhere.
    pub(super) fn add(&mut self, group: GroupId, index: u64, place: Place) {
        let group = self.groups.entry(group).or_default();
        if group.places.is_empty() {
            group.first = index;
        }
        group.places.push_back(place);
        *self.live.entry(place.segment).or_default() += u64::from(place.bytes);
    }

    /// Removes the entries from `from` on.
    pub(super) fn truncate(&mut self, group: GroupId, from: u64) {
        let Some(group) = self.groups.get_mut(&group) else { return };
        let keep = group.slot(from).unwrap_or(0).min(group.places.len());
        for place in group.places.drain(keep..) {
            release(&mut self.live, place);
        }
    }

    /// Removes the entries up to `upto` and notes that.
    pub(super) fn purge(&mut self, group: GroupId, upto: LogId) {
        let group = self.groups.entry(group).or_default();
        group.purged = Some(upto);
        let gone = group.slot(upto.index).map_or(0, |last| last.saturating_add(1)).min(group.places.len());
        for place in group.places.drain(..gone) {
            release(&mut self.live, place);
        }
        group.first = group.first.max(upto.index.saturating_add(1));
    }

    /// Forgets the group.
    pub(super) fn destroy(&mut self, group: GroupId) {
        for place in self.groups.remove(&group).into_iter().flat_map(|group| group.places) {
            release(&mut self.live, place);
        }
    }

    /// Notes that nothing of the group can be trusted; its entries are given up.
    pub(super) fn damage(&mut self, group: GroupId, why: String) {
        self.truncate(group, 0);
        self.group(group).damage = Some(why);
    }

    /// Where an entry lies.
    pub(super) fn place(&self, group: GroupId, index: u64) -> Option<Place> {
        self.groups.get(&group)?.place(index).copied()
    }

    /// Notes that an entry lies elsewhere now.
    pub(super) fn moved(&mut self, group: GroupId, index: u64, to: Place) {
        let Some(group) = self.groups.get_mut(&group) else { return };
        let Some(place) = group.slot(index).and_then(|slot| group.places.get_mut(slot)) else { return };
        release(&mut self.live, *place);
        *self.live.entry(to.segment).or_default() += u64::from(to.bytes);
        *place = to;
    }

    /// The entries that lie in a segment.
    pub(super) fn entries_in(&self, segment: u64) -> VecDeque<(GroupId, u64)> {
        let mut found = Vec::new();
        for (id, group) in &self.groups {
            let indexed = group.places.iter().zip(group.first..);
            let inside = indexed.filter(|(place, _)| place.segment == segment);
            found.extend(inside.map(|(place, index)| (place.offset, *id, index)));
        }
        // As they lie, so that they are read in order.
        found.sort_unstable();
        found.into_iter().map(|(_, group, index)| (group, index)).collect()
    }

    /// Bytes of the entries that lie in a segment.
    pub(super) fn live_bytes(&self, segment: u64) -> u64 {
        self.live.get(&segment).copied().unwrap_or(0)
    }

    /// Bytes of all entries.
    pub(super) fn live_bytes_all(&self) -> u64 {
        self.live.values().sum()
    }

    /// Where the entries of `range` lie that are read together: the first, and those after it that follow in the same
    /// segment within `span_bytes`, as long as they are half of what lies there. `Corrupt` if the first is not there.
    pub(super) fn span(&self, id: GroupId, range: Range<u64>, span_bytes: u32) -> Result<Vec<Place>> {
        let missing = || Error::corrupt(format!("the log of group {id} lacks its entry {}", range.start));
        let group = self.groups.get(&id).ok_or_else(missing)?;
        let first = *group.place(range.start).ok_or_else(missing)?;
        let mut end = first.offset;
        let mut wanted = 0_u32;
        let follows = |place: &&Place| {
            wanted = wanted.saturating_add(place.bytes);
            let bytes_max = span_bytes.min(wanted.saturating_mul(2).max(NEAR_BYTES));
            let is_next = place.segment == first.segment
                && place.offset >= end
                && (place.offset == first.offset || place.offset - first.offset + place.bytes <= bytes_max);
            end = place.offset.saturating_add(place.bytes);
            is_next
        };
        let count = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let slot = group.slot(range.start).unwrap_or(0);
        Ok(group.places.range(slot..).take(count).take_while(follows).copied().collect())
    }
}

fn release(live: &mut BTreeMap<u64, u64>, place: Place) {
    if let Some(bytes) = live.get_mut(&place.segment) {
        *bytes = bytes.saturating_sub(u64::from(place.bytes));
        if *bytes == 0 {
            live.remove(&place.segment);
        }
    }
}
