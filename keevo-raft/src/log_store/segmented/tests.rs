//! The log of segments passes the suite, agrees with RocksDB's and with a plain map, and loses nothing that was durable.

mod crash;
mod damage;
mod memory_folder;
mod sealing;
mod space;

use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::memory_folder::MemoryFolder;
use super::*;
use crate::log_store::MemoryDisk;
use crate::log_store::histories::{
    GROUPS, Step, any_step, append, entry, expect_confirmed_after_kill, expect_same, expect_shared_syncs, take,
};
use crate::testing::log_store::{LogStoreFactory, run_all_log_store_cases};
use crate::types::{Vote, log_id};

/// Small segments, so that histories are cleaned, and a cache of a few entries, so that most reads come from the disk.
fn small() -> SegmentedLogOptions {
    SegmentedLogOptions {
        cache_bytes_max: 2048,
        queue_bytes_max: 4096,
        segment_bytes: 1024,
        ..SegmentedLogOptions::default()
    }
}

fn open_memory(folder: &Arc<MemoryFolder>) -> Arc<dyn LogStore> {
    open_in(Arc::new(Arc::clone(folder)), &small()).unwrap()
}

/// Whether a file has this ending.
fn is_a(ending: &str, name: &str) -> bool {
    name.strip_suffix(ending).is_some()
}

