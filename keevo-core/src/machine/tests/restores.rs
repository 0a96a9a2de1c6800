//! Restores: rows come back as they were, revisions go on above them, and how the entries are cut makes no difference.

use super::{Rig, SPACE, START_MS, key, refused};
use crate::batch::{Batch, Check};
use crate::command::{Command, Entry, Hlc, Outcome};
use crate::error::ErrorKind;
use crate::fan_out::{FanOut, FanOutAction, Target};
use crate::ids::Revision;
use crate::key::Key;
use crate::record::{Record, StoredRecord};
use crate::restore::{Archived, Restore};
use crate::store::{Column, Durability, Store};
use crate::system::{ARCHIVED, decode_archived, row_key};

fn row(key: &Key, revision: u64, expires_at_ms: Option<u64>, tombstone: bool) -> (bytes::Bytes, bytes::Bytes) {
    let value = if tombstone { bytes::Bytes::new() } else { "old".into() };
    let record = Record { revision: Revision(revision), expires_at_ms, value };
    let encoded = key.encode();
    let stored = StoredRecord { record, tombstone }.encode(&encoded);
    (encoded, stored)
}

#[test]
fn rows_keep_their_revisions_and_new_ones_start_above() {
    let mut rig = Rig::new();
    let (plain, gone) = (row(&key("a"), 700, None, false), row(&key("t"), 701, Some(START_MS + 60_000), true));
    let restore = Restore { base: 800, rows: vec![plain, gone] };
    restore.validate().expect("good rows");
    assert!(matches!(rig.one(Command::Restore(restore.clone())), Outcome::Done));
    assert!(matches!(rig.one(Command::Restore(restore)), Outcome::Done), "repeatable");
    let guarded = Batch::new().put(key("b"), "new").require(key("a"), Check::RevisionIs(Revision(700)));
    assert_eq!(rig.write(guarded).revision, Revision(803), "index 3 above the base");
    let late = FanOut {
        keyspace: SPACE,
        sort: "t".into(),
        action: FanOutAction::Put { value: "late".into(), ttl_ms: None },
        guard_sort: None,
        targets: vec![Target { partition: "p".into(), guard: None }],
    };
    assert_eq!(rig.fan_out(late).skipped, 1, "the tombstone came along");
}

#[test]
fn damaged_rows_are_refused_as_a_whole() {
    let mut rig = Rig::new();
    let (good, (name, bad)) = (row(&key("a"), 5, None, false), row(&key("b"), 6, None, false));
    let mut bad = bad.to_vec();
    *bad.last_mut().expect("a value") ^= 1;
    let restore = Restore { base: 10, rows: vec![good, (name, bad.into())] };
    assert_eq!(restore.validate().expect_err("damaged").kind(), ErrorKind::Corrupt);
    assert_eq!(refused(rig.one(Command::Restore(restore))).kind(), ErrorKind::Corrupt);
    assert_eq!(rig.value("a"), None, "nothing was stored");
    let huge = Restore { base: u64::MAX, rows: Vec::new() };
    assert_eq!(huge.validate().expect_err("no revisions would be left").kind(), ErrorKind::Invalid);
}

#[test]
fn a_restore_in_the_middle_of_a_call_counts_for_what_follows_it() {
    let entry = |command| Entry { hlc: Hlc::from_ms(START_MS), command };
    let put = |sort| Command::Write(Batch::new().put(key(sort), "v"));
    let commands = || [put("a"), Command::Restore(Restore { base: 1_000, rows: Vec::new() }), put("b")];
    let run = |cuts: bool| {
        let Rig { store, mut machine, .. } = Rig::new();
        let entries: Vec<_> = (1..).zip(commands().map(entry)).collect();
        let calls: Vec<Vec<_>> = if cuts { entries.into_iter().map(|one| vec![one]).collect() } else { vec![entries] };
        for call in calls {
            machine.apply(call, Vec::new(), Durability::Sync).expect("applied");
        }
        (store.dump(), machine.revision(), machine.base())
    };
    assert_eq!(run(true), run(false));
    assert_eq!((run(false).1, run(false).2), (Revision(1_003), 1_000));
}

#[test]
fn the_archives_cursor_is_a_row_of_the_shard() {
    let mut rig = Rig::new();
    for upto in [40, 90] {
        assert!(matches!(rig.one(Command::Archived(Archived { from: 12, upto })), Outcome::Done));
    }
    let stored = rig.store.get(Column::Data, &row_key(super::SHARD, ARCHIVED)).expect("read").expect("a row");
    assert_eq!(decode_archived(&stored).expect("intact"), Archived { from: 12, upto: 90 });
}
