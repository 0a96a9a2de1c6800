//! What the suite can't see: locks, versions, damage, failures of the disk.

use std::ops::ControlFlow;

use tempfile::TempDir;

use super::*;

fn put(key: &str, value: &str) -> StoreBatch {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    StoreBatch { ops: vec![StoreOp::Put(Column::Data, key, value)] }
}

fn new(wal: bool) -> (TempDir, RocksStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), RocksOptions { wal, ..RocksOptions::default() }).unwrap();
    (dir, store)
}

fn kind(result: Result<impl fmt::Debug>) -> ErrorKind {
    result.expect_err("must be refused").kind()
}

#[test]
fn a_second_opener_is_told_the_rule() {
    let (dir, store) = new(true);
    let error = RocksStore::open(dir.path(), RocksOptions::default()).expect_err("open already");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("one process"), "{error}");
    drop(store);
    RocksStore::open(dir.path(), RocksOptions::default()).unwrap();
}

#[test]
fn a_folder_with_unknown_column_families_is_newer() {
    let (dir, store) = new(true);
    drop(store);
    let mut options = rocksdb::Options::default();
    options.create_missing_column_families(true);
    drop(DB::open_cf(&options, dir.path(), ["data", "changes", "from-the-future"]).unwrap());
    assert_eq!(kind(RocksStore::open(dir.path(), RocksOptions::default())), ErrorKind::NewerFormat);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for settings in [
        RocksOptions { write_buffer_bytes: 0, ..RocksOptions::default() },
        RocksOptions { block_cache_bytes: 0, ..RocksOptions::default() },
        RocksOptions { max_background_jobs: 0, ..RocksOptions::default() },
        RocksOptions { export_file_bytes: 0, ..RocksOptions::default() },
        RocksOptions { background_bytes_per_s_max: u64::MAX, ..RocksOptions::default() },
    ] {
        assert_eq!(kind(RocksStore::open(dir.path(), settings)), ErrorKind::Config);
    }
}

#[test]
fn a_failed_flush_stops_the_store() {
    for wal in [false, true] {
        let (dir, store) = new(wal);
        store.write(put("a", "1"), Durability::Unlogged).unwrap();
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(kind(store.flush()), ErrorKind::Io, "wal {wal}");
        assert!(store.has_stopped());
        assert_eq!(kind(store.write(put("a", "2"), Durability::Unlogged)), ErrorKind::Io);
        assert_eq!(kind(store.flush()), ErrorKind::Io);
        assert_eq!(store.get(Column::Data, b"a").unwrap().unwrap(), "1", "reads go on");
    }
}

#[test]
fn a_flipped_bit_in_a_table_is_corrupt_and_never_served() {
    let (dir, store) = new(false);
    for number in 0..1_000 {
        let batch = put(&format!("key{number:04}"), &format!("value{number:04}").repeat(8));
        store.write(batch, Durability::Unlogged).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let mut flipped = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[100] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            flipped += 1;
        }
    }
    assert!(flipped > 0, "the flush has written a table");
    let store = RocksStore::open(dir.path(), RocksOptions::without_wal()).unwrap();
    assert_eq!(kind(store.get(Column::Data, b"key0000")), ErrorKind::Corrupt);
    let scanned = store.scan(Column::Data, b"", b"", Direction::Forward, &mut |_, _| Ok(ControlFlow::Continue(())));
    assert_eq!(kind(scanned), ErrorKind::Corrupt);
}

#[test]
fn a_flipped_bit_in_the_write_ahead_log_never_hides_what_was_synced() {
    let (dir, store) = new(true);
    for number in 0..50 {
        store.write(put(&format!("key{number:02}"), &"v".repeat(200)), Durability::Sync).unwrap();
    }
    store.hold_still();
    let left = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), left.path().join(entry.file_name())).unwrap();
        }
    }
    let files = std::fs::read_dir(left.path()).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let wal = logs.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let intact = std::fs::read(&wal).unwrap();
    let mut damaged = intact.clone();
    damaged[intact.len() / 3] ^= 1;
    std::fs::write(&wal, damaged).unwrap();
    let reopen = || RocksStore::open(left.path(), RocksOptions::default());
    assert_eq!(reopen().expect_err("synced writes lie behind the damage").kind(), ErrorKind::Corrupt);
    // A torn end is what a crash leaves: the write that it was part of was never confirmed.
    std::fs::write(&wal, &intact[..intact.len() - 50]).unwrap();
    let store = reopen().unwrap();
    assert!(store.get(Column::Data, b"key48").unwrap().is_some());
    assert!(store.get(Column::Data, b"key49").unwrap().is_none());
}

#[test]
fn a_checkpoint_is_a_store_of_its_own() {
    for wal in [false, true] {
        let (dir, store) = new(wal);
        store.write(put("a", "1"), Durability::Unlogged).unwrap();
        let copy_path = dir.path().join("copy");
        store.checkpoint(&copy_path).unwrap();
        store.write(put("a", "2"), Durability::Unlogged).unwrap();
        let copy = RocksStore::open(&copy_path, RocksOptions { wal, ..RocksOptions::default() }).unwrap();
        assert_eq!(copy.get(Column::Data, b"a").unwrap().unwrap(), "1");
        assert_eq!(store.get(Column::Data, b"a").unwrap().unwrap(), "2");
    }
}

