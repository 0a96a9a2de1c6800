//! Many groups in one store.

use std::sync::Arc;

use futures::future::join_all;

use super::{Bench, GROUP, append, entries};
use crate::types::{Vote, log_id};

pub(super) async fn groups_are_apart(mut bench: Bench) {
    let groups = [0, 1, 255, 256, u64::MAX];
    for group in groups {
        bench.append(group, entries(1, group % 10, group % 10 + 4)).await;
        bench.vote(group, Vote::new(group, 1)).await;
    }
    bench.store().truncate_after(255, None).await.unwrap();
    bench.store().purge(256, log_id(1, 1, u64::MAX)).await.unwrap();
    bench.step();
    assert_eq!(bench.store().groups().unwrap(), groups);
    for group in groups {
        assert_eq!(bench.store().vote(group).unwrap(), Some(Vote::new(group, 1)));
        let purged = (group == 256).then(|| log_id(1, 1, u64::MAX));
        let all = if group == 255 || group == 256 { Vec::new() } else { entries(1, group % 10, group % 10 + 4) };
        bench.expect_log(group, purged, &all).await;
    }
}

pub(super) async fn a_destroyed_group_is_as_if_it_never_was(mut bench: Bench) {
    for group in [GROUP - 1, GROUP, GROUP + 1] {
        bench.append(group, entries(1, 0, 9)).await;
        bench.vote(group, Vote::new(5, 1)).await;
        bench.store().save_committed(group, Some(log_id(1, 1, 6))).await.unwrap();
        bench.store().purge(group, log_id(1, 1, 3)).await.unwrap();
        bench.step();
    }
    bench.store().destroy(GROUP).await.unwrap();
    bench.step();
    bench.expect_log(GROUP, None, &[]).await;
    assert_eq!(bench.store().vote(GROUP).unwrap(), None);
    assert_eq!(bench.store().committed(GROUP).unwrap(), None);
    assert_eq!(bench.store().groups().unwrap(), [GROUP - 1, GROUP + 1]);
    bench.crash();
    assert_eq!(bench.store().groups().unwrap(), [GROUP - 1, GROUP + 1]);
    bench.append(GROUP, entries(9, 3, 4)).await;
    bench.expect_log(GROUP, None, &entries(9, 3, 4)).await;
    for group in [GROUP - 1, GROUP + 1] {
        assert_eq!(bench.store().vote(group).unwrap(), Some(Vote::new(5, 1)));
        bench.expect_log(group, Some(log_id(1, 1, 3)), &entries(1, 4, 9)).await;
    }
}

pub(super) async fn many_groups_write_at_once(mut bench: Bench) {
    let write = |group: u64| {
        let store = Arc::clone(bench.store());
        async move {
            for round in 0..10 {
                let first = round * 4;
                append(&store, group, entries(round, first, first + 3)).await.unwrap();
                store.save_vote(group, Vote::new(round, group)).await.unwrap();
                store.truncate_after(group, Some(log_id(round, 1, first + 2))).await.unwrap();
                append(&store, group, entries(round + 1, first + 3, first + 3)).await.unwrap();
            }
            store.purge(group, log_id(group, 1, group)).await.unwrap();
        }
    };
    join_all((0..32).map(write)).await;
    bench.step();
    for group in 0..32 {
        let rounds = (0..10).map(|round| {
            let first = round * 4;
            [entries(round, first, first + 2), entries(round + 1, first + 3, first + 3)].concat()
        });
        let mut all = rounds.collect::<Vec<_>>().concat();
        all.retain(|entry| entry.log_id.index > group);
        bench.expect_log(group, Some(log_id(group, 1, group)), &all).await;
        assert_eq!(bench.store().vote(group).unwrap(), Some(Vote::new(9, group)));
    }
}
