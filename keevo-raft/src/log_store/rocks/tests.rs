//! The store on disk passes the suite, shares its syncs, and refuses what was damaged.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::log_store::MemoryDisk;
use crate::log_store::histories::{
    Step, any_step, append, entry, expect_confirmed_after_kill, expect_shared_syncs, take,
};
use crate::testing::log_store::{LogStoreFactory, run_all_log_store_cases};
use crate::types::{Vote, log_id};

fn small() -> RocksLogOptions {
    // The cache holds a few entries only, so that most reads come from the disk.
    RocksLogOptions { cache_bytes_max: 2048, queue_bytes_max: 4096, memtable_bytes: 1 << 20, ..Default::default() }
}

fn open(path: &Path) -> Arc<dyn LogStore> {
    open_rocks_log_store(path, &small()).unwrap()
}

/// Copies a folder as it is at one moment: what a killed process leaves. RocksDB goes on in the background, and a
/// file that it adds or removes between two copies would make an image that never lay on any disk; the copy is
/// then made again. What remains is the growing tail of the newest log file, of which any prefix is a crash.
fn copy(from: &Path, to: &Path) {
    for _ in 0..100 {
        let before = listing(from);
        std::fs::create_dir_all(to).unwrap();
        let copied = before.keys().all(|name| std::fs::copy(from.join(name), to.join(name)).is_ok());
        if copied && listing(from) == before {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
    }
    panic!("{} never stayed the same for the time of a copy", from.display());
}

/// The files of a folder, with the sizes of those that say which others belong to the database.
fn listing(folder: &Path) -> BTreeMap<OsString, u64> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let size = |name: &OsString| {
        let manifest = name.to_string_lossy().starts_with("MANIFEST");
        if manifest { std::fs::metadata(folder.join(name)).map_or(0, |meta| meta.len()) } else { 0 }
    };
    files.map(|name| (size(&name), name)).map(|(size, name)| (name, size)).collect()
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
        open(&self.path())
    }

    fn crash(&self, store: Arc<dyn LogStore>) -> Arc<dyn LogStore> {
        let before = self.path();
        *self.current.lock().unwrap() += 1;
        copy(&before, &self.path());
        drop(store);
        self.open()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite() {
    run_all_log_store_cases(Folders::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_groups_share_their_syncs() {
    let root = TempDir::new().unwrap();
    let store = open_rocks_log_store(root.path(), &RocksLogOptions::default()).unwrap();
    expect_shared_syncs(&store).await;
}

#[tokio::test]
async fn a_killed_process_keeps_every_confirmed_append() {
    let root = TempDir::new().unwrap();
    let (live, left) = (root.path().join("live"), root.path().join("left"));
    let store = open(&live);
    expect_confirmed_after_kill(&store, || {
        copy(&live, &left);
        open(&left)
    })
    .await;
}

/// Flips one bit of the stored value of `key`.
fn flip(path: &Path, column: &str, key: &[u8], bit: usize) {
    let backend = RocksBackend::open(path, &small()).unwrap();
    let column = backend.column(column).unwrap();
    let mut value = backend.db.get_cf(column, key).unwrap().expect("the row exists");
    let bit = bit % (value.len() * 8);
    value[bit / 8] ^= 1 << (bit % 8);
    backend.db.put_cf(column, key, value).unwrap();
}

async fn filled(path: &Path) {
    let store = open(path);
    for group in [1, 2] {
        append(&store, group, (0..10).map(|index| entry(1, index, 50)).collect()).await.unwrap();
        store.save_vote(group, Vote::new(1, 1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_flipped_bit_in_an_entry_is_corrupt_and_spares_the_others() {
    for bit in [0, 8 * 4, 8 * 5, 8 * 20 + 3, 8 * 50 + 7] {
        let root = TempDir::new().unwrap();
        filled(root.path()).await;
        flip(root.path(), ENTRIES, &codec::entry_key(1, 4), bit);
        let store = open(root.path());
        let kind = |result: Result<Vec<Entry>>| result.map(|entries| entries.len()).map_err(|error| error.kind());
        assert_eq!(kind(store.read(1, 0..10, usize::MAX).await), Err(ErrorKind::Corrupt), "bit {bit}");
        assert_eq!(kind(store.read(1, 5..10, usize::MAX).await), Ok(5));
        assert_eq!(kind(store.read(2, 0..10, usize::MAX).await), Ok(10));
    }
}

#[tokio::test]
async fn a_group_with_a_damaged_end_or_vote_can_only_be_destroyed() {
    for (column, key) in [(ENTRIES, codec::entry_key(1, 9).to_vec()), (STATE, codec::state_key(1, Tag::Vote).to_vec())]
    {
        let root = TempDir::new().unwrap();
        filled(root.path()).await;
        flip(root.path(), column, &key, 100);
        let store = open(root.path());
        assert_eq!(store.groups().unwrap(), [1, 2], "a damaged group is not forgotten");
        assert_eq!(store.vote(1).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(store.log_state(1).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(store.save_vote(1, Vote::new(9, 1)).await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(append(&store, 1, vec![entry(1, 10, 1)]).await.unwrap_err().kind(), ErrorKind::Corrupt);
        append(&store, 2, vec![entry(1, 10, 1)]).await.unwrap();
        store.destroy(1).await.unwrap();
        assert_eq!(store.vote(1).unwrap(), None);
        drop(store);
        let store = open(root.path());
        assert_eq!(store.groups().unwrap(), [2]);
        append(&store, 1, vec![entry(1, 0, 1)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_entry_is_a_hole_not_the_end() {
    let root = TempDir::new().unwrap();
    filled(root.path()).await;
    {
        let backend = RocksBackend::open(root.path(), &small()).unwrap();
        backend.db.delete_cf(backend.column(ENTRIES).unwrap(), codec::entry_key(1, 4)).unwrap();
    }
    let store = open(root.path());
    let error = store.read(1, 2..8, usize::MAX).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.message(), "the log of group 1 lacks its entry 4");
}

/// What memory still holds hides nothing: the scrub reads the disk, names each damaged entry, and goes on behind it.
#[tokio::test]
async fn a_scrub_names_the_entries_that_are_damaged_on_the_disk() {
    let root = TempDir::new().unwrap();
    filled(root.path()).await;
    flip(root.path(), ENTRIES, &codec::entry_key(1, 4), 8 * 20 + 3);
    let store = open(root.path());
    let done = crate::log_store::scrub(store.as_ref(), 1, 0, usize::MAX).await.unwrap();
    assert_eq!((done.entries, done.next), (9, None));
    let places: Vec<&str> = done.damages.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["log entry 4 of shard 1"]);
    let sound = crate::log_store::scrub(store.as_ref(), 2, 0, usize::MAX).await.unwrap();
    assert_eq!((sound.entries, sound.damages), (10, vec![]));
    drop(store);
    flip(root.path(), STATE, &codec::state_key(2, Tag::Vote), 100);
    let store = open(root.path());
    let damaged = crate::log_store::scrub(store.as_ref(), 2, 0, usize::MAX).await.unwrap();
    assert_eq!(damaged.damages.len(), 1, "{damaged:?}");
}

#[tokio::test]
async fn a_reclaimed_log_has_what_it_had_and_takes_less_of_the_disk() {
    let root = TempDir::new().unwrap();
    let store = open(root.path());
    append(&store, 1, (0..200).map(|index| entry(1, index, 2_000)).collect()).await.unwrap();
    store.purge(1, log_id(1, 1, 197)).await.unwrap();
    // Tables and write-ahead logs; RocksDB writes a journal beside them, which grows with every call.
    let counts = |path: &Path| path.extension().is_some_and(|ext| ext == "sst" || ext == "log");
    let size = || {
        let files = std::fs::read_dir(root.path()).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| counts(path)).map(|path| path.metadata().unwrap().len()).sum::<u64>()
    };
    // The purge is buffered: its record would come between.
    store.sync().await.unwrap();
    let before = size();
    store.reclaim(1_000).await.unwrap();
    assert_eq!(size(), before, "there is no room to do it");
    store.reclaim(100 << 20).await.unwrap();
    assert!(size() * 2 < before, "{before} bytes before, {} after", size());
    assert_eq!(store.read(1, 198..200, usize::MAX).await.unwrap().len(), 2);
    drop(store);
    assert_eq!(open(root.path()).log_state(1).unwrap().last_log_id, Some(log_id(1, 1, 199)));
}

/// The write-ahead log of a folder that is a copy of a live one: the longest, as no memtable was flushed yet.
fn wal(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|ext| ext == "log"));
    logs.max_by_key(|path| path.metadata().unwrap().len()).expect("there is a write-ahead log")
}

#[tokio::test]
async fn a_flipped_bit_in_the_write_ahead_log_never_hides_what_was_synced() {
    let root = TempDir::new().unwrap();
    let (live, left) = (root.path().join("live"), root.path().join("left"));
    let store = open(&live);
    for index in 0..20 {
        append(&store, 1, vec![entry(1, index, 300)]).await.unwrap();
    }
    copy(&live, &left);
    let path = wal(&left);
    let intact = std::fs::read(&path).unwrap();
    for at in [intact.len() / 10, intact.len() / 3, intact.len() / 2] {
        let mut damaged = intact.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let error = open_rocks_log_store(&left, &small()).expect_err("synced records lie behind the damage");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
    }
    std::fs::write(&path, &intact).unwrap();
    assert_eq!(open(&left).read(1, 0..u64::MAX, usize::MAX).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_torn_end_of_the_write_ahead_log_is_dropped() {
    let root = TempDir::new().unwrap();
    let (live, left) = (root.path().join("live"), root.path().join("left"));
    let store = open(&live);
    for index in 0..20 {
        append(&store, 1, vec![entry(1, index, 300)]).await.unwrap();
    }
    copy(&live, &left);
    let path = wal(&left);
    let intact = std::fs::read(&path).unwrap();
    std::fs::write(&path, &intact[..intact.len() - 100]).unwrap();
    let entries = open(&left).read(1, 0..u64::MAX, usize::MAX).await.unwrap();
    assert_eq!(entries.len(), 19, "only the entry whose record is torn is gone");
}

#[tokio::test]
async fn a_folder_is_opened_once() {
    let root = TempDir::new().unwrap();
    let first = open(root.path());
    let second = open_rocks_log_store(root.path(), &small()).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Unavailable);
    drop(first);
    open(root.path());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    /// Cache, disk and marks say what a plain map says, whatever happens in which order.
    #[test]
    fn the_disk_agrees_with_the_model(steps in proptest::collection::vec(any_step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let root = TempDir::new().unwrap();
            let mut store = open(root.path());
            let model: Arc<dyn LogStore> = MemoryDisk::new().open();
            for (term, step) in (1..).zip(&steps) {
                if matches!(step, Step::Reopen) {
                    drop(store);
                    store = open(root.path());
                }
                let (real, wanted) = (take(&store, step, term).await, take(&model, step, term).await);
                assert_eq!(real.map_err(|error| error.kind()), wanted.map_err(|error| error.kind()), "{step:?}");
                assert_eq!(store.groups().unwrap(), model.groups().unwrap(), "{step:?}");
                for group in 0..3 {
                    assert_eq!(store.log_state(group).unwrap(), model.log_state(group).unwrap(), "{step:?}");
                    assert_eq!(store.vote(group).unwrap(), model.vote(group).unwrap());
                    assert_eq!(store.committed(group).unwrap(), model.committed(group).unwrap());
                }
            }
            for group in 0..3 {
                let all = store.read(group, 0..u64::MAX, usize::MAX).await.unwrap();
                assert_eq!(all, model.read(group, 0..u64::MAX, usize::MAX).await.unwrap());
            }
            let counters = store.counters();
            assert!(counters.cached_bytes <= 2048 + 4096, "the cache keeps its limit: {counters:?}");
        });
    }
}
