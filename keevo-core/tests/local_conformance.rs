//! The conformance suite on the embedded engine, on a folder of its own a test.
#![cfg(feature = "rocksdb")]

use std::sync::Mutex;

use keevo_core::machine::Retention;
use keevo_core::testing::conformance::Factory;
use keevo_core::{ClientId, LocalEngine, LocalOptions, Random, RocksOptions, SeededRandom};
use tempfile::TempDir;

struct Local {
    dirs: Mutex<Vec<TempDir>>,
    random: SeededRandom,
}

impl Local {
    fn new() -> Self {
        Self { dirs: Mutex::default(), random: SeededRandom::from_os() }
    }

    fn open(&self, options: LocalOptions) -> LocalEngine {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let engine = LocalEngine::open(dir.path(), options).expect("an engine on a new folder");
        self.dirs.lock().expect("no test panics here").push(dir);
        engine
    }
}

fn options() -> LocalOptions {
    let store = RocksOptions { block_cache_bytes: 8 << 20, write_buffer_bytes: 8 << 20, ..RocksOptions::default() };
    LocalOptions { store, ..LocalOptions::default() }
}

impl Factory for Local {
    type Engine = LocalEngine;

    async fn fresh(&self) -> LocalEngine {
        self.open(options())
    }

    async fn session(&self, engine: &LocalEngine) -> ClientId {
        let client = ClientId(self.random.next_u128());
        engine.open_session(client).await.expect("a session opens");
        client
    }

    async fn retaining(&self, entries: usize) -> Option<LocalEngine> {
        let retention = Retention { entries_max: entries, ..Retention::default() };
        Some(self.open(LocalOptions { retention, ..options() }))
    }

    async fn reopen(&self, engine: LocalEngine) -> Option<LocalEngine> {
        let cluster = engine.cluster_id();
        engine.close().await.expect("a clean end");
        drop(engine);
        let path = self.dirs.lock().expect("no test panics here").last().expect("opened before").path().to_owned();
        let again = LocalEngine::open(path, options()).expect("the folder opens again");
        assert_eq!(again.cluster_id(), cluster);
        Some(again)
    }
}

keevo_core::conformance_tests!(Local::new());
