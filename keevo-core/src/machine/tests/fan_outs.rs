//! Fan-outs: guards, tombstones, order, and that a late repeat does no harm.

use bytes::Bytes;

use super::{Rig, SPACE, START_MS, refused};
use crate::batch::Batch;
use crate::command::Command;
use crate::error::ErrorKind;
use crate::fan_out::{FanOut, FanOutAction, FannedOut, Target};
use crate::ids::Revision;
use crate::key::Key;

const TOMBSTONE_MS: u64 = 500;

fn put(value: &'static str) -> FanOutAction {
    FanOutAction::Put { value: value.into(), ttl_ms: None }
}

const REMOVE: FanOutAction = FanOutAction::Remove { tombstone_ttl_ms: TOMBSTONE_MS };

fn to<'a>(partitions: impl IntoIterator<Item = &'a str>, action: FanOutAction) -> FanOut {
    let targets = partitions.into_iter().map(|name| Target { partition: name.to_owned().into(), guard: None });
    FanOut { keyspace: SPACE, sort: "t/1".into(), action, guard_sort: None, targets: targets.collect() }
}

fn timeline(partition: &'static str) -> Key {
    SPACE.key(partition, "t/1")
}

fn done(applied: u64, skipped: u64) -> FannedOut {
    FannedOut { applied, skipped }
}

#[test]
fn one_payload_reaches_every_target_at_one_revision() {
    let mut rig = Rig::new();
    let names: Vec<String> = (0..1_000).map(|at| format!("user{at}")).collect();
    assert_eq!(rig.fan_out(to(names.iter().map(String::as_str), put("hello"))), done(1_000, 0));
    for name in &names {
        let record = rig.machine.reader().get(&SPACE.key(name.clone(), "t/1")).expect("reads").expect("there");
        assert_eq!((record.revision, record.value.as_ref()), (Revision(1), &b"hello"[..]));
    }
}

#[test]
fn a_guard_that_moved_on_or_went_skips_its_target() {
    let mut rig = Rig::new();
    for name in ["ann", "ben", "cat", "dan"] {
        rig.write(Batch::new().put(SPACE.key(name, "follow"), "f"));
    }
    let guarded = |action| FanOut {
        guard_sort: Some("follow".into()),
        targets: [
            ("ann", Some(1)),
            ("ben", Some(2)),
            ("cat", Some(3)),
            ("dan", Some(4)),
            ("eve", Some(5)),
            ("fay", None),
        ]
        .map(|(name, guard)| Target { partition: name.into(), guard: guard.map(Revision) })
        .into(),
        ..to([], action)
    };
    // ben unfollows and cat follows anew, in the same call as the late page.
    let outcomes = rig.apply([
        Command::Write(Batch::new().delete(SPACE.key("ben", "follow"))),
        Command::Write(Batch::new().put(SPACE.key("cat", "follow"), "f")),
        Command::Write(Batch::new().put_ttl(SPACE.key("dan", "follow"), "f", 1)),
        Command::FanOut(guarded(put("x"))),
    ]);
    assert_eq!(format!("{:?}", outcomes.last().expect("four")), format!("FannedOut({:?})", done(2, 4)));
    for (name, expected) in
        [("ann", true), ("ben", false), ("cat", false), ("dan", false), ("eve", false), ("fay", true)]
    {
        assert_eq!(rig.get(&timeline(name)).is_some(), expected, "{name}");
    }
    assert_eq!(rig.fan_out(guarded(REMOVE)), done(2, 4), "removals respect the guard too");
}

