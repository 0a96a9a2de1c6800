//! Scenarios: aggregated and notification feeds.

use keevo_core::{Engine, ErrorKind};

use super::{Scene, at, feed};
use crate::activity::NewActivity;
use crate::feed_id::FeedId;
use crate::groups::{
    AggregatedPage, AggregatedRequest, GroupConfig, GroupId, GroupKind, Groups, Mark, Marks, Template,
};
use crate::read::PageRequest;

pub(crate) async fn run<E: Engine>(engine: &E) {
    activities_gather_by_verb_and_day(engine).await;
    removals_and_unfollows_take_groups_with_them(engine).await;
    pages_follow_each_other_while_activities_come(engine).await;
    marks_hold_until_something_comes(engine).await;
    what_came_after_the_answer_is_not_marked(engine).await;
    a_template_applies_to_what_comes_later(engine).await;
    bad_requests_are_refused(engine).await;
}

fn act(actor: &str, verb: &str, name: &str, seconds: i64) -> NewActivity {
    NewActivity::new(actor, verb, name).identified(name, at(seconds))
}

/// A line a group: its text, its activities' objects, and its counts.
fn lines(page: &AggregatedPage) -> Vec<String> {
    let line = |group: &crate::groups::ActivityGroup| {
        let objects: Vec<&str> = group.activities.iter().map(|one| one.object.as_str()).collect();
        let marks = format!("{}{}", if group.is_seen { "s" } else { "-" }, if group.is_read { "r" } else { "-" });
        format!("{} [{}] {}/{} {marks}", group.group, objects.join(" "), group.activity_count, group.actor_count)
    };
    page.groups.iter().map(line).collect()
}

async fn page<E: Engine>(scene: &Scene<E>, name: &str) -> AggregatedPage {
    scene.feeds.aggregated_page(&feed(name), AggregatedRequest::default()).await.expect("a page")
}

async fn add<E: Engine>(scene: &Scene<E>, to: &FeedId, new: NewActivity) {
    scene.feeds.add_activity(to, new).await.expect("an add");
}

const DAY: i64 = 86_400;

async fn activities_gather_by_verb_and_day<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (ann, bob, reader) = (feed("user:ann"), feed("user:bob"), feed("aggregated:r"));
    // One before the follow, so that it is copied; others fanned out; one that lies in the feed itself.
    add(&scene, &ann, act("ann", "like", "a1", 0)).await;
    scene.feeds.follow(&reader, &ann, None).await.expect("a follow");
    scene.feeds.follow(&reader, &bob, None).await.expect("a follow");
    add(&scene, &ann, act("ann", "like", "a2", 20)).await;
    add(&scene, &bob, act("bob", "like", "b1", 10)).await;
    add(&scene, &bob, act("bob", "share", "b2", 5)).await;
    add(&scene, &reader, act("me", "like", "own", 15)).await;
    add(&scene, &ann, act("ann", "like", "next-day", DAY)).await;
    // Through both of its sources it is shown once.
    add(&scene, &ann, act("eve", "like", "both", 12).to([bob.clone()])).await;
    let expected = [
        "like_2026-05-02 [next-day] 1/1 --",
        "like_2026-05-01 [a2 own both b1 a1] 5/4 --",
        "share_2026-05-01 [b2] 1/1 --",
    ];
    let all = page(&scene, "aggregated:r").await;
    // Nothing is ever seen where there are no marks.
    assert_eq!(lines(&all), expected);
    let second = all.groups.get(1).expect("a group");
    assert_eq!((second.created_at, second.updated_at), (at(0), at(20)));
    assert_eq!(second.activities.first().expect("one").origin, Some(ann.clone()));
    let few = AggregatedRequest { activities_max: 2, ..AggregatedRequest::default() };
    let few = scene.feeds.aggregated_page(&reader, few).await.expect("a page");
    assert_eq!(lines(&few).get(1).map(String::as_str), Some("like_2026-05-01 [a2 own] 5/4 --"));
    assert_eq!(few.groups.get(1).expect("a group").created_at, at(0), "the oldest counts, shown or not");
    let report = scene.feeds.verify([ann, bob, reader]).await.expect("a verification");
    assert!(report.is_clean(), "{report:?}");
}

