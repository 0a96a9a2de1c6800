//! Scenarios: reactions, their lists, and their activity in target feeds.

use keevo_core::{Engine, ErrorKind};
use serde_json::json;

use super::entities::object;
use super::{Scene, feed};
use crate::audit::{Action, AuditQuery, EntityType};
use crate::reactions::{NewReaction, ReactTo, Reaction, ReactionChange, ReactionQuery, ReactionsOf, Subject, TallyRow};
use crate::read::PageRequest;
use crate::rows::decode;

/// No UUID of version 1, and no activity: reactions need none.
pub(crate) const ACTIVITY: &str = "54a60c1e-4ee3-494b-a1e3-50c06acb5ed4";

pub(crate) async fn run<E: Engine>(engine: &E) {
    a_reaction_lives_and_dies(engine).await;
    children_go_with_their_parent(engine).await;
    lists_page_both_ways(engine).await;
    the_newest_are_refilled(engine).await;
    target_feeds_get_an_activity(engine).await;
    bad_input_is_refused(engine).await;
}

pub(crate) fn on_activity(kind: &str, user: &str) -> NewReaction {
    NewReaction::new(kind, ReactTo::Activity(ACTIVITY.to_owned()), user)
}

pub(crate) fn child(kind: &str, parent: &str, user: &str) -> NewReaction {
    NewReaction::new(kind, ReactTo::Parent(parent.to_owned()), user)
}

fn named(id: &str, new: NewReaction) -> NewReaction {
    NewReaction { id: Some(id.to_owned()), ..new }
}

/// The counts of a subject, as "kind n, kind n".
async fn counts<E: Engine>(scene: &Scene<E>, subject: Subject) -> String {
    let key = subject.tally(scene.feeds.layout());
    let record = scene.engine.get(key, keevo_core::Consistency::Linearizable).await.expect("a read");
    let tally: TallyRow = record.map(|record| decode(&record).expect("a tally")).unwrap_or_default();
    let kinds: Vec<String> = tally.kinds.iter().map(|one| format!("{} {}", one.kind, one.count)).collect();
    kinds.join(", ")
}

async fn of_activity<E: Engine>(scene: &Scene<E>) -> String {
    counts(scene, Subject::Activity(ACTIVITY.to_owned())).await
}

fn ids(reactions: &[Reaction]) -> Vec<&str> {
    reactions.iter().map(|one| one.id.as_str()).collect()
}

