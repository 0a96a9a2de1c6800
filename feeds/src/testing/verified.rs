//! Scenario: a verification finds every kind of damage, and names it.

use std::sync::Arc;

use keevo_core::{Batch, Consistency, Engine, Key, ManualClock};

use super::{START_MS, Scene, feed, merged, numbered, open, post};
use crate::feed_id::FeedId;
use crate::ids::ActivityId;
use crate::keys::{self, COUNT, TIMELINE};
use crate::reactions::{NewReaction, ReactTo};
use crate::rows::{ActivityRow, EdgeRow, FollowerRow, decode, encode};
use crate::verify::VerifyReport;

/// What is broken in a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    TimelineRowLost,
    TimelineRowOfNoFollow,
    FollowerLost,
    FollowerOfNoFollow,
    FollowerOfAnOldFollow,
    CounterOff,
    CounterBelowZero,
    RowByTimeLost,
}

const ALL: [Damage; 8] = [
    Damage::TimelineRowLost,
    Damage::TimelineRowOfNoFollow,
    Damage::FollowerLost,
    Damage::FollowerOfNoFollow,
    Damage::FollowerOfAnOldFollow,
    Damage::CounterOff,
    Damage::CounterBelowZero,
    Damage::RowByTimeLost,
];

/// The feed that follows, the one followed, and one apart.
fn feeds() -> [FeedId; 3] {
    ["timeline:1", "user:1", "user:2"].map(feed)
}

/// Catches a verification that reads on however much there is.
async fn a_step_reads_so_much_and_no_more<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let star = feed("user:star");
    let fans: Vec<_> = (0..20).map(|n| feed(&format!("timeline:{n}"))).collect();
    for seconds in 0..30 {
        scene.feeds.add_activity(&star, post(&format!("p{seconds}"), seconds)).await.expect("an add");
    }
    for fan in &fans {
        scene.feeds.follow(fan, &star, None).await.expect("a follow");
    }
    scene.drain().await;
    let whole = scene.feeds.verify(fans.clone()).await.expect("a verification");
    let (mut rest, mut steps, mut shown) = (fans.as_slice(), 0, 0);
    while !rest.is_empty() {
        let (report, done) = scene.feeds.verify_within(rest, 200).await.expect("a step");
        assert!(report.is_clean() && (1..=8).contains(&done) && report.feeds == done, "{done} of {}", rest.len());
        (rest, steps, shown) = (rest.split_at(done).1, steps + 1, shown + report.shown);
    }
    assert_eq!((shown, steps), (whole.shown, 3), "eight at once are more than 200 rows");
    // Eight take too much together, and each does not.
    let (report, done) = scene.feeds.verify_metered(&fans, usize::MAX, 1_000).await.expect("a step");
    assert_eq!((report.feeds, done, report.shown), (20, 20, whole.shown));
    let (report, done) = scene.feeds.verify_metered(&fans, 1, 1_000).await.expect("a step");
    assert_eq!((report.feeds, done), (1, 1), "it gets one further");
    let error = scene.feeds.verify_metered(&fans, usize::MAX, 100).await.expect_err("one feed is too large");
    assert_eq!(error.kind(), keevo_core::ErrorKind::BatchTooLarge);
    assert!(error.message().starts_with("timeline:0: "), "{error}");
}

