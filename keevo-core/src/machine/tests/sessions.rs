//! Sessions: each request is applied once, across calls, reopening, the window and expiry.

use super::{Rig, SHARD, key, number, refused, written};
use crate::batch::{Batch, Check};
use crate::command::{Command, Outcome};
use crate::error::ErrorKind;
use crate::ids::{ClientId, RequestId};
use crate::limits::{SESSION_IDLE_MS_MAX, SESSION_WINDOW, SESSIONS_MAX};
use crate::store::Column;
use crate::system::{SESSIONS, row_key};

const CLIENT: ClientId = ClientId(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);

/// A request that adds one to `n`.
fn add(client: ClientId, sequence: u64, acked_below: u64) -> Command {
    Command::Write(Batch::new().merge(key("n"), 1).with_request(RequestId { client, sequence, acked_below }))
}

fn session_rows(rig: &Rig) -> usize {
    rig.store.count(Column::Data, &row_key(SHARD, SESSIONS))
}

#[test]
fn a_retry_gets_the_first_answer_in_the_same_call_a_later_one_and_after_reopening() {
    let mut rig = Rig::new();
    let outcomes = rig.apply([Command::OpenSession(CLIENT), add(CLIENT, 1, 0), add(CLIENT, 1, 0)]);
    let answers: Vec<_> = outcomes.into_iter().skip(1).map(written).collect();
    assert_eq!(answers.first(), answers.last());
    assert_eq!(written(rig.one(add(CLIENT, 1, 0))), answers[0]);
    rig.reopen();
    assert_eq!(written(rig.one(add(CLIENT, 1, 0))), answers[0]);
    assert_eq!(rig.value("n"), Some(number(1)), "applied once");
}

#[test]
fn a_conflict_is_an_answer_too() {
    let mut rig = Rig::new();
    rig.one(Command::OpenSession(CLIENT));
    let request = RequestId { client: CLIENT, sequence: 1, acked_below: 0 };
    let batch = Batch::new().put(key("a"), "1").require(key("a"), Check::Exists).with_request(request);
    let first = refused(rig.one(Command::Write(batch.clone())));
    rig.write(Batch::new().put(key("a"), "0"));
    rig.reopen();
    let again = refused(rig.one(Command::Write(batch)));
    assert_eq!((again.kind(), again.message()), (ErrorKind::Conflict, first.message()));
    assert_eq!(rig.value("a").as_deref(), Some(&b"0"[..]));
}

#[test]
fn an_unknown_session_and_what_lies_below_the_window_are_not_applied() {
    let mut rig = Rig::new();
    assert!(refused(rig.one(add(CLIENT, 1, 0))).is_session_not_open());
    rig.one(Command::OpenSession(CLIENT));
    // Pipelined requests arrive out of order; 2 is late but still in the window.
    for sequence in [3, 1, 5, 2] {
        written(rig.one(add(CLIENT, sequence, 0)));
    }
    assert_eq!(session_rows(&rig), 2, "the header, and the row that 1 to 5 share");
    written(rig.one(add(CLIENT, 6, 4)));
    for reopened in [false, true] {
        for sequence in [1, 2, 3] {
            assert_eq!(refused(rig.one(add(CLIENT, sequence, 0))).kind(), ErrorKind::OutcomeUnknown, "{reopened}");
        }
        written(rig.one(add(CLIENT, 5, 4)));
        rig.reopen();
    }
    assert_eq!(rig.value("n"), Some(number(5)));
    written(rig.one(add(CLIENT, 4, 4)));
    assert_eq!(rig.value("n"), Some(number(6)), "4 was new");
}

