//! Watches: order, resumption at every event, compaction, closing.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};

use super::{CLUSTER, Rig, SHARD, SPACE, key};
use crate::batch::{Batch, Check};
use crate::command::Command;
use crate::error::{ErrorKind, Result};
use crate::fan_out::{FanOut, FanOutAction, Target};
use crate::ids::{ClusterId, KeyspaceId, Revision, ShardId};
use crate::key::Keyspace;
use crate::machine::Retention;
use crate::store::{Column, Durability, Store, StoreBatch, StoreOp};
use crate::system::{CHANGES_FLOOR, STATE, ShardState, row_key};
use crate::watch::{Change, Changes, CommitEvent, Cursor, Watch, WatchRange};

const START: Cursor = Cursor { cluster: CLUSTER, shard: SHARD, revision: Revision(0), offset: u32::MAX };

fn all() -> WatchRange {
    WatchRange::Keyspace(SPACE)
}

fn watch(rig: &Rig, range: WatchRange, after: Cursor) -> Watch {
    rig.machine.reader().watch(range, Some(after)).expect("the watch opens")
}

async fn next(watch: &mut Watch) -> Result<CommitEvent> {
    let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    next.expect("an event comes in time").expect("a watch ends only with an error")
}

async fn take(watch: &mut Watch, count: usize) -> Vec<CommitEvent> {
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(next(watch).await.expect("an event"));
    }
    events
}

fn fan_out(partitions: usize) -> Command {
    let targets = (0..partitions).map(|at| Target { partition: format!("u{at}").into(), guard: None });
    Command::FanOut(FanOut {
        keyspace: SPACE,
        sort: "t".into(),
        action: FanOutAction::Put { value: "x".into(), ttl_ms: None },
        guard_sort: None,
        targets: targets.collect(),
    })
}

#[tokio::test]
async fn changes_come_in_order_and_only_what_took_effect() {
    let mut rig = Rig::new();
    let mut live = rig.machine.reader().watch(all(), None).expect("the watch opens");
    rig.apply([
        Command::Write(Batch::new().put_ttl(key("a"), "1", 50).put(key("b"), "2")),
        Command::Write(Batch::new().put(key("a"), "3").require(key("a"), Check::Absent)),
        Command::Write(Batch::new().delete(key("absent")).delete_range(key("x"), "z")),
        Command::Write(Batch::new().delete(key("a")).delete_range(key("b"), "c").append(key("n"), "s/", "m", None)),
        Command::Write(Batch::new().put(Keyspace { id: KeyspaceId(8), ..SPACE }.key("p", "a"), "not mine")),
        fan_out(2),
    ]);
    let events = take(&mut live, 8).await;
    let put = |value: &[u8]| Change::Put { value: Bytes::copy_from_slice(value), expires_at_ms: None };
    let first = Change::Put { value: "1".into(), expires_at_ms: Some(super::START_MS + 50) };
    let one = 1_i64.to_be_bytes();
    let sequence = [&b"s/"[..], &one].concat();
    let expected = [
        (1, 0, key("a"), first),
        (1, 1, key("b"), put(b"2")),
        (4, 0, key("a"), Change::Delete),
        (4, 1, key("b"), Change::DeleteRange { end: "c".into() }),
        (4, 2, key("n"), put(&one)),
        (4, 3, SPACE.key("p", sequence), put(b"m")),
        (6, 0, SPACE.key("u0", "t"), put(b"x")),
        (6, 1, SPACE.key("u1", "t"), put(b"x")),
    ];
    for (event, (revision, offset, key, change)) in events.iter().zip(expected) {
        let cursor = Cursor { revision: Revision(revision), offset, ..START };
        assert_eq!(*event, CommitEvent { cursor, key, change });
    }
    assert!(live.next().now_or_never().is_none(), "nothing more");
    // Resumed after any event, what follows is the same.
    for (at, event) in events.iter().enumerate() {
        let mut resumed = watch(&rig, all(), event.cursor);
        assert_eq!(take(&mut resumed, events.len() - at - 1).await, events[at + 1..]);
        assert!(resumed.next().now_or_never().is_none(), "nothing more");
    }
}

