//! Scenarios: what the outbox holds, and how often a job is driven.

use keevo_core::{Batch, Engine};

use super::{Fault, Scene, TestEngine, feed, numbered};
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, FeedsOptions};
use crate::follow::NewFollow;
use crate::ids::ActivityId;
use crate::lanes::Lane;
use crate::outbox::{JobAt, Pointer};
use crate::rows::{ActivityRow, EntryRow, JobRow, encode};
use crate::worker::OutboxRun;

pub(crate) async fn run<E: Engine>(engine: &E) {
    waiting_pointers_do_not_hold_up_a_job(engine).await;
    a_pointer_that_cannot_be_read_does_not_end_the_sweep(engine).await;
    a_call_that_wrote_no_job_leaves_no_pointer(engine).await;
    a_job_that_a_call_left_is_driven_once(engine).await;
    a_late_page_does_not_reach_a_follow_made_since(engine).await;
}

/// Feeds that leave all but the first follower of a post to the worker.
async fn narrow<E: Engine>(scene: &Scene<E>, pickup_after_ms: u64) -> Feeds<E> {
    let clock = std::sync::Arc::<keevo_core::ManualClock>::clone(&scene.clock);
    let options = FeedsOptions { clock, inline_targets_max: 1, pickup_after_ms, ..FeedsOptions::default() };
    Feeds::open(scene.engine.clone(), scene.app, options).await.expect("feeds open")
}

fn pointer<E: Engine>(feeds: &Feeds<E>, bucket: u8, number: u64, at: JobAt) -> Pointer {
    Pointer { lane: Lane::Prompt, bucket, created_us: feeds.stamp_us(), number, at }
}

/// Writes an activity of `user` with its job, and the pointer to it in `bucket`, as a call does that dies then.
async fn leave_job<E: Engine>(scene: &Scene<E>, user: &FeedId, bucket: u8) -> ActivityId {
    let (id, feeds) = (scene.id(0), &scene.feeds);
    let pointer = pointer(feeds, bucket, 7, JobAt::Activity(id));
    feeds.write_pointers(std::slice::from_ref(&pointer)).await.expect("a pointer");
    let entry = EntryRow { feed: user.to_string(), via: String::new(), generation: 1 };
    let row = ActivityRow {
        time_us: id.time().micros(),
        actor: "actor:0".into(),
        verb: "post".into(),
        object: "object:0".into(),
        foreign_id: "post:0".into(),
        entries: vec![entry.clone()],
        last_gen: 1,
        ..ActivityRow::default()
    };
    let job = JobRow { entries: vec![entry], began_us: pointer.created_us, ..JobRow::default() };
    let batch = Batch::new()
        .put(feeds.layout().activity(id), encode(&row))
        .put(feeds.layout().activity_job(id, pointer.number), encode(&job));
    scene.engine.write(batch).await.expect("an activity and its job");
    id
}

/// Once a thousand pointers without a job filled every sweep, which then began again without a pause.
async fn waiting_pointers_do_not_hold_up_a_job<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let make = |n: u64| pointer(&scene.feeds, 0, 1_000 + n, JobAt::Edges(feed(&format!("timeline:{n}"))));
    let waiting: Vec<Pointer> = (0..1_100).map(make).collect();
    scene.feeds.write_pointers(&waiting).await.expect("pointers");
    let id = leave_job(&scene, &user, 1).await;
    scene.clock.advance_ms(10_000);
    let worker = scene.other(engine.clone()).await;
    let run = worker.run_outbox_once(1_024).await.expect("a run over the outbox");
    assert_eq!(run, OutboxRun { driven: 1, waiting: 1_100, ..OutboxRun::default() });
    assert_eq!(scene.ids(&user).await, [id]);
    let again = worker.run_outbox_once(1_024).await.expect("a run over the outbox");
    assert_eq!(again, OutboxRun { waiting: 1_100, ..OutboxRun::default() }, "nothing to hurry for");
    // A limit is one on jobs, and what it left is said.
    leave_job(&scene, &user, 2).await;
    scene.clock.advance_ms(10_000);
    let limited = worker.run_outbox_once(1).await.expect("a run over the outbox");
    assert_eq!(limited.driven, 1);
    scene.clock.advance_ms(1_000_000);
    let last = worker.run_outbox_once(1_024).await.expect("a run over the outbox");
    assert_eq!(last, OutboxRun { dropped: 1_100, ..OutboxRun::default() }, "after their grace time they go");
}

