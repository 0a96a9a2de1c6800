//! Appends, reads, votes and marks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keevo_core::ErrorKind;

use super::{Bench, GROUP, Told, append, entries, note, sized};
use crate::types::{Entry, EntryPayload, Membership, Payload, PeerNode, Vote, log_id};
use crate::wire;

pub(super) async fn an_empty_store_has_nothing(mut bench: Bench) {
    bench.step();
    bench.expect_log(GROUP, None, &[]).await;
    assert_eq!(bench.store().vote(GROUP).unwrap(), None);
    assert_eq!(bench.store().committed(GROUP).unwrap(), None);
    assert_eq!(bench.store().groups().unwrap(), []);
    assert_eq!(bench.store().stamp().unwrap(), None);
}

pub(super) async fn entries_are_read_as_they_were_appended(mut bench: Bench) {
    bench.append(GROUP, entries(1, 0, 4)).await;
    bench.append(GROUP, entries(2, 5, 5)).await;
    bench.append(GROUP, entries(2, 6, 9)).await;
    let all = [entries(1, 0, 4), entries(2, 5, 9)].concat();
    bench.expect_log(GROUP, None, &all).await;
    assert_eq!(bench.store().groups().unwrap(), [GROUP]);
}

pub(super) async fn reads_keep_their_bounds_and_their_size(mut bench: Bench) {
    let all: Vec<Entry> = (3..=12).map(|index| sized(1, index, 1000)).collect();
    for chunk in all.chunks(4) {
        bench.append(GROUP, chunk.to_vec()).await;
    }
    let indexes = |entries: Vec<Entry>| entries.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>();
    let one = wire::entry_bytes(&all[0]);
    for (start, end, bytes_max, expected) in [
        (5, 7, usize::MAX, vec![5, 6]),
        (0, 5, usize::MAX, vec![3, 4]),
        (11, u64::MAX, usize::MAX, vec![11, 12]),
        (13, 20, usize::MAX, vec![]),
        (0, 3, usize::MAX, vec![]),
        (5, 5, usize::MAX, vec![]),
        (9, 6, usize::MAX, vec![]),
        (5, 12, 3 * one, vec![5, 6, 7]),
        (5, 12, 3 * one + one - 1, vec![5, 6, 7]),
        (5, 12, 1, vec![5]),
        (5, 12, 0, vec![5]),
        (10, 13, 2 * one, vec![10, 11]),
    ] {
        assert_eq!(indexes(bench.read(GROUP, start, end, bytes_max).await), expected, "{start}..{end} in {bytes_max}");
    }
}

pub(super) async fn holes_and_overwrites_are_refused(mut bench: Bench) {
    bench.append(GROUP, entries(1, 1, 3)).await;
    let told = Told::default();
    for wrong in [entries(1, 5, 6), entries(1, 3, 4), entries(1, 1, 1), vec![sized(1, 4, 1), sized(1, 6, 1)]] {
        let refused = bench.store().append(GROUP, wrong, note(&told, 0)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        bench.step();
    }
    assert!(told.lock().unwrap().is_empty(), "a refused append calls nobody");
    bench.expect_log(GROUP, None, &entries(1, 1, 3)).await;
    bench.append(GROUP, entries(1, 4, 4)).await;
    bench.expect_log(GROUP, None, &entries(1, 1, 4)).await;
}

pub(super) async fn every_kind_of_entry_comes_back(mut bench: Bench) {
    let node = |node_id| PeerNode { node_id, address: format!("node-{node_id}:7000") };
    let membership = Membership::new(vec![BTreeSet::from([1, 2])], BTreeMap::from([(1, node(1)), (2, node(2))]));
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Membership(membership.unwrap()),
        EntryPayload::Normal(Payload(Bytes::new())),
        EntryPayload::Normal(Payload(Bytes::from(vec![0xff; 300_000]))),
    ];
    let made = payloads.into_iter().zip(0..);
    let all: Vec<Entry> = made.map(|(payload, index)| Entry { log_id: log_id(index, 5, index), payload }).collect();
    bench.append(GROUP, all.clone()).await;
    bench.expect_log(GROUP, None, &all).await;
    append(bench.store(), GROUP, Vec::new()).await.expect("an empty append is no mistake");
    bench.expect_log(GROUP, None, &all).await;
}

pub(super) async fn votes_are_replaced(mut bench: Bench) {
    for vote in [Vote::new(1, 1), Vote::new_committed(1, 1), Vote::new(2, 9)] {
        bench.vote(GROUP, vote).await;
        assert_eq!(bench.store().vote(GROUP).unwrap(), Some(vote));
    }
    assert_eq!(bench.store().vote(GROUP + 1).unwrap(), None);
    assert_eq!(bench.store().groups().unwrap(), [GROUP]);
}

pub(super) async fn the_committed_mark_is_replaced_and_removed(mut bench: Bench) {
    for committed in [Some(log_id(1, 1, 5)), Some(log_id(2, 1, 9)), None] {
        bench.store().save_committed(GROUP, committed).await.unwrap();
        bench.step();
        assert_eq!(bench.store().committed(GROUP).unwrap(), committed);
    }
}

pub(super) async fn the_stamp_belongs_to_the_store(mut bench: Bench) {
    for stamp in ["first", "second"] {
        bench.store().save_stamp(Bytes::from_static(stamp.as_bytes())).await.unwrap();
        bench.step();
        assert_eq!(bench.store().stamp().unwrap().as_deref(), Some(stamp.as_bytes()));
    }
    assert_eq!(bench.store().groups().unwrap(), []);
}