/// Catches a verification that takes clocks to agree: of a follow that copies little it demanded an older activity that a
/// node whose clock was ahead had added right before, and of one that copied everything what a node whose clock was
/// behind added to many feeds right after.
async fn clocks_that_are_apart_ask_for_nothing_that_a_follow_need_not_have<E: Engine>(engine: &E) {
    let [fan, user, other] = feeds();
    let scene = Scene::new(engine).await;
    let ahead = open(engine.clone(), scene.app, &Arc::new(ManualClock::new(START_MS + 460))).await;
    let behind = open(engine.clone(), scene.app, &Arc::new(ManualClock::new(START_MS - 460))).await;
    ahead.add_activity(&user, post("before", -20)).await.expect("an add");
    scene.feeds.add_activity(&user, post("newest", -10)).await.expect("an add");
    scene.feeds.follow(&fan, &user, Some(1)).await.expect("a follow");
    scene.feeds.follow(&fan, &other, None).await.expect("a follow");
    behind.add_to_many(post("since", -5), vec![other]).await.expect("an add to many");
    let report = scene.feeds.verify(feeds()).await.expect("a verification");
    assert!(report.is_clean() && report.shown == 4, "{report:?}");
    scene.clock.advance_ms(10_000);
    let id = scene.feeds.add_activity(&user, post("old", -30)).await.expect("an add").id;
    let shown = scene.feeds.verify(feeds()).await.expect("a verification").shown;
    let partition = scene.feeds.layout().feed(&fan);
    let row = scene.feeds.all(partition.clone(), TIMELINE).await.expect("a scan").pop().expect("the oldest").0;
    let lost = Batch::new().delete(scene.feeds.layout().key(partition, row));
    scene.engine.write(lost).await.expect("the damage");
    let report = scene.feeds.verify(feeds()).await.expect("a verification");
    assert_eq!((report.missing, shown), (vec![(fan, id)], 6), "what began since for certain is demanded");
}

pub(crate) async fn run<E: Engine>(engine: &E) {
    a_step_reads_so_much_and_no_more(engine).await;
    clocks_that_are_apart_ask_for_nothing_that_a_follow_need_not_have(engine).await;
    for lost in [Lost::Mark, Lost::Tally, Lost::Place, Lost::Version] {
        of_merged_sources_and_reactions(engine, lost).await;
    }
    for damage in ALL {
        let [fan, user, other] = feeds();
        let scene = Scene::new(engine).await;
        scene.feeds.follow(&fan, &user, None).await.expect("a follow");
        let id = scene.feeds.add_activity(&user, numbered(0)).await.expect("an add").id;
        scene.drain().await;
        let whole = scene.feeds.verify(feeds()).await.expect("a verification");
        assert!(whole.is_clean() && (whole.feeds, whole.shown) == (3, 2), "{whole:?}");
        inflict(&scene, damage, id).await;
        let report = scene.feeds.verify(feeds()).await.expect("a verification");
        assert!(!report.is_clean(), "{damage:?}");
        let found = VerifyReport { feeds: 0, shown: 0, stale_rows: 0, ..report };
        let none = VerifyReport::default();
        let expected = match damage {
            Damage::TimelineRowLost => VerifyReport { missing: vec![(fan, id)], ..none },
            Damage::TimelineRowOfNoFollow => VerifyReport { unexpected: vec![(other, id)], ..none },
            Damage::FollowerLost => {
                VerifyReport { unlisted: vec![(fan, user.clone())], miscounted: vec![user], ..none }
            }
            Damage::FollowerOfNoFollow => {
                VerifyReport { orphans: vec![(fan, other.clone())], miscounted: vec![other], ..none }
            }
            Damage::FollowerOfAnOldFollow => {
                VerifyReport { unlisted: vec![(fan.clone(), user.clone())], orphans: vec![(fan, user)], ..none }
            }
            Damage::CounterOff => VerifyReport { miscounted: vec![user], ..none },
            Damage::CounterBelowZero => VerifyReport { miscounted: vec![other], ..none },
            Damage::RowByTimeLost => VerifyReport { miscounted: vec![fan], ..none },
        };
        assert_eq!(found, expected, "{damage:?}");
    }
}

async fn inflict<E: Engine>(scene: &Scene<E>, damage: Damage, id: ActivityId) {
    let [fan, user, other] = feeds();
    let layout = scene.feeds.layout();
    let count = |feed: &FeedId| layout.key(layout.followers(feed, 0), COUNT);
    let edge = scene.engine.get(layout.edge(&fan, &user), Consistency::Linearizable).await.expect("a read");
    let edge = edge.expect("the edge");
    let created_us = decode::<EdgeRow>(&edge).expect("an edge").created_us;
    let listed = |epoch| encode(&FollowerRow { epoch, created_us, gone: false, listed_us: 0 });
    let batch = match damage {
        Damage::TimelineRowLost => Batch::new().delete(timeline_row(scene, &fan).await),
        Damage::TimelineRowOfNoFollow => {
            let row = timeline_row(scene, &fan).await;
            let copy = keys::timeline(id, Some(&user), keys::parse_timeline(&row.sort).expect("a row").generation);
            Batch::new().put(layout.key(layout.feed(&other), copy), "")
        }
        Damage::FollowerLost => Batch::new().delete(layout.follower(&user, 0, &fan)),
        Damage::FollowerOfNoFollow => Batch::new().put(layout.follower(&other, 0, &fan), listed(7)),
        Damage::FollowerOfAnOldFollow => {
            Batch::new().put(layout.follower(&user, 0, &fan), listed(edge.revision.0.wrapping_sub(1)))
        }
        Damage::CounterOff => Batch::new().merge(count(&user), 1),
        Damage::CounterBelowZero => Batch::new().merge(count(&other), -1),
        Damage::RowByTimeLost => Batch::new().delete(layout.key(layout.feed(&fan), keys::by_time(created_us, &user))),
    };
    scene.engine.write(batch).await.expect("the damage");
}

