//! Scenarios: a post to many followers does not delay one to a few, and its pointer is never lost on the way.

use keevo_core::{Engine, ErrorKind};

use super::{Fault, Scene, TestEngine, feed, numbered};
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, FeedsOptions};
use crate::follow::NewFollow;
use crate::keys::OUTBOX_BUCKETS;
use crate::lanes::Lane;
use crate::outbox::JobAt;
use crate::worker::OutboxRun;

/// Followers of the large feed; the first is reached by the post's call, three by the prompt lane.
const FANS: usize = 9;
const PROMPT_TARGETS: usize = 3;

const FAULTS: [Fault; 5] = [Fault::StopBefore, Fault::StopAfter, Fault::StopHalfway, Fault::AnswerLost, Fault::Refused];

pub(crate) async fn run<E: Engine>(engine: &E, every: usize) {
    a_large_post_does_not_delay_a_small_one(engine).await;
    another_process_finds_a_large_job(engine).await;
    a_large_removal_makes_way_too(engine).await;
    so_many_jobs_are_remembered(engine).await;
    let mut points = 0;
    for fault in FAULTS {
        let mut at = 0;
        while broken(engine, fault, at).await {
            points += 1;
            at += i64::try_from(every).expect("small");
            assert!(at < 100, "{fault:?}: the worker does not end");
        }
    }
    assert!(points > if every == 1 { 20 } else { 2 }, "the faults do happen: {points}");
}

fn star() -> FeedId {
    feed("user:star")
}

fn fans() -> Vec<FeedId> {
    (0..FANS).map(|n| feed(&format!("timeline:{n}"))).collect()
}

/// Feeds that leave all but the first follower of a post to the worker, and take more than four of them for many.
async fn narrow<E: Engine, O: Engine>(scene: &Scene<E>, engine: O) -> Feeds<O> {
    let clock = std::sync::Arc::<keevo_core::ManualClock>::clone(&scene.clock);
    let options =
        FeedsOptions { clock, inline_targets_max: 1, prompt_targets_max: PROMPT_TARGETS, ..FeedsOptions::default() };
    Feeds::open(engine, scene.app, options).await.expect("feeds open")
}

/// A scene where the star has all fans.
async fn scene<E: Engine>(engine: &E) -> Scene<E> {
    let scene = Scene::new(engine).await;
    let follow = |follower| NewFollow { follower, target: star(), copy_limit: None };
    scene.feeds.follow_many(fans().into_iter().map(follow).collect()).await.expect("follows");
    scene.feeds.flush_finished().await;
    scene
}

/// How many fans show as many activities as `count`.
async fn fans_with<E: Engine>(scene: &Scene<E>, count: usize) -> usize {
    let mut shown = 0;
    for fan in fans() {
        shown += usize::from(scene.ids(&fan).await.len() == count);
    }
    shown
}

/// How many pointers lie in a lane.
async fn pointers<E: Engine>(scene: &Scene<E>, lane: Lane) -> usize {
    let mut found = 0;
    for bucket in 0..OUTBOX_BUCKETS {
        let layout = scene.feeds.layout();
        let scan = layout.scan(layout.outbox(bucket), lane.tag(), lane.tag().into(), 100);
        found += scene.feeds.scan_on(scan).await.expect("a scan").records.len();
    }
    found
}

async fn a_large_post_does_not_delay_a_small_one<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let (small, friends) = (feed("user:small"), [feed("timeline:a"), feed("timeline:b")]);
    for friend in &friends {
        scene.feeds.follow(friend, &small, None).await.expect("a follow");
    }
    scene.feeds.flush_finished().await;
    let feeds = narrow(&scene, engine.clone()).await;
    for number in 0..3 {
        feeds.add_activity(&star(), numbered(number)).await.expect("an add");
    }
    let run = feeds.run_lane(Lane::Prompt, 100).await.expect("a run over the prompt lane");
    assert_eq!(run, OutboxRun { driven: 3, ..OutboxRun::default() });
    assert_eq!((pointers(&scene, Lane::Prompt).await, pointers(&scene, Lane::Bulk).await), (0, 3));
    assert_eq!(fans_with(&scene, 3).await, 1 + PROMPT_TARGETS);
    let id = feeds.add_activity(&small, numbered(5)).await.expect("an add").id;
    let run = feeds.run_lane(Lane::Prompt, 100).await.expect("a run over the prompt lane");
    assert_eq!(run, OutboxRun { driven: 1, ..OutboxRun::default() }, "the large posts are not in its way");
    for friend in &friends {
        assert_eq!(scene.ids(friend).await, [id]);
    }
    assert_eq!(fans_with(&scene, 0).await, FANS - 1 - PROMPT_TARGETS, "they wait in the bulk lane");
    let run = feeds.run_lane(Lane::Bulk, 100).await.expect("a run over the bulk lane");
    assert_eq!(run, OutboxRun { driven: 3, ..OutboxRun::default() });
    assert_eq!(fans_with(&scene, 3).await, FANS);
    assert_eq!((pointers(&scene, Lane::Prompt).await, pointers(&scene, Lane::Bulk).await), (0, 0));
    let metrics = feeds.metrics();
    assert_eq!((metrics.jobs_bulk, metrics.entries_fanned_out), (3, 3 * 9 + 2), "each row is written once");
}

