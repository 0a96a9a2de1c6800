//! The conformance suite on every store of this crate.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tempfile::TempDir;

use super::{Column, Durability, MemoryStore, Store, StoreBatch, StoreOp};
use crate::error::{Error, ErrorKind};
use crate::testing::store::{StoreFactory, run_all_store_cases};

/// Numbered folders in a temporary one.
struct Folders {
    root: TempDir,
    next: AtomicUsize,
}

impl Folders {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), next: AtomicUsize::new(0) }
    }

    fn next(&self) -> PathBuf {
        let path = self.root.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&path).unwrap();
        path
    }
}

struct InMemory(Folders);

impl StoreFactory for InMemory {
    type Store = MemoryStore;

    fn fresh(&self) -> MemoryStore {
        MemoryStore::new().with_export_file_bytes(16 << 10)
    }

    fn crash(&self, store: MemoryStore) -> MemoryStore {
        let copy = store.flushed_copy();
        store.crash();
        copy
    }

    fn folder(&self) -> PathBuf {
        self.0.next()
    }

    fn loses_unflushed(&self) -> bool {
        true
    }
}

#[test]
fn memory_store_conforms() {
    run_all_store_cases(&InMemory(Folders::new()));
}

#[cfg(feature = "rocksdb")]
mod rocks {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::key_file::{KeyFile, KeyRing, SecretKey};
    use crate::store::{RocksOptions, RocksStore};

    struct OnDisk {
        folders: Folders,
        wal: bool,
        keys: Option<Arc<KeyRing>>,
    }

    impl OnDisk {
        fn open(&self, path: &Path) -> RocksStore {
            let settings = RocksOptions {
                wal: self.wal,
                block_cache_bytes: 4 << 20,
                write_buffer_bytes: 4 << 20,
                export_file_bytes: 16 << 10,
                keys: self.keys.as_ref().map(Arc::clone),
                ..RocksOptions::default()
            };
            RocksStore::open(path, settings).unwrap()
        }
    }

    impl StoreFactory for OnDisk {
        type Store = RocksStore;

        fn fresh(&self) -> RocksStore {
            self.open(&self.folders.next())
        }

        /// The files as they are at this moment, as if the process had been killed; closing would flush.
        fn crash(&self, store: RocksStore) -> RocksStore {
            store.hold_still();
            let copy = self.folders.next();
            for entry in std::fs::read_dir(store.path()).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
                }
            }
            drop(store);
            self.open(&copy)
        }

        fn folder(&self) -> PathBuf {
            self.folders.next()
        }

        fn loses_unflushed(&self) -> bool {
            !self.wal
        }
    }

    #[test]
    fn rocks_store_without_wal_conforms() {
        run_all_store_cases(&OnDisk { folders: Folders::new(), wal: false, keys: None });
    }

    #[test]
    fn rocks_store_with_wal_conforms() {
        run_all_store_cases(&OnDisk { folders: Folders::new(), wal: true, keys: None });
    }

    #[test]
    fn rocks_store_whose_values_are_sealed_conforms() {
        for wal in [false, true] {
            let folders = Folders::new();
            let file = folders.root.path().join("keys");
            std::fs::write(&file, KeyFile::new(SecretKey([3; 32])).text()).unwrap();
            let keys = Some(Arc::new(KeyRing::open("data_key_file", &file).unwrap()));
            run_all_store_cases(&OnDisk { folders, wal, keys });
        }
    }
}

#[test]
fn a_memory_store_refuses_changes_while_its_disk_fails_and_loses_none_of_the_others() {
    let store = MemoryStore::new();
    let put = |value: &'static str| StoreBatch {
        ops: vec![StoreOp::Put(Column::Data, Bytes::from_static(b"key"), Bytes::from_static(value.as_bytes()))],
    };
    store.write(put("before"), Durability::Unlogged).unwrap();
    store.set_fault(Some(Error::new(ErrorKind::ResourceExhausted, "the disk is full")));
    assert_eq!(store.write(put("during"), Durability::Unlogged).unwrap_err().kind(), ErrorKind::ResourceExhausted);
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::ResourceExhausted);
    assert_eq!(store.get(Column::Data, b"key").unwrap().as_deref(), Some(b"before".as_slice()));
    assert_eq!(store.get_flushed(b"key").unwrap(), None, "the flush was refused");
    store.flushed_copy().write(put("after"), Durability::Unlogged).expect("a new machine has a new disk");
    store.set_fault(None);
    store.flush().unwrap();
    assert_eq!(store.get_flushed(b"key").unwrap().as_deref(), Some(b"before".as_slice()));
}
