//! Feeds: follow, unfollow, post, remove and react through the nodes' own feeds, whose workers finish what faults cut off.
//! Users have so many followers that their feeds are merged by readers, and written again when that is turned off.

mod react;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use keevo_core::AnyEngine;
use keevo_core::Result;
use keevo_feeds::{ActivityId, ActivityTime, FeedId, Feeds, NewActivity, OutboxRun, VerifyReport};

use super::{join_all, until_ok};
use crate::app::{MERGE_ABOVE, groups};
use crate::engine::{Call, Repeat};
use crate::invariant::fan_out;
use crate::sim::{Sim, Violation};
use crate::world::lock;

const USERS: u64 = 6;
const CLIENTS: u64 = 3;
const OPERATIONS_MAX: u64 = 60;
/// The groups of feeds that follow: mostly flat ones.
const SLUGS: [&str; 4] = ["timeline", "timeline", "aggregated", "notification"];
/// How often, and how far apart, the outbox must be found without work before it counts as empty.
const QUIET_RUNS: u32 = 4;
const QUIET_PAUSE: Duration = Duration::from_secs(3);
const QUIET_WITHIN: u32 = 60;
/// The time of the first post, in microseconds since the epoch.
const FIRST_POST_US: u64 = 1_767_225_600_000_000;

/// What became of a post.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Post {
    /// Its addition was answered.
    pub(crate) added: bool,
    /// Its removal was tried.
    pub(crate) removing: bool,
}

type Posts = Arc<Mutex<BTreeMap<(u64, ActivityId), Post>>>;

/// Runs a call on the feeds of a node. All of them may be repeated.
async fn on_feeds<T: Send + 'static>(
    sim: &Sim,
    what: &'static str,
    call: impl Fn(Feeds<AnyEngine>) -> BoxFuture<'static, Result<T>> + Send + Sync + 'static,
) -> Result<T> {
    let call = Arc::new(call);
    let on_node: Call<T> = Arc::new(move |app| {
        let call = Arc::clone(&call);
        Box::pin(async move { call(app.feeds().await?).await })
    });
    sim.engine().call(what, Repeat::Freely, on_node).await
}

fn feed(slug: &str, user: u64) -> Result<FeedId> {
    FeedId::new(slug, &format!("u{user}"))
}

/// Runs until the faults are over and the outbox is empty, then recomputes every timeline.
pub(crate) async fn run(sim: Sim) -> std::result::Result<(), Violation> {
    let posts = Posts::default();
    let clients = (0..CLIENTS).map(|client| {
        let (sim, posts) = (sim.clone(), Arc::clone(&posts));
        async move {
            for number in 0..OPERATIONS_MAX {
                if sim.is_calm() {
                    return;
                }
                let outcome = operate(&sim, client << 32 | number, &posts).await;
                sim.note(format_args!("a feed operation: {:?}", outcome.err().map(|error| error.kind())));
                sim.count("feed");
                sim.sleep(Duration::from_millis(sim.dice().between(20, 500))).await;
            }
        }
    });
    join_all(clients).await;
    sim.calm().await;
    settle(&sim).await?;
    let report = until_ok(&sim, || verify(&sim)).await?;
    let ids: Vec<ActivityId> = lock(&posts).keys().map(|(_, id)| *id).collect();
    let stored = until_ok(&sim, || stored(&sim, ids.clone())).await?;
    let evaluated = fan_out::judge(&report, &lock(&posts), &stored)?;
    sim.checked("fan-out complete", evaluated);
    Ok(())
}

async fn operate(sim: &Sim, number: u64, posts: &Posts) -> Result<()> {
    let (one, other) = (sim.dice().below(USERS), sim.dice().below(USERS));
    let slug = sim.dice().pick(&SLUGS).copied().unwrap_or("timeline");
    let (timeline, user) = (feed(slug, one)?, feed("user", other)?);
    match sim.dice().below(21) {
        0..3 => {
            on_feeds(sim, "follow", move |feeds| {
                let (timeline, user) = (timeline.clone(), user.clone());
                Box::pin(async move { feeds.follow(&timeline, &user, None).await })
            })
            .await
        }
        3 => unfollow(sim, timeline, user).await,
        4..9 => post(sim, number, other, user, posts).await,
        // A post on its way to a follower that leaves.
        9..12 => {
            let posted = post(sim, number, other, user.clone(), posts);
            let left = async {
                sim.sleep(Duration::from_millis(sim.dice().below(60))).await;
                unfollow(sim, timeline, user).await
            };
            let (posted, left) = futures::join!(posted, left);
            posted.and(left)
        }
        12 => remove(sim, posts).await,
        13..17 => react::react(sim, posts).await,
        17 => react::mark(sim, feed("notification", one)?).await,
        18 => switch(sim).await,
        _ => {
            on_feeds(sim, "follow", move |feeds| {
                let (timeline, user) = (timeline.clone(), user.clone());
                Box::pin(async move { feeds.follow(&timeline, &user, Some(1)).await })
            })
            .await
        }
    }
}

