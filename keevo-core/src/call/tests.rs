//! Envelopes as bytes, what rides in entries, and what handlers make up.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::command::{Command, Entry, Hlc};
use crate::error::{Error, ErrorKind};
use crate::ids::ClusterId;

fn envelope() -> Envelope {
    Envelope {
        id: CallId { node: 3, stamp_us: 1_700_000_000_000_123 },
        at_us: 1_700_000_000_000_123,
        seed: 77,
        app: Some(9),
        door: CallDoor::ChatHttp,
        principal: "user alice".into(),
        method: "POST /chat/v1/channels/team/x/messages?user_id=alice".into(),
        request: CallRequest::Body(Bytes::from_static(b"{\"text\":\"hello\"}")),
        redacted: true,
        origin: Some(CallOrigin { cluster: ClusterId(5), shard: ShardId(2), index: 44 }),
        erased: false,
    }
}

fn log(on: bool) -> Arc<CallLog> {
    CallLog::new(7, on, Arc::new(ManualClock::new(1_000)), Arc::new(SeededRandom::new(1)))
}

fn new_call(principal: &str, request: CallRequest) -> NewCall {
    NewCall {
        door: CallDoor::Grpc,
        app: None,
        principal: principal.to_owned(),
        method: "keevo.kv.v1.Kv/Write".to_owned(),
        request,
        redacted: false,
    }
}

fn begin(log: &CallLog, request: CallRequest) -> Arc<Call> {
    log.begin(new_call("somebody", request)).expect("on")
}

fn entry() -> Bytes {
    Entry { hlc: Hlc(0x0102_0304), command: Command::MoveClock }.encode()
}

#[test]
fn an_entry_with_a_note_means_what_it_meant() {
    let note = Note { envelope: envelope().encode(), attempt: 2 };
    assert_eq!(Note::decode(&note.encode()).expect("intact"), note);
    let noted = note.append_to(&entry());
    assert_eq!(Entry::decode(&noted).expect("known"), Entry::decode(&entry()).expect("known"));
    assert_eq!(EntryNote::of_entry(&entry()).expect("known"), None);
    let read = EntryNote::of_entry(&noted).expect("known");
    assert_eq!(read, Some(EntryNote::Call { envelope: envelope(), attempt: 2 }));
    let outcomes = Outcomes(vec![(envelope().id, "CONFLICT".into())]);
    let noted = outcomes.append_to(&entry());
    assert_eq!(Entry::decode(&noted).expect("known"), Entry::decode(&entry()).expect("known"));
    assert_eq!(EntryNote::of_entry(&noted).expect("known"), Some(EntryNote::Outcomes(outcomes)));
}

#[test]
fn damage_and_later_formats_are_told_apart() {
    let good = envelope().encode();
    let kind = |bytes: Vec<u8>| Envelope::decode(&bytes.into()).expect_err("refused").kind();
    let mut newer = good.to_vec();
    newer[0] = 2;
    assert_eq!(kind(newer), ErrorKind::NewerFormat);
    assert_eq!(kind(Vec::new()), ErrorKind::Corrupt);
    for at in 1..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x40;
        assert_eq!(kind(bad), ErrorKind::Corrupt, "byte {at}");
    }
}

#[tokio::test]
async fn the_note_rides_until_a_write_with_it_is_applied() {
    let call = begin(&log(true), CallRequest::Body(Bytes::new()));
    assert_eq!(call.home(), None);
    let attempt = |shard| call.note(ShardId(shard)).map(|note| note.attempt);
    assert_eq!(attempt(4), Some(0));
    call.carried(false);
    assert_eq!((attempt(5), call.home()), (Some(1), Some(ShardId(5))));
    call.carried(true);
    assert_eq!(attempt(6), None, "it is in the log");
    assert_eq!(call.home(), Some(ShardId(5)));
    let write = begin(&log(true), CallRequest::Command);
    for _ in 0..2 {
        assert!(write.note(ShardId(1)).is_some(), "each write is its own request");
        write.carried(true);
    }
    let inside = call.run(async { (current().is_some(), aside(async { current().is_none() }).await) });
    assert_eq!(inside.await, (true, true));
    assert!(current().is_none());
}

