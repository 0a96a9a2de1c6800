//! The suite that holds feeds to their rules, over any engine.
//!
//! `suite(engine)` runs everything; each scenario uses an app of its own, so that one engine serves them all and
//! what it held before does not matter. A scenario that fails panics and says what differs.

mod apart;
mod basics;
mod crash;
mod duels;
mod empty_pages;
mod engine;
mod enriched;
mod entities;
mod groups;
mod interrupted;
mod lanes;
mod late_reactions;
mod limits;
mod lists;
mod many;
mod merged;
mod model;
mod outbox;
mod privacy;
mod races;
mod reaction_faults;
mod reactions;
mod removal;
mod updates;
mod verified;

use std::sync::Arc;

use futures::FutureExt;
use keevo_core::{AnyEngine, Engine, ManualClock, Random, SeededRandom};

use crate::activity::NewActivity;
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, FeedsOptions};
use crate::ids::{ActivityId, AppId, Identity};
use crate::read::PageRequest;
use crate::time::ActivityTime;

pub use engine::{Fault, TestEngine};

/// 2026-05-01T12:00:00Z: where the clocks of the scenarios start.
const START_MS: u64 = 1_777_636_800_000;

/// How much of the seeded and exhaustive scenarios to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// A few seeds, every third crash point: for engines whose calls cross a network.
    Quick,
    /// Many seeds, all crash points.
    Thorough,
}

/// Runs every scenario with little effort.
pub async fn suite<E: Engine>(engine: E) {
    suite_with(engine, Effort::Quick).await;
}

/// Runs every scenario.
pub async fn suite_with<E: Engine>(engine: E, effort: Effort) {
    everything(AnyEngine::new(engine), effort).await;
}

/// Compiled once, for whichever engine.
fn everything(engine: AnyEngine, effort: Effort) -> impl Future<Output = ()> + Send {
    async move {
        basics::run(&engine).await;
        removal::run(&engine).await;
        updates::run(&engine).await;
        lists::run(&engine).await;
        if effort == Effort::Thorough {
            limits::run(&engine).await;
            apart::run(&engine).await;
        }
        verified::run(&engine).await;
        many::run(&engine).await;
        outbox::run(&engine).await;
        lanes::run(&engine, if effort == Effort::Quick { 5 } else { 1 }).await;
        merged::run(&engine, if effort == Effort::Quick { 20 } else { 1 }).await;
        entities::run(&engine).await;
        reactions::run(&engine).await;
        late_reactions::run(&engine).await;
        enriched::run(&engine).await;
        privacy::run(&engine, if effort == Effort::Quick { 3 } else { 1 }).await;
        groups::run(&engine).await;
        interrupted::run(&engine).await;
        let sparse = empty_pages::EmptyPages::new(engine.clone());
        basics::run(&sparse).await;
        removal::run(&sparse).await;
        lists::run(&sparse).await;
        groups::run(&sparse).await;
        if effort == Effort::Thorough {
            many::run(&sparse).await;
        }
        for merging in [false, true] {
            model::run(&engine, if effort == Effort::Quick { 1 } else { 40 }, merging).await;
            races::run(&engine, if effort == Effort::Quick { 1 } else { 60 }, merging).await;
        }
        duels::run(&engine, if effort == Effort::Quick { 5 } else { 400 }).await;
        let every = if effort == Effort::Quick { 5 } else { 1 };
        reaction_faults::run(&engine, every, if effort == Effort::Quick { 2 } else { 60 }).await;
        crash::run(&engine, if effort == Effort::Quick { 3 } else { 1 }).await;
    }
    .boxed()
}

/// One scenario's app: its feeds, engine and clock.
#[derive(Debug, Clone)]
pub(crate) struct Scene<E> {
    pub(crate) app: AppId,
    pub(crate) engine: E,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) feeds: Feeds<E>,
}

impl<E: Engine> Scene<E> {
    pub(crate) async fn new(engine: &E) -> Self {
        let app = AppId(u32::try_from(SeededRandom::from_os().next_u64() >> 32).unwrap_or(1));
        let clock = Arc::new(ManualClock::new(START_MS));
        let feeds = open(engine.clone(), app, &clock).await;
        Self { app, engine: engine.clone(), clock, feeds }
    }

