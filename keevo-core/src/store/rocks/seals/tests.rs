//! No file of a store shows a value; keys come, go and are missed.

use std::ops::ControlFlow;

use tempfile::TempDir;

use super::*;
use crate::ids::{ClientId, Revision, ShardId};
use crate::key_file::{KeyFile, KeyRing, SecretKey};
use crate::record::Record;
use crate::scan::Direction;
use crate::store::{Durability, ExpiryClock, RocksOptions, RocksStore, Store, StoreBatch, StoreOp};
use crate::system::{STATE, outcomes_key, row_key};

/// What must not be found on the disk.
const SECRET: &str = "this-is-what-nobody-may-read";

struct Lab {
    dir: TempDir,
    file: KeyFile,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap(), file: KeyFile::new(SecretKey([1; 32])) };
        lab.write();
        lab
    }

    fn write(&self) {
        std::fs::write(self.keys(), self.file.text()).unwrap();
    }

    fn keys(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self) -> RocksOptions {
        let keys = Some(Arc::new(KeyRing::open("data_key_file", &self.keys()).unwrap()));
        RocksOptions { keys, ..RocksOptions::without_wal() }
    }

    fn try_open(&self, name: &str) -> Result<RocksStore> {
        RocksStore::open(self.folder(name), self.settings())
    }

    fn open(&self, name: &str) -> RocksStore {
        self.try_open(name).unwrap()
    }

    /// Adds a key and takes it into use.
    fn rotate(&mut self, byte: u8) {
        self.file.add(SecretKey([byte; 32])).unwrap();
        self.write();
    }
}

fn key(number: u32) -> Bytes {
    // Spread over all parts of a compaction; 256 of them.
    let [.., low] = number.to_be_bytes();
    Bytes::from(vec![crate::key::CLASS_HASHED, low, low, 7])
}

fn record(number: u32, expires_at_ms: Option<u64>) -> Bytes {
    let value = format!("{SECRET} {number}").into();
    StoredRecord::value(Record { revision: Revision(u64::from(number)), expires_at_ms, value }).encode(&key(number))
}

fn fill(store: &RocksStore, numbers: std::ops::Range<u32>) {
    let ops = numbers.map(|number| StoreOp::Put(Column::Data, key(number), record(number, None)));
    store.write(StoreBatch { ops: ops.collect() }, Durability::Unlogged).unwrap();
}

fn count(store: &RocksStore) -> u32 {
    let mut found = 0;
    let mut visit = |_: &[u8], value: &[u8]| {
        assert!(value.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "a scan opens what it meets");
        found += 1;
        Ok(ControlFlow::Continue(()))
    };
    store.scan(Column::Data, b"", b"", Direction::Forward, &mut visit).unwrap();
    found
}

/// Whether a file below a folder shows the secret.
fn shows(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().map(Result::unwrap).any(|entry| {
        if entry.file_type().unwrap().is_dir() {
            return shows(&entry.path());
        }
        std::fs::read(entry.path()).unwrap().windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
    })
}