#[tokio::test]
async fn one_partition_and_prefix_of_it() {
    let mut rig = Rig::new();
    let range = WatchRange::Partition { keyspace: SPACE, partition: "u1".into(), prefix: "t".into() };
    let mut one = watch(&rig, range, START);
    rig.apply([
        fan_out(3),
        Command::Write(Batch::new().put(SPACE.key("u1", "s"), "no").put(SPACE.key("u1", "tt"), "yes")),
        Command::Write(Batch::new().put(SPACE.key("u2", "t"), "no")),
        Command::Write(Batch::new().delete_range(SPACE.key("u1", "a"), "b").delete_range(SPACE.key("u1", ""), "u")),
    ]);
    let events = take(&mut one, 3).await;
    let seen: Vec<_> = events.iter().map(|event| (event.cursor.revision.0, event.cursor.offset)).collect();
    assert_eq!(seen, [(1, 1), (2, 1), (4, 0)], "the first range delete met nothing, so it is no change");
    assert!(one.next().now_or_never().is_none());
}

/// Whoever reads pages must get on in a shard that is busy with others' changes: else its place is trimmed although it has
/// missed nothing.
#[tokio::test]
async fn pages_say_how_far_they_reach() {
    let mut rig = Rig::with_retention(Retention { entries_max: 64, bytes_max: 1 << 20 });
    let reader = rig.machine.reader();
    let page = |after, max| reader.changes(all(), after, max, 1 << 20);
    rig.apply([fan_out(3), fan_out(2)]);
    let first = page(START, 2).expect("a page");
    assert_eq!((first.events.len(), first.reached), (2, first.events[1].cursor));
    let rest = page(first.reached, 100).expect("a page");
    assert_eq!(rest.events.iter().map(|event| event.cursor.offset).collect::<Vec<_>>(), [2, 0, 1]);
    assert_eq!(rest.reached, Cursor { revision: Revision(2), ..START });
    assert_eq!(page(rest.reached, 100).expect("a page"), Changes { events: vec![], reached: rest.reached });
    assert_eq!(reader.changes(all(), START, 100, 1).expect("a page").events.len(), 1, "bytes are bounded too");
    let mut place = rest.reached;
    for _ in 0..20 {
        for _ in 0..50 {
            rig.write(Batch::new().put(Keyspace { id: KeyspaceId(8), ..SPACE }.key("p", "a"), "not mine"));
        }
        let next = page(place, 100).expect("nothing was missed");
        assert!(next.events.is_empty() && next.reached.revision == rig.machine.revision(), "{next:?}");
        place = next.reached;
    }
    assert_eq!(page(rest.reached, 100).expect_err("trimmed").kind(), ErrorKind::CursorCompacted);
    rig.apply([fan_out(1)]);
    assert_eq!(page(place, 100).expect("a page").events.len(), 1);
}

#[tokio::test]
async fn a_long_fan_out_resumes_in_the_middle_across_chunks() {
    let mut rig = Rig::new();
    rig.apply([fan_out(1), fan_out(700), fan_out(300)]);
    rig.apply((0..600).map(|_| fan_out(1)));
    let middle = Cursor { revision: Revision(2), offset: 499, ..START };
    let events = take(&mut watch(&rig, all(), middle), 200 + 300 + 600).await;
    assert_eq!(events[0].key.partition, "u500");
    assert!(events.windows(2).all(|pair| pair[0].cursor < pair[1].cursor));
    // A row that is not of interest comes second: the place within the first one stays.
    let range = WatchRange::Partition { keyspace: SPACE, partition: "u650".into(), prefix: Bytes::new() };
    let found = take(&mut watch(&rig, range.clone(), middle), 1).await;
    assert_eq!(found[0].cursor, Cursor { offset: 650, ..middle });
    let mut behind = watch(&rig, range, found[0].cursor);
    assert!(behind.next().now_or_never().is_none(), "it is not delivered again");
}