    /// The same app through another engine, as another process would have it.
    pub(crate) async fn other<O: Engine>(&self, engine: O) -> Feeds<O> {
        let feeds = open(engine, self.app, &self.clock).await;
        feeds.set_groups((*self.feeds.groups()).clone());
        feeds
    }

    /// The same app through another engine, with a worker that drives every job at once, though its caller does.
    pub(crate) async fn eager<O: Engine>(&self, engine: O) -> Feeds<O> {
        let clock: Arc<ManualClock> = Arc::clone(&self.clock);
        // Far more than the microseconds by which stamps run ahead of a clock that stands.
        let clock_skew_ms_max = 2;
        let options =
            FeedsOptions { clock, pickup_after_ms: 0, claim_ms: 0, clock_skew_ms_max, ..FeedsOptions::default() };
        let feeds = Feeds::open(engine, self.app, options).await.expect("feeds open");
        feeds.set_groups((*self.feeds.groups()).clone());
        feeds
    }

    /// The same app with clocks that are known to agree.
    pub(crate) async fn exact(&self) -> Feeds<E> {
        let clock: Arc<ManualClock> = Arc::clone(&self.clock);
        let options = FeedsOptions { clock, clock_skew_ms_max: 0, ..FeedsOptions::default() };
        Feeds::open(self.engine.clone(), self.app, options).await.expect("feeds open")
    }

    /// Lets time pass and runs a worker until the outbox is empty. What was finished leaves it first: driven once
    /// more it would repair what a mistake had left out.
    pub(crate) async fn drain(&self) {
        self.feeds.flush_finished().await;
        let feeds = self.other(self.engine.clone()).await;
        for _ in 0..50 {
            self.clock.advance_ms(700_000);
            let run = feeds.run_outbox_once(100_000).await.expect("a run over the outbox");
            assert_eq!(run.failed, 0, "no job fails on a healthy engine");
            if run.driven + run.dropped + run.waiting == 0 && !run.more {
                assert_eq!(feeds.metrics().jobs_pending + feeds.metrics().bulk_pending, 0);
                return;
            }
        }
        panic!("the outbox does not become empty");
    }

    /// The ids that `feed` shows, all pages.
    pub(crate) async fn ids(&self, feed: &FeedId) -> Vec<ActivityId> {
        all_ids(&self.feeds, feed).await
    }

    /// The id of the activity that [`numbered`] makes.
    pub(crate) fn id(&self, number: u64) -> ActivityId {
        ActivityId::compute(self.app, time_of(number), Identity::ForeignId(&fid(number)))
    }
}

async fn open<E: Engine>(engine: E, app: AppId, clock: &Arc<ManualClock>) -> Feeds<E> {
    let clock: Arc<ManualClock> = Arc::clone(clock);
    let options = FeedsOptions { clock, concurrency: 16, ..FeedsOptions::default() };
    Feeds::open(engine, app, options).await.expect("feeds open")
}

pub(crate) async fn all_ids<E: Engine>(feeds: &Feeds<E>, feed: &FeedId) -> Vec<ActivityId> {
    let mut request = PageRequest::first(100);
    let mut ids = Vec::new();
    loop {
        let page = feeds.page(feed, request).await.expect("a page");
        ids.extend(page.activities.iter().map(|activity| activity.id));
        match page.next {
            Some(last) => request = PageRequest::after(last, 100),
            None => return ids,
        }
    }
}

/// The feed `name`, written `slug:id`.
pub(crate) fn feed(name: &str) -> FeedId {
    name.parse().expect("a feed's name")
}

pub(crate) fn fid(number: u64) -> String {
    format!("post:{}", number % 4)
}

/// Times spread over a few days, some equal, none in the order of their numbers.
pub(crate) fn time_of(number: u64) -> ActivityTime {
    let seconds = (number / 4).wrapping_mul(7_919) % 400_000;
    let micros = i64::try_from(START_MS * 1_000 + seconds * 1_000_000).expect("in range");
    ActivityTime::from_micros(micros).expect("in range")
}

