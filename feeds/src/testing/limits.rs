//! Scenarios: what has a limit is taken at it and refused beyond it.
//!
//! The limits of activities, pages, templates and expressions stand in the scenarios of those.

use keevo_core::{Batch, Engine, ErrorKind, Result};
use serde_json::json;

use super::entities::object;
use super::reactions::on_activity;
use super::{Scene, at, feed, post};
use crate::audit::{AuditQuery, EntityType};
use crate::enrich::EnrichOptions;
use crate::feed_id::FeedId;
use crate::flags::{FlaggedType, NewFlag};
use crate::groups::{AggregatedRequest, GroupId, Mark, Marks};
use crate::ids::{ActivityId, Identity};
use crate::keys;
use crate::lists::ListRequest;
use crate::ranking::{RankedRequest, Ranking};
use crate::reactions::{NewReaction, ReactionQuery, ReactionsOf};
use crate::rows::{TimelineRow, encode};
use crate::text_change::strings;

pub(crate) async fn run<E: Engine>(engine: &E) {
    users_and_entries_are_bounded(engine).await;
    lists_are_bounded(engine).await;
    an_activity_lies_in_so_many_feeds(engine).await;
    so_many_activities_are_ranked(engine).await;
    a_list_looks_at_so_many_reactions(engine).await;
    a_call_that_is_refused_has_stored_nothing(engine).await;
    a_page_of_groups_reads_so_many_rows(engine).await;
    texts_are_gathered_so_deep();
}

/// What a call was refused with.
fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T>) -> ErrorKind {
    answer.expect_err(what).kind()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("n{n}")).collect()
}

async fn users_and_entries_are_bounded<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    // With its frame of 11 bytes just as large as may be, and one byte larger.
    let data = |bytes: usize| object(json!({ "text": "x".repeat(bytes - 11) }));
    let (full, large) = (data(65_536), data(65_537));
    let long = "c".repeat(129);
    feeds.add_user("full", full.clone()).await.expect("the most data");
    feeds.add_entry(&long[..128], Some("full"), full.clone(), None).await.expect("the longest name");
    assert_eq!(feeds.users(&names(1_000)).await.expect("as many as may be"), []);
    assert_eq!(feeds.delete_users(&names(1_000)).await.expect("as many as may be"), 0);
    let entries = |count| names(count).into_iter().map(|id| ("food".to_owned(), id)).collect::<Vec<_>>();
    assert_eq!(feeds.entries(&entries(1_000)).await.expect("as many as may be"), []);
    let upserts = |count, data: &serde_json::Map<_, _>| names(count).into_iter().map(|id| (id, data.clone())).collect();
    let small = object(json!({ "n": 1 }));
    let gone: Vec<ActivityId> = std::iter::repeat_n(scene.id(1), 1_001).collect();
    for (what, kind) in [
        ("a user's data", refused("add", feeds.add_user("u", large.clone()).await)),
        ("users' data", refused("adds", feeds.add_users(vec![("u".into(), large.clone())], true).await)),
        ("changed data", refused("update", feeds.update_user("full", large.clone()).await)),
        ("an entry's data", refused("add", feeds.add_entry("food", None, large.clone(), None).await)),
        ("entries' data", refused("upsert", feeds.upsert_entries("food", upserts(1, &large)).await)),
        ("a changed entry", refused("update", feeds.update_entry(&long[..128], "full", large.clone()).await)),
    ] {
        assert_eq!(kind, ErrorKind::BatchTooLarge, "{what}");
    }
    for (what, kind) in [
        ("users", refused("a read", feeds.users(&names(1_001)).await)),
        ("users that go", refused("deletions", feeds.delete_users(&names(1_001)).await)),
        ("entries", refused("a read", feeds.entries(&entries(1_001)).await)),
        ("written entries", refused("upserts", feeds.upsert_entries("food", upserts(1_001, &small)).await)),
        ("entries that go", refused("deletions", feeds.delete_entries("food", &names(1_001)).await)),
        ("a collection's name", refused("add", feeds.add_entry(&long, None, small.clone(), None).await)),
        ("reactions", refused("a read", feeds.reactions_by_ids(&names(101), false).await)),
        ("reactions that go", refused("deletions", feeds.delete_reactions(&names(1_001)).await)),
        ("activities that go", refused("deletions", feeds.delete_activities(&gone).await)),
    ] {
        assert_eq!(kind, ErrorKind::Invalid, "{what}");
    }
    assert_eq!(feeds.users(&["u".to_owned()]).await.expect("users"), [], "nothing of it was written");
}

