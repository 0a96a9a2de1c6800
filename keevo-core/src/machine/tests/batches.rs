//! Batches: preconditions, overlay, merges, appends, expiry, range.

use super::{CLUSTER, Rig, SHARD, SPACE, START_MS, TestStore, key, number, refused, written};
use crate::batch::{Batch, Check};
use crate::command::{Command, Entry, Hlc, Outcome};
use crate::error::ErrorKind;
use crate::ids::Revision;
use crate::key::Keyspace;
use crate::machine::Machine;
use crate::store::Durability;

#[test]
fn the_revision_is_base_plus_index_and_refusals_take_one() {
    let mut rig = Rig::new();
    assert_eq!(rig.write(Batch::new().put(key("a"), "1")).revision, Revision(1));
    let error = rig.refused(Batch::new().put(key("a"), "2").require(key("a"), Check::Absent));
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "key p/a exists at revision 1"));
    assert_eq!(rig.machine.revision(), Revision(2));
    assert_eq!(rig.write(Batch::new().put(key("b"), "1")).revision, Revision(3));
    assert_eq!(rig.value("a").as_deref(), Some(&b"1"[..]));
    assert_eq!(rig.machine.reader().applied(), Revision(3));
}

#[test]
fn every_precondition_says_what_it_found() {
    let mut rig = Rig::new();
    rig.write(Batch::new().put(key("a"), "1"));
    let cases = [
        (key("a"), Check::RevisionIs(Revision(5)), "key p/a is at revision 1, not 5"),
        (key("a"), Check::ValueIs("2".into()), "key p/a holds another value, of revision 1"),
        (key("b"), Check::Exists, "key p/b is absent"),
        (key("b"), Check::RevisionIs(Revision(1)), "key p/b is absent"),
    ];
    for (place, check, message) in cases {
        let error = rig.refused(Batch::new().put(key("c"), "3").require(place, check));
        assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, message));
        assert_eq!(rig.value("c"), None);
    }
    let holds = Batch::new()
        .put(key("a"), "2")
        .require(key("a"), Check::ValueIs("1".into()))
        .require(key("a"), Check::RevisionIs(Revision(1)))
        .require(key("a"), Check::Exists)
        .require(key("b"), Check::Absent);
    rig.write(holds);
    assert_eq!(rig.value("a").as_deref(), Some(&b"2"[..]));
}

#[test]
fn entry_n_plus_1_sees_entry_n_within_one_call() {
    let mut rig = Rig::new();
    rig.write(Batch::new().put(key("m"), number(40)).put(key("n"), number(7)).put(key("z"), "stays"));
    let write = |batch| Command::Write(batch);
    let outcomes = rig.apply([
        write(Batch::new().delete_range(key("m"), "o")),
        write(Batch::new().put(key("o"), "x").require(key("n"), Check::Absent)),
        write(Batch::new().put(key("m"), number(1))),
        write(Batch::new().merge(key("m"), 2).merge(key("n"), 5).require(key("m"), Check::RevisionIs(Revision(4)))),
        write(Batch::new().put(key("q"), "never").require(key("m"), Check::RevisionIs(Revision(4)))),
        write(Batch::new().delete(key("n")).merge(key("n"), 1)),
    ]);
    let mut outcomes = outcomes.into_iter();
    let mut next = || outcomes.next().expect("one a command");
    assert_eq!(written(next()).revision, Revision(2));
    assert_eq!(written(next()).revision, Revision(3));
    assert_eq!(written(next()).revision, Revision(4));
    assert_eq!(written(next()).assigned, [3, 5], "the merge sees the put after the range delete, and 'n' is gone");
    assert_eq!(refused(next()).kind(), ErrorKind::Conflict);
    assert_eq!(written(next()).assigned, [1]);
    assert_eq!(rig.value("m"), Some(number(3)));
    assert_eq!(rig.value("n"), Some(number(1)));
    assert_eq!(rig.value("o").as_deref(), Some(&b"x"[..]));
    assert_eq!(rig.value("q"), None);
    assert_eq!(rig.value("z").as_deref(), Some(&b"stays"[..]));
}

#[test]
fn a_merge_that_fails_takes_the_whole_batch_back() {
    let mut rig = Rig::new();
    rig.write(Batch::new().put(key("a"), "old").put(key("text"), "text").put(key("big"), number(i64::MAX)));
    for (bad, delta) in [("text", 1), ("big", 1)] {
        let outcomes = rig.apply([
            Command::Write(Batch::new().put(key("c"), "kept").delete_range(key("x"), "y")),
            Command::Write(
                Batch::new()
                    .put(key("a"), "new")
                    .put(key("c"), "lost")
                    .delete_range(key(""), "z")
                    .put(key("b"), "new")
                    .merge(key("n"), 1)
                    .put(key(bad), rig_value(bad))
                    .merge(key(bad), delta),
            ),
        ]);
        assert_eq!(refused(outcomes.into_iter().nth(1).expect("two")).kind(), ErrorKind::Conflict, "{bad}");
        assert_eq!(rig.value("a").as_deref(), Some(&b"old"[..]));
        assert_eq!(rig.value("c").as_deref(), Some(&b"kept"[..]));
        assert_eq!(rig.value("b"), None);
        assert_eq!(rig.value("n"), None);
        assert_eq!(rig.value("text").as_deref(), Some(&b"text"[..]));
    }
}