/// The activity of that number: always the same identity.
pub(crate) fn numbered(number: u64) -> NewActivity {
    NewActivity::new(format!("actor:{number}"), "post", format!("object:{number}"))
        .identified(fid(number), time_of(number))
}

/// A time that many seconds after the start.
pub(crate) fn at(seconds: i64) -> ActivityTime {
    let start = i64::try_from(START_MS * 1_000).expect("in range");
    ActivityTime::from_micros(start + seconds * 1_000_000).expect("in range")
}

/// An activity with a foreign id, that many seconds after the start.
pub(crate) fn post(name: &str, seconds: i64) -> NewActivity {
    NewActivity::new("alice", "post", name).identified(name, at(seconds))
}

#[cfg(test)]
mod tests {
    use keevo_core::MemoryEngine;

    use super::{
        Effort, apart, basics, enriched, entities, groups, lanes, late_reactions, limits, lists, many, merged, model,
        outbox, privacy, races, reaction_faults, reactions, suite_with, updates, verified,
    };

    #[tokio::test]
    async fn feeds_and_their_pages() {
        let engine = keevo_core::AnyEngine::new(MemoryEngine::new());
        basics::run(&engine).await;
        lists::run(&engine).await;
        groups::run(&engine).await;
    }

    #[tokio::test]
    async fn followers_of_any_number() {
        let engine = keevo_core::AnyEngine::new(MemoryEngine::new());
        outbox::run(&engine).await;
        many::run(&engine).await;
    }

    #[tokio::test]
    async fn users_and_collections() {
        entities::run(&keevo_core::AnyEngine::new(MemoryEngine::new())).await;
    }

    #[tokio::test]
    async fn reactions_and_their_lists() {
        reactions::run(&keevo_core::AnyEngine::new(MemoryEngine::new())).await;
    }

    #[tokio::test]
    async fn enriched_pages() {
        enriched::run(&keevo_core::AnyEngine::new(MemoryEngine::new())).await;
    }

    #[tokio::test]
    async fn privacy_flags_and_logs() {
        privacy::run(&keevo_core::AnyEngine::new(MemoryEngine::new()), 1).await;
    }

    #[tokio::test]
    async fn reactions_under_faults_and_races() {
        reaction_faults::run(&keevo_core::AnyEngine::new(MemoryEngine::new()), 1, 20).await;
    }

    #[tokio::test]
    async fn updates_and_targets() {
        updates::run(&keevo_core::AnyEngine::new(MemoryEngine::new())).await;
    }

    #[tokio::test]
    async fn damage_is_reported() {
        verified::run(&keevo_core::AnyEngine::new(MemoryEngine::new())).await;
    }

    #[tokio::test]
    async fn limits_are_kept() {
        limits::run(&keevo_core::AnyEngine::new(MemoryEngine::new())).await;
    }

    #[tokio::test]
    async fn silent_shards_hold_up_nobody_else() {
        apart::run(&keevo_core::AnyEngine::new(MemoryEngine::new())).await;
    }

    #[tokio::test]
    async fn merged_sources() {
        merged::run(&keevo_core::AnyEngine::new(MemoryEngine::new()), 1).await;
    }

    #[tokio::test]
    async fn merged_sources_equal_a_model() {
        model::run(&keevo_core::AnyEngine::new(MemoryEngine::new()), 60, true).await;
    }

    #[tokio::test]
    async fn merged_sources_under_races() {
        races::run(&keevo_core::AnyEngine::new(MemoryEngine::new()), 60, true).await;
    }

    #[tokio::test]
    async fn late_steps_of_reactions() {
        late_reactions::run(&keevo_core::AnyEngine::new(MemoryEngine::new())).await;
    }

    #[tokio::test]
    async fn lanes_of_the_outbox() {
        lanes::run(&keevo_core::AnyEngine::new(MemoryEngine::new()), 1).await;
    }

    #[tokio::test]
    async fn memory_engine_passes_the_suite() {
        Box::pin(suite_with(MemoryEngine::new(), Effort::Thorough)).await;
    }
}
