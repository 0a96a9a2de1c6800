//! The conformance suite on the embedded engine, on a folder of its own a test.
#![cfg(feature = "rocksdb")]

use std::sync::{Arc, Mutex};

use keevo_core::key_file::{KeyFile, KeyRing, SecretKey};
use keevo_core::machine::Retention;
use keevo_core::testing::conformance::Factory;
use keevo_core::{ClientId, LocalEngine, LocalOptions, Random, RocksOptions, SeededRandom};
use tempfile::TempDir;

struct Local {
    dirs: Mutex<Vec<TempDir>>,
    random: SeededRandom,
    /// The keys that values are sealed with, and the folder of their file.
    keys: Option<(Arc<KeyRing>, TempDir)>,
}

impl Local {
    fn new() -> Self {
        Self { dirs: Mutex::default(), random: SeededRandom::from_os(), keys: None }
    }

    fn sealed() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("keys");
        std::fs::write(&path, KeyFile::new(SecretKey([4; 32])).text()).expect("written");
        let keys = KeyRing::open("data_key_file", &path).expect("a key file");
        Self { keys: Some((Arc::new(keys), dir)), ..Self::new() }
    }

    fn options(&self) -> LocalOptions {
        let keys = self.keys.as_ref().map(|(keys, _)| Arc::clone(keys));
        let store =
            RocksOptions { block_cache_bytes: 8 << 20, write_buffer_bytes: 8 << 20, keys, ..RocksOptions::default() };
        LocalOptions { store, ..LocalOptions::default() }
    }

    fn open(&self, options: LocalOptions) -> LocalEngine {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let engine = LocalEngine::open(dir.path(), options).expect("an engine on a new folder");
        self.dirs.lock().expect("no test panics here").push(dir);
        engine
    }
}

impl Factory for Local {
    type Engine = LocalEngine;

    async fn fresh(&self) -> LocalEngine {
        self.open(self.options())
    }

    async fn session(&self, engine: &LocalEngine) -> ClientId {
        let client = ClientId(self.random.next_u128());
        engine.open_session(client).await.expect("a session opens");
        client
    }

    async fn retaining(&self, entries: usize) -> Option<LocalEngine> {
        let retention = Retention { entries_max: entries, ..Retention::default() };
        Some(self.open(LocalOptions { retention, ..self.options() }))
    }

    async fn reopen(&self, engine: LocalEngine) -> Option<LocalEngine> {
        let cluster = engine.cluster_id();
        engine.close().await.expect("a clean end");
        drop(engine);
        let path = self.dirs.lock().expect("no test panics here").last().expect("opened before").path().to_owned();
        let again = LocalEngine::open(path, self.options()).expect("the folder opens again");
        assert_eq!(again.cluster_id(), cluster);
        Some(again)
    }
}

keevo_core::conformance_tests!(Local::new());

/// The same with values that are sealed on the disk.
mod sealed {
    use super::Local;

    keevo_core::conformance_tests!(Local::sealed());
}
