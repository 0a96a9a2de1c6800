//! The suite on an engine whose calls give way to each other, so that concurrent ones interleave in ways
//! that an undisturbed engine in memory never shows.

use keevo_chat::testing::{self, Fault, Faulty};
use keevo_core::MemoryEngine;

#[tokio::test(flavor = "current_thread")]
async fn the_suite_passes_whatever_the_interleaving() {
    for seed in 0..12 {
        testing::suite(Faulty::new(MemoryEngine::new(), Fault::Jitter(seed))).await;
    }
}
