//! Every entry of a log, read from the disk and verified, and a log copied into another store.
//!
//! Invariant: both read what the disk holds; damage is told by the entry it is in, and passed over.

use futures::channel::oneshot;
use keevo_core::{Error, ErrorKind, Result};

use super::{GroupId, LogStore};
use crate::types::{Entry, LogId};
use crate::wire;

/// Bytes of entries copied at once.
const COPY_BYTES: usize = 1 << 20;
/// How often the copy of a group begins anew, because its tail was replaced meanwhile.
const COPIES_MAX: u32 = 8;

/// What one step of a scrub has read of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogScrubbed {
    /// The index at which the next step goes on; `None` = the log is done.
    pub next: Option<u64>,
    /// Entries verified.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The damage found: what it is in, and what is wrong.
    pub damages: Vec<(String, String)>,
}

/// Verifies entries of a group from the index `from` on, about `bytes_max` bytes of them.
pub async fn scrub(log: &dyn LogStore, group: GroupId, from: u64, bytes_max: usize) -> Result<LogScrubbed> {
    let state = match log.log_state(group) {
        Ok(state) => state,
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let damage = (format!("log of shard {group}"), error.message().to_owned());
            return Ok(LogScrubbed { damages: vec![damage], ..LogScrubbed::default() });
        }
        Err(error) => return Err(error),
    };
    let first = state.last_purged_log_id.map_or(0, |purged| purged.index + 1).max(from);
    let end = state.last_log_id.map_or(0, |last| last.index + 1);
    if first >= end {
        return Ok(LogScrubbed::default());
    }
    match log.read_stored(group, first..end, bytes_max).await {
        Ok(entries) => Ok(verified(&entries, end)),
        Err(error) if error.kind() == ErrorKind::Corrupt => one_by_one(log, group, first, end, bytes_max).await,
        Err(error) => Err(error),
    }
}

fn verified(entries: &[Entry], end: u64) -> LogScrubbed {
    let next = entries.last().map(|last| last.log_id.index + 1).filter(|next| *next < end);
    let bytes: usize = entries.iter().map(wire::entry_bytes).sum();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    LogScrubbed { next, entries: count(entries.len()), bytes: count(bytes), damages: Vec::new() }
}

/// Finds the entries that are damaged, among those that were to be read together.
async fn one_by_one(log: &dyn LogStore, group: GroupId, first: u64, end: u64, bytes_max: usize) -> Result<LogScrubbed> {
    let bytes_max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut done = LogScrubbed::default();
    for index in first..end {
        if done.bytes >= bytes_max {
            done.next = Some(index);
            break;
        }
        match log.read_stored(group, index..index + 1, usize::MAX).await {
            Ok(entries) => {
                let one = verified(&entries, end);
                done.entries += one.entries;
                done.bytes += one.bytes;
            }
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
            // What was purged or truncated meanwhile is not missing.
            Err(_) if !is_held(log, group, index)? => {}
            Err(error) => {
                done.damages.push((format!("log entry {index} of shard {group}"), error.message().to_owned()));
                // A damaged block fails all entries in it; each is named, but no step is endless.
                done.bytes += 1_024;
            }
        }
    }
    Ok(done)
}

fn is_held(log: &dyn LogStore, group: GroupId, index: u64) -> Result<bool> {
    let state = log.log_state(group)?;
    let purged = state.last_purged_log_id.is_some_and(|purged| purged.index >= index);
    Ok(!purged && state.last_log_id.is_some_and(|last| last.index >= index))
}

/// Copies what `from` holds of a group behind `applied` into the empty group of `to`: entries, vote, committed mark.
/// Nothing may purge `from` meanwhile beyond `applied`. Durable once `to` is synced.
pub async fn copy_group(from: &dyn LogStore, to: &dyn LogStore, group: GroupId, applied: Option<LogId>) -> Result<()> {
    let purged = from.log_state(group)?.last_purged_log_id.max(applied);
    for _ in 0..COPIES_MAX {
        // Before the entries: what is committed by now is among those that are copied. One that is committed later
        // need not be, and a replica does not open on a mark beyond its log.
        let committed = from.committed(group)?;
        if let Some(purged) = purged {
            to.purge(group, purged).await?;
        }
        if copy_entries(from, to, group, purged).await? {
            // After the entries: a vote is never older than what was appended under it.
            if let Some(vote) = from.vote(group)? {
                to.save_vote(group, vote).await?;
            }
            return to.save_committed(group, committed).await;
        }
        to.truncate_after(group, purged).await?;
    }
    Err(Error::new(ErrorKind::Unavailable, format!("the log of shard {group} changed its end all the time")))
}

