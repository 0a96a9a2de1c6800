//! One group in memory: its marks, the ends of its log, and its newest entries.
//!
//! ```text
//!  purged      first ................... tail front ......... last
//!  ───────┤    │ on disk only           │ in memory; those of │
//!                                         jobs > `written` not yet on disk
//! ```
//!
//! Invariant: the tail holds the newest entries without holes, and at least those that are not yet on disk.

use std::collections::VecDeque;
use std::ops::Range;

use keevo_core::{Error, Result};

use super::op::{LogOp, check_append};
use super::{GroupId, LogState};
use crate::types::{Entry, LogId, Vote};
use crate::wire;

/// What the disk holds of a group when the store is opened.
#[derive(Debug, Default)]
pub(super) struct LoadedGroup {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// The first index and the last log id of the entries.
    pub(super) entries: Option<(u64, LogId)>,
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) stored: LoadedGroup,
    /// Why nothing of this group can be trusted.
    pub(super) damage: Option<Error>,
    tail: VecDeque<Cached>,
    /// The jobs up to this one are on disk.
    written: u64,
    /// Grows whenever entries are removed: a read of the disk that saw it change starts again.
    generation: u64,
}

#[derive(Debug)]
struct Cached {
    entry: Entry,
    bytes: usize,
    job: u64,
}

/// How to answer a read: from the disk first, then from memory.
#[derive(Debug)]
pub(super) struct ReadPlan {
    /// What must come from the disk; may be empty.
    pub(super) disk: Range<u64>,
    /// What follows, already cut to the wanted size.
    pub(super) cached: Vec<Entry>,
    /// The plan holds as long as the group still has this generation.
    pub(super) generation: u64,
}

impl Group {
    pub(super) fn new(loaded: Result<LoadedGroup>) -> Self {
        match loaded {
            Ok(stored) => Self { stored, ..Self::default() },
            Err(damage) => Self { damage: Some(damage), ..Self::default() },
        }
    }

    /// Fails if the group is damaged.
    pub(super) fn check(&self) -> Result<()> {
        self.damage.clone().map_or(Ok(()), Err)
    }

