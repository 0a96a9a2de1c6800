//! The store in memory passes the suite, and loses exactly what was not synced.

use super::*;
use crate::testing::log_store::{LogStoreFactory, run_all_log_store_cases};
use crate::types::{EntryPayload, log_id};

struct Disk(Arc<MemoryDisk>);

impl LogStoreFactory for Disk {
    fn open(&self) -> Arc<dyn LogStore> {
        self.0.open()
    }

    fn crash(&self, store: Arc<dyn LogStore>) -> Arc<dyn LogStore> {
        drop(store);
        self.0.open()
    }
}

fn blank(index: u64) -> Entry {
    Entry { log_id: log_id(1, 1, index), payload: EntryPayload::Blank }
}

fn appended(store: &MemoryLogStore, index: u64) -> oneshot::Receiver<Result<()>> {
    let (done_tx, done_rx) = oneshot::channel();
    let done = Box::new(move |result| drop(done_tx.send(result)));
    store.append(1, vec![blank(index)], done).now_or_never().expect("appends do not wait").unwrap();
    done_rx
}

fn last(store: &MemoryLogStore) -> Option<u64> {
    store.log_state(1).unwrap().last_log_id.map(|id| id.index)
}

#[tokio::test]
async fn passes_the_suite() {
    run_all_log_store_cases(|| Disk(MemoryDisk::new())).await;
}

#[test]
fn a_crash_drops_what_was_not_synced() {
    let store = MemoryDisk::new().open_unsynced();
    let mut told: Vec<_> = (0..4).map(|index| appended(&store, index)).collect();
    assert_eq!((last(&store), store.unsynced()), (Some(3), 4));
    store.flush(2);
    assert!(told[1].try_recv().unwrap().is_some(), "flushed, so told");
    assert!(told[2].try_recv().unwrap().is_none(), "not flushed, so not told");
    store.leak(1);
    let after = store.crash();
    assert_eq!(last(&after), Some(2), "two were flushed, one leaked");
    assert!(told[2].try_recv().is_err(), "a leaked write is never confirmed");
    assert_eq!(store.log_state(1).unwrap_err().kind(), ErrorKind::Closed);
    store.flush(usize::MAX);
    assert_eq!(last(&after.crash()), Some(2), "a closed store writes no more");
}

#[test]
fn a_vote_waits_for_the_sync_and_dies_with_the_crash() {
    let store = MemoryDisk::new().open_unsynced();
    let mut first = store.save_vote(1, Vote::new(1, 1));
    assert!((&mut first).now_or_never().is_none());
    store.flush(usize::MAX);
    first.now_or_never().expect("flushed").unwrap();
    let mut second = store.save_vote(1, Vote::new(2, 1));
    assert!((&mut second).now_or_never().is_none());
    let after = store.crash();
    assert_eq!(after.vote(1).unwrap(), Some(Vote::new(1, 1)));
    drop(store.crash());
}

#[test]
fn a_failed_disk_fails_everything_from_then_on() {
    let store = MemoryDisk::new().open_unsynced();
    let mut told = appended(&store, 0);
    store.fail();
    assert_eq!(told.try_recv().unwrap().unwrap().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(store.vote(1).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(store.sync().now_or_never().unwrap().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(last(&store.crash()), None);
}

#[tokio::test]
async fn passes_the_suite_on_segments() {
    run_all_log_store_cases(|| Disk(MemoryDisk::with_segments(7, 1 << 10))).await;
}

/// What is leaked lies on the disk unsynced: a power cut takes sectors of it, and the log of segments makes a prefix of
/// what remains. Over many seeds all of it, some of it and nothing must occur.
#[test]
fn a_torn_end_on_segments_is_a_prefix() {
    let mut ends = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let store = MemoryDisk::with_segments(seed, 64 << 10).open_unsynced();
        let _told: Vec<_> = (0..400).map(|index| appended(&store, index)).collect();
        store.flush(10);
        store.leak(200);
        let after = store.crash();
        let end = last(&after).expect("what was synced is there");
        assert!((9..210).contains(&end), "{end}");
        ends.insert(end);
        drop(appended(&after, end + 1));
        after.flush(usize::MAX);
        assert_eq!(last(&after.crash()), Some(end + 1), "it goes on from there");
    }
    assert!(ends.contains(&9) && ends.contains(&209) && ends.len() > 5, "{ends:?}");
}

#[test]
fn a_log_that_comes_back_otherwise_is_corrupt() {
    let disk = MemoryDisk::with_segments(1, 4 << 10);
    let store = disk.open();
    drop(appended(&store, 0));
    lock(&disk.durable).groups.clear();
    let error = store.crash().groups().expect_err("nothing was ever synced, says the disk");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("group 1 had nothing and has"), "{error}");
}