#[test]
fn a_row_goes_when_all_its_requests_are_answered_however_they_are_cut_into_calls() {
    let requests = [(3, 0), (14, 3), (17, 4), (40, 16), (18, 16), (33, 17), (34, 33)];
    let mut one_by_one = Rig::new();
    one_by_one.one(Command::OpenSession(CLIENT));
    let mut counts = Vec::new();
    for (sequence, acked_below) in requests {
        written(one_by_one.one(add(CLIENT, sequence, acked_below)));
        counts.push(session_rows(&one_by_one));
    }
    assert_eq!(counts, [2, 2, 3, 3, 3, 3, 2], "0 to 15 go with 40, 16 to 31 with 34");
    let mut at_once = Rig::new();
    let all = requests.map(|(sequence, acked_below)| add(CLIENT, sequence, acked_below));
    at_once.apply([Command::OpenSession(CLIENT)].into_iter().chain(all));
    assert_eq!(at_once.store.dump(), one_by_one.store.dump());
    for rig in [&mut one_by_one, &mut at_once] {
        rig.reopen();
        for sequence in [3, 14, 17, 18] {
            assert_eq!(refused(rig.one(add(CLIENT, sequence, 33))).kind(), ErrorKind::OutcomeUnknown, "{sequence}");
        }
        written(rig.one(add(CLIENT, 40, 33)));
        assert_eq!(rig.value("n"), Some(number(7)), "the answer of 40 is still there");
    }
}

#[test]
fn the_window_bounds_what_a_client_that_never_acknowledges_costs() {
    let mut rig = Rig::new();
    rig.one(Command::OpenSession(CLIENT));
    let last = SESSION_WINDOW + 9;
    rig.apply((0..=last).map(|sequence| add(CLIENT, sequence, 0)));
    assert_eq!(session_rows(&rig), usize::try_from(SESSION_WINDOW / 16).expect("small") + 2, "16 requests share a row");
    let oldest = last + 1 - SESSION_WINDOW;
    for reopened in [false, true] {
        assert_eq!(refused(rig.one(add(CLIENT, oldest - 1, 0))).kind(), ErrorKind::OutcomeUnknown, "{reopened}");
        written(rig.one(add(CLIENT, oldest, 0)));
        rig.reopen();
    }
    assert_eq!(rig.value("n"), Some(number(i64::try_from(last).expect("small") + 1)));
}

#[test]
fn idle_sessions_go_by_the_shard_clock_but_never_the_one_that_asks() {
    let mut rig = Rig::new();
    let idle = ClientId(1);
    rig.apply([Command::OpenSession(idle), add(idle, 1, 0), Command::OpenSession(CLIENT), add(CLIENT, 1, 0)]);
    rig.now_ms += SESSION_IDLE_MS_MAX + 1;
    written(rig.one(add(idle, 2, 0)));
    rig.now_ms += SESSION_IDLE_MS_MAX;
    rig.one(Command::OpenSession(CLIENT));
    written(rig.one(add(CLIENT, 1, 0)));
    assert_eq!(rig.value("n"), Some(number(3)), "the client's own session was idle for longer, and is kept");
    written(rig.one(add(idle, 2, 0)));
    rig.now_ms += 1;
    rig.one(Command::OpenSession(CLIENT));
    assert_eq!(refused(rig.one(add(idle, 2, 0))).kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(session_rows(&rig), 2, "the rows of the idle session went with it");
    rig.reopen();
    assert_eq!(refused(rig.one(add(idle, 3, 0))).kind(), ErrorKind::OutcomeUnknown);
}

#[test]
fn the_least_recently_used_session_gives_way() {
    let mut rig = Rig::new();
    let client = |id: usize| ClientId(u128::try_from(id).expect("small"));
    for id in 0..SESSIONS_MAX {
        rig.now_ms += 1;
        rig.one(Command::OpenSession(client(id)));
    }
    rig.now_ms += 1;
    written(rig.one(add(client(0), 1, 0)));
    rig.now_ms += 1;
    rig.reopen();
    rig.one(Command::OpenSession(client(SESSIONS_MAX)));
    assert_eq!(refused(rig.one(add(client(1), 1, 0))).kind(), ErrorKind::OutcomeUnknown, "the oldest is gone");
    for id in [0, 2, SESSIONS_MAX] {
        written(rig.one(add(client(id), 2, 0)));
    }
    assert!(matches!(rig.one(Command::OpenSession(client(2))), Outcome::SessionOpened), "opening is repeatable");
}
