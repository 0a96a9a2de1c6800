//! Scenarios: a few callers fight over one follow edge and one activity, while a worker drives every job a
//! second time. The narrowest races, many times over.
//!
//! Invariants checked: once the outbox is empty, timelines, lists and counters equal a plain recomputation; and
//! where nobody follows or unfollows meanwhile, removals leave no row behind, not even one that readers skip.

use std::sync::Arc;

use futures::future::join_all;
use keevo_core::{Engine, ManualClock, Random, SeededRandom};

use super::races::{assert_recomputed, feeds_of};
use super::{Scene, TestEngine, feed, numbered};
use crate::feeds::Feeds;
use crate::ids::ActivityId;

const ROUNDS: usize = 6;

/// What one caller of a duel does over and over.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Follows and unfollows user:1.
    Edge,
    /// Adds the activity to user:1 and removes it.
    Activity,
    /// Adds the activity only.
    Post,
    /// Drives whatever the outbox holds.
    Work,
}

pub(crate) async fn run<E: Engine>(engine: &E, seeds: u64) {
    use Part::{Activity, Edge, Post, Work};
    for seed in 0..seeds {
        for parts in
            [[Edge, Activity, Work, Work], [Edge, Edge, Work, Work], [Edge, Post, Post, Work], [Edge, Post, Edge, Work]]
        {
            duel(engine, seed, &parts, false).await;
        }
        duel(engine, seed, &[Activity, Activity, Work, Work], true).await;
    }
}

async fn duel<E: Engine>(engine: &E, seed: u64, parts: &[Part], following: bool) {
    let scene = Scene::new(engine).await;
    let said = format!("seed {seed}, {parts:?}");
    if following {
        scene.feeds.follow(&feed("user:0"), &feed("user:1"), Some(1_000)).await.expect("a follow");
    }
    scene.feeds.add_activity(&feed("user:1"), numbered(0)).await.expect("an add");
    let ids: Vec<ActivityId> = (0..8).map(|number| scene.id(number)).collect();
    let (mut tasks, mut instances) = (Vec::new(), Vec::new());
    for (place, part) in (0_u64..).zip(parts) {
        let seed = seed * 100 + place;
        let engine = TestEngine::yielding(engine.clone(), seed);
        let feeds = if matches!(part, Part::Work) { scene.eager(engine).await } else { scene.other(engine).await };
        instances.push(feeds.clone());
        tasks.push(tokio::spawn(play(feeds, *part, Arc::clone(&scene.clock), SeededRandom::new(seed), ids.clone())));
    }
    for task in join_all(tasks).await {
        task.expect("no call of a duel fails");
    }
    for feeds in instances {
        feeds.flush_finished().await;
    }
    scene.drain().await;
    assert_recomputed(&scene.feeds, &feeds_of(2), &ids, &said).await;
    if following {
        let report = scene.feeds.verify(feeds_of(2)).await.expect("a verification");
        assert_eq!(report.stale_rows, 0, "{said}: rows are left behind");
    }
}

async fn play<E: Engine>(
    feeds: Feeds<E>,
    part: Part,
    clock: Arc<ManualClock>,
    random: SeededRandom,
    ids: Vec<ActivityId>,
) {
    let (follower, target) = (feed("user:0"), feed("user:1"));
    for round in 0..ROUNDS {
        for _ in 0..random.next_u64() % 30 {
            tokio::task::yield_now().await;
        }
        let first = random.next_u64().is_multiple_of(2);
        match part {
            Part::Edge if first => feeds.follow(&follower, &target, Some(1_000)).await.expect("a follow"),
            Part::Edge => {
                feeds.unfollow(&follower, &target, false).await.expect("an unfollow");
            }
            Part::Activity if first => {
                feeds.add_activity(&target, numbered(3)).await.expect("an add");
            }
            Part::Activity => {
                feeds.remove_activity(&target, *ids.get(3).expect("eight ids")).await.expect("a removal");
            }
            Part::Post => {
                let number = u64::try_from(round).expect("small");
                feeds.add_activity(&target, numbered(number)).await.expect("an add");
            }
            Part::Work => {
                // What others have begun is due once time has passed.
                clock.advance_ms(1);
                feeds.run_outbox_once(100).await.expect("a run over the outbox");
            }
        }
    }
}
