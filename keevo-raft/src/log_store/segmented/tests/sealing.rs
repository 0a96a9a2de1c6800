//! A sealed log passes the suite, agrees with an open one, shows no entry, and tells a missing key from damage.

use keevo_core::ErrorKind;
use keevo_core::key_file::{KeyFile, KeyRing, SecretKey};

use super::*;

/// A key file and a folder.
struct Lab {
    dir: TempDir,
    file: KeyFile,
    folder: Arc<MemoryFolder>,
}

impl Lab {
    fn new() -> Self {
        let (dir, file) = (TempDir::new().unwrap(), KeyFile::new(SecretKey([5; 32])));
        let lab = Self { dir, file, folder: Arc::default() };
        lab.write();
        lab
    }

    fn write(&self) {
        std::fs::write(self.dir.path().join("keys"), self.file.text()).unwrap();
    }

    fn rotate(&mut self, byte: u8) {
        self.file.add(SecretKey([byte; 32])).unwrap();
        self.write();
    }

    fn options(&self) -> SegmentedLogOptions {
        let keys = KeyRing::open("data_key_file", &self.dir.path().join("keys")).unwrap();
        SegmentedLogOptions { keys: Some(Arc::new(keys)), ..small() }
    }

    fn try_open(&self) -> Result<Arc<dyn LogStore>> {
        open_in(Arc::new(Arc::clone(&self.folder)), &self.options())
    }

    fn open(&self) -> Arc<dyn LogStore> {
        self.try_open().unwrap()
    }

    /// Whether a file shows the payload of an entry.
    fn shows(&self) -> bool {
        self.folder.files().values().any(|bytes| bytes.windows(16).any(|part| part == [3; 16]))
    }
}

/// A disk with keys whose crashes lose all that may be lost.
struct SealedDisk(Mutex<(Lab, u64)>);

impl LogStoreFactory for SealedDisk {
    fn open(&self) -> Arc<dyn LogStore> {
        self.0.lock().unwrap().0.open()
    }

    fn crash(&self, store: Arc<dyn LogStore>) -> Arc<dyn LogStore> {
        {
            let mut state = self.0.lock().unwrap();
            state.1 += 1;
            let left = state.0.folder.crash_by(state.1);
            state.0.folder = Arc::new(left);
        }
        drop(store);
        self.open()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_log_passes_the_suite() {
    run_all_log_store_cases(|| SealedDisk(Mutex::new((Lab::new(), 0)))).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    /// Whatever happens, keys are added on the way, and the log is opened again: it says what a plain map says.
    #[test]
    fn a_sealed_log_agrees_with_the_model(steps in proptest::collection::vec(any_step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let mut lab = Lab::new();
            let mut store = lab.open();
            let model: Arc<dyn LogStore> = MemoryDisk::new().open();
            for (term, step) in (1..).zip(&steps) {
                if matches!(step, Step::Reopen) {
                    lab.rotate(u8::try_from(term % 251).unwrap());
                    drop(store);
                    store = lab.open();
                }
                let (real, wanted) = (take(&store, step, term).await, take(&model, step, term).await);
                assert_eq!(real.map_err(|error| error.kind()), wanted.map_err(|error| error.kind()), "{step:?}");
            }
            expect_same(&store, &model, "at the end").await;
            drop(store);
            assert!(!lab.shows());
            expect_same(&lab.open(), &model, "opened again").await;
        });
    }
}

/// Ten entries of 50 bytes and a vote for a group.
async fn fill(store: &Arc<dyn LogStore>, group: GroupId) {
    append(store, group, (0..10).map(|index| entry(1, index, 50)).collect()).await.unwrap();
    store.save_vote(group, Vote::new(7, 1)).await.unwrap();
}

async fn expect_filled(store: &Arc<dyn LogStore>, group: GroupId) {
    let wanted: Vec<Entry> = (0..10).map(|index| entry(1, index, 50)).collect();
    assert_eq!(store.read_stored(group, 0..10, usize::MAX).await.unwrap(), wanted);
    assert_eq!(store.vote(group).unwrap(), Some(Vote::new(7, 1)));
}

#[tokio::test]
async fn sealing_begins_in_a_log_that_has_entries_and_seals_them_too() {
    let lab = Lab::new();
    fill(&open_memory(&lab.folder), 1).await;
    assert!(lab.shows(), "the search finds what there is");
    let store = lab.open();
    assert_eq!(store.counters().oldest_key, 0);
    fill(&store, 2).await;
    expect_filled(&store, 1).await;
    expect_filled(&store, 2).await;
    // Each batch copies a little of what is old, until the segments that hold it are gone.
    for term in 8..200 {
        store.save_vote(3, Vote::new(term, 1)).await.unwrap();
    }
    drop(store);
    expect_filled(&lab.open(), 1).await;
    assert!(!lab.shows(), "segments from before are gone, and their files are not written again");
    let error = open_in(Arc::new(Arc::clone(&lab.folder)), &small()).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("data_key_file"), "{error}");
}

