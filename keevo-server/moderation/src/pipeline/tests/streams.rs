//! Texts that come in past the callers, and who runs the pipeline.

use std::sync::Arc;
use std::time::Duration;

use keevo_core::{MemoryEngine, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::pipeline::Pipeline;
use crate::testing::{FaultyEngine, World};

/// A world whose engine lives by the real clock, since leases run out by it.
async fn real() -> World {
    let world = World::new().await.with_lists().await;
    World { engine: MemoryEngine::with_clock_and_retained(Arc::new(SystemClock::new()), 50), ..world }
}

struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(pipeline: Pipeline<FaultyEngine>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(pipeline.run(stop.clone()));
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("it ends");
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

#[tokio::test]
async fn texts_past_the_callers_are_caught_up_with_across_restarts() {
    let world = real().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let first = Running::start(world.pipeline_of(moderator.clone(), 1));
    // The place in the stream is there once the lease is.
    until("the tail is in place", async || {
        world.write_text("probe", "fine").await;
        world.verdicts(&["probe"]).await.len() == 1
    })
    .await;
    world.write_text("a", "so bad").await;
    until("a has its verdict", async || world.verdicts(&["a"]).await.len() == 1).await;
    first.stop().await;
    // While nobody runs: a new text, an edit, and one that was judged before.
    world.write_text("a", "edited").await;
    world.write_text("b", "fine").await;
    world.write_text("a", "so bad").await;
    let second = Running::start(world.pipeline_of(moderator.clone(), 2));
    until("all have their verdicts", async || world.verdicts(&["a", "b"]).await.len() == 3).await;
    second.stop().await;
    assert_eq!(moderator.metrics().verdicts[1], 1, "the text that was judged before is not judged again");
}

#[tokio::test]
async fn a_gap_in_the_stream_is_counted_and_the_stream_goes_on() {
    let world = real().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let first = Running::start(world.pipeline_of(moderator.clone(), 1));
    until("the tail is in place", async || {
        world.write_text("probe", "fine").await;
        world.verdicts(&["probe"]).await.len() == 1
    })
    .await;
    first.stop().await;
    // Far more changes than the engine keeps.
    for number in 0..200 {
        world.write_text(&format!("m{number}"), "fine").await;
    }
    let second = Running::start(world.pipeline_of(moderator.clone(), 2));
    until("the gap is counted", async || moderator.metrics().gaps == 1).await;
    until("the stream goes on", async || {
        world.write_text("after", "fine").await;
        world.verdicts(&["after"]).await.len() == 1
    })
    .await;
    second.stop().await;
}

#[tokio::test]
async fn one_node_runs_the_pipeline_and_another_takes_over() {
    let world = real().await;
    let one = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let two = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let first = Running::start(world.pipeline_of(one.clone(), 1));
    one.leave(&crate::testing::version("a", "fine")).await.expect("left");
    until("the first works", async || world.waiting().await == 0).await;
    let second = Running::start(world.pipeline_of(two.clone(), 2));
    // It dies without giving the lease back.
    first.task.abort();
    one.leave(&crate::testing::version("b", "fine")).await.expect("left");
    until("the second works", async || world.waiting().await == 0).await;
    assert_eq!(two.metrics().verdicts[0], 1);
    second.stop().await;
}
