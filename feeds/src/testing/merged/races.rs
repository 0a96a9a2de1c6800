//! Scenarios: a follow or an unfollow stops at a chosen point while its source is merged, or written again.
//!
//! Each plays one narrow race for certain and names the mistake that it catches.

use keevo_core::{Engine, Op};

use super::super::interrupted::{Call, Interrupted};
use super::super::{Fault, Scene, TestEngine, feed};
use super::{add, groups, merge, outbox, phase, rows, scene, star, verified};
use crate::keys::{COPIED, EDGE, SOURCE};
use crate::merge::Phase;

/// Far more than the slack that follows and posts of the same moment have.
const PAUSE_MS: u64 = 60_000;

pub(super) async fn run<E: Engine>(engine: &E) {
    a_source_that_is_merged_during_an_unfollow_leaves_its_history(engine).await;
    a_source_that_is_written_again_during_a_follow_loses_no_post(engine).await;
    a_follow_of_a_source_that_is_written_again_gets_no_mark(engine).await;
    a_follow_that_died_has_what_came_since_it_was_listed(engine).await;
    a_follow_that_outlasts_the_merging_keeps_its_mark(engine).await;
    a_history_ends_with_its_follow_also_before_it_is_written(engine).await;
}

/// The batch that ends the job of a follow: it says what the follow has copied.
fn says_what_it_copied(call: &Call<'_>) -> bool {
    let is_copied = |op: &Op| matches!(op, Op::Put { key, .. } if key.sort.starts_with(COPIED));
    matches!(call, Call::Write(batch) if batch.ops.iter().any(is_copied))
}

/// The batch that ends a follow.
fn cuts_an_edge(call: &Call<'_>) -> bool {
    let is_edge = |op: &Op| matches!(op, Op::Delete { key } if key.sort.starts_with(EDGE));
    matches!(call, Call::Write(batch) if batch.ops.iter().any(is_edge))
}

/// The look of a follow, once it has listed its follower, at how the source reaches these.
fn looks_at_sources(call: &Call<'_>) -> bool {
    matches!(call, Call::MultiGet(keys) if keys.iter().all(|key| key.sort == SOURCE))
}

async fn write_again<E: Engine>(scene: &Scene<E>, seconds: i64) -> crate::ids::ActivityId {
    scene.feeds.set_groups(groups(None, None));
    let last = add(&scene.feeds, seconds).await;
    outbox(&scene.feeds).await;
    assert_eq!(phase(scene).await, Phase::Written);
    last
}

/// Catches an unfollow that does not demand the marks that it read: what was posted between its look and its write was
/// left to a mark that went unseen.
async fn a_source_that_is_merged_during_an_unfollow_leaves_its_history<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let fan = feed("timeline:0");
    let between = scene.clone();
    let merges = async move {
        merge(&between, 10).await;
        add(&between.feeds, 20).await;
    };
    let slow = Interrupted::new(engine.clone(), cuts_an_edge, merges);
    let feeds = scene.other(slow.clone()).await;
    assert!(feeds.unfollow(&fan, &star(), true).await.expect("an unfollow"));
    assert!(slow.played() && slow.matched() == 2, "it was overtaken, and tried again: {}", slow.matched());
    assert_eq!(scene.ids(&fan).await.len(), 2, "both posts came before the follow ended");
    scene.clock.advance_ms(PAUSE_MS);
    add(&scene.feeds, 100).await;
    assert_eq!(scene.ids(&fan).await.len(), 2, "and this one after it");
    assert_eq!(rows(&scene, &fan).await, (2, 0), "its history is written");
    verified(&scene, [fan]).await;
}