/// Copies all entries behind `purged`; `false` when the end of the log was replaced meanwhile.
async fn copy_entries(from: &dyn LogStore, to: &dyn LogStore, group: GroupId, purged: Option<LogId>) -> Result<bool> {
    let mut last: Option<LogId> = None;
    loop {
        let next = last.or(purged).map_or(0, |log_id| log_id.index + 1);
        let end = from.log_state(group)?.last_log_id.map_or(0, |log_id| log_id.index + 1);
        // The last one that was copied is read again: if it is another by now, so may be those before it.
        let first = last.map_or(next, |log_id| log_id.index);
        let mut entries = if first < end { from.read(group, first..end, COPY_BYTES).await? } else { Vec::new() };
        if let Some(last) = last {
            if entries.first().is_none_or(|entry| entry.log_id != last) {
                return Ok(false);
            }
            entries.remove(0);
        }
        // A large last entry fills a read alone.
        if entries.is_empty() && next < end {
            entries = from.read(group, next..end, COPY_BYTES).await?;
        }
        let Some(newest) = entries.last().map(|entry| entry.log_id) else { return Ok(true) };
        let (done_tx, done_rx) = oneshot::channel();
        // If nobody waits any more, nobody needs to know.
        to.append(group, entries, Box::new(move |result| drop(done_tx.send(result)))).await?;
        done_rx.await.map_err(|gone| Error::new(ErrorKind::Io, "an entry was not copied").with_source(gone))??;
        last = Some(newest);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::log_store::{MemoryDisk, MemoryLogStore};
    use crate::types::{EntryPayload, Payload, Vote, log_id};

    const GROUP: GroupId = 4;

    fn entries(term: u64, first: u64, last: u64, bytes: usize) -> Vec<Entry> {
        let payload = || EntryPayload::Normal(Payload(Bytes::from(vec![7; bytes])));
        (first..=last).map(|index| Entry { log_id: log_id(term, 1, index), payload: payload() }).collect()
    }

    fn memory() -> Arc<MemoryLogStore> {
        Arc::new(MemoryDisk::default()).open()
    }

    async fn append(log: &dyn LogStore, entries: Vec<Entry>) {
        log.append(GROUP, entries, Box::new(|result| result.expect("appended"))).await.expect("appended");
    }

    #[tokio::test]
    async fn a_sound_log_is_read_in_steps_to_its_end() {
        let log = memory();
        append(log.as_ref(), entries(1, 0, 99, 100)).await;
        log.purge(GROUP, log_id(1, 1, 9)).await.expect("purged");
        let (mut from, mut count, mut steps) = (0, 0, 0);
        loop {
            let done = scrub(log.as_ref(), GROUP, from, 1_000).await.expect("read");
            assert_eq!(done.damages, []);
            count += done.entries;
            steps += 1;
            let Some(next) = done.next else { break };
            assert!(next > from, "a scrub moves on");
            from = next;
        }
        assert_eq!(count, 90);
        assert!(steps > 5, "{steps} steps");
        assert_eq!(scrub(log.as_ref(), 99, 0, 1_000).await.expect("no such log"), LogScrubbed::default());
    }

    #[tokio::test]
    async fn a_copy_begins_behind_what_is_applied_and_has_the_vote() {
        let (from, to) = (memory(), memory());
        append(from.as_ref(), entries(3, 0, 40, 100_000)).await;
        from.save_vote(GROUP, Vote::new(3, 1)).await.expect("voted");
        from.save_committed(GROUP, Some(log_id(3, 1, 38))).await.expect("marked");
        let applied = log_id(3, 1, 9);
        copy_group(from.as_ref(), to.as_ref(), GROUP, Some(applied)).await.expect("copied");
        let state = to.log_state(GROUP).expect("a state");
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(applied), Some(log_id(3, 1, 40))));
        let copied = to.read(GROUP, 10..41, usize::MAX).await.expect("read");
        assert_eq!(copied, from.read(GROUP, 10..41, usize::MAX).await.expect("read"));
        assert_eq!(to.vote(GROUP).expect("a vote"), Some(Vote::new(3, 1)));
        assert_eq!(to.committed(GROUP).expect("a mark"), Some(log_id(3, 1, 38)));
    }

    /// Writers went on during a checkpoint: an entry came and was committed after the entries had been copied and before
    /// the committed mark was. The copy said that more was committed than it had, and its replica did not open.
    #[tokio::test]
    async fn what_is_committed_during_a_copy_is_not_said_to_be_so_without_its_entry() {
        let (from, to) = (memory(), memory());
        append(from.as_ref(), entries(3, 0, 40, 10)).await;
        from.save_vote(GROUP, Vote::new(3, 1)).await.expect("voted");
        from.save_committed(GROUP, Some(log_id(3, 1, 40))).await.expect("marked");
        to.hold_syncs();
        let copy = copy_group(from.as_ref(), to.as_ref(), GROUP, Some(log_id(3, 1, 9)));
        let mut copy = std::pin::pin!(copy);
        assert!(futures::poll!(copy.as_mut()).is_pending(), "it waits for the entries to be durable");
        to.flush(usize::MAX);
        assert!(futures::poll!(copy.as_mut()).is_pending(), "it waits for the vote to be durable");
        append(from.as_ref(), entries(3, 41, 42, 10)).await;
        from.save_committed(GROUP, Some(log_id(3, 1, 42))).await.expect("marked");
        to.flush(usize::MAX);
        copy.await.expect("copied");
        let last = to.log_state(GROUP).expect("a state").last_log_id;
        assert_eq!((last, to.committed(GROUP).expect("a mark")), (Some(log_id(3, 1, 40)), Some(log_id(3, 1, 40))));
    }

    #[tokio::test]
    async fn a_log_that_is_all_applied_leaves_a_mark_alone() {
        let (from, to) = (memory(), memory());
        append(from.as_ref(), entries(1, 0, 5, 10)).await;
        copy_group(from.as_ref(), to.as_ref(), GROUP, Some(log_id(1, 1, 5))).await.expect("copied");
        assert_eq!(to.log_state(GROUP).expect("a state").last_log_id, Some(log_id(1, 1, 5)));
        assert!(to.read(GROUP, 0..6, usize::MAX).await.expect("read").is_empty());
    }
}
