//! The conformance suite on every store of this crate.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::MemoryStore;
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

    use super::*;
    use crate::store::{RocksOptions, RocksStore};

    struct OnDisk {
        folders: Folders,
        wal: bool,
    }

    impl OnDisk {
        fn open(&self, path: &Path) -> RocksStore {
            let settings = RocksOptions {
                wal: self.wal,
                block_cache_bytes: 4 << 20,
                write_buffer_bytes: 4 << 20,
                export_file_bytes: 16 << 10,
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
        run_all_store_cases(&OnDisk { folders: Folders::new(), wal: false });
    }

    #[test]
    fn rocks_store_with_wal_conforms() {
        run_all_store_cases(&OnDisk { folders: Folders::new(), wal: true });
    }
}
