//! Faults: a failed write stops the machine, bad rows are refused, a crash leaves whole calls.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{CLUSTER, Rig, SHARD, TestStore, key, number};
use crate::batch::Batch;
use crate::command::{Command, Entry, Hlc};
use crate::error::ErrorKind;
use crate::ids::{ClientId, Revision};
use crate::machine::Machine;
use crate::store::{Column, Durability, Store, StoreBatch, StoreOp};
use crate::system::{APPLIED, CHANGES_FLOOR, STATE, outcomes_key, row_key, session_key};

fn entry(rig: &mut Rig) -> Vec<(u64, Entry)> {
    vec![rig.entry(Command::Write(Batch::new().merge(key("n"), 1)))]
}

#[test]
fn after_a_failed_write_every_call_is_refused_until_a_reload() {
    let mut rig = Rig::new();
    rig.write(Batch::new().merge(key("n"), 1));
    let before = rig.store.dump();
    rig.store.broken.store(true, Ordering::SeqCst);
    let lost = entry(&mut rig);
    let error = rig.machine.apply(lost.clone(), Vec::new(), Durability::Sync).expect_err("broken");
    assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "the disk is broken"));
    rig.store.broken.store(false, Ordering::SeqCst);
    for entries in [lost.clone(), Vec::new()] {
        let error = rig.machine.apply(entries, Vec::new(), Durability::Sync).expect_err("stopped");
        assert_eq!((error.kind(), error.message()), (ErrorKind::Io, "shard 3 has stopped after a failed write"));
    }
    assert_eq!(rig.store.dump(), before, "nothing was written");
    assert_eq!(rig.machine.reader().applied(), Revision(1));
    rig.machine.reload().expect("reloads");
    rig.machine.apply(lost, Vec::new(), Durability::Sync).expect("the entry is applied now");
    assert_eq!(rig.value("n"), Some(number(2)));
}

#[test]
fn an_index_out_of_order_is_refused_and_harmless() {
    let mut rig = Rig::new();
    rig.write(Batch::new().put(key("a"), "1"));
    let twice = rig.entry(Command::Checksum);
    let cases = [vec![(1, twice.1.clone())], vec![twice.clone(), twice.clone()], vec![(u64::MAX, twice.1.clone())]];
    for entries in cases {
        let error = rig.machine.apply(entries, Vec::new(), Durability::Sync).expect_err("out of order");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    rig.machine.apply(vec![twice], Vec::new(), Durability::Sync).expect("the machine goes on");
}

#[test]
fn the_callers_rows_are_written_in_the_same_batch_even_alone() {
    let mut rig = Rig::new();
    let row = |value: &'static str| vec![(row_key(SHARD, APPLIED), Bytes::from(value))];
    let one = entry(&mut rig);
    rig.machine.apply(one, row("1"), Durability::Sync).expect("applies");
    rig.machine.apply(Vec::new(), row("2"), Durability::Unlogged).expect("applies");
    let stored = |rig: &Rig| rig.store.get(Column::Data, &row_key(SHARD, APPLIED)).expect("reads");
    assert_eq!(stored(&rig), Some("2".into()));
    assert_eq!(rig.machine.revision(), Revision(1), "no entry, no revision");
    let two = entry(&mut rig);
    rig.machine.apply(two, row("3"), Durability::Unlogged).expect("applies");
    rig.store.inner.crash();
    rig.reopen();
    assert_eq!((stored(&rig), rig.machine.revision()), (Some("1".into()), Revision(1)), "all of it or nothing");
    assert_eq!(rig.value("n"), Some(number(1)));
}

#[test]
fn a_corrupt_record_stops_the_machine_and_is_never_data() {
    let mut rig = Rig::new();
    rig.write(Batch::new().merge(key("n"), 1));
    let stored = rig.store.get(Column::Data, &key("n").encode()).expect("reads").expect("there");
    let mut bad = stored.to_vec();
    *bad.last_mut().expect("not empty") ^= 1;
    let op = StoreOp::Put(Column::Data, key("n").encode(), bad.into());
    rig.store.write(StoreBatch { ops: vec![op] }, Durability::Sync).expect("writes");
    assert_eq!(rig.machine.reader().get(&key("n")).expect_err("corrupt").kind(), ErrorKind::Corrupt);
    let next = entry(&mut rig);
    for kind in [ErrorKind::Corrupt, ErrorKind::Io] {
        let error = rig.machine.apply(next.clone(), Vec::new(), Durability::Sync).expect_err("stopped");
        assert_eq!(error.kind(), kind);
    }
}

#[test]
fn rows_that_do_not_decode_keep_the_machine_shut() {
    let client = ClientId(1);
    let rows = [
        (row_key(SHARD, STATE), &[1, 2, 3][..], ErrorKind::Corrupt),
        (row_key(SHARD, STATE), &[9; 33], ErrorKind::NewerFormat),
        (row_key(SHARD, CHANGES_FLOOR), &[1, 0], ErrorKind::Corrupt),
        (row_key(SHARD, CHANGES_FLOOR), &[2], ErrorKind::NewerFormat),
        (session_key(SHARD, client), &[], ErrorKind::Corrupt),
        (session_key(SHARD, client), &[7; 9], ErrorKind::NewerFormat),
        (outcomes_key(SHARD, client, 1), &[1], ErrorKind::Corrupt),
        ([session_key(SHARD, client).as_ref(), b"x"].concat().into(), &[1], ErrorKind::Corrupt),
    ];
    for (key, row, kind) in rows {
        let store = TestStore::new();
        let op = StoreOp::Put(Column::Data, key.clone(), Bytes::copy_from_slice(row));
        store.write(StoreBatch { ops: vec![op] }, Durability::Sync).expect("writes");
        let range = (Bytes::new(), Bytes::new());
        let error = Machine::open(store, CLUSTER, SHARD, range).expect_err("bad row");
        assert_eq!(error.kind(), kind, "{:?} under {}", row, key.escape_ascii());
    }
}

#[test]
fn a_clock_reading_of_the_far_future_overflows_nothing() {
    let mut rig = Rig::new();
    let command = Command::Write(Batch::new().put_ttl(key("a"), "1", u64::MAX));
    let entries = vec![(1, Entry { hlc: Hlc(u64::MAX), command })];
    rig.machine.apply(entries, Vec::new(), Durability::Sync).expect("applies");
    assert!(rig.value("a").is_some());
}