async fn lists_are_bounded<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (feeds, reader) = (&scene.feeds, feed("notification:r"));
    let list = ListRequest::default;
    let many: Vec<FeedId> = (0..1_001).map(|n| feed(&format!("user:{n}"))).collect();
    let filter = |count| many.get(..count).unwrap_or_default().to_vec();
    let most = ListRequest { limit: 1_000, offset: 10_000, filter: filter(1_000), ..list() };
    assert_eq!(feeds.following(&reader, most).await.expect("the largest request").follows, []);
    for bad in [
        ListRequest { limit: 1_001, ..list() },
        ListRequest { offset: 10_001, ..list() },
        ListRequest { filter: filter(1_001), ..list() },
    ] {
        assert_eq!(refused("followers", feeds.followers(&reader, bad.clone()).await), ErrorKind::Invalid, "{bad:?}");
        assert_eq!(refused("following", feeds.following(&reader, bad.clone()).await), ErrorKind::Invalid, "{bad:?}");
    }
    let of = |limit, count| {
        let ids = (0..count).map(|n| GroupId::of(&format!("g{n}"))).collect();
        (AggregatedRequest { activities_max: limit, ..AggregatedRequest::default() }, Mark::Groups(ids))
    };
    let ((largest, most), (larger, more)) = (of(100, 1_000), of(101, 1_001));
    feeds.aggregated_page(&reader, largest).await.expect("the most of a group");
    assert_eq!(refused("a page", feeds.aggregated_page(&reader, larger).await), ErrorKind::Invalid);
    feeds.mark(&reader, &Marks { seen: most, read: Mark::Nothing }, 1).await.expect("the most groups");
    for marks in [Marks { seen: more.clone(), read: Mark::Nothing }, Marks { seen: Mark::Nothing, read: more }] {
        assert_eq!(refused("marks", feeds.mark(&reader, &marks, 1).await), ErrorKind::Invalid);
    }
    let query = |limit| AuditQuery {
        entity_type: EntityType::User,
        entity_id: "alice".into(),
        user_id: None,
        limit,
        after: None,
    };
    feeds.audit_logs(&query(100)).await.expect("the largest page");
    feeds.audit_logs_of_user("alice", 100, Some("ff-3e8")).await.expect("the largest page");
    let reason = |bytes| NewFlag {
        entity_type: FlaggedType::User,
        entity_id: "x".into(),
        user_id: "bob".into(),
        reason: "r".repeat(bytes),
    };
    feeds.flag(&reason(1_000)).await.expect("the longest reason");
    assert_eq!(feeds.flags(FlaggedType::User, "x", 1_000).await.expect("the longest list").len(), 1);
    for (what, kind) in [
        ("an entity's log", refused("a log", feeds.audit_logs(&query(101)).await)),
        ("a user's log", refused("a log", feeds.audit_logs_of_user("alice", 101, None).await)),
        ("a place in it", refused("a log", feeds.audit_logs_of_user("alice", 100, Some("ff-3e9")).await)),
        ("a reason", refused("a flag", feeds.flag(&reason(1_001)).await)),
        ("no flags", refused("flags", feeds.flags(FlaggedType::User, "x", 0).await)),
        ("flags", refused("flags", feeds.flags(FlaggedType::User, "x", 1_001).await)),
        ("an export", refused("an export", feeds.export_ids("alice", 1_001, None).await)),
    ] {
        assert_eq!(kind, ErrorKind::Invalid, "{what}");
    }
}

async fn an_activity_lies_in_so_many_feeds<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = |from: usize, to: usize| (from..to).map(|n| feed(&format!("flat:{n}"))).collect::<Vec<_>>();
    scene.feeds.add_to_many(post("p", 1), feeds(0, 5_000)).await.expect("as many as one call adds");
    let beyond = scene.feeds.add_to_many(post("p", 1), feeds(5_000, 6_001)).await;
    assert_eq!(refused("6,001 feeds", beyond), ErrorKind::Invalid);
    assert!(scene.ids(&feed("flat:5000")).await.is_empty(), "nothing of it was added");
    scene.feeds.add_to_many(post("p", 1), feeds(5_000, 6_000)).await.expect("6,000 feeds");
    assert_eq!(scene.ids(&feed("flat:5999")).await.len(), 1);
}

/// The cost of a ranked page does not grow with its feed.
async fn so_many_activities_are_ranked<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let posts = (0..1_001).map(|n| {
        let mut new = post(&format!("p{n}"), n);
        // The older, the higher.
        new.custom.insert("n".into(), json!(-n));
        new
    });
    let added = scene.feeds.add_activities(&user, posts.collect()).await.expect("adds");
    let ids: Vec<ActivityId> = added.iter().map(|one| one.id).collect();
    let ranking = Ranking::parse(r#"{"score": "n"}"#).expect("a ranking");
    let request = |limit, offset| RankedRequest { limit, offset, ..RankedRequest::default() };
    let page = scene.feeds.ranked_page(&user, &ranking, &request(1, 0)).await.expect("a page");
    assert_eq!(page.activities.first().map(|one| one.activity.id), ids.get(1).copied(), "the oldest has no part in it");
    let all = scene.feeds.ranked_page(&user, &ranking, &request(1_000, 0)).await.expect("the largest page");
    assert!(all.activities.len() == 1_000 && !all.more);
    let of_bytes = |bytes: usize| Ranking::parse(&json!({ "score": format!("{:>bytes$}", 1) }).to_string());
    of_bytes(2_000).expect("the longest score");
    assert_eq!(refused("a score", of_bytes(2_001)), ErrorKind::Invalid);
    let none = scene.feeds.ranked_page(&user, &ranking, &request(1, 10_000)).await.expect("the largest offset");
    assert!(none.activities.is_empty());
    for bad in [request(0, 0), request(1_001, 0), request(1, 10_001)] {
        assert_eq!(refused("a page", scene.feeds.ranked_page(&user, &ranking, &bad).await), ErrorKind::Invalid);
    }
}