/// A process that dies leaves large jobs where others find them, and their age is seen.
async fn another_process_finds_a_large_job<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let feeds = narrow(&scene, engine.clone()).await;
    feeds.add_activity(&star(), numbered(0)).await.expect("an add");
    feeds.run_lane(Lane::Prompt, 100).await.expect("a run over the prompt lane");
    drop(feeds);
    scene.clock.advance_ms(60_000);
    let other = narrow(&scene, engine.clone()).await;
    let run = other.run_lane(Lane::Prompt, 100).await.expect("a run over the prompt lane");
    assert_eq!(run, OutboxRun::default(), "it is not there any more");
    let run = other.run_outbox_once(100).await.expect("a run over the outbox");
    assert_eq!(run, OutboxRun { driven: 1, ..OutboxRun::default() });
    let metrics = other.metrics();
    assert_eq!((metrics.jobs_pending, metrics.lag_ms, metrics.bulk_pending), (0, 0, 1));
    assert!(metrics.bulk_lag_ms >= 59_999, "{metrics:?}");
    assert_eq!(fans_with(&scene, 1).await, FANS);
    scene.drain().await;
}

async fn a_large_removal_makes_way_too<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let feeds = narrow(&scene, engine.clone()).await;
    let id = scene.feeds.add_activity(&star(), numbered(0)).await.expect("an add").id;
    feeds.remove_activity(&star(), id).await.expect("a removal");
    feeds.run_lane(Lane::Prompt, 100).await.expect("a run over the prompt lane");
    assert_eq!(fans_with(&scene, 0).await, FANS, "no reader shows it from the removal on");
    assert_eq!(pointers(&scene, Lane::Bulk).await, 1);
    scene.drain().await;
    let report = scene.feeds.verify(fans()).await.expect("a verification");
    assert!(report.is_clean() && report.stale_rows == 0, "{report:?}");
}

/// What is left beyond that is found by a sweep.
async fn so_many_jobs_are_remembered<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    for pointer in scene.feeds.new_pointers((0..4_097).map(|_| JobAt::Edges(star()))) {
        scene.feeds.leave(pointer);
    }
    assert_eq!(scene.feeds.inner.lanes.of(Lane::Prompt).left().len(), 4_096);
    assert_eq!(scene.feeds.metrics().jobs_left, 4_097);
}

/// Breaks a worker at its mutating call `at`; another process ends the work. False when it was over before.
async fn broken<E: Engine>(engine: &E, fault: Fault, at: i64) -> bool {
    let scene = scene(engine).await;
    let poster = narrow(&scene, engine.clone()).await;
    let id = poster.add_activity(&star(), numbered(0)).await.expect("an add").id;
    drop(poster);
    scene.clock.advance_ms(60_000);
    let faulty = TestEngine::faulty(engine.clone(), fault, at);
    let worker = narrow(&scene, faulty.clone()).await;
    for _ in 0..3 {
        match worker.run_outbox_once(100).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{fault:?} at {at}: {error}"),
        }
    }
    worker.flush_finished().await;
    drop(worker);
    scene.drain().await;
    for fan in fans() {
        assert_eq!(scene.ids(&fan).await, [id], "{fault:?} at {at}: {fan}");
    }
    let left = pointers(&scene, Lane::Prompt).await + pointers(&scene, Lane::Bulk).await;
    assert_eq!(left, 0, "{fault:?} at {at}");
    let report = scene.feeds.verify(fans()).await.expect("a verification");
    assert!(report.is_clean(), "{fault:?} at {at}: {report:?}");
    faulty.fired()
}