async fn a_reaction_lives_and_dies<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let mut new = named("mine", on_activity("like", "alice"));
    new.data = object(json!({"n": 1}));
    let added = feeds.add_reaction(new.clone()).await.expect("an add");
    assert_eq!(feeds.reaction("mine").await.expect("the reaction"), added);
    assert_eq!((added.activity_id.as_str(), added.parent.as_deref(), added.deleted_at), (ACTIVITY, None, None));
    assert_eq!(feeds.add_reaction(new.clone()).await.expect_err("it is taken").kind(), ErrorKind::Conflict);
    let made = feeds.add_reaction(on_activity("comment", "bob")).await.expect("an add");
    assert_eq!(made.id.len(), 36);
    assert_eq!(of_activity(&scene).await, "like 1, comment 1");

    let change = ReactionChange { data: Some(object(json!({"n": 2}))), ..ReactionChange::default() };
    let updated = feeds.update_reaction("mine", change).await.expect("an update");
    assert_eq!((updated.created_at, &updated.data), (added.created_at, &object(json!({"n": 2}))));
    assert!(updated.updated_at > added.updated_at);

    feeds.delete_reaction("mine", true).await.expect("a soft deletion");
    assert_eq!(feeds.reaction("mine").await.expect_err("hidden").kind(), ErrorKind::NotFound);
    assert_eq!(feeds.delete_reaction("mine", true).await.expect_err("hidden").kind(), ErrorKind::NotFound);
    let update = feeds.update_reaction("mine", ReactionChange::default()).await;
    assert_eq!(update.expect_err("hidden").kind(), ErrorKind::NotFound);
    assert_eq!(feeds.add_reaction(new.clone()).await.expect_err("hidden").kind(), ErrorKind::Conflict);
    assert_eq!(of_activity(&scene).await, "like 0, comment 1");
    let known = ["mine".to_owned(), made.id.clone(), "none".to_owned()];
    assert_eq!(feeds.reactions_by_ids(&known, false).await.expect("reactions").len(), 1);
    let all = feeds.reactions_by_ids(&known, true).await.expect("reactions");
    assert!(all.len() == 2 && all.first().is_some_and(|one| one.deleted_at.is_some()));

    let restored = feeds.restore_reaction("mine").await.expect("a restoration");
    assert_eq!((restored.data, restored.deleted_at), (updated.data, None));
    assert_eq!(feeds.restore_reaction("mine").await.expect_err("not hidden").kind(), ErrorKind::NotFound);
    assert_eq!(of_activity(&scene).await, "like 1, comment 1");
    feeds.delete_reaction("mine", false).await.expect("a deletion");
    assert_eq!(feeds.restore_reaction("mine").await.expect_err("gone").kind(), ErrorKind::NotFound);
    assert_eq!(of_activity(&scene).await, "like 0, comment 1", "a kind stays with 0");

    let again = feeds.add_reaction(new).await.expect("the id is free again");
    assert!(again.created_at > restored.created_at);
    assert_eq!(of_activity(&scene).await, "like 1, comment 1");
    let query = AuditQuery {
        entity_type: EntityType::Reaction,
        entity_id: "mine".into(),
        user_id: None,
        limit: 100,
        after: None,
    };
    let log: Vec<Action> =
        feeds.audit_logs(&query).await.expect("a log").entries.iter().map(|one| one.action).collect();
    let expected =
        [Action::Create, Action::Delete, Action::Restore, Action::SoftDelete, Action::Update, Action::Create];
    assert_eq!(log, expected);
    assert_eq!(feeds.delete_reactions(&known).await.expect("deletions"), 2);
    assert_eq!(of_activity(&scene).await, "like 0, comment 0");
}

async fn children_go_with_their_parent<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    feeds.add_reaction(named("top", on_activity("comment", "alice"))).await.expect("an add");
    let mid = feeds.add_reaction(named("mid", child("comment", "top", "bob"))).await.expect("a child");
    assert_eq!((mid.activity_id.as_str(), mid.parent.as_deref()), (ACTIVITY, Some("top")));
    feeds.add_reaction(named("low", child("like", "mid", "carol"))).await.expect("a grandchild");
    let deeper = feeds.add_reaction(child("like", "low", "alice")).await.expect_err("three levels");
    assert_eq!(deeper.kind(), ErrorKind::Invalid);
    for n in 0..130 {
        feeds.add_reaction(named(&format!("l{n}"), child("like", "top", "dora"))).await.expect("a child");
    }
    assert_eq!(of_activity(&scene).await, "comment 1", "children do not count there");
    assert_eq!(counts(&scene, Subject::Reaction("top".into())).await, "comment 1, like 130");

    feeds.delete_reaction("top", true).await.expect("a soft deletion");
    assert!(feeds.reaction("mid").await.is_ok(), "a soft deletion leaves children as they are");
    assert_eq!(feeds.add_reaction(child("like", "top", "a")).await.expect_err("hidden").kind(), ErrorKind::Invalid);
    feeds.restore_reaction("top").await.expect("a restoration");
    feeds.delete_reaction("top", false).await.expect("a deletion");
    scene.drain().await;
    for gone in ["top", "mid", "low", "l0", "l129"] {
        assert_eq!(feeds.reaction(gone).await.expect_err("gone").kind(), ErrorKind::NotFound, "{gone}");
    }
    let left = feeds.list_reactions(&ReactionQuery::of(ReactionsOf::User("dora".into()))).await.expect("a page");
    assert_eq!(left.reactions, []);

    feeds.add_reaction(named("top", on_activity("comment", "alice"))).await.expect("the id is free again");
    feeds.add_reaction(child("like", "top", "bob")).await.expect("and open again");
    assert_eq!(counts(&scene, Subject::Reaction("top".into())).await, "comment 0, like 1");
}

