//! Scenarios: sources that readers merge. What is shown is what a fan-out would have written, whichever way it came.

mod limits;
mod races;

use keevo_core::{Engine, ErrorKind};

use super::{Fault, Scene, TestEngine, all_ids, feed, post};
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::follow::NewFollow;
use crate::groups::{AggregatedRequest, GroupConfig, GroupKind, Groups, Template};
use crate::ids::ActivityId;
use crate::keys::{self, TIMELINE};
use crate::merge::Phase;
use crate::read::PageRequest;

/// Flat followers of the star.
const FANS: usize = 5;
const FAULTS: [Fault; 5] = [Fault::StopAfter, Fault::AnswerLost, Fault::StopBefore, Fault::StopHalfway, Fault::Refused];

pub(crate) async fn run<E: Engine>(engine: &E, every: usize) {
    a_source_is_merged_and_written_again(engine).await;
    follows_of_a_merged_source(engine).await;
    pages_of_merged_sources(engine).await;
    what_cannot_contribute_is_not_read(engine).await;
    limits::run(engine).await;
    races::run(engine).await;
    let mut points = 0;
    // Two of them are enough for a quick run.
    for fault in FAULTS.into_iter().take(if every == 1 { FAULTS.len() } else { 2 }) {
        let mut at = 0;
        while broken(engine, fault, at).await {
            points += 1;
            at += i64::try_from(every).expect("small");
            assert!(at < 300, "{fault:?}: the switches do not end");
        }
    }
    assert!(points > if every == 1 { 60 } else { 2 }, "the faults do happen: {points}");
}

/// The default groups, with feeds of `user` merged above so many followers, and of `timeline` limited to so many.
pub(crate) fn groups(merge_above: Option<u64>, timeline_max: Option<usize>) -> Groups {
    let user = GroupConfig { merge_above, ..GroupConfig::flat() };
    let timeline = GroupConfig { timeline_max, ..GroupConfig::flat() };
    let aggregated = GroupConfig::new(GroupKind::Aggregated, Template::default());
    let notification = GroupConfig::new(GroupKind::Notification, Template::default());
    let named = [("user", user), ("timeline", timeline), ("aggregated", aggregated), ("notification", notification)];
    Groups::new(named.map(|(slug, group)| (slug.to_owned(), group)))
}

fn star() -> FeedId {
    feed("user:star")
}

fn fans() -> Vec<FeedId> {
    (0..FANS).map(|n| feed(&format!("timeline:{n}"))).collect()
}

async fn scene<E: Engine>(engine: &E) -> Scene<E> {
    let scene = Scene::new(engine).await;
    scene.feeds.set_groups(groups(Some(4), None));
    let gathering = [feed("aggregated:a"), feed("notification:n")];
    let follow = |follower| NewFollow { follower, target: star(), copy_limit: None };
    scene.feeds.follow_many(fans().into_iter().chain(gathering).map(follow).collect()).await.expect("follows");
    scene
}

async fn add<E: Engine>(feeds: &Feeds<E>, seconds: i64) -> ActivityId {
    feeds.add_activity(&star(), post(&format!("p{seconds}"), seconds)).await.expect("an add").id
}

async fn outbox<E: Engine>(feeds: &Feeds<E>) {
    let run = feeds.run_outbox_once(100).await.expect("a run over the outbox");
    assert_eq!(run.failed, 0, "{run:?}");
}

/// How many timeline rows lie in a feed's partition, and how many marks.
async fn rows<E: Engine>(scene: &Scene<E>, feed: &FeedId) -> (usize, usize) {
    let layout = scene.feeds.layout();
    let all = scene.feeds.all(layout.feed(feed), TIMELINE).await.expect("a scan");
    let marks = all.iter().filter(|(sort, _)| keys::parse_mark(sort).expect("a key").is_some()).count();
    (all.len() - marks, marks)
}