/// Changes on some node, until it restarts, whether it merges the feeds of users.
async fn switch(sim: &Sim) -> Result<()> {
    let above = if sim.dice().chance(50) { Some(MERGE_ABOVE) } else { None };
    on_feeds(sim, "set groups", move |feeds| {
        feeds.set_groups(groups(above));
        Box::pin(async { Ok(()) })
    })
    .await
}

async fn unfollow(sim: &Sim, timeline: FeedId, user: FeedId) -> Result<()> {
    let keep = sim.dice().chance(30);
    on_feeds(sim, "unfollow", move |feeds| {
        let (timeline, user) = (timeline.clone(), user.clone());
        Box::pin(async move { feeds.unfollow(&timeline, &user, keep).await.map(drop) })
    })
    .await
}

async fn post(sim: &Sim, number: u64, author: u64, user: FeedId, posts: &Posts) -> Result<()> {
    let at_us = FIRST_POST_US + sim.now_ms() * 1_000 + number % 1_000;
    let time = ActivityTime::from_micros(i64::try_from(at_us).unwrap_or_default())?;
    let activity =
        NewActivity::new(format!("u{author}"), "post", format!("o{number}")).identified(format!("f{number:x}"), time);
    let id = ActivityId::compute(keevo_feeds::AppId(1), time, activity.identity());
    lock(posts).insert((author, id), Post::default());
    on_feeds(sim, "post", move |feeds| {
        let (user, activity) = (user.clone(), activity.clone());
        Box::pin(async move { feeds.add_activity(&user, activity).await.map(drop) })
    })
    .await?;
    lock(posts).entry((author, id)).or_default().added = true;
    Ok(())
}

async fn remove(sim: &Sim, posts: &Posts) -> Result<()> {
    let known: Vec<(u64, ActivityId)> = lock(posts).keys().copied().collect();
    let Some(&(author, id)) = sim.dice().pick(&known) else { return Ok(()) };
    let user = feed("user", author)?;
    lock(posts).entry((author, id)).or_default().removing = true;
    on_feeds(sim, "remove post", move |feeds| {
        let user = user.clone();
        Box::pin(async move { feeds.remove_activity(&user, id).await.map(drop) })
    })
    .await
}

/// Runs the outbox until it finds nothing to do several times in a row.
async fn settle(sim: &Sim) -> std::result::Result<(), Violation> {
    let mut quiet = 0;
    for _ in 0..QUIET_WITHIN {
        let run: OutboxRun = until_ok(sim, || {
            on_feeds(sim, "outbox", |feeds| Box::pin(async move { feeds.run_outbox_once(1_000).await }))
        })
        .await?;
        sim.note(format_args!("the outbox: {run:?}"));
        let is_quiet = run.driven == 0 && run.failed == 0 && !run.more;
        quiet = if is_quiet { quiet + 1 } else { 0 };
        if quiet >= QUIET_RUNS {
            return Ok(());
        }
        sim.sleep(QUIET_PAUSE).await;
    }
    Err(Violation::new("fan-out complete: the outbox of the feeds does not become empty after the faults"))
}

async fn verify(sim: &Sim) -> Result<VerifyReport> {
    let slugs = SLUGS.into_iter().chain(["user"]);
    let all = slugs.flat_map(|slug| (0..USERS).map(move |user| feed(slug, user)));
    let all: BTreeSet<FeedId> = all.collect::<Result<_>>()?;
    on_feeds(sim, "verify feeds", move |feeds| {
        let all = all.clone();
        Box::pin(async move { feeds.verify(all).await })
    })
    .await
}

async fn stored(sim: &Sim, ids: Vec<ActivityId>) -> Result<Vec<ActivityId>> {
    on_feeds(sim, "read posts", move |feeds| {
        let ids = ids.clone();
        Box::pin(async move {
            let mut found = Vec::new();
            for chunk in ids.chunks(50) {
                found.extend(feeds.activities(chunk).await?.into_iter().map(|activity| activity.id));
            }
            Ok(found)
        })
    })
    .await
}
