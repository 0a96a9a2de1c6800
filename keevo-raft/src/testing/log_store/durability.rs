//! What survives, and who is told.

use super::{Bench, GROUP, Told, append, entries, note};
use crate::types::{Vote, log_id};

pub(super) async fn entries_are_readable_before_they_are_durable(mut bench: Bench) {
    let told = Told::default();
    for index in 0..50 {
        bench.store().append(GROUP, entries(1, index, index), note(&told, index)).await.unwrap();
        assert_eq!(bench.read(GROUP, index, index + 1, usize::MAX).await, entries(1, index, index));
    }
    bench.expect_log(GROUP, None, &entries(1, 0, 49)).await;
    bench.step();
    bench.expect_log(GROUP, None, &entries(1, 0, 49)).await;
}

pub(super) async fn callbacks_come_once_and_in_order(mut bench: Bench) {
    let told = Told::default();
    for index in 0..200 {
        bench.store().append(GROUP, entries(1, index, index), note(&told, index)).await.unwrap();
        if index % 50 == 49 {
            bench.store().truncate_after(GROUP, Some(log_id(1, 1, index))).await.unwrap();
            bench.step();
        }
    }
    bench.store().sync().await.unwrap();
    let expected: Vec<_> = (0..200).map(|index| (index, true)).collect();
    assert_eq!(*told.lock().unwrap(), expected);
}

pub(super) async fn what_was_confirmed_survives_a_crash(mut bench: Bench) {
    for round in 0..3 {
        bench.append(GROUP, entries(1, round * 10, round * 10 + 9)).await;
        bench.append(GROUP + 1, entries(1, round, round)).await;
        bench.crash();
        bench.expect_log(GROUP, None, &entries(1, 0, round * 10 + 9)).await;
        bench.expect_log(GROUP + 1, None, &entries(1, 0, round)).await;
    }
    bench.truncate(Some(log_id(1, 1, 14))).await;
    bench.append(GROUP, entries(2, 15, 15)).await;
    bench.purge(log_id(1, 1, 12)).await;
    bench.append(GROUP, entries(2, 16, 16)).await;
    bench.crash();
    let all = [entries(1, 13, 14), entries(2, 15, 16)].concat();
    bench.expect_log(GROUP, Some(log_id(1, 1, 12)), &all).await;
}

pub(super) async fn a_vote_survives_a_crash(mut bench: Bench) {
    for term in 1..5 {
        bench.vote(GROUP, Vote::new(term, 3)).await;
        bench.crash();
        assert_eq!(bench.store().vote(GROUP).unwrap(), Some(Vote::new(term, 3)));
    }
}

/// Votes and entries are one order: a vote that survives brings everything before it.
pub(super) async fn a_crash_leaves_a_prefix(mut bench: Bench) {
    for term in 1..20 {
        let index = term - 1;
        bench.store().append(GROUP, entries(term, index, index), Box::new(|_| {})).await.unwrap();
        bench.store().save_vote(GROUP, Vote::new(term, 1)).await.unwrap();
        bench.store().append(GROUP + 1, entries(term, index, index), Box::new(|_| {})).await.unwrap();
        if term % 6 == 0 {
            bench.crash();
            let vote = bench.store().vote(GROUP).unwrap().expect("it was durable");
            assert_eq!(vote.leader_id.term, term);
            let last = bench.store().log_state(GROUP).unwrap().last_log_id;
            assert_eq!(last.map(|id| id.leader_id.term), Some(term), "the entry came before the vote");
            // The newest append of the other group was never confirmed: it is there, or it is not.
            let next = bench.store().log_state(GROUP + 1).unwrap().last_log_id.map_or(0, |id| id.index + 1);
            assert!(next >= index, "confirmed by the vote after it");
            if next == index {
                append(bench.store(), GROUP + 1, entries(term, index, index)).await.unwrap();
            }
        }
    }
}

pub(super) async fn a_sync_keeps_buffered_writes(mut bench: Bench) {
    bench.append(GROUP, entries(1, 0, 9)).await;
    bench.store().save_committed(GROUP, Some(log_id(1, 1, 8))).await.unwrap();
    bench.store().truncate_after(GROUP, Some(log_id(1, 1, 8))).await.unwrap();
    bench.store().purge(GROUP, log_id(1, 1, 3)).await.unwrap();
    bench.store().sync().await.unwrap();
    bench.crash();
    assert_eq!(bench.store().committed(GROUP).unwrap(), Some(log_id(1, 1, 8)));
    bench.expect_log(GROUP, Some(log_id(1, 1, 3)), &entries(1, 4, 8)).await;
}