async fn a_pointer_that_cannot_be_read_does_not_end_the_sweep<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let partition = scene.feeds.layout().outbox(0);
    let short = scene.feeds.layout().key(partition.clone(), "p!");
    let bad = scene.feeds.layout().key(partition, crate::keys::pointer(Lane::Prompt, scene.feeds.stamp_us(), 9));
    let batch = Batch::new().put(short.clone(), "").put(bad.clone(), "no message");
    scene.engine.write(batch).await.expect("two broken rows");
    let id = leave_job(&scene, &user, 0).await;
    scene.clock.advance_ms(10_000);
    let worker = scene.other(engine.clone()).await;
    let run = worker.run_outbox_once(100).await.expect("a run over the outbox");
    assert_eq!(run, OutboxRun { driven: 1, failed: 2, ..OutboxRun::default() });
    assert_eq!(scene.ids(&user).await, [id]);
    scene.engine.write(Batch::new().delete(short).delete(bad)).await.expect("the end of the broken rows");
    scene.drain().await;
}

async fn a_call_that_wrote_no_job_leaves_no_pointer<E: Engine>(engine: &E) {
    for call in 0..5 {
        let scene = Scene::new(engine).await;
        let (user, fan) = (feed("user:1"), feed("timeline:1"));
        let id = scene.feeds.add_activity(&user, numbered(0)).await.expect("an add").id;
        scene.feeds.follow(&fan, &user, None).await.expect("a follow");
        scene.feeds.flush_finished().await;
        // The first write is the pointer, the second is what takes effect.
        let refusing = TestEngine::faulty(engine.clone(), Fault::Refused, 1);
        let feeds = scene.other(refusing.clone()).await;
        let failed = match call {
            0 => feeds.add_activity(&user, numbered(4)).await.is_err(),
            1 => feeds.follow(&feed("timeline:2"), &user, None).await.is_err(),
            2 => feeds.unfollow(&fan, &user, false).await.is_err(),
            3 => feeds.remove_activity(&user, id).await.is_err(),
            _ => {
                let follow = |n: u64| NewFollow {
                    follower: feed(&format!("timeline:{n}")),
                    target: user.clone(),
                    copy_limit: None,
                };
                feeds.follow_many((2..6).map(follow).collect()).await.is_err()
            }
        };
        assert!(failed && refusing.fired(), "call {call} fails");
        feeds.flush_finished().await;
        scene.clock.advance_ms(10_000);
        let run = scene.other(engine.clone()).await.run_outbox_once(100).await.expect("a run over the outbox");
        assert_eq!(run, OutboxRun::default(), "call {call} leaves nothing to look at");
    }
}

/// Once a sweep drove a second time what the same run had just finished, and every entry counted twice.
async fn a_job_that_a_call_left_is_driven_once<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let feeds = narrow(&scene, 0).await;
    for n in 0..5 {
        feeds.follow(&feed(&format!("timeline:{n}")), &user, None).await.expect("a follow");
    }
    for number in 0..3 {
        feeds.add_activity(&user, numbered(number)).await.expect("an add");
    }
    scene.clock.advance_ms(1);
    let run = feeds.run_outbox_once(100).await.expect("a run over the outbox");
    assert_eq!(run, OutboxRun { driven: 3, ..OutboxRun::default() });
    assert_eq!(feeds.metrics().entries_fanned_out, 15, "five followers of three activities");
    assert_eq!(feeds.run_outbox_once(100).await.expect("a run over the outbox"), OutboxRun::default());
    assert_eq!(feeds.metrics().entries_fanned_out, 15);
}

/// Once a page that came late brought back what an unfollow had taken out, through the epoch of a new follow.
async fn a_late_page_does_not_reach_a_follow_made_since<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let fans: Vec<FeedId> = (0..4).map(|n| feed(&format!("timeline:{n}"))).collect();
    let [first, loyal, returned, new] = fans.as_slice() else { panic!("four feeds") };
    let poster = narrow(&scene, 2_000).await;
    for fan in [first, loyal, returned] {
        scene.feeds.follow(fan, &user, None).await.expect("a follow");
    }
    let id = poster.add_activity(&user, numbered(0)).await.expect("an add").id;
    assert_eq!(scene.ids(first).await, [id]);
    assert!(scene.ids(returned).await.is_empty(), "its page comes later");
    scene.clock.advance_ms(10_000);
    scene.feeds.unfollow(returned, &user, false).await.expect("an unfollow");
    for fan in [returned, new] {
        scene.feeds.follow(fan, &user, Some(0)).await.expect("a follow that copies nothing");
    }
    let run = poster.run_outbox_once(100).await.expect("a run over the outbox");
    assert_eq!((run.driven, run.failed), (1, 0));
    for (fan, shown) in [(first, 1), (loyal, 1), (returned, 0), (new, 0)] {
        assert_eq!(scene.ids(fan).await.len(), shown, "{fan}");
    }
    let late = scene.feeds.add_activity(&user, numbered(1)).await.expect("an add").id;
    assert_eq!(scene.ids(new).await, [late], "what is posted after the follow comes");
    scene.drain().await;
    let report = scene.feeds.verify(fans.clone()).await.expect("a verification");
    assert!(report.is_clean() && report.shown == 2 + 2 + 1 + 1, "{report:?}");
}