/// The only timeline row of a feed.
async fn timeline_row<E: Engine>(scene: &Scene<E>, feed: &FeedId) -> Key {
    let layout = scene.feeds.layout();
    let scan = layout.scan(layout.feed(feed), TIMELINE, TIMELINE.into(), 2);
    let page = scene.feeds.scan_on(scan).await.expect("a scan");
    let [(key, _)] = page.records.as_slice() else { panic!("one row, not {}", page.records.len()) };
    key.clone()
}

/// What is lost of a merged source and of a reaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// The mark of the one follower.
    Mark,
    /// The tally of an activity.
    Tally,
    /// A reaction's place in the list of its kind.
    Place,
    /// The version of the reaction to which its activity was brought.
    Version,
}

async fn of_merged_sources_and_reactions<E: Engine>(engine: &E, lost: Lost) {
    let [fan, user, other] = feeds();
    let scene = Scene::new(engine).await;
    scene.feeds.set_groups(merged::groups(Some(0), None));
    scene.feeds.follow(&fan, &user, None).await.expect("a follow");
    scene.feeds.add_activity(&user, post("first", 1)).await.expect("an add");
    scene.feeds.run_outbox_once(10).await.expect("a run over the outbox");
    let id = scene.feeds.add_activity(&user, post("second", 2)).await.expect("an add").id;
    let mut new = NewReaction::new("like", ReactTo::Activity(id.to_string()), "bob");
    (new.id, new.target_feeds) = (Some("r".to_owned()), vec![other.clone()]);
    scene.feeds.add_reaction(new).await.expect("a reaction");
    scene.drain().await;
    let whole = scene.feeds.verify(feeds()).await.expect("a verification");
    assert!(whole.is_clean() && (whole.shown, whole.reactions) == (5, 1), "{whole:?}");
    let layout = scene.feeds.layout();
    let row = scene.feeds.reaction_rows(&["r".to_owned()]).await.expect("a read");
    let row = row.into_iter().flatten().next().expect("the reaction");
    let partition = row.subject().partition(layout);
    let batch = match lost {
        Lost::Mark => Batch::new().delete(layout.key(layout.feed(&fan), keys::mark(&user, 1))),
        Lost::Tally => Batch::new().delete(row.subject().tally(layout)),
        Lost::Place => {
            let place = keys::reaction_place(&keys::of_kind("like"), row.created_us, "r");
            Batch::new().delete(layout.key(partition, place))
        }
        Lost::Version => {
            let key = layout.activity(scene.feeds.target_activity("r", &row).expect("an id"));
            let record = scene.engine.get(key.clone(), Consistency::Linearizable).await.expect("a read");
            let mut told: ActivityRow = decode(&record.expect("the activity")).expect("an activity");
            told.source_version -= 1;
            Batch::new().put(key, encode(&told))
        }
    };
    scene.engine.write(batch).await.expect("the damage");
    let report = scene.feeds.verify(feeds()).await.expect("a verification");
    let found: Vec<String> = report.differences().collect();
    let expected = match lost {
        Lost::Mark => vec![format!("{fan} lacks the activity {id}"), format!("{fan} does not merge {user}")],
        Lost::Tally => vec![format!("activity {id} counts something else than the reactions on it")],
        Lost::Place => vec![format!("activity {id} does not list its reactions everywhere alike")],
        Lost::Version => vec!["reaction r is not in its target feeds as it says".to_owned()],
    };
    assert_eq!(found, expected, "{lost:?}");
}