async fn lists_page_both_ways<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    for n in 0..23 {
        let kind = if n % 3 == 0 { "like" } else { "comment" };
        let user = if n % 2 == 0 { "alice" } else { "bob" };
        feeds.add_reaction(named(&format!("r{n:02}"), on_activity(kind, user))).await.expect("an add");
    }
    feeds.delete_reaction("r05", true).await.expect("a soft deletion");
    feeds.delete_reaction("r06", false).await.expect("a deletion");
    let expected = |kind: Option<&str>, user: Option<&str>| -> Vec<String> {
        let of_kind = |n: &u32| kind.is_none_or(|kind| (kind == "like") == n.is_multiple_of(3));
        let of_user = |n: &u32| user.is_none_or(|user| (user == "alice") == n.is_multiple_of(2));
        let all = (0..23).rev().filter(|n| *n != 5 && *n != 6);
        all.filter(of_kind).filter(of_user).map(|n| format!("r{n:02}")).collect()
    };
    for kind in [None, Some("like"), Some("comment")] {
        for user in [None, Some("alice"), Some("bob")] {
            for limit in [1, 4, 25] {
                let mut query = ReactionQuery::of(ReactionsOf::Activity(ACTIVITY.to_uppercase()));
                (query.kind, query.user_id, query.limit) = (kind.map(Into::into), user.map(Into::into), limit);
                let mut expected = expected(kind, user);
                assert_eq!(all_pages(&scene, query.clone()).await, expected, "{query:?}");
                query.id_gt = expected.last().cloned();
                expected.pop();
                expected.reverse();
                assert_eq!(all_pages(&scene, query.clone()).await, expected, "{query:?}");
            }
        }
        let Some(user) = Some("alice") else { continue };
        let mut query = ReactionQuery::of(ReactionsOf::User(user.into()));
        (query.kind, query.limit) = (kind.map(Into::into), 3);
        assert_eq!(all_pages(&scene, query).await, expected(kind, Some(user)));
    }
    let mut query = ReactionQuery::of(ReactionsOf::Activity(ACTIVITY.into()));
    (query.id_lte, query.id_gte) = (Some("r12".into()), Some("r09".into()));
    assert_eq!(ids(&feeds.list_reactions(&query).await.expect("a page").reactions), ["r09", "r10", "r11", "r12"]);
    (query.id_lte, query.id_gte, query.id_lt) = (None, None, Some("r06".into()));
    assert_eq!(
        ids(&feeds.list_reactions(&query).await.expect("a page").reactions),
        ["r04", "r03", "r02", "r01", "r00"]
    );
    query.id_lt = Some("none".into());
    assert_eq!(feeds.list_reactions(&query).await.expect_err("unknown").kind(), ErrorKind::Invalid);
}

/// All pages of a list, read on by `next`.
pub(crate) async fn all_pages<E: Engine>(scene: &Scene<E>, mut query: ReactionQuery) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let page = scene.feeds.list_reactions(&query).await.expect("a page");
        assert!(page.reactions.len() <= query.limit);
        all.extend(page.reactions.into_iter().map(|one| one.id));
        let Some(next) = page.next else { return all };
        if query.id_gt.is_some() { query.id_gt = Some(next) } else { query.id_lt = Some(next) }
    }
}

async fn the_newest_are_refilled<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    for n in 0..40 {
        feeds.add_reaction(named(&format!("r{n:02}"), on_activity("like", "alice"))).await.expect("an add");
    }
    for n in (20..38).rev() {
        feeds.delete_reaction(&format!("r{n:02}"), n % 2 == 0).await.expect("a deletion");
    }
    let key = Subject::Activity(ACTIVITY.into()).tally(feeds.layout());
    let record = engine.get(key, keevo_core::Consistency::Linearizable).await.expect("a read").expect("a tally");
    let tally: TallyRow = decode(&record).expect("a tally");
    let row = tally.kind("like").expect("the kind");
    assert_eq!((row.count, row.latest.len()), (22, 22));
    feeds.restore_reaction("r20").await.expect("a restoration");
    let record =
        engine.get(Subject::Activity(ACTIVITY.into()).tally(feeds.layout()), keevo_core::Consistency::Linearizable);
    let tally: TallyRow = decode(&record.await.expect("a read").expect("a tally")).expect("a tally");
    let latest: Vec<&str> = tally.newest(4).into_iter().map(|(_, one)| one.id.as_str()).collect();
    assert_eq!(latest, ["r39", "r38", "r20", "r19"]);
}