async fn removals_and_unfollows_take_groups_with_them<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (ann, bob, reader) = (feed("user:ann"), feed("user:bob"), feed("notification:r"));
    for source in [&ann, &bob] {
        scene.feeds.follow(&reader, source, None).await.expect("a follow");
    }
    let first = scene.feeds.add_activity(&ann, act("ann", "like", "a1", 0)).await.expect("an add").id;
    scene.feeds.add_activity(&ann, act("ann", "like", "a2", 1)).await.expect("an add");
    scene.feeds.add_activity(&bob, act("bob", "share", "b1", 2)).await.expect("an add");
    assert!(scene.feeds.remove_activity(&ann, first).await.expect("a removal"));
    assert_eq!(
        lines(&page(&scene, "notification:r").await),
        ["share_2026-05-01 [b1] 1/1 --", "like_2026-05-01 [a2] 1/1 --"]
    );
    scene.feeds.unfollow(&reader, &bob, false).await.expect("an unfollow");
    let left = page(&scene, "notification:r").await;
    assert_eq!(lines(&left), ["like_2026-05-01 [a2] 1/1 --"]);
    assert_eq!((left.unseen, left.unread), (1, 1));
    scene.feeds.remove_by_foreign_id(&ann, "a2").await.expect("a removal");
    let empty = page(&scene, "notification:r").await;
    assert!(empty.groups.is_empty() && empty.unseen == 0 && empty.unread == 0);
}

async fn pages_follow_each_other_while_activities_come<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let reader = feed("aggregated:r");
    for day in 0..5 {
        let new = act("ann", "like", &format!("d{day}"), day * DAY);
        scene.feeds.add_activity(&reader, new).await.expect("an add");
    }
    let first = AggregatedRequest::from(PageRequest::first(2));
    let first = scene.feeds.aggregated_page(&reader, first).await.expect("a page");
    assert_eq!(lines(&first), ["like_2026-05-05 [d4] 1/1 --", "like_2026-05-04 [d3] 1/1 --"]);
    // What comes meanwhile shifts nothing.
    scene.feeds.add_activity(&reader, act("ann", "like", "d9", 9 * DAY)).await.expect("an add");
    let mut seen = Vec::new();
    let mut next = first.next;
    while let Some(last) = next {
        let request = AggregatedRequest::from(PageRequest::after(last, 2));
        let page = scene.feeds.aggregated_page(&reader, request).await.expect("a page");
        seen.extend(page.groups.iter().map(|group| group.group.clone()));
        next = page.next;
    }
    assert_eq!(seen, ["like_2026-05-03", "like_2026-05-02", "like_2026-05-01"]);
    let middle = first.groups.last().map(|group| group.id);
    let newer = AggregatedRequest::from(PageRequest { id_gt: middle, ..PageRequest::default() });
    let newer = scene.feeds.aggregated_page(&reader, newer).await.expect("a page");
    assert_eq!(lines(&newer), ["like_2026-05-10 [d9] 1/1 --", "like_2026-05-05 [d4] 1/1 --"]);
    let one = AggregatedRequest::from(PageRequest { id_gte: middle, id_lte: middle, ..PageRequest::default() });
    assert_eq!(lines(&scene.feeds.aggregated_page(&reader, one).await.expect("a page")).len(), 1);
    let later = AggregatedRequest::from(PageRequest { offset: 4, ..PageRequest::default() });
    let later = scene.feeds.aggregated_page(&reader, later).await.expect("a page");
    assert_eq!(lines(&later), ["like_2026-05-02 [d1] 1/1 --", "like_2026-05-01 [d0] 1/1 --"]);
}

