//! The conformance suite on the model itself, and proof that the suite notices an engine that breaks the contract.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keevo_core::testing::conformance::{Factory, NAMES, cases, run_one};
use keevo_core::{ClientId, MemoryEngine, SystemClock};

/// Makes a new model for every case.
#[derive(Debug, Default)]
struct Model {
    clients: AtomicU64,
}

impl Factory for Model {
    type Engine = MemoryEngine;

    async fn fresh(&self) -> MemoryEngine {
        MemoryEngine::new()
    }

    async fn session(&self, engine: &MemoryEngine) -> ClientId {
        let client = ClientId(self.clients.fetch_add(1, Ordering::Relaxed).into());
        engine.open_session(client).await.expect("a session opens");
        client
    }

    async fn retaining(&self, entries: usize) -> Option<MemoryEngine> {
        Some(MemoryEngine::with_clock_and_retained(Arc::new(SystemClock::new()), entries))
    }
}

keevo_core::conformance_tests!(Model::default());

/// Gives every case the same engine, as a cluster's factory does.
struct Shared {
    model: Model,
    engine: MemoryEngine,
}

impl Factory for Shared {
    type Engine = MemoryEngine;

    async fn fresh(&self) -> MemoryEngine {
        self.engine.clone()
    }

    async fn session(&self, engine: &MemoryEngine) -> ClientId {
        self.model.session(engine).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_cases_may_share_an_engine() {
    keevo_core::testing::conformance::run_all(&Shared { model: Model::default(), engine: MemoryEngine::new() }).await;
}

#[tokio::test]
async fn names_and_cases_agree() {
    assert_eq!(cases::<Model>().iter().map(|case| case.name).collect::<Vec<_>>(), NAMES);
    assert!(NAMES.len() >= 70, "the suite has {} cases", NAMES.len());
}

#[tokio::test]
#[should_panic(expected = "case no_such_case")]
async fn an_unknown_case_is_a_failure() {
    run_one(&Model::default(), "no_such_case").await;
}