async fn target_feeds_get_an_activity<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let (one, two, fan) = (feed("inbox:1"), feed("inbox:2"), feed("timeline:f"));
    feeds.follow(&fan, &one, None).await.expect("a follow");
    let mut new = named("mine", on_activity("like", "alice"));
    new.target_feeds = vec![one.clone(), one.clone()];
    new.target_feeds_extra_data = object(json!({"popularity": 5, "verb": "steal"}));
    let added = feeds.add_reaction(new).await.expect("an add");
    assert_eq!(added.target_feeds, std::slice::from_ref(&one));
    let page = feeds.page(&one, PageRequest::default()).await.expect("a page");
    let shown = page.activities.first().expect("the activity");
    let fields = [&shown.actor, &shown.verb, &shown.object, &shown.target, &shown.foreign_id];
    assert_eq!(fields, ["SU:alice", "like", &format!("SA:{ACTIVITY}"), "", "reaction:mine"]);
    assert_eq!(shown.time, added.created_at);
    assert_eq!(shown.custom, object(json!({"popularity": 5, "reaction": "SR:mine"})));
    assert!(shown.to.is_empty() && page.activities.len() == 1);
    let first = shown.id;
    assert_eq!(scene.ids(&fan).await, [first], "followers get it too");

    let change = ReactionChange {
        target_feeds: Some(vec![two.clone()]),
        target_feeds_extra_data: Some(object(json!({"popularity": 6}))),
        ..ReactionChange::default()
    };
    feeds.update_reaction("mine", change).await.expect("an update");
    assert!(scene.ids(&one).await.is_empty() && scene.ids(&fan).await.is_empty());
    let page = feeds.page(&two, PageRequest::default()).await.expect("a page");
    let moved = page.activities.first().expect("the activity");
    assert_eq!((moved.id, moved.custom.get("popularity")), (first, Some(&json!(6))));

    feeds.delete_reaction("mine", true).await.expect("a soft deletion");
    assert!(scene.ids(&two).await.is_empty());
    feeds.restore_reaction("mine").await.expect("a restoration");
    assert_eq!(scene.ids(&two).await, [first]);
    feeds.delete_reaction("mine", false).await.expect("a deletion");
    assert!(scene.ids(&two).await.is_empty());
    scene.drain().await;
    let report = feeds.verify([one, two, fan]).await.expect("a verification");
    assert!(report.is_clean() && report.shown == 0, "{report:?}");
}

async fn bad_input_is_refused<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let mut wide = on_activity("like", "alice");
    wide.target_feeds = (0..21).map(|n| feed(&format!("user:{n}"))).collect();
    let mut large = on_activity("like", "alice");
    large.data = object(json!({"text": "x".repeat(11_000)}));
    for (new, kind) in [
        (on_activity("", "alice"), ErrorKind::Invalid),
        (on_activity("like", ""), ErrorKind::Invalid),
        (on_activity("like\u{0}", "alice"), ErrorKind::Invalid),
        (named("", on_activity("like", "alice")), ErrorKind::Invalid),
        (child("like", "none", "alice"), ErrorKind::Invalid),
        (child("like", "", "alice"), ErrorKind::Invalid),
        (NewReaction::new("like", ReactTo::Activity(String::new()), "alice"), ErrorKind::Invalid),
        (wide, ErrorKind::Invalid),
        (large, ErrorKind::BatchTooLarge),
    ] {
        assert_eq!(feeds.add_reaction(new.clone()).await.expect_err("bad input").kind(), kind, "{new:?}");
    }
    for limit in [0, 26] {
        let query = ReactionQuery { limit, ..ReactionQuery::of(ReactionsOf::User("alice".into())) };
        assert_eq!(feeds.list_reactions(&query).await.expect_err("a bad limit").kind(), ErrorKind::Invalid);
    }
    for n in 0..64 {
        feeds.add_reaction(on_activity(&format!("kind{n}"), "alice")).await.expect("an add");
    }
    assert_eq!(feeds.add_reaction(on_activity("more", "a")).await.expect_err("64 kinds").kind(), ErrorKind::Invalid);
    feeds.add_reaction(on_activity("kind7", "bob")).await.expect("a kind that is there");
}
