//! The feeds suite over the engines of `keevo-core`.

use keevo_core::{Durability, LocalEngine, LocalOptions, MemoryEngine};
use keevo_feeds::testing::suite;

/// With real parallelism; the library's own tests run it thoroughly on one thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_engine_passes_the_suite_on_several_threads() {
    Box::pin(suite(MemoryEngine::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_engine_passes_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    let options = LocalOptions { durability: Durability::Buffered, ..LocalOptions::default() };
    let engine = LocalEngine::open(dir.path(), options).unwrap();
    Box::pin(suite(engine.clone())).await;
    engine.close().await.unwrap();
}