#[tokio::test]
async fn a_cursor_of_elsewhere_is_refused_and_one_of_the_future_waits() {
    let mut rig = Rig::new();
    let reader = rig.machine.reader();
    let open = |cursor| reader.watch(all(), Some(cursor)).err().map(|error| error.kind());
    assert_eq!(open(Cursor { cluster: ClusterId(9), ..START }), Some(ErrorKind::WrongCluster));
    assert_eq!(open(Cursor { shard: ShardId(9), ..START }), Some(ErrorKind::Invalid));
    assert_eq!(open(Cursor { revision: Revision(u64::MAX), ..START }), None);
    let mut ahead = watch(&rig, all(), Cursor { revision: Revision(2), ..START });
    assert!(ahead.next().now_or_never().is_none());
    let writer = tokio::spawn(async move {
        for _ in 0..3 {
            tokio::task::yield_now().await;
            rig.write(Batch::new().put(key("a"), "1"));
        }
        rig
    });
    assert_eq!(next(&mut ahead).await.expect("woken").cursor.revision, Revision(3));
    drop(writer.await.expect("the writer ends well"));
    assert_eq!(next(&mut ahead).await.expect_err("the machine is gone").kind(), ErrorKind::Closed);
    assert!(ahead.next().await.is_none(), "nothing follows an error");
    assert_eq!(reader.wait_applied(Revision(3)).await.map_err(|error| error.kind()), Ok(()));
    assert_eq!(reader.wait_applied(Revision(4)).await.map_err(|error| error.kind()), Err(ErrorKind::Closed));
}

#[tokio::test]
async fn what_is_trimmed_is_compacted_and_never_a_gap() {
    let mut rig = Rig::with_retention(Retention { entries_max: 32, bytes_max: 1 << 20 });
    let mut slow = watch(&rig, all(), START);
    rig.write(Batch::new().put(key("a"), "0"));
    assert_eq!(next(&mut slow).await.expect("the first").cursor.revision, Revision(1));
    let conflicts = || Command::Write(Batch::new().put(key("c"), "").require(key("c"), Check::Exists));
    for _ in 0..60 {
        rig.apply([Command::Write(Batch::new().put(key("a"), "1")), conflicts()]);
    }
    let rows = rig.store.count(Column::Changes, &SHARD.0.to_be_bytes()) - 1;
    assert!((32..=34).contains(&rows), "{rows} rows are kept");
    assert_eq!(next(&mut slow).await.expect_err("too slow").kind(), ErrorKind::CursorCompacted);
    for reopened in [false, true] {
        let refused = rig.machine.reader().watch(all(), Some(START)).err().map(|error| error.kind());
        assert_eq!(refused, Some(ErrorKind::CursorCompacted), "reopened: {reopened}");
        let last = rig.machine.revision().0;
        // From some revision on every change is there, before it nothing is promised.
        let mut kept = 0;
        for revision in (1..=last).rev() {
            let cursor = Cursor { revision: Revision(revision), ..START };
            let Ok(mut watch) = rig.machine.reader().watch(all(), Some(cursor)) else { break };
            let expected: Vec<u64> = (revision + 1..=last).filter(|at| at % 2 == 0).collect();
            let seen = take(&mut watch, expected.len()).await;
            assert_eq!(seen.iter().map(|event| event.cursor.revision.0).collect::<Vec<_>>(), expected);
            kept = expected.len();
        }
        assert!(kept >= 32, "{kept} are kept");
        rig.reopen();
    }
}

#[tokio::test]
async fn large_changes_are_trimmed_by_their_bytes() {
    let mut rig = Rig::with_retention(Retention { entries_max: 1_000, bytes_max: 16_000 });
    for _ in 0..100 {
        rig.write(Batch::new().put(key("a"), vec![0; 1_000]));
    }
    let rows = rig.store.count(Column::Changes, &SHARD.0.to_be_bytes()) - 1;
    assert!((15..=18).contains(&rows), "{rows} rows are kept");
}

