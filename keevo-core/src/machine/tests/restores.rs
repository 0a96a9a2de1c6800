//! Restores: rows come back as they were, revisions go on above them, and how the entries are cut makes no difference.

use super::{Rig, SPACE, START_MS, key, refused};
use crate::batch::{Batch, Check};
use crate::command::{Command, Entry, Hlc, Outcome};
use crate::error::ErrorKind;
use crate::fan_out::{FanOut, FanOutAction, Target};
use crate::ids::Revision;
use crate::key::Key;
use crate::record::{Record, StoredRecord};
use crate::restore::{Archived, Restore, RestoreFence};
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
    let restore = Restore { base: 800, rows: vec![plain, gone], fence: None };
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
    let restore = Restore { base: 10, rows: vec![good, (name, bad.into())], fence: None };
    assert_eq!(restore.validate().expect_err("damaged").kind(), ErrorKind::Corrupt);
    assert_eq!(refused(rig.one(Command::Restore(restore))).kind(), ErrorKind::Corrupt);
    assert_eq!(rig.value("a"), None, "nothing was stored");
    let huge = Restore { base: u64::MAX, rows: Vec::new(), fence: None };
    assert_eq!(huge.validate().expect_err("no revisions would be left").kind(), ErrorKind::Invalid);
}

#[test]
fn a_restore_in_the_middle_of_a_call_counts_for_what_follows_it() {
    let entry = |command| Entry { hlc: Hlc::from_ms(START_MS), command };
    let put = |sort| Command::Write(Batch::new().put(key(sort), "v"));
    let commands = || [put("a"), Command::Restore(Restore { base: 1_000, rows: Vec::new(), fence: None }), put("b")];
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

/// A stream of a restore that was given up went on for a page: the node asked whether it might, somebody else took over, the
/// page was proposed. It then stood over what had come after it.
#[test]
fn a_page_of_a_stream_that_lost_its_shard_is_refused_where_it_is_applied() {
    let mut rig = Rig::new();
    let mut send = |restore, source, take, value: &'static str| {
        let encoded = key("a").encode();
        let record = Record { revision: Revision(5), expires_at_ms: None, value: value.into() };
        let stored = StoredRecord::value(record).encode(&encoded);
        let fence = (restore > 0).then_some(RestoreFence { restore, source, take });
        let outcome = rig.one(Command::Restore(Restore { base: 10, rows: vec![(encoded, stored)], fence }));
        let taken = match outcome {
            Outcome::Done => true,
            refused_one => {
                assert_eq!(refused(refused_one).kind(), ErrorKind::Conflict);
                false
            }
        };
        (taken, rig.value("a").expect("there"))
    };
    let told = |taken, value: &str| (taken, bytes::Bytes::copy_from_slice(value.as_bytes()));
    assert_eq!(send(0, 0, 0, "bare"), told(true, "bare"), "a restore that began before there were fences");
    assert_eq!(send(1, 4, 1, "first"), told(true, "first"));
    assert_eq!(send(0, 0, 0, "bare"), told(false, "first"), "and not behind one that has a fence");
    assert_eq!(send(1, 4, 2, "second"), told(true, "second"), "it is taken up again");
    assert_eq!(send(1, 4, 1, "late"), told(false, "second"));
    assert_eq!(send(1, 9, 1, "other"), told(true, "other"), "another shard of the backup has a count of its own");
    assert_eq!(send(2, 0, 0, "end"), told(true, "end"), "the end of the restore");
    assert_eq!(send(1, 4, 2, "late"), told(false, "end"), "nothing comes behind it");
    assert_eq!(send(2, 4, 1, "next"), told(true, "next"), "the next restore begins anew");
}

#[test]
fn what_a_shard_knows_of_restores_outlives_a_restart_and_no_cut_makes_a_difference() {
    let entry = |command| Entry { hlc: Hlc::from_ms(START_MS), command };
    let restore = |restore, take| {
        let rows = vec![row(&key("a"), 5 + take, None, false)];
        Command::Restore(Restore { base: 10, rows, fence: Some(RestoreFence { restore, source: 1, take }) })
    };
    let run = |cuts: bool| {
        let Rig { store, mut machine, .. } = Rig::new();
        let commands = [restore(1, 2), restore(1, 1), restore(2, 1), restore(1, 3)];
        let entries: Vec<_> = (1..).zip(commands.map(entry)).collect();
        let calls: Vec<Vec<_>> = if cuts { entries.into_iter().map(|one| vec![one]).collect() } else { vec![entries] };
        let mut done = Vec::new();
        for call in calls {
            let outcomes = machine.apply(call, Vec::new(), Durability::Sync).expect("applied");
            done.extend(outcomes.iter().map(|outcome| matches!(outcome, Outcome::Done)));
            machine.reload().expect("from the store");
        }
        (store.dump(), done)
    };
    assert_eq!(run(true), run(false));
    assert_eq!(run(true).1, [true, false, true, false]);
}