async fn verified<E: Engine>(scene: &Scene<E>, feeds: impl IntoIterator<Item = FeedId>) {
    scene.drain().await;
    let report = scene.feeds.verify(feeds.into_iter().chain([star()]).collect::<Vec<_>>()).await;
    let report = report.expect("a verification");
    assert!(report.is_clean(), "{report:?}");
}

async fn phase<E: Engine>(scene: &Scene<E>) -> Phase {
    scene.feeds.source(&star()).await.expect("the source").phase()
}

/// Makes the star a merged source by a post at `seconds`.
async fn merge<E: Engine>(scene: &Scene<E>, seconds: i64) -> ActivityId {
    let id = add(&scene.feeds, seconds).await;
    outbox(&scene.feeds).await;
    assert_eq!(phase(scene).await, Phase::Merged);
    id
}

async fn a_source_is_merged_and_written_again<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let first = add(&scene.feeds, 10).await;
    assert_eq!(phase(&scene).await, Phase::Marking, "more than four feeds follow it");
    let second = add(&scene.feeds, 20).await;
    assert_eq!(rows(&scene, &feed("timeline:0")).await, (2, 0), "it is written until all are marked");
    outbox(&scene.feeds).await;
    let before = scene.feeds.metrics().entries_fanned_out;
    let third = add(&scene.feeds, 30).await;
    assert_eq!(scene.feeds.metrics().entries_fanned_out - before, 2, "to the two that gather");
    // Dated before the source was merged: readers do not look there.
    let old = add(&scene.feeds, -30).await;
    for fan in fans() {
        assert_eq!(rows(&scene, &fan).await, (3, 1), "{fan}");
        assert_eq!(scene.ids(&fan).await, [third, second, first, old], "{fan}");
    }
    for name in ["aggregated:a", "notification:n"] {
        let page = scene.feeds.aggregated_page(&feed(name), AggregatedRequest::default()).await.expect("a page");
        let shown: Vec<ActivityId> = page.groups.iter().flat_map(|group| &group.activities).map(|one| one.id).collect();
        assert_eq!(shown, [third, second, first, old], "{name}: its groups have all of it");
        assert_eq!(page.groups.iter().map(|group| group.activity_count).sum::<usize>(), 4);
    }
    verified(&scene, fans()).await;
    scene.feeds.remove_activity(&star(), third).await.expect("a removal");
    scene.feeds.remove_activity(&star(), first).await.expect("a removal");
    let fourth = add(&scene.feeds, 40).await;
    scene.feeds.set_groups(groups(None, None));
    let fifth = add(&scene.feeds, 50).await;
    assert_eq!(phase(&scene).await, Phase::Unmarking, "it is not to be merged any more");
    let sixth = add(&scene.feeds, 60).await;
    for fan in fans() {
        assert_eq!(scene.ids(&fan).await, [sixth, fifth, fourth, second, old], "{fan}, half way");
    }
    outbox(&scene.feeds).await;
    assert_eq!(phase(&scene).await, Phase::Written);
    for fan in fans() {
        assert_eq!(rows(&scene, &fan).await, (5, 0), "{fan}: all of it is written");
        assert_eq!(scene.ids(&fan).await, [sixth, fifth, fourth, second, old], "{fan}");
    }
    verified(&scene, fans()).await;
    let metrics = scene.feeds.metrics();
    assert_eq!((metrics.sources_merged, metrics.sources_unmerged), (1, 1));
}

