//! What the archive of the log asks of a shard's replica: that its log stays until it is archived.
//!
//! ```text
//! applied bytes ───▶ counted ───┐
//! archive's cursor (a row) ─────┴─▶ bytes not archived ──▶ over the cap? refuse writes, or let the log go
//! flushes ─▶ marks (log id, membership) ──▶ the newest one that the archive has reached ──▶ purge
//! ```
//!
//! Invariant: below the cap no entry leaves the log of any replica before the archive holds it, so whoever leads next can
//! go on archiving. Each replica counts for itself, from its start on: what was not archived before a restart and is
//! flushed does not count any more.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keevo_core::{Error, ErrorKind, Result, ShardId};

use crate::types::{LogId, StoredMembership};

/// The most marks that are kept; more frequent ones than that are thinned out.
const MARKS_MAX: usize = 64;
/// How finely applied bytes are counted.
const STEP_BYTES: u64 = 64 << 10;

/// What holds while the log is archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Bytes of entries of a shard that may wait for the archive.
    pub waiting_bytes_max: u64,
    /// What happens above: writes are refused (`ResourceExhausted`), or else the log goes, and the archive has a gap.
    pub refuses: bool,
}

/// The hold on one replica's log; without limits there is none.
#[derive(Debug)]
pub(crate) struct ArchiveHold {
    limits: Option<ArchiveLimits>,
    shard: ShardId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last archived index.
    upto: Option<u64>,
    /// The last applied index.
    last: u64,
    /// Bytes applied since the start.
    applied_bytes: u64,
    /// Indexes, with the bytes applied up to and with them.
    counts: VecDeque<(u64, u64)>,
    /// Where the data was flushed, oldest first.
    marks: VecDeque<(LogId, StoredMembership)>,
}

impl State {
    /// Up to one step more than what waits.
    fn waiting_bytes(&self) -> u64 {
        let Some(upto) = self.upto else { return self.applied_bytes };
        if upto >= self.last {
            return 0;
        }
        let before = self.counts.iter().rev().find(|(index, _)| *index <= upto);
        self.applied_bytes.saturating_sub(before.map_or(0, |(_, bytes)| *bytes))
    }
}

impl ArchiveHold {
    pub(crate) fn new(limits: Option<ArchiveLimits>, shard: ShardId) -> Self {
        Self { limits, shard, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The archive's cursor as the rows of the shard have it.
    pub(crate) fn set_archived(&self, upto: Option<u64>) {
        let mut state = self.state();
        state.upto = upto;
        if upto.is_some_and(|upto| upto >= state.last) {
            state.counts = [(state.last, state.applied_bytes)].into();
        }
        // The newest count that is archived stays: it says how many bytes are.
        while let Some((next, _)) = state.counts.get(1)
            && upto.is_some_and(|upto| *next <= upto)
        {
            state.counts.pop_front();
        }
    }

    /// Entries up to `index`, of so many bytes, were applied.
    pub(crate) fn applied(&self, index: u64, bytes: u64) {
        if self.limits.is_none() {
            return;
        }
        let mut state = self.state();
        state.last = index;
        state.applied_bytes = state.applied_bytes.saturating_add(bytes);
        let total = state.applied_bytes;
        if state.counts.back().is_none_or(|(_, counted)| total.saturating_sub(*counted) >= STEP_BYTES) {
            state.counts.push_back((index, total));
        }
    }

    /// Bytes of applied entries that the archive does not hold; 0 when there is none.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.limits.map_or(0, |_| self.state().waiting_bytes())
    }

    /// Refuses a write while too much waits for the archive: `ResourceExhausted`.
    pub(crate) fn admit(&self) -> Result<()> {
        let Some(limits) = self.limits.filter(|limits| limits.refuses) else { return Ok(()) };
        let waiting = self.state().waiting_bytes();
        if waiting <= limits.waiting_bytes_max {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!(
                "{} MiB of the log of shard {} wait for the archive, which cannot be written: see the nodes' logs, or set \
                 archive_when_full to drop",
                waiting >> 20,
                self.shard
            ),
        ))
    }