fn rig_value(sort: &str) -> bytes::Bytes {
    if sort == "text" { "four".into() } else { number(i64::MAX) }
}

#[test]
fn appends_number_a_sequence_without_gaps() {
    let mut rig = Rig::new();
    let append = |value: &'static str| Batch::new().append(key("seq"), "m/", value, Some("last".into()));
    let outcomes = rig.apply([
        Command::Write(append("one")),
        Command::Write(append("never").require(key("seq"), Check::Absent)),
        Command::Write(append("two").append(key("seq"), "m/", "three", None)),
    ]);
    let assigned: Vec<_> = outcomes
        .into_iter()
        .filter_map(|outcome| match outcome {
            Outcome::Written(done) => Some(done.assigned),
            _ => None,
        })
        .collect();
    assert_eq!(assigned, [vec![1], vec![2, 3]]);
    assert_eq!(rig.value("seq"), Some(number(3)));
    assert_eq!(rig.value("last"), Some(number(2)));
    for (at, value) in [(1, "one"), (2, "two"), (3, "three")] {
        let sort = [&b"m/"[..], &number(at)].concat();
        assert_eq!(rig.get(&SPACE.key("p", sort)).as_deref(), Some(value.as_bytes()));
    }
    rig.write(Batch::new().put(key("low"), number(-5)));
    assert_eq!(rig.refused(Batch::new().append(key("low"), "l/", "x", None)).kind(), ErrorKind::Conflict);
    assert_eq!(rig.value("low"), Some(number(-5)), "taken back");
}

#[test]
fn expiry_follows_the_shard_clock_alone() {
    let mut rig = Rig::new();
    rig.write(Batch::new().put_ttl(key("a"), number(1), 100).put_ttl(key("b"), "b", 100));
    rig.now_ms = START_MS + 99;
    rig.write(Batch::new().merge(key("a"), 1));
    let kept = rig.machine.reader().get(&key("a")).expect("reads").expect("still there");
    assert_eq!(kept.expires_at_ms, Some(START_MS + 100), "a merge keeps the expiry");
    assert!(rig.value("b").is_some());
    rig.now_ms = START_MS + 100;
    assert!(rig.value("b").is_some(), "nothing was applied since: the clock has not moved");
    let reborn = rig.write(Batch::new().merge(key("a"), 7).put(key("c"), "c").require(key("b"), Check::Absent));
    assert_eq!(reborn.assigned, [7], "expired = absent");
    assert_eq!(rig.value("b"), None);
    // A leader with a slow clock does not turn the shard's back.
    rig.now_ms = START_MS + 10;
    rig.write(Batch::new().put(key("d"), "d"));
    assert_eq!(rig.machine.clock(), Hlc::from_ms(START_MS + 100));
    assert_eq!(rig.value("b"), None);
    rig.reopen();
    assert_eq!((rig.value("b"), rig.machine.clock()), (None, Hlc::from_ms(START_MS + 100)));
}

#[test]
fn what_no_engine_lets_through_is_refused_all_the_same() {
    let mut rig = Rig::new();
    assert_eq!(rig.refused(Batch::new()).kind(), ErrorKind::Invalid);
    let torn = Batch::new().put(key("a"), "1").put(SPACE.key("q", "a"), "1");
    assert_eq!(rig.refused(torn).kind(), ErrorKind::CrossPartition);
    assert_eq!(rig.value("a"), None);
}

#[test]
fn keys_outside_of_the_shard_have_moved() {
    let range = (SPACE.key("p", "").partition_prefix(), crate::key::prefix_end(&SPACE.key("p", "").partition_prefix()));
    let mut machine = Machine::open(TestStore::new(), CLUSTER, SHARD, range).expect("it opens");
    let entries = ["p", "q"].into_iter().zip(1..).map(|(partition, index)| {
        let command = Command::Write(Batch::new().put(SPACE.key(partition, "a"), "1"));
        (index, Entry { hlc: Hlc::from_ms(START_MS), command })
    });
    let outcomes = machine.apply(entries.collect(), Vec::new(), Durability::Sync).expect("applies");
    assert!(matches!(outcomes.first(), Some(Outcome::Written(_))), "{outcomes:?}");
    let error = refused(outcomes.into_iter().nth(1).expect("two"));
    assert_eq!(error.kind(), ErrorKind::ShardMoved);
    let reader = machine.reader();
    assert_eq!(reader.get(&SPACE.key("q", "a")).expect_err("elsewhere").kind(), ErrorKind::ShardMoved);
    assert_eq!(reader.multi_get(&[Keyspace::META.key("x", "a")]).expect_err("elsewhere").kind(), ErrorKind::ShardMoved);
    let found = reader.multi_get(&[key("b"), key("a")]).expect("reads");
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
}
