//! The feeds suite over the engines of `keevo-core`.

use keevo_core::{Durability, LocalEngine, LocalOptions, MemoryEngine};
use keevo_feeds::testing::{Effort, suite, suite_with};

#[tokio::test]
async fn memory_engine_passes_the_suite() {
    Box::pin(suite_with(MemoryEngine::new(), Effort::Thorough)).await;
}

/// The histories again with real parallelism.
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