#[test]
fn no_file_shows_a_value() {
    let lab = Lab::new();
    for wal in [true, false] {
        let name = format!("wal-{wal}");
        let settings = RocksOptions { wal, ..lab.settings() };
        let store = RocksStore::open(lab.folder(&name), settings.clone()).unwrap();
        fill(&store, 0..200);
        let change = StoreOp::Put(Column::Changes, key(1), Bytes::from(SECRET));
        let answer = StoreOp::Put(Column::Data, outcomes_key(ShardId(1), ClientId(2), 3), Bytes::from(SECRET));
        store.write(StoreBatch { ops: vec![change, answer] }, Durability::Sync).unwrap();
        assert!(!shows(&lab.folder(&name)), "after writes");
        store.flush().unwrap();
        fill(&store, 100..250);
        store.flush().unwrap();
        store.compact().unwrap();
        assert!(!shows(&lab.folder(&name)), "after a flush and a compaction");
        store.checkpoint(&lab.folder(&format!("copy-{wal}"))).unwrap();
        let staging = lab.folder(&format!("staging-{wal}"));
        std::fs::create_dir(&staging).unwrap();
        let tile = (Bytes::from_static(&[0x10]), Bytes::from_static(&[0x11]));
        let export = store.export(&[tile], &[key(7)], &staging).unwrap();
        assert_eq!(export.rows, [Some(record(7, None))], "the rows beside the files are opened");
        assert!(!shows(&staging), "as files of a snapshot");
        let target = RocksStore::open(lab.folder(&format!("target-{wal}")), settings.clone()).unwrap();
        target.admit_keys(&export.keys).unwrap();
        target.install(&export.files).unwrap();
        assert_eq!((count(&store), count(&target)), (251, 250));
        drop((store, target));
        let copy = RocksStore::open(lab.folder(&format!("copy-{wal}")), settings).unwrap();
        assert_eq!(copy.get(Column::Changes, &key(1)).unwrap().unwrap(), SECRET);
        assert_eq!(copy.multi_get(Column::Data, &[key(3), key(4)]).unwrap(), [3, 4].map(|at| Some(record(at, None))));
        assert_eq!(copy.get_flushed(&key(5)).unwrap(), Some(record(5, None)));
    }
    assert!(!shows(lab.dir.path()), "in all of it");
    let clear = RocksStore::open(lab.folder("clear"), RocksOptions::default()).unwrap();
    fill(&clear, 0..1);
    assert!(shows(lab.dir.path()), "the search finds what there is");
}

#[test]
fn sealing_begins_in_a_store_that_has_data_and_a_compaction_seals_the_rest() {
    let lab = Lab::new();
    let clear = RocksStore::open(lab.folder("db"), RocksOptions::without_wal()).unwrap();
    fill(&clear, 0..1_000);
    let state = StoreOp::Put(Column::Data, row_key(ShardId(1), STATE), crate::system::ShardState::default().encode());
    clear.write(StoreBatch { ops: vec![state] }, Durability::Unlogged).unwrap();
    clear.flush().unwrap();
    assert!(clear.key_ids().is_empty());
    drop(clear);
    let store = lab.open("db");
    assert_eq!(store.key_ids(), [0, 1], "there are values that are not sealed");
    fill(&store, 100..200);
    store.delete_range_of_state();
    assert_eq!(count(&store), 256);
    for part in 0..16 {
        store.compact_part(part, 16).unwrap();
        assert_eq!(store.key_ids() == [1], part == 15, "after part {part}");
    }
    assert_eq!(count(&store), 256);
    drop(store);
    assert!(!shows(&lab.folder("db")));
    let error = RocksStore::open(lab.folder("db"), RocksOptions::without_wal()).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("data_key_file"), "{error}");
}

impl RocksStore {
    /// Removes the system rows, which a scan of the tests does not expect.
    fn delete_range_of_state(&self) {
        let range = StoreOp::DeleteRange(Column::Data, Bytes::from_static(&[0]), Bytes::from_static(&[1]));
        self.write(StoreBatch { ops: vec![range] }, Durability::Unlogged).unwrap();
    }
}

#[test]
fn a_key_is_retired_by_a_compaction_and_missed_before() {
    let mut lab = Lab::new();
    let store = lab.open("db");
    fill(&store, 0..100);
    lab.rotate(2);
    fill(&store, 50..150);
    assert_eq!((store.key_ids(), count(&store)), (vec![1, 2], 150));
    store.flush().unwrap();
    drop(store);
    let whole = lab.file.clone();
    lab.file.remove(1).unwrap();
    lab.write();
    let error = lab.try_open("db").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let file = lab.keys().display().to_string();
    assert!(error.message().contains("key 1") && error.message().contains(&file), "{error}");
    lab.file = whole;
    lab.write();
    let store = lab.open("db");
    store.compact().unwrap();
    assert_eq!((store.key_ids(), count(&store)), (vec![2], 150));
    store.flush().unwrap();
    drop(store);
    lab.file.remove(1).unwrap();
    lab.write();
    assert_eq!(count(&lab.open("db")), 150);
}