/// Catches a follow that copies nothing and makes no mark, since the source is written again by then: what came between its
/// listing and the end of the merging was written to nobody, and the walk that makes up for it passed by too early.
async fn a_source_that_is_written_again_during_a_follow_loses_no_post<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    merge(&scene, 10).await;
    scene.clock.advance_ms(PAUSE_MS);
    let late = feed("timeline:late");
    let between = scene.clone();
    let posts = async move {
        add(&between.feeds, 20).await;
        write_again(&between, 30).await;
    };
    let slow = Interrupted::new(engine.clone(), looks_at_sources, posts);
    scene.other(slow.clone()).await.follow(&late, &star(), Some(0)).await.expect("a follow");
    assert!(slow.played() && slow.matched() == 1, "the switch came right after the listing: {}", slow.matched());
    let last = add(&scene.feeds, 40).await;
    let shown = scene.ids(&late).await;
    assert_eq!((shown.len(), shown.first()), (3, Some(&last)), "two that were merged, and one that is written");
    verified(&scene, [late.clone()]).await;
    scene.feeds.unfollow(&late, &star(), false).await.expect("an unfollow");
    assert_eq!((scene.ids(&late).await, rows(&scene, &late).await), (vec![], (0, 0)), "the mark goes with the follow");
}

/// Catches a follow that marks whatever was merged once: its readers would look there for ever.
async fn a_follow_of_a_source_that_is_written_again_gets_no_mark<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    merge(&scene, 10).await;
    let last = write_again(&scene, 20).await;
    scene.clock.advance_ms(PAUSE_MS);
    let late = feed("timeline:late");
    scene.feeds.follow(&late, &star(), Some(1)).await.expect("a follow");
    assert_eq!((scene.ids(&late).await, rows(&scene, &late).await), (vec![last], (1, 0)));
    verified(&scene, [late]).await;
}

/// Catches a follow that is taken to be listed only when its job is driven again: what a merged source posted meanwhile
/// would not be shown.
async fn a_follow_that_died_has_what_came_since_it_was_listed<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    merge(&scene, 10).await;
    scene.clock.advance_ms(PAUSE_MS);
    let late = feed("timeline:late");
    // The first write is the pointer, the second the edge, the third the listing.
    let dying = TestEngine::faulty(engine.clone(), Fault::StopAfter, 2);
    scene.other(dying.clone()).await.follow(&late, &star(), Some(0)).await.expect_err("the process dies");
    assert!(dying.fired());
    scene.clock.advance_ms(PAUSE_MS);
    let meanwhile = add(&scene.feeds, 130).await;
    scene.drain().await;
    assert_eq!(scene.ids(&late).await, [meanwhile], "the post found the follower listed");
    verified(&scene, [late]).await;
}

/// Catches a walk that takes the mark from a follower whose follow has not copied yet: what was posted while the source was
/// merged was written to nobody, and the follow, which found the source never merged, makes no mark of its own.
async fn a_follow_that_outlasts_the_merging_keeps_its_mark<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let late = feed("timeline:late");
    let between = scene.clone();
    let merges = async move {
        merge(&between, 10).await;
        add(&between.feeds, 20).await;
        write_again(&between, 30).await;
    };
    let slow = Interrupted::new(engine.clone(), says_what_it_copied, merges);
    scene.other(slow.clone()).await.follow(&late, &star(), Some(0)).await.expect("a follow");
    assert!(slow.played(), "all of it came between the listing and the copy");
    let last = add(&scene.feeds, 40).await;
    let shown = scene.ids(&late).await;
    assert_eq!((shown.len(), shown.first()), (4, Some(&last)), "one of them was posted while the source was merged");
    verified(&scene, [late]).await;
}

/// Catches a kept history that takes in what is posted after the unfollow, until it is written.
async fn a_history_ends_with_its_follow_also_before_it_is_written<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let fan = feed("timeline:0");
    let first = merge(&scene, 10).await;
    let second = add(&scene.feeds, 20).await;
    // The first write is the pointer, the second cuts the edge.
    let dying = TestEngine::faulty(engine.clone(), Fault::StopAfter, 1);
    scene.other(dying.clone()).await.unfollow(&fan, &star(), true).await.expect_err("the process dies");
    assert!(dying.fired() && rows(&scene, &fan).await == (1, 1), "the follow ended, and its history is not written");
    scene.clock.advance_ms(PAUSE_MS);
    add(&scene.feeds, 100).await;
    assert_eq!(scene.ids(&fan).await, [second, first], "it came after the follow");
    verified(&scene, [fan.clone()]).await;
    assert_eq!(scene.ids(&fan).await, [second, first]);
    assert_eq!(rows(&scene, &fan).await, (2, 0), "its history is written");
}