/// Catches a bound that is looked at only when a thing is stored: those before it would be there.
async fn a_call_that_is_refused_has_stored_nothing<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let both = || {
        let large = object(json!({ "text": "x".repeat(65_537 - 11) }));
        vec![("small".to_owned(), object(json!({ "n": 1 }))), ("large".to_owned(), large)]
    };
    assert_eq!(refused("users", feeds.add_users(both(), true).await), ErrorKind::BatchTooLarge);
    assert_eq!(refused("entries", feeds.upsert_entries("food", both()).await), ErrorKind::BatchTooLarge);
    assert_eq!(feeds.users(&["small".to_owned()]).await.expect("users"), []);
    assert_eq!(feeds.entries(&[("food".to_owned(), "small".to_owned())]).await.expect("entries"), []);
    let one = feeds.add_reaction(on_activity("like", "alice")).await.expect("an add");
    let (many, options) = (vec![one; 1_001], EnrichOptions::default());
    let shown = feeds.render_reactions(many.split_at(1_000).0, &options).await.expect("as many as may be");
    assert_eq!(shown.len(), 1_000);
    assert_eq!(refused("reactions", feeds.render_reactions(&many, &options).await), ErrorKind::Invalid);
}

/// The cost of a page of groups does not grow with its feed.
async fn a_page_of_groups_reads_so_many_rows<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (feeds, reader) = (&scene.feeds, feed("aggregated:r"));
    feeds.add_activity(&reader, post("oldest", -10)).await.expect("an add");
    // Newer rows of one other group, whose activities are gone: a page has nothing to show of it.
    let partition = feeds.layout().feed(&reader);
    let value = encode(&TimelineRow { group: "gone".to_owned(), actor: 7 });
    let put = |batch: Batch, number: i64| {
        let id = ActivityId::compute(scene.app, at(number), Identity::ForeignId("gone"));
        batch.put(feeds.layout().key(partition.clone(), keys::timeline(id, None, 1)), value.clone())
    };
    let groups = async || {
        let page = feeds.aggregated_page(&reader, AggregatedRequest::default()).await.expect("a page");
        page.groups.len()
    };
    let numbers: Vec<i64> = (1..10_000).collect();
    for some in numbers.chunks(1_000) {
        let batch = some.iter().fold(Batch::new(), |batch, number| put(batch, *number));
        scene.engine.write(batch).await.expect("rows are written");
    }
    assert_eq!(groups().await, 1, "the row of the oldest is the ten thousandth");
    scene.engine.write(put(Batch::new(), 10_000)).await.expect("a row is written");
    assert_eq!(groups().await, 0, "and now it is one too far down");
}

/// A text in so many arrays, or objects, is looked for, and no deeper.
fn texts_are_gathered_so_deep() {
    for depth in [8, 9] {
        let arrays = (0..depth).fold(json!("deep"), |inner, _| json!([inner]));
        let objects = (0..depth).fold(json!("deep"), |inner, _| json!({ "in": inner }));
        let expected = if depth == 8 { "deep" } else { "" };
        assert_eq!((strings(&arrays).as_str(), strings(&objects).as_str()), (expected, expected), "{depth}");
    }
}

/// What is hidden is passed by, but not without end.
async fn a_list_looks_at_so_many_reactions<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let add = async |id: &str| {
        let new = NewReaction { id: Some(id.to_owned()), ..on_activity("like", "alice") };
        feeds.add_reaction(new).await.expect("an add");
    };
    add("oldest").await;
    for id in names(1_030) {
        add(&id).await;
        feeds.delete_reaction(&id, true).await.expect("a soft deletion");
    }
    let mut query = ReactionQuery::of(ReactionsOf::User("alice".into()));
    let first = feeds.list_reactions(&query).await.expect("a page");
    assert!(first.reactions.is_empty() && first.next.is_some(), "it ends before the list does: {first:?}");
    query.id_lt = first.next;
    let second = feeds.list_reactions(&query).await.expect("a page");
    assert_eq!(second.reactions.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["oldest"]);
    assert_eq!(second.next, None);
}