#[test]
fn another_key_of_the_same_number_is_no_damage() {
    let mut lab = Lab::new();
    let store = lab.open("db");
    fill(&store, 0..10);
    store.flush().unwrap();
    drop(store);
    lab.file = KeyFile::new(SecretKey([9; 32]));
    lab.write();
    let error = lab.try_open("db").unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("another key 1"), "{error}");
}

#[test]
fn writes_go_on_while_values_are_sealed_anew_and_none_is_lost() {
    let mut lab = Lab::new();
    let store = lab.open("db");
    fill(&store, 0..256);
    for (round, byte) in (0..6_u32).zip(2..) {
        lab.rotate(byte);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in 0..256 {
                    let value = format!("{SECRET} of round {round}").into();
                    let record = Record { revision: Revision(u64::from(round)), expires_at_ms: None, value };
                    let row = StoredRecord::value(record).encode(&key(number));
                    let ops = vec![StoreOp::Put(Column::Data, key(number), row)];
                    store.write(StoreBatch { ops }, Durability::Unlogged).unwrap();
                }
            });
            store.compact().unwrap();
            writer.join().unwrap();
        });
        assert_eq!(store.key_ids(), [round + 2]);
        for number in 0..256 {
            let row = store.get(Column::Data, &key(number)).unwrap().unwrap();
            let stored = StoredRecord::decode(&key(number), &row).unwrap();
            assert_eq!(stored.record.revision, Revision(u64::from(round)), "{number} is what was written last");
        }
    }
}

#[test]
fn a_damaged_row_is_corrupt_and_a_scrub_names_it() {
    let lab = Lab::new();
    let store = lab.open("db");
    fill(&store, 0..20);
    let family = store.family(Column::Data).unwrap();
    let mut stored = store.shared.db.get_cf(family, key(7)).unwrap().unwrap();
    *stored.last_mut().unwrap() ^= 1;
    store.shared.db.put_cf(family, key(7), &stored).unwrap();
    // What is sealed for another key opens there no more than damage does.
    let other = store.shared.db.get_cf(family, key(8)).unwrap().unwrap();
    store.shared.db.put_cf(family, key(9), &other).unwrap();
    for number in [7, 9] {
        let error = store.get(Column::Data, &key(number)).unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.message().contains("another replica"), "{error}");
    }
    let scan = store.scan(Column::Data, b"", b"", Direction::Forward, &mut |_, _| Ok(ControlFlow::Continue(())));
    assert_eq!(scan.unwrap_err().kind(), ErrorKind::Corrupt);
    let scrub = store.begin_scrub(&lab.folder("scrub")).unwrap();
    let done = scrub.step(Column::Data, &Bytes::new(), b"", u64::MAX).unwrap();
    assert_eq!((done.keys, done.damages.len()), (20, 2), "{:?}", done.damages);
    assert_eq!(store.get(Column::Data, &key(8)).unwrap(), Some(record(8, None)));
}

#[test]
fn a_row_that_cannot_be_sealed_anew_keeps_its_key_in_use() {
    let mut lab = Lab::new();
    let store = lab.open("db");
    fill(&store, 0..20);
    let family = store.family(Column::Data).unwrap();
    let mut stored = store.shared.db.get_cf(family, key(7)).unwrap().unwrap();
    *stored.last_mut().unwrap() ^= 1;
    store.shared.db.put_cf(family, key(7), &stored).unwrap();
    lab.rotate(2);
    store.compact().unwrap();
    assert_eq!(store.key_ids(), [1, 2]);
    fill(&store, 7..8);
    store.compact().unwrap();
    assert_eq!((store.key_ids(), count(&store)), (vec![2], 20));
}

#[test]
fn compactions_find_what_has_expired_and_keep_what_they_cannot_open() {
    let lab = Lab::new();
    let store = lab.open("db");
    let ops = (0..30).map(|number| {
        let expiry = [None, Some(50), Some(150)][number as usize % 3];
        StoreOp::Put(Column::Data, key(number), record(number, expiry))
    });
    store.write(StoreBatch { ops: ops.collect() }, Durability::Unlogged).unwrap();
    let family = store.family(Column::Data).unwrap();
    let mut stored = store.shared.db.get_cf(family, key(4)).unwrap().unwrap();
    *stored.last_mut().unwrap() ^= 1;
    store.shared.db.put_cf(family, key(4), &stored).unwrap();
    let clock = ExpiryClock { lower: Bytes::from_static(&[0x10]), upper: Bytes::from_static(&[0x11]), now_ms: 100 };
    store.flush().unwrap();
    store.set_expiry(vec![clock]);
    store.compact_rows(Column::Data, &[], &[]).unwrap();
    let there = |number: u32| store.shared.db.get_cf(family, key(number)).unwrap().is_some();
    for number in 0..30 {
        assert_eq!(there(number), number % 3 != 1 || number == 4, "row {number}; damage is found, not swept away");
    }
}