#[tokio::test]
async fn a_replay_makes_up_what_the_call_made_up() {
    let log = log(true);
    let call = begin(&log, CallRequest::Body(Bytes::new()));
    let clock = ManualClock::new(5_000);
    let made_up = async || {
        let random = SeededRandom::new(99);
        (now_ms(&clock), stamp_us(), stamp_us(), random_u64(&random), random_u128(&random), is_replay())
    };
    let first = call.run(made_up()).await;
    let origin = CallOrigin { cluster: ClusterId(1), shard: ShardId(1), index: 1 };
    let again = log.again(call.envelope().clone(), origin);
    assert_ne!(again.envelope().id, call.envelope().id);
    let second = again.run(made_up()).await;
    assert_eq!((first.0, first.1, first.2, first.3, first.4), (second.0, second.1, second.2, second.3, second.4));
    assert_eq!((first.0, first.5, second.5), (1_000, false, true));
    assert_eq!(made_up().await.0, 5_000, "outside of calls it is now");
}

#[tokio::test]
async fn what_fails_is_kept_by_how_far_it_came() {
    let log = log(true);
    let error = Error::new(ErrorKind::Conflict, "it was there");
    let early = begin(&log, CallRequest::Body(Bytes::from_static(b"x")));
    log.failed(&early, &error);
    let late = begin(&log, CallRequest::Body(Bytes::new()));
    late.note(ShardId(3)).expect("a note");
    log.failed(&late, &error);
    let refused = log.refused(10);
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].kind.as_str(), refused[0].envelope.id), ("CONFLICT", early.envelope().id));
    let expected = FailedCall { id: late.envelope().id, shard: ShardId(3), kind: "CONFLICT".into() };
    assert_eq!(log.take_failed(10).await, vec![expected]);
    for _ in 0..REFUSED_MAX + 5 {
        log.failed(&begin(&log, CallRequest::Command), &error);
    }
    assert_eq!(log.refused(usize::MAX).len(), REFUSED_MAX, "bounded");
    let stamps: Vec<u64> = log.refused(2).iter().map(|one| one.envelope.id.stamp_us).collect();
    assert_eq!(stamps[0], stamps[1] + 1, "newest first, no stamp twice");
}

#[test]
fn a_log_that_is_off_records_nothing() {
    assert!(log(false).begin(new_call("p", CallRequest::Command)).is_none());
}

#[test]
fn a_long_principal_is_cut_between_characters() {
    let call = log(true).begin(new_call(&"ü".repeat(200), CallRequest::Command)).expect("on");
    assert_eq!(call.envelope().principal, "ü".repeat(PRINCIPAL_BYTES_MAX / 2));
}

#[test]
fn an_erased_call_says_nothing_of_its_user() {
    let whole = envelope();
    let erased = whole.clone().erase();
    assert_eq!((erased.id, erased.at_us, erased.app), (whole.id, whole.at_us, whole.app));
    assert_eq!((erased.method.as_str(), erased.principal.as_str()), ("POST", "erased"));
    let bytes = erased.encode();
    for word in [&b"alice"[..], b"hello"] {
        assert!(!bytes.windows(word.len()).any(|part| part == word));
    }
    assert_eq!(Envelope::decode(&bytes).expect("intact"), erased);
    let grpc = Envelope { door: CallDoor::Grpc, method: "a.B/C".into(), ..whole };
    assert_eq!(grpc.erase().method, "a.B/C", "it names nobody");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn envelopes_round_trip(
        (node, stamp_us, at_us, seed) in any::<(u64, u64, u64, u64)>(),
        (app, door, redacted, erased) in (any::<Option<u32>>(), 0..3_usize, any::<bool>(), any::<bool>()),
        (principal, method) in (".{0,20}", ".{0,40}"),
        body in any::<Option<Vec<u8>>>(),
        origin in any::<Option<(u128, u64, u64)>>(),
    ) {
        let envelope = Envelope {
            id: CallId { node, stamp_us },
            at_us,
            seed,
            app,
            door: [CallDoor::Grpc, CallDoor::FeedsHttp, CallDoor::ChatHttp][door],
            principal,
            method,
            request: body.map_or(CallRequest::Command, |body| CallRequest::Body(body.into())),
            redacted,
            origin: origin.map(|(cluster, shard, index)| CallOrigin {
                cluster: ClusterId(cluster),
                shard: ShardId(shard),
                index,
            }),
            erased,
        };
        let bytes = envelope.encode();
        prop_assert_eq!(Envelope::decode(&bytes).expect("intact"), envelope);
        prop_assert!(Envelope::decode(&bytes.slice(..bytes.len() - 1)).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in any::<bool>()) {
        let mut bytes = bytes;
        if let (true, Some(first)) = (version, bytes.first_mut()) {
            *first = 1;
        }
        let bytes = Bytes::from(bytes);
        drop((Envelope::decode(&bytes), Note::decode(&bytes), Outcomes::decode(&bytes), EntryNote::of_entry(&bytes)));
    }
}