#[tokio::test]
async fn rows_replaced_underneath_compact_every_cursor() {
    let mut rig = Rig::new();
    rig.apply((0..5).map(|_| fan_out(1)));
    let mut behind = watch(&rig, all(), Cursor { revision: Revision(3), ..START });
    // What an installed snapshot does: the data column moves ahead, the changes column stays.
    let state = ShardState { revision: Revision(40), ..ShardState::default() };
    let row = StoreOp::Put(Column::Data, row_key(SHARD, STATE), state.encode());
    rig.store.write(StoreBatch { ops: vec![row] }, Durability::Sync).expect("writes");
    for crashed in [true, false] {
        if crashed {
            rig.reopen();
        } else {
            rig.machine.reload().expect("reloads");
        }
        assert_eq!(rig.machine.reader().applied(), Revision(40));
        let stale = Cursor { revision: Revision(5), ..START };
        let refused = rig.machine.reader().watch(all(), Some(stale)).err().map(|error| error.kind());
        assert_eq!(refused, Some(ErrorKind::CursorCompacted), "crashed: {crashed}");
    }
    assert_eq!(next(&mut behind).await.expect_err("its machine is gone").kind(), ErrorKind::Closed);
    rig.index = 40;
    let mut live = rig.machine.reader().watch(all(), None).expect("opens");
    rig.one(fan_out(1));
    assert_eq!(next(&mut live).await.expect("an event").cursor.revision, Revision(41));
    let state = ShardState { revision: Revision(90), ..ShardState::default() };
    let row = StoreOp::Put(Column::Data, row_key(SHARD, STATE), state.encode());
    rig.store.write(StoreBatch { ops: vec![row] }, Durability::Sync).expect("writes");
    rig.machine.reload().expect("reloads");
    assert_eq!(next(&mut live).await.expect_err("a gap").kind(), ErrorKind::CursorCompacted);
}

/// A snapshot that held no change beyond those already here (a blank entry, a change of members) brought its sender's
/// floor, which was lower than the receiver's own; the receiver kept its rows, and a watch from between the two floors
/// was told nothing of what lay there.
#[tokio::test]
async fn the_floor_of_another_replica_is_not_believed() {
    let mut rig = Rig::new();
    rig.apply((0..3).map(|_| fan_out(1)));
    // The replica's own changes begin after revision 40, where a snapshot put it.
    let state = ShardState { revision: Revision(40), ..ShardState::default() };
    let put = |tag, row: Bytes| StoreOp::Put(Column::Data, row_key(SHARD, tag), row);
    let ops = vec![put(STATE, state.encode())];
    rig.store.write(StoreBatch { ops }, Durability::Sync).expect("writes");
    rig.machine.reload().expect("reloads");
    rig.index = 40;
    rig.apply((0..2).map(|_| fan_out(1)));
    let kept = Cursor { revision: Revision(41), ..START };
    assert_eq!(take(&mut watch(&rig, all(), kept), 1).await.len(), 1);
    // A second one at the revision that is applied already, from a sender that has kept everything.
    let everything = [&[1][..], &0_u64.to_be_bytes()].concat();
    let ops = vec![put(CHANGES_FLOOR, everything.into())];
    rig.store.write(StoreBatch { ops }, Durability::Sync).expect("writes");
    for crashed in [true, false] {
        if crashed {
            rig.reopen();
        } else {
            rig.machine.reload().expect("reloads");
        }
        let lost = Cursor { revision: Revision(20), ..START };
        let refused = rig.machine.reader().watch(all(), Some(lost)).err().map(|error| error.kind());
        assert_eq!(refused, Some(ErrorKind::CursorCompacted), "crashed: {crashed}");
    }
}
