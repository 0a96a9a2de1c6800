//! Openraft's own storage suite on both stores, and what the adapter adds to a store.

use std::sync::Mutex;

use bytes::Bytes;
use futures::StreamExt;
use openraft::storage::{EntryResponder, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};
use tempfile::TempDir;

use super::*;
use crate::log_store::{MemoryDisk, SegmentedLogOptions, open_segmented_log_store};
use crate::types::{Applied, Payload, Snapshot, SnapshotMeta, StoredMembership, log_id};

/// A state machine that only knows how far it is: the suite wants one beside the log.
#[derive(Debug, Clone, Default)]
struct Machine(Arc<Mutex<(SnapshotMeta, Option<SnapshotMeta>)>>);

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<()>> {
        let mut state = self.0.lock().unwrap();
        let meta = state.0.clone();
        state.1 = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let state = self.0.lock().unwrap();
        Ok((state.0.last_log_id, state.0.last_membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            {
                let mut state = self.0.lock().unwrap();
                state.0.last_log_id = Some(entry.log_id);
                if let EntryPayload::Membership(membership) = entry.payload {
                    state.0.last_membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            if let Some(responder) = responder {
                responder.send(Applied::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, (): ()) -> io::Result<()> {
        *self.0.lock().unwrap() = (meta.clone(), Some(meta.clone()));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<()>>> {
        let state = self.0.lock().unwrap();
        Ok(state.1.clone().map(|meta| Snapshot { meta, snapshot: () }))
    }
}

struct InMemory;

impl StoreBuilder<TypeConfig, GroupLog, Machine> for InMemory {
    async fn build(&self) -> Result<((), GroupLog, Machine), StorageError<TypeConfig>> {
        Ok(((), GroupLog::new(MemoryDisk::new().open(), 1), Machine::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_suite_passes_in_memory() {
    Suite::test_all(InMemory).await.unwrap();
}

/// A store on disk, as `open` makes it in a folder.
struct OnDisk(fn(&std::path::Path) -> keevo_core::Result<Arc<dyn LogStore>>);

impl StoreBuilder<TypeConfig, GroupLog, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, GroupLog, Machine), StorageError<TypeConfig>> {
        let folder = TempDir::new().unwrap();
        let store = (self.0)(folder.path()).unwrap();
        Ok((folder, GroupLog::new(store, 1), Machine::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_suite_passes_in_segments() {
    let open = |path: &std::path::Path| open_segmented_log_store(path, &SegmentedLogOptions::default());
    Suite::test_all(OnDisk(open)).await.unwrap();
}

#[cfg(feature = "rocksdb")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_suite_passes_in_rocksdb() {
    use crate::log_store::{RocksLogOptions, open_rocks_log_store};
    let open = |path: &std::path::Path| open_rocks_log_store(path, &RocksLogOptions::default());
    Suite::test_all(OnDisk(open)).await.unwrap();
}

fn entry(index: u64, bytes: usize) -> Entry {
    Entry { log_id: log_id(1, 1, index), payload: EntryPayload::Normal(Payload(Bytes::from(vec![1; bytes]))) }
}

async fn filled(read_bytes_max: usize) -> GroupLog {
    let mut log = GroupLog::new(MemoryDisk::new().open(), 1).with_read_bytes_max(read_bytes_max);
    log.blocking_append((0..100).map(|index| entry(index, 1000))).await.unwrap();
    log
}

fn indexes(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.log_id.index).collect()
}

#[tokio::test]
async fn replication_reads_are_cut_and_never_skip() {
    let mut log = filled(3500).await;
    assert_eq!(indexes(&log.limited_get_log_entries(10, 50).await.unwrap()), [10, 11, 12]);
    assert_eq!(indexes(&log.try_get_log_entries(90..).await.unwrap()), (90..100).collect::<Vec<_>>());
    log.purge(log_id(1, 1, 11)).await.unwrap();
    assert!(log.limited_get_log_entries(10, 50).await.unwrap().is_empty(), "10 and 11 must not be skipped");
    assert_eq!(indexes(&log.limited_get_log_entries(12, 50).await.unwrap()), [12, 13, 14]);
}

#[tokio::test]
async fn entries_to_apply_come_in_chunks_and_whole() {
    let mut log = filled(3500).await;
    let all: Vec<_> = log.entries_stream(5..95).await.map(|entry| entry.unwrap().log_id.index).collect().await;
    assert_eq!(all, (5..95).collect::<Vec<_>>());
    assert_eq!(log.entries_stream(97..200).await.count().await, 3);
    assert_eq!(log.entries_stream(5..5).await.count().await, 0);
}

#[tokio::test]
async fn a_purge_under_an_apply_is_an_error_not_a_gap() {
    let mut log = filled(3500).await;
    let mut reader = log.clone();
    let mut entries = Box::pin(reader.entries_stream(0..100).await);
    assert_eq!(entries.next().await.unwrap().unwrap().log_id.index, 0);
    log.purge(log_id(1, 1, 50)).await.unwrap();
    let rest: Vec<_> = entries.map(|entry| entry.map(|entry| entry.log_id.index)).collect().await;
    let (last, before) = rest.split_last().unwrap();
    let before: Vec<_> = before.iter().map(|index| *index.as_ref().unwrap()).collect();
    assert_eq!(before, [1, 2], "what was read already");
    assert_eq!(keevo_error(last.as_ref().unwrap_err()).kind(), ErrorKind::Corrupt);
}

/// Where all that was left to apply had been purged, the stream just ended; in a release build openraft then counted
/// the entries as applied, though they never were.
#[tokio::test]
async fn a_purge_of_all_that_is_left_to_apply_is_an_error_not_the_end() {
    for upto in [99, 150] {
        let mut log = filled(3500).await;
        let mut reader = log.clone();
        let mut entries = Box::pin(reader.entries_stream(0..100).await);
        assert_eq!(entries.next().await.unwrap().unwrap().log_id.index, 0);
        log.purge(log_id(1, 1, upto)).await.unwrap();
        let last = entries.collect::<Vec<_>>().await.pop().unwrap();
        assert_eq!(keevo_error(last.as_ref().unwrap_err()).kind(), ErrorKind::Corrupt, "purged up to {upto}");
    }
}

#[test]
fn errors_keep_their_kind_through_openraft() {
    let there = io_error(Error::new(ErrorKind::ResourceExhausted, "the disk is full"));
    assert_eq!(there.kind(), io::ErrorKind::StorageFull);
    let back = keevo_error(&there);
    assert_eq!((back.kind(), back.message()), (ErrorKind::ResourceExhausted, "the disk is full"));
    assert_eq!(keevo_error(&io::Error::other("odd")).kind(), ErrorKind::Io);
}

#[test]
fn ranges_of_every_kind() {
    assert_eq!(indexes_of(3..5), 3..5);
    assert_eq!(indexes_of(3..=5), 3..6);
    assert_eq!(indexes_of(..), 0..u64::MAX);
    assert_eq!(indexes_of((Bound::Excluded(3), Bound::Included(u64::MAX))), 4..u64::MAX);
}

fn indexes_of(range: impl RangeBounds<u64>) -> Range<u64> {
    super::indexes(&range)
}