fn copy(from: &Path, to: &Path) {
    // Its writer goes on. Copied again until no segment was begun or let go meanwhile; what remains is the growing end.
    let manifest = || std::fs::read(from.join("MANIFEST")).ok();
    for _ in 0..100 {
        let before = manifest();
        std::fs::create_dir_all(to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            // One that is gone is one that the manifest doesn't name any more.
            drop(std::fs::copy(file.path(), to.join(file.file_name())));
        }
        if before == manifest() {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
    }
    panic!("{} never stayed the same for the time of a copy", from.display());
}

struct Folders {
    root: TempDir,
    current: Mutex<u32>,
}

impl Folders {
    fn new() -> Self {
        Self { root: TempDir::new().unwrap(), current: Mutex::new(0) }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join(self.current.lock().unwrap().to_string())
    }
}

impl LogStoreFactory for Folders {
    fn open(&self) -> Arc<dyn LogStore> {
        open_segmented_log_store(self.path(), &small()).unwrap()
    }

    fn crash(&self, store: Arc<dyn LogStore>) -> Arc<dyn LogStore> {
        let before = self.path();
        *self.current.lock().unwrap() += 1;
        copy(&before, &self.path());
        drop(store);
        self.open()
    }
}

/// A disk whose crashes lose all that may be lost.
struct Disk(Mutex<(Arc<MemoryFolder>, u64)>);

impl LogStoreFactory for Disk {
    fn open(&self) -> Arc<dyn LogStore> {
        open_memory(&self.0.lock().unwrap().0)
    }

    fn crash(&self, store: Arc<dyn LogStore>) -> Arc<dyn LogStore> {
        {
            let mut state = self.0.lock().unwrap();
            state.1 += 1;
            state.0 = Arc::new(state.0.crash_by(state.1));
        }
        drop(store);
        self.open()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_on_disk() {
    run_all_log_store_cases(Folders::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite_where_power_cuts_take_what_was_not_synced() {
    run_all_log_store_cases(|| Disk(Mutex::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_groups_share_their_syncs() {
    let root = TempDir::new().unwrap();
    let store = open_segmented_log_store(root.path(), &SegmentedLogOptions::default()).unwrap();
    expect_shared_syncs(&store).await;
}

#[tokio::test]
async fn a_folder_is_opened_once() {
    let root = TempDir::new().unwrap();
    let first = open_segmented_log_store(root.path(), &small()).unwrap();
    let second = open_segmented_log_store(root.path(), &small()).unwrap_err();
    assert_eq!(second.kind(), keevo_core::ErrorKind::Unavailable);
    drop(first);
    open_segmented_log_store(root.path(), &small()).unwrap();
}

/// A quiet group's few entries don't keep all segments since then: they are copied to the end.
#[tokio::test]
async fn a_quiet_group_does_not_hold_the_log_back() {
    let folder = Arc::new(MemoryFolder::default());
    let store = open_memory(&folder);
    append(&store, 2, (0..5).map(|index| entry(1, index, 100)).collect()).await.unwrap();
    store.save_vote(2, Vote::new(4, 1)).await.unwrap();
    for index in 0..400 {
        append(&store, 1, vec![entry(1, index, 300)]).await.unwrap();
        if index >= 3 {
            store.purge(1, log_id(1, 1, index - 3)).await.unwrap();
        }
    }
    store.sync().await.unwrap();
    let segments = folder.files().keys().filter(|name| is_a(".log", name)).count();
    assert!(segments <= 9, "{segments} segments of 1 KiB for 2 KiB of entries, where 130 KiB went through");
    let quiet: Vec<Entry> = (0..5).map(|index| entry(1, index, 100)).collect();
    assert_eq!(store.read_stored(2, 0..5, usize::MAX).await.unwrap(), quiet);
    drop(store);
    let store = open_memory(&folder);
    assert_eq!(store.read(2, 0..u64::MAX, usize::MAX).await.unwrap(), quiet);
    assert_eq!(store.vote(2).unwrap(), Some(Vote::new(4, 1)));
    assert_eq!(store.read(1, 0..u64::MAX, usize::MAX).await.unwrap().len(), 3);
}

/// A store that is opened over and over, and holds something, doesn't get a file more for each time.
#[tokio::test]
async fn opening_often_leaves_few_segments() {
    let folder = Arc::new(MemoryFolder::default());
    for index in 0..200 {
        let store = open_memory(&folder);
        append(&store, 1, vec![entry(1, index, 10)]).await.unwrap();
    }
    let segments = folder.files().keys().filter(|name| is_a(".log", name)).count();
    assert!(segments < 100, "{segments}");
    assert_eq!(open_memory(&folder).read(1, 0..u64::MAX, usize::MAX).await.unwrap().len(), 200);
}

/// Recycled segments hold what another one held before, record by record at the same places.
#[tokio::test]
async fn what_a_recycled_segment_held_before_is_never_read() {
    let folder = Arc::new(MemoryFolder::default());
    let mut store = open_memory(&folder);
    let mut recycled = 0;
    for index in 0..600 {
        append(&store, 1, vec![entry(index + 1, index, 300)]).await.unwrap();
        store.purge(1, log_id(index + 1, 1, index)).await.unwrap();
        recycled += usize::from(folder.files().keys().any(|name| is_a(".free", name)));
        if index % 40 == 39 {
            store = open_memory(&Arc::new(folder.crash_by(index)));
            assert_eq!(store.log_state(1).unwrap().last_log_id, Some(log_id(index + 1, 1, index)));
            drop(store);
            store = open_memory(&folder);
        }
    }
    assert!(recycled > 0, "no segment was kept to be written again");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    /// The log of segments says what a plain map says, whatever happens in which order.
    #[test]
    fn the_segments_agree_with_the_model(steps in proptest::collection::vec(any_step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let folder = Arc::new(MemoryFolder::default());
            let mut store = open_memory(&folder);
            let model: Arc<dyn LogStore> = MemoryDisk::new().open();
            for (term, step) in (1..).zip(&steps) {
                if matches!(step, Step::Reopen) {
                    drop(store);
                    store = open_memory(&folder);
                }
                let (real, wanted) = (take(&store, step, term).await, take(&model, step, term).await);
                assert_eq!(real.map_err(|error| error.kind()), wanted.map_err(|error| error.kind()), "{step:?}");
            }
            expect_same(&store, &model, "at the end").await;
            for group in 0..GROUPS {
                let state = model.log_state(group).unwrap();
                let end = state.last_log_id.map_or(0, |last| last.index + 1);
                let first = model.read(group, 0..u64::MAX, 0).await.unwrap().first().map_or(end, |first| first.log_id.index);
                let stored = store.read_stored(group, first..end, usize::MAX).await.unwrap();
                assert_eq!(stored, model.read(group, first..end, usize::MAX).await.unwrap());
            }
        });
    }
}

#[cfg(feature = "rocksdb")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]
    /// The two stores on disk, driven with the same history, say the same, also after they were opened again.
    #[test]
    fn the_segments_agree_with_rocksdb(steps in proptest::collection::vec(any_step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let root = TempDir::new().unwrap();
            let open_rocks = || {
                crate::log_store::open_rocks_log_store(root.path().join("rocks"), &crate::log_store::RocksLogOptions {
                    cache_bytes_max: 2048,
                    ..Default::default()
                }).unwrap()
            };
            let open_segmented = || open_segmented_log_store(root.path().join("segmented"), &small()).unwrap();
            let (mut segmented, mut rocks) = (open_segmented(), open_rocks());
            for (term, step) in (1..).zip(&steps) {
                if matches!(step, Step::Reopen) {
                    drop((segmented, rocks));
                    (segmented, rocks) = (open_segmented(), open_rocks());
                }
                let (one, other) = (take(&segmented, step, term).await, take(&rocks, step, term).await);
                assert_eq!(one.map_err(|error| error.kind()), other.map_err(|error| error.kind()), "{step:?}");
            }
            expect_same(&segmented, &rocks, "before they are opened again").await;
            drop((segmented, rocks));
            expect_same(&open_segmented(), &open_rocks(), "opened again").await;
        });
    }
}