#[test]
fn compaction_drops_what_was_removed() {
    let (_dir, store) = new(true);
    for number in 0..2_000_u32 {
        let noise = Bytes::from(number.wrapping_mul(2_654_435_761).to_be_bytes().repeat(64));
        let key = Bytes::copy_from_slice(&number.to_be_bytes());
        store.write(StoreBatch { ops: vec![StoreOp::Put(Column::Data, key, noise)] }, Durability::Buffered).unwrap();
    }
    store.flush().unwrap();
    let before = store.stats().unwrap();
    assert!(before.table_bytes > 0 && before.flush_bytes > 0 && before.wal_bytes > 0, "{before:?}");
    let everything = StoreOp::DeleteRange(Column::Data, Bytes::new(), Bytes::from_static(&[0xff]));
    store.write(StoreBatch { ops: vec![everything] }, Durability::Buffered).unwrap();
    store.compact().unwrap();
    let after = store.stats().unwrap();
    assert!(after.table_bytes * 4 < before.table_bytes, "{before:?} to {after:?}");
    assert_eq!(after.background_errors, 0);
}

#[test]
fn levels_are_counted_and_a_range_is_compacted_alone() {
    let (_dir, store) = new(true);
    assert_eq!(store.levels().unwrap(), []);
    // Fewer than the store compacts by itself.
    for key in ["a", "z"] {
        let put = StoreOp::Put(Column::Data, Bytes::from(key), Bytes::from(vec![1; 2_000]));
        store.write(StoreBatch { ops: vec![put] }, Durability::Buffered).unwrap();
        store.flush().unwrap();
    }
    let count = |level: u32| {
        let levels = store.levels().unwrap();
        let of = levels.iter().filter(|one| one.family == "data" && one.level == level);
        of.map(|one| one.files).sum::<u64>()
    };
    assert_eq!(count(0), 2, "{:?}", store.levels());
    assert!(store.levels().unwrap().iter().any(|one| one.score_permille > 0 && one.bytes > 0), "{:?}", store.levels());
    store.compact_rows(Column::Data, b"b", b"").unwrap();
    assert_eq!(count(0), 1, "those before the range stay: {:?}", store.levels());
    store.compact_rows(Column::Data, b"", b"").unwrap();
    assert_eq!(count(0), 0, "{:?}", store.levels());
    assert_eq!(store.get(Column::Data, b"z").unwrap().unwrap(), vec![1; 2_000]);
}

#[test]
fn only_synced_writes_sync() {
    let (_dir, store) = new(true);
    let syncs = || store.stats().unwrap().wal_syncs;
    let start = syncs();
    for _ in 0..10 {
        store.write(put("a", "1"), Durability::Buffered).unwrap();
    }
    assert_eq!(syncs(), start);
    for _ in 0..10 {
        store.write(put("a", "2"), Durability::Sync).unwrap();
    }
    assert_eq!(syncs(), start + 10);
}

/// The rows of the data column in a copy of the folder as a crash leaves it.
fn after_crash(store: &RocksStore) -> Vec<(Bytes, Bytes)> {
    let left = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(store.path()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), left.path().join(entry.file_name())).unwrap();
        }
    }
    let store = RocksStore::open(left.path(), RocksOptions::without_wal()).unwrap();
    let mut rows = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        Ok(ControlFlow::Continue(()))
    };
    store.scan(Column::Data, b"", b"", Direction::Forward, &mut visit).unwrap();
    rows
}

/// A range delete and then an ingestion are two steps: a crash between them leaves an empty range beside the old applied
/// index, and the replay of the log goes wrong without a word. So the tombstones are in the ingested files themselves.
#[test]
fn a_crash_at_any_step_of_an_install_leaves_the_old_rows_or_the_new() {
    let state = |applied: &'static str, keys: &[&'static str]| -> Vec<(Bytes, Bytes)> {
        let rows = std::iter::once(("applied", applied)).chain(keys.iter().map(|key| (*key, applied)));
        rows.map(|(key, value)| (Bytes::from(key), Bytes::from(value))).collect()
    };
    let fill = |store: &RocksStore, rows: &[(Bytes, Bytes)]| {
        let everything = StoreOp::DeleteRange(Column::Data, Bytes::from("a"), Bytes::from("z"));
        let puts = rows.iter().map(|(key, value)| StoreOp::Put(Column::Data, key.clone(), value.clone()));
        let ops = std::iter::once(everything).chain(puts).collect();
        store.write(StoreBatch { ops }, Durability::Unlogged).unwrap();
    };
    let (flushed, newest, installed) =
        (state("5", &["k1", "k2", "k3"]), state("7", &["k1", "k2", "k3", "k4"]), state("9", &["k2", "k5"]));
    let ((_source_dir, source), (_target_dir, target)) = (new(false), new(false));
    fill(&source, &installed);
    let staging = tempfile::tempdir().unwrap();
    let tiles = [(Bytes::from("a"), Bytes::from("k")), (Bytes::from("k"), Bytes::from("z"))];
    let files = source.export(&tiles, &[], staging.path()).unwrap().files;
    fill(&target, &flushed);
    target.flush().unwrap();
    fill(&target, &newest);
    target.hold_still();
    assert_eq!(after_crash(&target), flushed, "before the install");
    // What the ingestion does first: the memtables that overlap are flushed.
    target.flush().unwrap();
    assert_eq!(after_crash(&target), newest, "before the ingestion");
    fill(&target, &newest);
    snapshot::install(&target, &files).unwrap();
    assert_eq!(after_crash(&target), installed, "after the ingestion, before the flush");
    target.flush().unwrap();
    assert_eq!(after_crash(&target), installed, "after the flush");
}