    /// Whether there is anything to know about the group.
    pub(super) fn exists(&self) -> bool {
        let LoadedGroup { vote, committed, purged, entries } = &self.stored;
        vote.is_some() || committed.is_some() || purged.is_some() || entries.is_some() || self.damage.is_some()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn state(&self) -> LogState {
        let last = self.stored.entries.map(|(_, last)| last).or(self.stored.purged);
        LogState { last_purged_log_id: self.stored.purged, last_log_id: last }
    }

    /// Adds entries; gives the operation and the bytes that the tail grew by.
    pub(super) fn append(&mut self, group: GroupId, entries: Vec<Entry>, job: u64) -> Result<(LogOp, usize)> {
        let next = self.state().last_log_id.map(|last| last.index.saturating_add(1));
        check_append(&entries, next)?;
        let mut grown = 0;
        for entry in &entries {
            let first = self.stored.entries.map_or(entry.log_id.index, |(first, _)| first);
            self.stored.entries = Some((first, entry.log_id));
            let bytes = wire::entry_bytes(entry);
            self.tail.push_back(Cached { entry: entry.clone(), bytes, job });
            grown += bytes;
        }
        Ok((LogOp::Append { group, entries }, grown))
    }

    /// Removes the entries after `keep`; gives the operation, if there is something to remove, and the bytes
    /// that the tail shrank by.
    pub(super) fn truncate_after(&mut self, group: GroupId, keep: Option<LogId>) -> (Option<LogOp>, usize) {
        let Some((first, last)) = self.stored.entries else { return (None, 0) };
        let from = keep.map_or(0, |keep| keep.index.saturating_add(1)).max(first);
        if from > last.index {
            return (None, 0);
        }
        let mut freed = 0;
        while let Some(cached) = self.tail.pop_back_if(|cached| cached.entry.log_id.index >= from) {
            freed += cached.bytes;
        }
        let kept = self.tail.back().map(|cached| cached.entry.log_id).or(keep);
        self.stored.entries = if from == first { None } else { kept.map(|kept| (first, kept)) };
        self.generation += 1;
        (Some(LogOp::Truncate { group, from }), freed)
    }

    /// Removes the entries up to `upto`; gives the operation, unless that much was purged before, and the
    /// bytes that the tail shrank by.
    pub(super) fn purge(&mut self, group: GroupId, upto: LogId) -> (Option<LogOp>, usize) {
        if self.stored.purged.is_some_and(|purged| purged.index >= upto.index) {
            return (None, 0);
        }
        let from = self.stored.entries.map_or(upto.index, |(first, _)| first.min(upto.index));
        let freed = self.drop_front(|cached| cached.entry.log_id.index <= upto.index);
        self.stored.purged = Some(upto);
        self.stored.entries = self
            .stored
            .entries
            .filter(|(_, last)| last.index > upto.index)
            .map(|(first, last)| (first.max(upto.index + 1), last));
        self.generation += 1;
        (Some(LogOp::Purge { group, from, upto }), freed)
    }

    /// Forgets everything; gives the bytes that the tail shrank by.
    pub(super) fn destroy(&mut self) -> usize {
        let freed = self.tail.iter().map(|cached| cached.bytes).sum();
        *self = Self { generation: self.generation + 1, ..Self::default() };
        freed
    }

    /// Notes that the jobs up to `job` are on disk.
    pub(super) fn mark_written(&mut self, job: u64) {
        self.written = self.written.max(job);
    }

    /// Drops entries up to `upto` from memory as far as they are on disk; gives the bytes that the tail
    /// shrank by, and whether nothing up to `upto` is left.
    pub(super) fn evict(&mut self, upto: u64) -> (usize, bool) {
        let written = self.written;
        let freed = self.drop_front(|cached| cached.entry.log_id.index <= upto && cached.job <= written);
        let left = self.tail.front().is_some_and(|cached| cached.entry.log_id.index <= upto);
        (freed, !left)
    }

    /// Plans a read of the entries in `range` up to `bytes_max` bytes.
    pub(super) fn plan_read(&self, range: &Range<u64>, bytes_max: usize) -> ReadPlan {
        let nothing = ReadPlan { disk: 0..0, cached: Vec::new(), generation: self.generation };
        let Some((first, last)) = self.stored.entries else { return nothing };
        let (start, end) = (range.start.max(first), range.end.min(last.index.saturating_add(1)));
        if start >= end {
            return nothing;
        }
        let memory_start = self.tail.front().map_or(end, |cached| cached.entry.log_id.index).clamp(start, end);
        let before = self.tail.front().map_or(0, |cached| memory_start.saturating_sub(cached.entry.log_id.index));
        let wanted = self.tail.iter().skip(usize::try_from(before).unwrap_or(usize::MAX));
        let wanted = wanted.take_while(|cached| cached.entry.log_id.index < end);
        let cached = take_up_to(bytes_max, wanted.map(|cached| (cached.bytes, &cached.entry)));
        ReadPlan { disk: start..memory_start, cached, generation: self.generation }
    }

    fn drop_front(&mut self, goes: impl Fn(&Cached) -> bool) -> usize {
        let mut freed = 0;
        while let Some(cached) = self.tail.pop_front_if(|cached| goes(cached)) {
            freed += cached.bytes;
        }
        freed
    }
}

/// Clones entries as long as they fit `bytes_max`, but at least one.
fn take_up_to<'a>(bytes_max: usize, entries: impl Iterator<Item = (usize, &'a Entry)>) -> Vec<Entry> {
    let mut taken = Vec::new();
    let mut total = 0_usize;
    for (bytes, entry) in entries {
        total = total.saturating_add(bytes);
        if total > bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(entry.clone());
    }
    taken
}

/// Joins what the disk gave and what memory holds after it, cut to `bytes_max`; `whole` says that the disk
/// part is complete.
pub(super) fn join(mut disk: Vec<Entry>, whole: bool, cached: Vec<Entry>, bytes_max: usize) -> Vec<Entry> {
    if !whole {
        return disk;
    }
    let mut total: usize = disk.iter().map(wire::entry_bytes).sum();
    for entry in cached {
        total = total.saturating_add(wire::entry_bytes(&entry));
        if total > bytes_max && !disk.is_empty() {
            break;
        }
        disk.push(entry);
    }
    disk
}
