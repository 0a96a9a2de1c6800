//! Entries that go: at the end when a new leader disagrees, at the start when they are in a snapshot.

use super::{Bench, GROUP, entries};
use crate::types::log_id;

pub(super) async fn a_truncated_tail_is_gone(mut bench: Bench) {
    bench.append(GROUP, entries(1, 0, 9)).await;
    bench.truncate(Some(log_id(1, 1, 5))).await;
    bench.expect_log(GROUP, None, &entries(1, 0, 5)).await;
    bench.truncate(Some(log_id(1, 1, 0))).await;
    bench.expect_log(GROUP, None, &entries(1, 0, 0)).await;
    bench.truncate(None).await;
    bench.expect_log(GROUP, None, &[]).await;
    bench.append(GROUP, entries(2, 0, 1)).await;
    bench.expect_log(GROUP, None, &entries(2, 0, 1)).await;
}

pub(super) async fn a_truncated_log_goes_on_with_other_entries(mut bench: Bench) {
    bench.append(GROUP, entries(1, 0, 9)).await;
    for term in 2..6 {
        bench.truncate(Some(log_id(1, 1, 4))).await;
        bench.append(GROUP, entries(term, 5, 7)).await;
        let all = [entries(1, 0, 4), entries(term, 5, 7)].concat();
        bench.expect_log(GROUP, None, &all).await;
    }
}

pub(super) async fn truncating_after_the_end_changes_nothing(mut bench: Bench) {
    bench.truncate(Some(log_id(1, 1, 4))).await;
    bench.expect_log(GROUP, None, &[]).await;
    bench.append(GROUP, entries(1, 0, 3)).await;
    for keep in [3, 4, 100] {
        bench.truncate(Some(log_id(1, 1, keep))).await;
        bench.expect_log(GROUP, None, &entries(1, 0, 3)).await;
    }
}

pub(super) async fn a_purged_head_is_gone(mut bench: Bench) {
    bench.append(GROUP, entries(1, 0, 9)).await;
    for upto in [0, 4, 8, 9] {
        bench.purge(log_id(1, 1, upto)).await;
        bench.expect_log(GROUP, Some(log_id(1, 1, upto)), &entries(1, upto + 1, 9)).await;
    }
    bench.append(GROUP, entries(2, 10, 12)).await;
    bench.expect_log(GROUP, Some(log_id(1, 1, 9)), &entries(2, 10, 12)).await;
}

/// A replica's data may be ahead of its log after a power cut, or come from a snapshot.
pub(super) async fn a_purge_beyond_the_end_moves_the_log(mut bench: Bench) {
    bench.purge(log_id(2, 1, 5)).await;
    bench.expect_log(GROUP, Some(log_id(2, 1, 5)), &[]).await;
    assert_eq!(bench.store().groups().unwrap(), [GROUP]);
    bench.append(GROUP, entries(2, 6, 8)).await;
    bench.purge(log_id(3, 1, 20)).await;
    bench.expect_log(GROUP, Some(log_id(3, 1, 20)), &[]).await;
    assert!(bench.store().append(GROUP, entries(3, 9, 9), Box::new(|_| {})).await.is_err(), "9 was skipped");
    bench.append(GROUP, entries(3, 21, 22)).await;
    bench.expect_log(GROUP, Some(log_id(3, 1, 20)), &entries(3, 21, 22)).await;
}

pub(super) async fn a_purge_never_goes_back(mut bench: Bench) {
    bench.append(GROUP, entries(1, 0, 9)).await;
    bench.purge(log_id(1, 1, 6)).await;
    for upto in [6, 2, 0] {
        bench.purge(log_id(1, 1, upto)).await;
        bench.expect_log(GROUP, Some(log_id(1, 1, 6)), &entries(1, 7, 9)).await;
    }
}

pub(super) async fn a_purged_log_is_truncated_no_further(mut bench: Bench) {
    bench.append(GROUP, entries(1, 0, 9)).await;
    bench.purge(log_id(1, 1, 6)).await;
    bench.truncate(Some(log_id(1, 1, 7))).await;
    bench.expect_log(GROUP, Some(log_id(1, 1, 6)), &entries(1, 7, 7)).await;
    bench.truncate(None).await;
    bench.expect_log(GROUP, Some(log_id(1, 1, 6)), &[]).await;
    bench.append(GROUP, entries(2, 7, 8)).await;
    bench.expect_log(GROUP, Some(log_id(1, 1, 6)), &entries(2, 7, 8)).await;
}