#[tokio::test]
async fn a_missing_key_stops_the_start_and_nothing_is_lost() {
    let mut lab = Lab::new();
    let store = lab.open();
    fill(&store, 1).await;
    lab.rotate(6);
    fill(&store, 2).await;
    drop(store);
    let (whole, before) = (lab.file.clone(), lab.folder.files());
    lab.file.remove(1).unwrap();
    lab.write();
    let error = lab.try_open().unwrap_err();
    let path = lab.dir.path().join("keys").display().to_string();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("key 1") && error.message().contains(&path), "{error}");
    lab.file = KeyFile::new(SecretKey([9; 32]));
    lab.write();
    let error = lab.try_open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let logs = |files: std::collections::BTreeMap<String, Vec<u8>>| -> Vec<_> {
        files.into_iter().filter(|(name, _)| is_a(".log", name)).collect()
    };
    assert_eq!(logs(lab.folder.files()), logs(before), "what cannot be opened is not touched");
    lab.file = whole;
    lab.write();
    let store = lab.open();
    expect_filled(&store, 1).await;
    expect_filled(&store, 2).await;
}

#[tokio::test]
async fn a_key_is_retired_by_a_restart_and_some_writes() {
    let mut lab = Lab::new();
    fill(&lab.open(), 1).await;
    lab.rotate(6);
    let store = lab.open();
    assert_eq!(store.counters().oldest_key, 1);
    for term in 8..100 {
        store.save_vote(1, Vote::new(term, 1)).await.unwrap();
    }
    assert_eq!(store.counters().oldest_key, 2);
    drop(store);
    lab.file.remove(1).unwrap();
    lab.write();
    let store = lab.open();
    let wanted: Vec<Entry> = (0..10).map(|index| entry(1, index, 50)).collect();
    assert_eq!(store.read_stored(1, 0..10, usize::MAX).await.unwrap(), wanted);
}

/// What has a good checksum and does not open is damage, of that entry alone.
#[tokio::test]
async fn an_entry_that_does_not_open_is_damaged_and_spares_the_others() {
    let lab = Lab::new();
    fill(&lab.open(), 1).await;
    let name = stream::segment_name(1);
    let mut bytes = lab.folder.files()[&name].clone();
    let mut at = stream::SEGMENT_HEADER_BYTES;
    let place = |at: usize| record::Position { segment: 1, offset: at.try_into().unwrap() };
    let header = loop {
        let header = Header::read(&bytes[at..], place(at)).unwrap().expect("there is an entry");
        if (header.kind, header.index) == (Kind::SealedEntry, 2) {
            break header;
        }
        at += header.record_bytes();
    };
    let end = at + header.record_bytes();
    bytes[end - 1] ^= 1;
    let forged = Header { body_crc: crc32fast::hash(&bytes[at + HEADER_BYTES..end]), ..header };
    bytes[at..at + HEADER_BYTES].copy_from_slice(&forged.encode(place(at)));
    lab.folder.replace(&name, bytes);
    let store = lab.open();
    let error = store.read(1, 0..10, usize::MAX).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.message().contains("entry 2 of group 1"), "{error}");
    assert_eq!(store.read(1, 3..10, usize::MAX).await.unwrap().len(), 7);
}