#[test]
fn a_tombstone_stops_late_puts_until_it_expires() {
    let mut rig = Rig::new();
    assert_eq!(rig.fan_out(to(["ann", "ben"], put("x"))), done(2, 0));
    assert_eq!(rig.fan_out(to(["ann", "new"], REMOVE)), done(2, 0), "also where nothing lay");
    assert_eq!(rig.fan_out(to(["ann", "ben", "new"], put("late"))), done(1, 2));
    assert_eq!(rig.get(&timeline("ann")), None);
    assert_eq!(rig.get(&timeline("new")), None);
    assert_eq!(rig.get(&timeline("ben")).as_deref(), Some(&b"late"[..]));
    rig.reopen();
    rig.now_ms = START_MS + TOMBSTONE_MS - 1;
    assert_eq!(rig.fan_out(to(["ann"], put("late"))), done(0, 1), "after reopening too");
    rig.now_ms = START_MS + TOMBSTONE_MS;
    assert_eq!(rig.fan_out(to(["ann"], put("new life"))), done(1, 0));
    assert_eq!(rig.get(&timeline("ann")).as_deref(), Some(&b"new life"[..]));
}

/// A delete of a key that held nothing but a tombstone took the tombstone with it, and a late put of the removed
/// activity came back to life.
#[test]
fn a_delete_leaves_a_live_tombstone_alone() {
    let mut rig = Rig::new();
    rig.fan_out(to(["ann"], put("x")));
    rig.fan_out(to(["ann"], REMOVE));
    rig.write(Batch::new().delete(timeline("ann")));
    assert_eq!(rig.fan_out(to(["ann"], put("late"))), done(0, 1));
    // In one call with the removal, too.
    let outcomes = rig.apply([
        Command::FanOut(to(["ben"], REMOVE)),
        Command::Write(Batch::new().delete(timeline("ben"))),
        Command::FanOut(to(["ben"], put("late"))),
    ]);
    assert_eq!(format!("{:?}", outcomes[2]), format!("FannedOut({:?})", done(0, 1)));
    rig.now_ms = START_MS + TOMBSTONE_MS;
    rig.write(Batch::new().delete(timeline("ann")));
    assert_eq!(rig.store.count(crate::store::Column::Data, &timeline("ann").encode()), 0, "an expired one goes");
}

#[test]
fn put_and_remove_of_one_call_see_each_other() {
    let mut rig = Rig::new();
    let outcomes = rig.apply([
        Command::FanOut(to(["ann"], put("1"))),
        Command::FanOut(to(["ann"], REMOVE)),
        Command::FanOut(to(["ann"], put("2"))),
        Command::Write(Batch::new().put(timeline("ann"), "by hand")),
        Command::FanOut(to(["ann", "ann"], put("3"))),
    ]);
    let all: Vec<String> = outcomes.iter().map(|outcome| format!("{outcome:?}")).collect();
    assert_eq!(all[2], format!("FannedOut({:?})", done(0, 1)));
    assert_eq!(all[4], format!("FannedOut({:?})", done(2, 0)), "an ordinary put overwrites a tombstone");
    assert_eq!(rig.get(&timeline("ann")).as_deref(), Some(&b"3"[..]));
}

#[test]
fn a_target_outside_of_the_shard_refuses_the_whole_fan_out() {
    let mut names: Vec<Bytes> = ["ann", "ben"].map(Bytes::from).into();
    names.sort_by_key(|name| SPACE.key(name.clone(), "").partition_prefix());
    let [inside, outside] = <[Bytes; 2]>::try_from(names).expect("two");
    let store = super::TestStore::new();
    let range = (Bytes::new(), SPACE.key(outside.clone(), "").partition_prefix());
    let mut rig = Rig {
        machine: crate::machine::Machine::open(store.clone(), super::CLUSTER, super::SHARD, range).expect("opens"),
        store,
        ..Rig::new()
    };
    let both = FanOut {
        targets: vec![Target { partition: inside.clone(), guard: None }, Target { partition: outside, guard: None }],
        ..to([], put("x"))
    };
    assert_eq!(refused(rig.one(Command::FanOut(both))).kind(), ErrorKind::ShardMoved);
    assert_eq!(rig.get(&SPACE.key(inside, "t/1")), None);
}
