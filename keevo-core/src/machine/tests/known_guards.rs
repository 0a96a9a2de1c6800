//! Guards that are known from an earlier fan-out: whatever changes one is seen by the next.
//!
//! What is known saves a fan-out half of its work. Would it outlive a change, an unfollow would not end what the follower
//! gets.

use super::{Rig, SPACE, number};
use crate::batch::{Batch, Op};
use crate::command::Command;
use crate::fan_out::{FanOut, FanOutAction, FannedOut, Target};
use crate::ids::Revision;
use crate::key::Key;

const GUARD: &str = "n0";

fn guard() -> Key {
    SPACE.key("ann", GUARD)
}

/// A fan-out to `sort` of one target that must stand at `revision`.
fn to(sort: &'static str, action: FanOutAction, revision: Revision) -> Command {
    Command::FanOut(FanOut {
        keyspace: SPACE,
        sort: sort.into(),
        action,
        guard_sort: Some(GUARD.into()),
        targets: vec![Target { partition: "ann".into(), guard: Some(revision) }],
    })
}

fn put() -> FanOutAction {
    FanOutAction::Put { value: "x".into(), ttl_ms: None }
}

/// Whether a guarded fan-out still reaches its target.
fn reaches(rig: &mut Rig, revision: Revision) -> bool {
    match rig.one(to("t", put(), revision)) {
        crate::command::Outcome::FannedOut(FannedOut { applied, skipped }) => (applied, skipped) == (1, 0),
        other => panic!("not a fan-out's outcome: {other:?}"),
    }
}

/// A rig whose machine knows the guard, and the guard's revision.
fn knowing() -> (Rig, Revision) {
    let mut rig = Rig::new();
    let revision = rig.write(Batch::new().put(guard(), number(0))).revision;
    assert!(reaches(&mut rig, revision) && reaches(&mut rig, revision), "read, then known");
    (rig, revision)
}

#[test]
fn whatever_writes_to_a_known_guard_is_seen() {
    let write = |batch: Batch| Command::Write(batch);
    let remove = FanOutAction::Remove { tombstone_ttl_ms: 500 };
    for (name, change) in [
        ("a put", write(Batch::new().put(guard(), number(0)))),
        ("a put that expires", write(Batch::new().put_ttl(guard(), number(0), 500))),
        ("a delete", write(Batch::new().delete(guard()))),
        ("a range delete", write(Batch::new().delete_range(SPACE.key("ann", "n"), "o"))),
        ("a merge", write(Batch::new().merge(guard(), 1))),
        ("an index", write(Batch::new().append(SPACE.key("ann", "count"), "a", "v", Some(GUARD.into())))),
        ("a fan-out that removes", to(GUARD, remove, Revision(1))),
        ("a fan-out that puts", to(GUARD, put(), Revision(1))),
    ] {
        let (mut rig, revision) = knowing();
        rig.one(change.clone());
        assert!(!reaches(&mut rig, revision), "{name}");
        // The same in one call.
        let (mut rig, revision) = knowing();
        rig.apply([to("t", put(), revision), change, to("t", put(), revision)]);
        assert!(!reaches(&mut rig, revision), "{name}, in one call");
        let count = rig.machine.reader().get(&SPACE.key("ann", "t")).expect("reads").expect("there").revision;
        assert_eq!(count, Revision(4), "{name}: the entry before it was written, the one after it was not");
    }
}

#[test]
fn a_fan_out_to_its_own_guards_changes_them_as_it_goes() {
    let (mut rig, revision) = knowing();
    let Command::FanOut(mut twice) = to(GUARD, put(), revision) else { unreachable!("it is one") };
    twice.targets.push(twice.targets[0].clone());
    assert_eq!(rig.fan_out(twice), FannedOut { applied: 1, skipped: 1 });
}

#[test]
fn a_batch_that_is_taken_back_changes_no_guard() {
    let (mut rig, revision) = knowing();
    let fails = Op::Merge { key: SPACE.key("ann", "text"), delta: 1 };
    rig.write(Batch::new().put(SPACE.key("ann", "text"), "no number"));
    let mut batch = Batch::new().merge(guard(), 1);
    batch.ops.push(fails);
    rig.refused(batch);
    assert!(reaches(&mut rig, revision));
}

#[test]
fn what_an_installed_snapshot_replaced_is_read_again() {
    let (mut rig, revision) = knowing();
    let mut other = Rig::new();
    other.write(Batch::new().put(SPACE.key("other", "k"), "v"));
    let newer = other.write(Batch::new().put(guard(), number(0))).revision;
    assert_ne!(newer, revision);
    // The store gets the other's rows behind the machine's back, as an install does.
    for (column, key, value) in other.store.dump() {
        use crate::store::{Durability, Store, StoreBatch, StoreOp};
        let batch = StoreBatch { ops: vec![StoreOp::Put(column, key, value)] };
        rig.store.write(batch, Durability::Sync).expect("written");
    }
    rig.machine.reload().expect("loads");
    assert!(!reaches(&mut rig, revision));
    assert!(reaches(&mut rig, newer));
}
