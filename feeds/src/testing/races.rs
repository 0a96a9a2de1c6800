//! Scenario: random calls by concurrent tasks; once the outbox is empty, timelines equal a plain recomputation.
//!
//! Invariant checked: with copies that take everything and no kept history,
//! `shown(F) = held(F) ∪ ⋃ { held(T) : F follows T }`, where `held` is what the activities themselves say.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use keevo_core::{Engine, ManualClock, Random, SeededRandom};

use super::{Scene, TestEngine, all_ids, feed, merged, numbered};
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::lists::{FollowStats, ListRequest};

const TASKS: u64 = 6;
const CALLS: usize = 14;
const FEEDS: u64 = 4;
const ACTIVITIES: u64 = 6;

pub(crate) async fn run<E: Engine>(engine: &E, seeds: u64, merging: bool) {
    for seed in 0..seeds {
        history(engine, seed, merging).await;
    }
}

pub(crate) fn feeds_of(count: u64) -> Vec<FeedId> {
    (0..count).map(|n| feed(&format!("user:{n}"))).collect()
}

async fn history<E: Engine>(engine: &E, seed: u64, merging: bool) {
    let scene = Scene::new(engine).await;
    if merging {
        scene.feeds.set_groups(merged::groups(Some(1), None));
    }
    let feeds = scene.other(TestEngine::yielding(engine.clone(), seed)).await;
    let another = scene.eager(TestEngine::yielding(engine.clone(), seed ^ 0xff)).await;
    let tasks = (0..TASKS).map(|task| {
        let feeds = if task % 2 == 0 { feeds.clone() } else { another.clone() };
        let ids = (0..ACTIVITIES).map(|number| scene.id(number)).collect();
        let random = SeededRandom::new(seed * 1_000 + task);
        tokio::spawn(calls(feeds, Arc::clone(&scene.clock), random, ids, merging))
    });
    for task in join_all(tasks.collect::<Vec<_>>()).await {
        task.expect("no call of a concurrent history fails");
    }
    feeds.flush_finished().await;
    another.flush_finished().await;
    scene.drain().await;
    let ids: Vec<ActivityId> = (0..ACTIVITIES).map(|number| scene.id(number)).collect();
    assert_recomputed(&scene.feeds, &feeds_of(FEEDS), &ids, &format!("seed {seed}")).await;
}

async fn calls<E: Engine>(
    feeds: Feeds<E>,
    clock: Arc<ManualClock>,
    random: SeededRandom,
    ids: Vec<ActivityId>,
    merging: bool,
) {
    let below = |bound: u64| random.next_u64() % bound;
    let any_feed = || feed(&format!("user:{}", below(FEEDS)));
    for _ in 0..CALLS {
        let (one, other) = (any_feed(), any_feed());
        let number = below(ACTIVITIES);
        match below(8) {
            0..=2 => {
                let to: Vec<FeedId> = (0..below(2)).map(|_| any_feed()).collect();
                feeds.add_activity(&one, numbered(number).to(to)).await.expect("an add");
            }
            3 => {
                let id = usize::try_from(number).ok().and_then(|at| ids.get(at)).copied().expect("a known number");
                feeds.remove_activity(&one, id).await.expect("a removal");
            }
            4..=5 if one != other => feeds.follow(&one, &other, Some(1_000)).await.expect("a follow"),
            6 => {
                feeds.unfollow(&one, &other, false).await.expect("an unfollow");
            }
            7 if merging && number < 3 => feeds.set_groups(merged::groups(Some(1).filter(|_| number > 0), None)),
            _ => {
                clock.advance_ms(1);
                feeds.run_outbox_once(5).await.expect("a run over the outbox");
            }
        }
    }
}

/// Compares what every feed shows, lists and counts with a recomputation from activities and edges.
pub(crate) async fn assert_recomputed<E: Engine>(feeds: &Feeds<E>, all: &[FeedId], ids: &[ActivityId], said: &str) {
    let rows = feeds.rows(ids.iter().copied(), keevo_core::Consistency::Linearizable).await.expect("activities");
    let held = |feed: &FeedId| -> BTreeSet<ActivityId> {
        let holds = |id: &&ActivityId| {
            let row = rows.get(*id).and_then(Option::as_ref);
            row.is_some_and(|row| row.entries.iter().any(|entry| entry.feed == feed.as_str()))
        };
        ids.iter().filter(holds).copied().collect()
    };
    let mut edges: BTreeSet<(FeedId, FeedId)> = BTreeSet::new();
    let mut listed: BTreeSet<(FeedId, FeedId)> = BTreeSet::new();
    for feed in all {
        let following = feeds.following(feed, ListRequest { limit: 1_000, ..ListRequest::default() }).await;
        let followers = feeds.followers(feed, ListRequest { limit: 1_000, ..ListRequest::default() }).await;
        let (following, followers) = (following.expect("a list").follows, followers.expect("a list").follows);
        let stats = feeds.follow_stats(feed, &[], &[]).await.expect("counts");
        let count = |list: usize| u64::try_from(list).expect("small");
        let counted = FollowStats { followers: count(followers.len()), following: count(following.len()) };
        assert_eq!(stats, counted, "{said}: the counters of {feed}");
        let mut expected = held(feed);
        for follow in &following {
            expected.extend(held(&follow.target));
        }
        let mut expected: Vec<ActivityId> = expected.into_iter().collect();
        expected.sort_by_key(|id| Reverse(id.order_key()));
        assert_eq!(all_ids(feeds, feed).await, expected, "{said}: what {feed} shows");
        edges.extend(following.into_iter().map(|follow| (follow.follower, follow.target)));
        listed.extend(followers.into_iter().map(|follow| (follow.follower, follow.target)));
    }
    assert_eq!(edges, listed, "{said}: both ends list the same follows");
    let report = feeds.verify(all.to_vec()).await.expect("a verification");
    assert!(report.is_clean(), "{said}: {report:?}");
}