async fn follows_of_a_merged_source<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    // Far more than the slack that follows and posts of the same moment have.
    let pause_ms = 60_000;
    let first = merge(&scene, 10).await;
    scene.clock.advance_ms(pause_ms);
    let second = add(&scene.feeds, 70).await;
    scene.clock.advance_ms(pause_ms);
    let (all, one, none) = (feed("timeline:all"), feed("timeline:one"), feed("timeline:none"));
    for (fan, limit) in [(&all, None), (&one, Some(1)), (&none, Some(0))] {
        scene.feeds.follow(fan, &star(), limit).await.expect("a follow");
    }
    let third = add(&scene.feeds, 130).await;
    assert_eq!(scene.ids(&all).await, [third, second, first]);
    assert_eq!(scene.ids(&one).await, [third, second]);
    assert_eq!(scene.ids(&none).await, [third]);
    verified(&scene, [all.clone(), one.clone(), none.clone()]).await;
    scene.feeds.unfollow(&all, &star(), false).await.expect("an unfollow");
    assert_eq!((scene.ids(&all).await, rows(&scene, &all).await), (vec![], (0, 0)));
    scene.feeds.unfollow(&one, &star(), true).await.expect("an unfollow");
    scene.clock.advance_ms(pause_ms);
    let fourth = add(&scene.feeds, 200).await;
    assert_eq!(scene.ids(&one).await, [third, second], "what it had stays, and nothing comes");
    assert_eq!(rows(&scene, &one).await, (2, 0), "its history is written");
    // Following again finds the source as it is now, and brings nothing back.
    scene.feeds.follow(&all, &star(), Some(1)).await.expect("a follow");
    assert_eq!(scene.ids(&all).await, [fourth]);
    scene.feeds.set_groups(groups(None, None));
    let fifth = add(&scene.feeds, 210).await;
    outbox(&scene.feeds).await;
    assert_eq!(phase(&scene).await, Phase::Written);
    assert_eq!(scene.ids(&all).await, [fifth, fourth]);
    assert_eq!(scene.ids(&one).await, [third, second]);
    assert_eq!(scene.ids(&none).await, [fifth, fourth, third]);
    verified(&scene, [all, one, none].into_iter().chain(fans())).await;
}

/// Two merged sources, one that is written, and own activities, in every order of time; with an activity that came in
/// two ways. Pages by id and by offset, while more is posted.
async fn pages_of_merged_sources<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let (fan, other, plain) = (feed("timeline:0"), feed("user:other"), feed("user:plain"));
    for follower in fans() {
        scene.feeds.follow(&follower, &other, None).await.expect("a follow");
    }
    scene.feeds.follow(&fan, &plain, None).await.expect("a follow");
    merge(&scene, 1).await;
    for seconds in 2..42 {
        let into = [star(), other.clone(), plain.clone(), fan.clone()];
        let number = usize::try_from(seconds).expect("small");
        let into = into.get(number * 7 % 4).expect("one of them");
        let to = if number.is_multiple_of(5) { vec![star()] } else { vec![] };
        scene.feeds.add_activity(into, post(&format!("p{seconds}"), seconds).to(to)).await.expect("an add");
        outbox(&scene.feeds).await;
    }
    let expected: Vec<ActivityId> = scene.ids(&fan).await;
    assert_eq!(expected.len(), 41);
    assert!(expected.is_sorted_by_key(|id| std::cmp::Reverse(id.order_key())), "newest first");
    for limit in [1, 3, 7, 100] {
        let (mut seen, mut request, mut posted) = (Vec::new(), PageRequest::first(limit), 0);
        loop {
            let page = scene.feeds.page(&fan, request).await.expect("a page");
            seen.extend(page.activities.iter().map(|one| one.id));
            // Newer ones come between pages, and some among those that are still to be met.
            posted += 1;
            if posted < 4 {
                let name = format!("l{limit}:{posted}");
                scene.feeds.add_activity(&star(), post(&name, 1_000 + posted)).await.expect("an add");
                scene.feeds.add_activity(&other, post(&name, 20 - posted)).await.expect("an add");
            }
            match page.next {
                Some(last) => request = PageRequest::after(last, limit),
                None => break,
            }
        }
        let distinct: std::collections::BTreeSet<&ActivityId> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "pages of {limit} show none twice");
        let old: Vec<ActivityId> = seen.iter().copied().filter(|id| expected.contains(id)).collect();
        assert_eq!(old, expected, "pages of {limit} show each once, in order");
    }
    let all = scene.ids(&fan).await;
    for offset in [0, 1, 5, 40, all.len()] {
        let page = scene.feeds.page(&fan, PageRequest { offset, ..PageRequest::first(4) }).await.expect("a page");
        let shown: Vec<ActivityId> = page.activities.iter().map(|one| one.id).collect();
        assert_eq!(shown, all.iter().copied().skip(offset).take(4).collect::<Vec<_>>(), "offset {offset}");
    }
    let (newer, older) = (all.get(10).copied(), all.get(20).copied());
    let between = PageRequest { id_lt: newer, id_gte: older, ..PageRequest::first(100) };
    let page = scene.feeds.page(&fan, between).await.expect("a page");
    assert_eq!(page.activities.len(), 10, "between two ids");
    verified(&scene, fans()).await;
}

