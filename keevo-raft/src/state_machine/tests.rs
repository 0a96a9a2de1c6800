//! Applying: in order and without a gap, whole after a crash, and stopped by what this version does not know.

use bytes::Bytes;
use futures::stream;
use keevo_core::{Batch, ClusterId, Hlc, Keyspace, KeyspaceId, KeyspaceKind, MemoryStore, Random, SeededRandom};

use super::*;
use crate::log_store::keevo_error;
use crate::types::{Entry, Payload, log_id};

const SHARD: ShardId = ShardId(3);
const SPACE: Keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };

fn open(store: &MemoryStore) -> GroupMachine {
    let (store, range) = (DataStore::from(store.clone()), (Bytes::new(), Bytes::new()));
    let machine = Machine::open(store.clone(), ClusterId(1), SHARD, range.clone()).expect("it opens");
    let gate = Arc::new(Gate::new(&crate::StorageCare::default()));
    let clock = Arc::new(keevo_core::SystemClock::new());
    let views = Arc::new(Views::new(1, keevo_core::views::ViewLimits::default(), clock, &SeededRandom::new(1)));
    GroupMachine::open(SharedMachine::new(machine, store, SHARD, range, gate, views, None)).expect("it opens")
}

/// An entry that adds one to a sum; the first of a log, as always, does not.
fn adds(index: u64) -> Entry {
    if index == 0 {
        return Entry { log_id: log_id(1, 1, 0), payload: EntryPayload::Blank };
    }
    let command = Command::Write(Batch::new().merge(SPACE.key("p", "sum"), 1));
    let entry = CommandEntry { hlc: Hlc::from_ms(1_000 + index), command };
    Entry { log_id: log_id(1, 1, index), payload: EntryPayload::Normal(Payload::new(&entry)) }
}

async fn apply(machine: &mut GroupMachine, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
    let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
    machine.apply(stream::iter(entries)).await.map_err(|error| keevo_error(&error))
}

/// Up to which index the store says it is applied, and the sum of the entries.
fn position(machine: &GroupMachine) -> (Option<u64>, i64) {
    let (applied, _) = machine.shared.position(false).expect("readable");
    let found = machine.shared.lock().reader().get(&SPACE.key("p", "sum")).expect("readable");
    let sum = found.map_or(0, |record| i64::from_be_bytes(record.value.as_ref().try_into().expect("8 bytes")));
    (applied.map(|log_id| log_id.index), sum)
}

/// Openraft counts a range as applied once its stream has ended, whatever came of it: without a check a hole in what
/// the log gave would have made this replica differ from the others for good.
#[tokio::test]
async fn an_entry_that_leaves_a_gap_stops_the_replica() {
    for gap in [4, 10, 2] {
        let store = MemoryStore::new();
        let mut machine = open(&store);
        apply(&mut machine, (0..3).map(adds)).await.expect("applied");
        let error = apply(&mut machine, [adds(gap), adds(gap + 1)]).await.expect_err("2 is followed by 3");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(position(&machine), (Some(2), 2));
        apply(&mut open(&store), [adds(3)]).await.expect("the one that follows is taken");
    }
    let error = apply(&mut open(&MemoryStore::new()), [adds(1)]).await.expect_err("a log begins at 0");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_command_of_a_newer_version_stops_the_replica_and_is_never_skipped() {
    let EntryPayload::Normal(payload) = adds(3).payload else { panic!("a command") };
    let newer_version = [&[200][..], &payload.0[1..]].concat().into();
    // Field 99 of the entry's message, as a command that this version has not heard of.
    let unknown_command = Bytes::from_static(&[1, 0x9a, 6, 1, 0]);
    for foreign in [newer_version, unknown_command] {
        let store = MemoryStore::new();
        let mut machine = open(&store);
        apply(&mut machine, (0..3).map(adds)).await.expect("applied");
        let foreign = Entry { log_id: log_id(1, 1, 3), payload: EntryPayload::Normal(Payload(foreign)) };
        for _ in 0..2 {
            let error = apply(&mut machine, [foreign.clone(), adds(4)]).await.expect_err("unknown");
            assert_eq!(error.kind(), ErrorKind::NewerFormat, "{error}");
            assert_eq!(position(&machine), (Some(2), 2), "neither it nor what follows is applied");
            machine = open(&store);
        }
    }
}

#[tokio::test]
async fn after_a_power_cut_the_applied_id_and_the_data_agree() {
    for seed in 0..40 {
        let random = SeededRandom::new(seed);
        let below = |limit: u64| random.next_u64() % limit;
        let mut store = MemoryStore::new();
        let mut machine = open(&store);
        let (mut next, mut flushed) = (0, None);
        while next < 120 {
            let many = 1 + below(9);
            apply(&mut machine, (next..next + many).map(adds)).await.expect("applied");
            next += many;
            if below(3) == 0 {
                store.flush().expect("flushed");
                flushed = Some(next - 1);
            }
            if below(4) == 0 {
                store = store.flushed_copy();
                machine = open(&store);
                let (applied, sum) = position(&machine);
                assert_eq!(applied, flushed, "seed {seed}: the last flush is what is left");
                next = applied.map_or(0, |index| index + 1);
                assert_eq!(u64::try_from(sum).ok(), Some(next.saturating_sub(1)), "seed {seed}: each entry once");
                assert_eq!(machine.shared.position(true).expect("readable").0.map(|id| id.index), flushed);
            }
        }
        assert_eq!(position(&machine), (Some(next - 1), i64::try_from(next - 1).expect("small")), "seed {seed}");
    }
}

/// Openraft purges up to what a built snapshot says, less a margin. A mark beyond the flushed data would take entries
/// that a power cut makes necessary again.
#[tokio::test]
async fn the_mark_for_the_purge_is_what_is_flushed_and_no_more() {
    let store = MemoryStore::new();
    let mut machine = open(&store);
    let mark = async |machine: &mut GroupMachine| {
        let built = machine.get_snapshot_builder().await.build_snapshot().await.expect("a mark");
        built.meta.last_log_id.map(|id| id.index)
    };
    apply(&mut machine, (0..5).map(adds)).await.expect("applied");
    assert_eq!(mark(&mut machine).await, None);
    store.flush().expect("flushed");
    apply(&mut machine, (5..9).map(adds)).await.expect("applied");
    assert_eq!(mark(&mut machine).await, Some(4));
    let current = machine.get_current_snapshot().await.expect("readable").expect("a follower that lags gets one");
    assert_eq!(current.meta.last_log_id.map(|id| id.index), Some(8), "which is sent as it is then");
}
