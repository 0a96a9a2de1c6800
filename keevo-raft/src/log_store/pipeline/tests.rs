//! The queue, the writer and the cache over a backend that obeys the test.

use std::collections::BTreeMap;
use std::sync::Condvar;

use super::*;
use crate::log_store::writer::Loaded;
use crate::types::{EntryPayload, Payload, log_id};

/// Keeps entries in a map; writes wait for the gate, and fail when told to.
#[derive(Debug, Default)]
struct Gated {
    entries: Mutex<BTreeMap<(GroupId, u64), Entry>>,
    writes: Mutex<Vec<usize>>,
    gate: Mutex<Gate>,
    opened: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    is_open: bool,
    fails: bool,
}

impl Gated {
    fn open_gate(&self, fails: bool) {
        *self.gate.lock().unwrap() = Gate { is_open: true, fails };
        self.opened.notify_all();
    }
}

impl Backend for Arc<Gated> {
    fn load(&self) -> Result<Loaded> {
        Ok(Loaded::default())
    }

    fn write(&self, ops: &[LogOp], _sync: bool) -> Result<u64> {
        let gate = self.opened.wait_while(self.gate.lock().unwrap(), |gate| !gate.is_open).unwrap();
        if gate.fails {
            return Err(Error::new(ErrorKind::ResourceExhausted, "the disk is full"));
        }
        self.writes.lock().unwrap().push(ops.len());
        for op in ops {
            if let LogOp::Append { group, entries } = op {
                let mut stored = self.entries.lock().unwrap();
                stored.extend(entries.iter().map(|entry| ((*group, entry.log_id.index), entry.clone())));
            }
        }
        Ok(1)
    }

    fn read(&self, group: GroupId, range: Range<u64>, _bytes_max: usize) -> Result<Vec<Entry>> {
        let stored = self.entries.lock().unwrap();
        range.map(|index| stored.get(&(group, index)).cloned().ok_or_else(|| Error::corrupt("a hole"))).collect()
    }
}

fn start(queue_bytes: usize, cache_bytes: usize) -> (Arc<Gated>, Pipeline<Arc<Gated>>) {
    let backend = Arc::new(Gated::default());
    let limits = Limits { queue_bytes, cache_bytes, batch_ops: 100, linger: Duration::ZERO };
    (Arc::clone(&backend), Pipeline::start(backend, limits).unwrap())
}

fn entry(index: u64, bytes: usize) -> Entry {
    Entry { log_id: log_id(1, 1, index), payload: EntryPayload::Normal(Payload(vec![1; bytes].into())) }
}

fn append(store: &Pipeline<Arc<Gated>>, group: GroupId, entry: Entry) -> oneshot::Receiver<Result<()>> {
    let (done_tx, done_rx) = oneshot::channel();
    let done = Box::new(move |result| drop(done_tx.send(result)));
    store.append(group, vec![entry], done).now_or_never().expect("there is room").unwrap();
    done_rx
}

#[tokio::test]
async fn calls_that_wait_become_one_batch() {
    let (backend, store) = start(1 << 20, 1 << 20);
    let told: Vec<_> = (0..50).map(|group| append(&store, group, entry(0, 10))).collect();
    assert!(store.counters().queued > 0);
    backend.open_gate(false);
    for told in told {
        told.await.unwrap().unwrap();
    }
    store.sync().await.unwrap();
    let counters = store.counters();
    assert_eq!(counters.appends, 50);
    assert!(counters.syncs <= 3, "{counters:?}: the gate held back all but the first");
    assert_eq!(backend.writes.lock().unwrap().iter().sum::<usize>(), 51);
}

#[tokio::test]
async fn a_failed_write_stops_the_store_for_good() {
    let (backend, store) = start(1 << 20, 1 << 20);
    let told: Vec<_> = (0..5).map(|index| append(&store, 1, entry(index, 10))).collect();
    backend.open_gate(true);
    for told in told {
        let error = told.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.message(), "the log store has stopped: the disk is full");
    }
    backend.open_gate(false);
    let kinds = [
        store.append(1, vec![entry(5, 1)], Box::new(|_| panic!("never called"))).await.unwrap_err().kind(),
        store.save_vote(2, Vote::new(1, 1)).await.unwrap_err().kind(),
        store.vote(2).unwrap_err().kind(),
        store.read(1, 0..1, 1).await.unwrap_err().kind(),
        store.purge(1, log_id(1, 1, 0)).await.unwrap_err().kind(),
        store.sync().await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Io; 6]);
    assert!(backend.entries.lock().unwrap().is_empty(), "nothing is written after a failure");
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait() {
    let (backend, store) = start(10_000, 1 << 20);
    let told: Vec<_> = (0..3).map(|index| append(&store, 1, entry(index, 2500))).collect();
    let mut waiting = store.append(2, vec![entry(0, 2500)], Box::new(|_| {}));
    assert!((&mut waiting).now_or_never().is_none(), "three calls fill the queue");
    let mut dropped = store.append(3, vec![entry(0, 2500)], Box::new(|_| panic!("never called")));
    assert!((&mut dropped).now_or_never().is_none());
    drop(dropped);
    assert_eq!(store.log_state(3).unwrap(), LogState::default(), "a dropped call has not happened");
    backend.open_gate(false);
    waiting.await.unwrap();
    for told in told {
        told.await.unwrap().unwrap();
    }
    assert_eq!(store.groups().unwrap(), [1, 2]);
}

#[tokio::test]
async fn a_call_larger_than_the_queue_goes_alone() {
    let (backend, store) = start(1000, 1000);
    backend.open_gate(false);
    append(&store, 1, entry(0, 100_000)).await.unwrap().unwrap();
    let read = store.read(1, 0..1, 10).await.unwrap();
    assert_eq!(read, [entry(0, 100_000)]);
}

#[tokio::test]
async fn the_cache_drops_the_oldest_but_never_what_is_not_written() {
    let (backend, store) = start(1 << 20, 5000);
    let told: Vec<_> = (0..20).map(|index| append(&store, 1, entry(index, 1000))).collect();
    assert!(store.counters().cached_bytes > 20_000, "nothing is written yet");
    assert_eq!(store.read(1, 0..20, usize::MAX).await.unwrap().len(), 20);
    assert_eq!(store.counters().disk_reads, 0);
    backend.open_gate(false);
    for told in told {
        told.await.unwrap().unwrap();
    }
    store.sync().await.unwrap();
    let trimmed = append(&store, 2, entry(0, 1000));
    trimmed.await.unwrap().unwrap();
    assert!(store.counters().cached_bytes <= 5000, "{:?}", store.counters());
    assert_eq!(store.read(1, 18..20, usize::MAX).await.unwrap().len(), 2);
    assert_eq!(store.counters().disk_reads, 0, "the newest are in memory");
    let all = store.read(1, 0..20, usize::MAX).await.unwrap();
    assert_eq!(all, (0..20).map(|index| entry(index, 1000)).collect::<Vec<_>>());
    assert_eq!(store.counters().disk_reads, 1);
}

#[tokio::test]
async fn a_callback_may_hold_the_last_handle() {
    let (backend, store) = start(1 << 20, 1 << 20);
    let store = Arc::new(store);
    let (done_tx, done_rx) = oneshot::channel();
    let handle = Arc::clone(&store);
    let done = Box::new(move |result| {
        drop(handle);
        drop(done_tx.send(result));
    });
    store.append(1, vec![entry(0, 1)], done).await.unwrap();
    drop(store);
    backend.open_gate(false);
    done_rx.await.unwrap().unwrap();
}