async fn marks_hold_until_something_comes<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let reader = feed("notification:r");
    add(&scene, &reader, act("ann", "like", "a1", 0)).await;
    add(&scene, &reader, act("ann", "share", "a2", 1)).await;
    let before = page(&scene, "notification:r").await;
    assert_eq!((before.unseen, before.unread), (2, 2));
    let shares = before.groups.first().expect("a group").id;
    let marks = Marks { seen: Mark::All, read: Mark::Groups(vec![shares]) };
    scene.feeds.mark(&reader, &marks, before.seen_to).await.expect("marks");
    let after = page(&scene, "notification:r").await;
    assert_eq!(lines(&after), ["share_2026-05-01 [a2] 1/1 sr", "like_2026-05-01 [a1] 1/1 s-"]);
    assert_eq!((after.unseen, after.unread), (0, 1));
    // A newer activity brings its group back, and only that.
    add(&scene, &reader, act("bob", "share", "a3", 2)).await;
    let again = page(&scene, "notification:r").await;
    assert_eq!(lines(&again), ["share_2026-05-01 [a3 a2] 2/2 --", "like_2026-05-01 [a1] 1/1 s-"]);
    assert_eq!((again.unseen, again.unread), (1, 2));
    // An older answer's mark takes nothing back.
    scene.feeds.mark(&reader, &Marks { seen: Mark::All, read: Mark::All }, again.seen_to).await.expect("marks");
    scene.feeds.mark(&reader, &Marks { seen: Mark::All, read: Mark::All }, before.seen_to).await.expect("marks");
    let last = page(&scene, "notification:r").await;
    assert_eq!((last.unseen, last.unread), (0, 0));
}

async fn what_came_after_the_answer_is_not_marked<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let reader = feed("notification:r");
    scene.feeds.add_activity(&reader, act("ann", "like", "a1", 0)).await.expect("an add");
    let answer = page(&scene, "notification:r").await;
    // Dated back, so that it does not even stand first.
    scene.feeds.add_activity(&reader, act("bob", "like", "late", -60)).await.expect("an add");
    scene.feeds.add_activity(&reader, act("bob", "share", "late2", -60)).await.expect("an add");
    let everything = Marks { seen: Mark::All, read: Mark::All };
    scene.feeds.mark(&reader, &everything, answer.seen_to).await.expect("marks");
    let now = page(&scene, "notification:r").await;
    assert_eq!((now.unseen, now.unread), (2, 2), "{:?}", lines(&now));
}

async fn a_template_applies_to_what_comes_later<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let reader = feed("board:r");
    // Flat at first: what came then is gathered when it is read.
    add(&scene, &reader, act("ann", "like", "a1", 0)).await;
    let with = |text: &str| {
        let template = Template::parse(text).expect("a template");
        Groups::new([("board".to_owned(), GroupConfig::new(GroupKind::Aggregated, template))])
    };
    scene.feeds.set_groups(with("{{ actor }} in {{ feed.user_id }}"));
    add(&scene, &reader, act("ann", "share", "a2", 1)).await;
    assert_eq!(lines(&page(&scene, "board:r").await), ["ann in r [a2 a1] 2/1 --"]);
    scene.feeds.set_groups(with("{{ verb }}"));
    add(&scene, &reader, act("ann", "share", "a3", 2)).await;
    let expected = ["share [a3] 1/1 --", "ann in r [a2] 1/1 --", "like [a1] 1/1 --"];
    assert_eq!(lines(&page(&scene, "board:r").await), expected, "what was written keeps its group");
}

async fn bad_requests_are_refused<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let reader = feed("notification:r");
    let kind = |error: keevo_core::Error| error.kind();
    let followed = scene.feeds.follow(&feed("timeline:t"), &reader, None).await.map_err(kind);
    assert_eq!(followed, Err(ErrorKind::Invalid), "only flat feeds are followed");
    let defaults = PageRequest::<GroupId>::default;
    let unknown = Some("c0b2fc4e-d76f-8d01-9a19-9a4ba1f02a4d".parse().expect("an id"));
    for bad in [
        PageRequest { limit: 0, ..defaults() }.into(),
        AggregatedRequest { activities_max: 0, ..AggregatedRequest::default() },
        PageRequest { offset: usize::MAX, ..defaults() }.into(),
        PageRequest { id_lt: unknown, ..defaults() }.into(),
    ] {
        let refused = scene.feeds.aggregated_page(&reader, bad).await.map_err(kind);
        assert_eq!(refused.expect_err("it is bad"), ErrorKind::Invalid);
    }
    let flat = scene.feeds.aggregated_page(&feed("user:r"), defaults().into()).await.map_err(kind);
    assert_eq!(flat.expect_err("it has no groups"), ErrorKind::Invalid);
    let marks = Marks { seen: Mark::All, read: Mark::Nothing };
    let marked = scene.feeds.mark(&feed("aggregated:r"), &marks, 1).await.map_err(kind);
    assert_eq!(marked, Err(ErrorKind::Invalid));
}