    /// The data is flushed up to a position. Gives the position that the log may be purged by, of which the last `kept`
    /// entries stay anyway; `None` = it must not be purged yet.
    pub(crate) fn purge_by(
        &self,
        position: (Option<LogId>, StoredMembership),
        kept: u64,
    ) -> Option<(Option<LogId>, StoredMembership)> {
        let Some(limits) = self.limits else { return Some(position) };
        let (Some(flushed), membership) = position else { return None };
        let mut state = self.state();
        if state.marks.back().is_none_or(|(last, _)| *last < flushed) {
            if state.marks.len() >= MARKS_MAX {
                // The one before the last goes: what is old has yet to be reached by the archive.
                state.marks.remove(MARKS_MAX - 2);
            }
            state.marks.push_back((flushed, membership));
        }
        let gives_up = !limits.refuses && state.waiting_bytes() > limits.waiting_bytes_max;
        if gives_up {
            tracing::error!(
                shard = %self.shard, waiting_bytes = state.waiting_bytes(),
                "the log is purged although it is not archived: the archive has a gap from here on"
            );
        }
        let reach = if gives_up { u64::MAX } else { state.upto.unwrap_or(0).saturating_add(kept) };
        let mut found = None;
        while let Some(mark) = state.marks.pop_front_if(|(log_id, _)| log_id.index <= reach) {
            found = Some(mark);
        }
        let (log_id, membership) = found?;
        Some((Some(log_id), membership))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    const KIB: u64 = 1 << 10;

    fn hold(waiting_bytes_max: u64, refuses: bool) -> ArchiveHold {
        ArchiveHold::new(Some(ArchiveLimits { waiting_bytes_max, refuses }), ShardId(3))
    }

    fn purge(hold: &ArchiveHold, flushed: u64) -> Option<u64> {
        let position = (Some(log_id(1, 1, flushed)), StoredMembership::default());
        hold.purge_by(position, 10).and_then(|(log_id, _)| log_id).map(|log_id| log_id.index)
    }

    #[test]
    fn the_log_is_purged_by_the_newest_flush_that_the_archive_has_reached() {
        let hold = hold(1 << 30, true);
        assert_eq!(purge(&hold, 8), Some(8), "the last ten entries stay anyway");
        assert_eq!((purge(&hold, 100), purge(&hold, 200)), (None, None), "nothing is archived yet");
        hold.set_archived(Some(95));
        assert_eq!(purge(&hold, 300), Some(100));
        assert_eq!(purge(&hold, 300), None, "nothing new");
        hold.set_archived(Some(400));
        assert_eq!(purge(&hold, 401), Some(401));
        let none = ArchiveHold::new(None, ShardId(3));
        assert_eq!(purge(&none, 77), Some(77), "without an archive nothing is held");
    }

    #[test]
    fn many_flushes_before_the_archive_moves_leave_old_marks_and_the_newest() {
        let hold = hold(1 << 30, true);
        for flushed in 1..=1_000 {
            assert_eq!(purge(&hold, 100 * flushed), None);
        }
        hold.set_archived(Some(250));
        assert_eq!(purge(&hold, 100_000), Some(200));
        hold.set_archived(Some(200_000));
        assert_eq!(purge(&hold, 100_000), Some(100_000));
    }

    #[test]
    fn what_waits_is_counted_and_refused_above_the_cap() {
        let full = hold(900 * KIB, true);
        for index in 1..=100 {
            full.applied(index, 10 * KIB);
        }
        assert_eq!(full.waiting_bytes(), 1_000 * KIB);
        assert_eq!(full.admit().expect_err("too much waits").kind(), ErrorKind::ResourceExhausted);
        full.set_archived(Some(60));
        let waiting = full.waiting_bytes();
        assert!((400 * KIB..=400 * KIB + STEP_BYTES).contains(&waiting), "{waiting}");
        full.admit().expect("there is room again");
        full.set_archived(Some(100));
        assert_eq!(full.waiting_bytes(), 0);
        full.applied(101, 5);
        assert_eq!(full.waiting_bytes(), 5);
    }

    #[test]
    fn an_archive_that_may_have_gaps_refuses_nothing_and_lets_the_log_go() {
        let hold = hold(10, false);
        hold.applied(500, 11);
        hold.admit().expect("never refused");
        assert_eq!(purge(&hold, 500), Some(500));
    }
}
