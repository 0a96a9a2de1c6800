//! Scenarios: many followers, many activities, the worker.

use std::collections::BTreeSet;
use std::time::Duration;

use keevo_core::Engine;

use super::{Scene, feed, numbered, post};
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, FeedsOptions};
use crate::follow::NewFollow;
use crate::lists::{FollowStats, ListRequest};
use crate::read::PageRequest;

/// More than the first bucket of followers takes.
const FANS: usize = 1_500;

pub(crate) async fn run<E: Engine>(engine: &E) {
    a_wide_feed_is_served_by_the_worker(engine).await;
    many_feeds_are_loaded_in_groups(engine).await;
    a_worker_runs_until_it_is_stopped(engine).await;
    a_post_goes_at_its_pace(engine).await;
}

fn fans() -> Vec<FeedId> {
    (0..FANS).map(|n| feed(&format!("timeline:{n}"))).collect()
}

fn all_follow(target: &FeedId) -> Vec<NewFollow> {
    let follow = |follower| NewFollow { follower, target: target.clone(), copy_limit: None };
    fans().into_iter().map(follow).collect()
}

async fn a_wide_feed_is_served_by_the_worker<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let star = feed("user:star");
    let before = scene.feeds.add_activity(&star, post("before", 1)).await.expect("an add").id;
    scene.feeds.follow_many(all_follow(&star)).await.expect("follows");
    let stats = scene.feeds.follow_stats(&star, &[], &[]).await.expect("counts");
    assert_eq!(stats, FollowStats { followers: u64::try_from(FANS).expect("small"), following: 0 });

    let after = scene.feeds.add_activity(&star, post("after", 2)).await.expect("an add").id;
    let mut served = 0;
    for fan in fans() {
        let page = scene.feeds.page(&fan, PageRequest::default()).await.expect("a page");
        served += usize::from(page.activities.iter().any(|one| one.id == after));
        assert!(page.activities.iter().any(|one| one.id == before), "{fan} has the copy");
    }
    assert!((1_000..FANS).contains(&served), "the first thousand at once, not all: {served}");
    let run = scene.feeds.run_outbox_once(10).await.expect("a run");
    assert_eq!((run.driven, run.failed), (1, 0), "the worker takes what the call left");
    for fan in fans() {
        assert_eq!(scene.ids(&fan).await, [after, before], "{fan}");
    }
    let mut listed = BTreeSet::new();
    let mut request = ListRequest { limit: 700, ..ListRequest::default() };
    loop {
        let page = scene.feeds.followers(&star, request.clone()).await.expect("a list");
        listed.extend(page.follows.into_iter().map(|follow| follow.follower));
        let Some(next) = page.next else { break };
        request.after = Some(next);
    }
    assert_eq!(listed, fans().into_iter().collect(), "every follower once, over all buckets");

    scene.feeds.remove_activity(&star, before).await.expect("a removal");
    scene.drain().await;
    let report = scene.feeds.verify(fans()).await.expect("a verification");
    assert!(report.is_clean() && report.stale_rows == 0, "{report:?}");
    assert_eq!((report.feeds, report.shown), (FANS, FANS));
}

async fn many_feeds_are_loaded_in_groups<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let users: Vec<FeedId> = (0..20).map(|n| feed(&format!("user:{n}"))).collect();
    let mut follows = Vec::new();
    for (n, follower) in users.iter().enumerate() {
        for target in users.iter().skip(n + 1) {
            follows.push(NewFollow { follower: follower.clone(), target: target.clone(), copy_limit: Some(1_000) });
        }
    }
    let new: Vec<_> = users.iter().cycle().zip(0..600).map(|(user, n)| (user.clone(), numbered(n))).collect();
    let (half, rest) = new.split_at(300);
    scene.feeds.add_many(half.to_vec()).await.expect("adds");
    scene.feeds.follow_many(follows.clone()).await.expect("follows");
    let added = scene.feeds.add_many(rest.to_vec()).await.expect("adds");
    assert_eq!(added.len(), 300);
    for (activity, (_, new)) in added.iter().zip(rest) {
        assert_eq!(activity.object, new.object, "answers come in the order of the request");
    }
    // Loading the same once more changes nothing.
    scene.feeds.follow_many(follows).await.expect("follows");
    scene.feeds.add_many(new).await.expect("adds");
    for (n, user) in users.iter().enumerate() {
        assert_eq!(scene.ids(user).await.len(), 30 * (users.len() - n), "{user}");
    }
    scene.drain().await;
    let report = scene.feeds.verify(users).await.expect("a verification");
    assert!(report.is_clean() && report.stale_rows == 0, "{report:?}");
}

async fn a_worker_runs_until_it_is_stopped<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let star = feed("user:star");
    scene.feeds.follow_many(all_follow(&star)).await.expect("follows");
    let worker = scene.feeds.spawn_worker(Duration::from_hours(1));
    let id = scene.feeds.add_activity(&star, post("p", 1)).await.expect("an add").id;
    let waited = tokio::time::timeout(Duration::from_mins(1), async {
        while scene.feeds.metrics().entries_fanned_out < 1_500 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("what a call leaves wakes the worker");
    worker.stop().await.expect("the worker stops");
    for fan in fans().iter().step_by(97) {
        assert_eq!(scene.ids(fan).await, [id], "{fan}");
    }
    scene.drain().await;
}

/// Once a post took all that the machine had until its last follower had it, and readers waited.
async fn a_post_goes_at_its_pace<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let star = feed("user:star");
    scene.feeds.follow_many(all_follow(&star)).await.expect("follows");
    let clock = std::sync::Arc::<keevo_core::ManualClock>::clone(&scene.clock);
    let options = FeedsOptions {
        clock,
        inline_targets_max: usize::MAX,
        job_targets_per_s_max: 10_000,
        ..FeedsOptions::default()
    };
    let feeds = Feeds::open(scene.engine.clone(), scene.app, options).await.expect("feeds open");
    let began = tokio::time::Instant::now();
    let id = feeds.add_activity(&star, post("p", 1)).await.expect("an add").id;
    assert!(began.elapsed() >= Duration::from_millis(100), "a thousand at once, and no more for a tenth of a second");
    assert_eq!(feeds.metrics().entries_fanned_out, 1_500);
    for fan in fans().iter().step_by(97) {
        assert_eq!(scene.ids(fan).await, [id], "{fan}");
    }
}