/// A reader asks no source that has nothing for its page, however many it follows.
async fn what_cannot_contribute_is_not_read<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let fan = feed("timeline:0");
    merge(&scene, 1).await;
    scene.clock.advance_ms(7_200_000);
    let late = feed("timeline:late");
    scene.feeds.follow(&late, &star(), Some(1)).await.expect("a follow");
    for seconds in 0..3 {
        let day = 10_000 + seconds;
        scene.feeds.add_activity(&late, post(&format!("own{seconds}"), seconds - 100)).await.expect("an add");
        add(&scene.feeds, day).await;
    }
    let counted = TestEngine::yielding(engine.clone(), 1);
    let feeds = scene.other(counted.clone()).await;
    let reads = |before: u64| counted.reads() - before;
    let before = counted.reads();
    feeds.page(&feed("timeline:nobody"), PageRequest::default()).await.expect("a page");
    assert_eq!(reads(before), 1, "no mark, no activity: one scan");
    let before = counted.reads();
    feeds.page(&late, PageRequest::default()).await.expect("a page");
    assert_eq!(reads(before), 4, "marks and rows, what was copied, the source, the activities");
    let before = counted.reads();
    let old = scene.ids(&late).await.last().copied().expect("an own activity");
    feeds.page(&late, PageRequest { id_lte: Some(old), ..PageRequest::default() }).await.expect("a page");
    assert_eq!(reads(before), 4, "marks, rows, what was copied, the activities: the source held nothing so old");
    assert!(scene.ids(&fan).await.len() > 3);
}

/// Breaks a process that merges and writes again at its mutating call `at`; another one ends the work. False when it
/// was over before.
async fn broken<E: Engine>(engine: &E, fault: Fault, at: i64) -> bool {
    let scene = scene(engine).await;
    let faulty = TestEngine::faulty(engine.clone(), fault, at);
    let feeds = scene.other(faulty.clone()).await;
    let late = feed("timeline:late");
    for step in 0..6 {
        let seconds = 10 + step;
        let posted = feeds.add_activity(&star(), post(&format!("p{step}"), seconds)).await.map(drop);
        let followed = match step {
            2 => feeds.follow(&late, &star(), None).await,
            3 => {
                feeds.set_groups(groups(None, None));
                feeds.unfollow(&feed("timeline:4"), &star(), true).await.map(drop)
            }
            _ => Ok(()),
        };
        let ran = feeds.run_outbox_once(100).await.map(drop);
        for done in [posted, followed, ran] {
            let allowed = [ErrorKind::Closed, ErrorKind::OutcomeUnknown, ErrorKind::Unavailable];
            assert!(
                done.as_ref().err().is_none_or(|error| allowed.contains(&error.kind())),
                "{fault:?} at {at}: {done:?}"
            );
        }
    }
    feeds.flush_finished().await;
    drop(feeds);
    scene.feeds.set_groups(groups(None, None));
    verified(&scene, fans().into_iter().chain([late])).await;
    let held = all_ids(&scene.feeds, &star()).await;
    for fan in fans().into_iter().take(4) {
        assert_eq!(scene.ids(&fan).await, held, "{fault:?} at {at}: {fan}");
    }
    faulty.fired()
}
