//! Random histories of calls, to drive log stores with and to compare them.
//!
//! Invariant: a history means the same for every store that is in the same state.

use std::sync::{Arc, Mutex};

use futures::channel::oneshot;
use futures::future::join_all;
use keevo_core::{Error, Result};
use proptest::prelude::*;

use super::{GroupId, LogStore};
use crate::types::{Entry, EntryPayload, Payload, Vote, log_id};

/// The groups of the histories are those below.
pub(super) const GROUPS: u64 = 3;

pub(super) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    Entry { log_id: log_id(term, 1, index), payload: EntryPayload::Normal(Payload(vec![3; bytes].into())) }
}

/// Appends and waits until it is durable.
pub(super) async fn append(store: &Arc<dyn LogStore>, group: GroupId, entries: Vec<Entry>) -> Result<()> {
    let (done_tx, done_rx) = oneshot::channel();
    store.append(group, entries, Box::new(move |result| drop(done_tx.send(result)))).await?;
    done_rx.await.unwrap()
}

/// One step of a history.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Append { group: u64, count: u64, bytes: usize },
    Truncate { group: u64, back: u64 },
    Purge { group: u64, ahead: i64 },
    Vote { group: u64 },
    Committed { group: u64, index: Option<u64> },
    Destroy { group: u64 },
    Read { group: u64, start: u64, count: u64, bytes_max: usize },
    Reopen,
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let group = || 0..GROUPS;
    prop_oneof![
        8 => (group(), 0..6_u64, 0..400_usize).prop_map(|(group, count, bytes)| Step::Append { group, count, bytes }),
        2 => (group(), 0..8_u64).prop_map(|(group, back)| Step::Truncate { group, back }),
        2 => (group(), -6..4_i64).prop_map(|(group, ahead)| Step::Purge { group, ahead }),
        2 => group().prop_map(|group| Step::Vote { group }),
        1 => (group(), any::<Option<u64>>()).prop_map(|(group, index)| Step::Committed { group, index }),
        1 => group().prop_map(|group| Step::Destroy { group }),
        6 => (group(), 0..40_u64, 0..20_u64, 0..2000_usize)
            .prop_map(|(group, start, count, bytes_max)| Step::Read { group, start, count, bytes_max }),
        1 => Just(Step::Reopen),
    ]
}

pub(super) async fn take(store: &Arc<dyn LogStore>, step: &Step, term: u64) -> Result<Vec<Entry>> {
    let last = |group| Ok::<_, Error>(store.log_state(group)?.last_log_id.map_or(0, |id| id.index));
    match *step {
        Step::Append { group, count, bytes } => {
            let next = store.log_state(group)?.last_log_id.map_or(0, |id| id.index + 1);
            append(store, group, (next..next + count).map(|index| entry(term, index, bytes)).collect()).await?;
        }
        Step::Truncate { group, back } => {
            let keep = last(group)?.saturating_sub(back);
            let kept = store.read(group, keep..keep + 1, 0).await?.first().map(|entry| entry.log_id);
            store.truncate_after(group, Some(kept.unwrap_or_else(|| log_id(0, 1, keep)))).await?;
        }
        Step::Purge { group, ahead } => {
            store.purge(group, log_id(term, 1, last(group)?.saturating_add_signed(ahead))).await?;
        }
        Step::Vote { group } => store.save_vote(group, Vote::new(term, group)).await?,
        Step::Committed { group, index } => {
            store.save_committed(group, index.map(|index| log_id(term, 1, index))).await?;
        }
        Step::Destroy { group } => store.destroy(group).await?,
        Step::Read { group, start, count, bytes_max } => {
            return store.read(group, start..start + count, bytes_max).await;
        }
        Step::Reopen => {}
    }
    Ok(Vec::new())
}

/// 64 groups append one entry at a time, all at once; far fewer syncs than appends serve them.
pub(super) async fn expect_shared_syncs(store: &Arc<dyn LogStore>) {
    let group = |group: u64| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for index in 0..50 {
                append(&store, group, vec![entry(1, index, 100)]).await.unwrap();
            }
        })
    };
    for group in join_all((0..64).map(group)).await {
        group.unwrap();
    }
    let counters = store.counters();
    assert_eq!((counters.appends, counters.entries), (64 * 50, 64 * 50));
    assert!(counters.syncs * 4 < counters.appends, "{counters:?}");
    assert!(counters.bytes > 64 * 50 * 100, "{counters:?}");
    assert_eq!(counters.disk_reads, 0);
}

/// Appends to 8 groups without waiting, and has the process killed in the middle: `left` opens what that leaves. What was
/// confirmed before is there.
pub(super) async fn expect_confirmed_after_kill(store: &Arc<dyn LogStore>, left: impl FnOnce() -> Arc<dyn LogStore>) {
    let confirmed = Arc::new(Mutex::new([None; 8]));
    let mut next = [0_u64; 8];
    for round in 0..400_usize {
        let group = round * 5 % 8;
        let note = Arc::clone(&confirmed);
        let index = next[group];
        let done = move |result: Result<()>| {
            result.unwrap();
            note.lock().unwrap()[group] = Some(index);
        };
        store.append(group as u64, vec![entry(1, index, 200)], Box::new(done)).await.unwrap();
        next[group] += 1;
    }
    // The order matters: what is confirmed now is in what is left after.
    let confirmed = *confirmed.lock().unwrap();
    let after = left();
    assert!(confirmed.iter().any(Option::is_some), "something was confirmed before the kill");
    for (group, confirmed) in (0..).zip(confirmed) {
        let last = after.log_state(group).unwrap().last_log_id.map(|id| id.index);
        assert!(last >= confirmed, "group {group}: {last:?} of {confirmed:?}");
        let entries = after.read(group, 0..u64::MAX, usize::MAX).await.unwrap();
        assert_eq!(entries.len() as u64, last.map_or(0, |last| last + 1), "no holes");
    }
}

/// Two stores say the same, entries too.
pub(super) async fn expect_same(one: &Arc<dyn LogStore>, other: &Arc<dyn LogStore>, when: &str) {
    assert_eq!(one.groups().unwrap(), other.groups().unwrap(), "{when}");
    for group in 0..GROUPS {
        assert_eq!(one.log_state(group).unwrap(), other.log_state(group).unwrap(), "{when}, group {group}");
        assert_eq!(one.vote(group).unwrap(), other.vote(group).unwrap(), "{when}, group {group}");
        assert_eq!(one.committed(group).unwrap(), other.committed(group).unwrap(), "{when}, group {group}");
        let all = one.read(group, 0..u64::MAX, usize::MAX).await.unwrap();
        assert_eq!(all, other.read(group, 0..u64::MAX, usize::MAX).await.unwrap(), "{when}, group {group}");
    }
}