#[test]
fn a_snapshot_whose_keys_are_missing_is_refused_before_it_comes() {
    let mut lab = Lab::new();
    let store = lab.open("db");
    fill(&store, 0..10);
    lab.rotate(2);
    fill(&store, 10..20);
    let staging = lab.folder("staging");
    std::fs::create_dir(&staging).unwrap();
    let tile = (Bytes::from_static(&[0x10]), Bytes::from_static(&[0x11]));
    let keys = store.export(&[tile], &[], &staging).unwrap().keys;
    assert_eq!(keys.iter().map(|used| used.id).collect::<Vec<_>>(), [1, 2]);
    let mut other = Lab::new();
    other.file = KeyFile::new(SecretKey([1; 32]));
    other.write();
    let target = other.open("db");
    let error = target.admit_keys(&keys).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("key 2"), "{error}");
    assert_eq!(target.key_ids(), [1], "what is refused is not noted");
    let clear = RocksStore::open(other.folder("clear"), RocksOptions::default()).unwrap();
    let error = clear.admit_keys(&keys).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("data_key_file"), "{error}");
    clear.admit_keys(&[KeyUse::NONE]).unwrap();
    other.rotate(2);
    target.admit_keys(&keys).unwrap();
    target.compact().unwrap();
    assert_eq!(target.key_ids(), [1, 2], "a key that a snapshot may still bring stays");
}

#[test]
fn what_a_snapshot_of_a_node_without_keys_brings_is_not_taken_for_sealed() {
    let lab = Lab::new();
    let clear = RocksStore::open(lab.folder("clear"), RocksOptions::without_wal()).unwrap();
    fill(&clear, 0..10);
    let staging = lab.folder("staging");
    std::fs::create_dir(&staging).unwrap();
    let tile = (Bytes::from_static(&[0x10]), Bytes::from_static(&[0x11]));
    let export = clear.export(&[tile], &[], &staging).unwrap();
    assert_eq!(export.keys, [], "it knows of no keys");
    let target = lab.open("db");
    assert_eq!(target.key_ids(), [1]);
    target.admit_keys(&export.keys).unwrap();
    target.install(&export.files).unwrap();
    assert_eq!(target.key_ids(), [0, 1], "values may lie open");
    assert!(shows(&lab.folder("db")));
    target.compact().unwrap();
    assert!(!shows(&lab.folder("db")), "a compaction seals them");
    assert_eq!(count(&target), 10);
}

#[test]
fn a_snapshot_without_values_names_the_key_of_its_node() {
    let lab = Lab::new();
    let store = lab.open("db");
    let staging = lab.folder("staging");
    std::fs::create_dir(&staging).unwrap();
    let tile = (Bytes::from_static(&[0x10]), Bytes::from_static(&[0x11]));
    let keys = store.export(&[tile], &[], &staging).unwrap().keys;
    assert_eq!(keys.iter().map(|used| used.id).collect::<Vec<_>>(), [1]);
}

#[test]
fn the_list_of_keys_is_whole_or_says_that_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(dir.path()).unwrap(), None);
    let named: BTreeSet<KeyUse> = [KeyUse::NONE, KeyUse { id: 7, check: [1, 2, 3, 4] }].into();
    write(dir.path(), &named).unwrap();
    assert_eq!(read(dir.path()).unwrap(), Some(named));
    let path = dir.path().join(FILE);
    let good = std::fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, bad).unwrap();
        assert_eq!(read(dir.path()).unwrap_err().kind(), ErrorKind::Corrupt, "bit {bit}");
    }
}
