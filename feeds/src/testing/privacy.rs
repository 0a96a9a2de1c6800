//! Scenarios: exports and deletions of what is a user's, flags, and the audit log of activities and users.

use keevo_core::{Engine, ErrorKind};
use serde_json::json;

use super::entities::object;
use super::reactions::on_activity;
use super::{Fault, Scene, TestEngine, feed, post};
use crate::activity::NewActivity;
use crate::audit::{Action, AuditQuery, EntityType};
use crate::flags::{FlaggedType, NewFlag};
use crate::ids::ActivityId;
use crate::reactions::NewReaction;

pub(crate) async fn run<E: Engine>(engine: &E, every: i64) {
    an_export_is_what_there_is(engine).await;
    a_changed_actor_changes_the_list(engine).await;
    deleted_everywhere(engine).await;
    lists_survive_faults(engine, every).await;
    flags_are_one_a_user(engine).await;
    activities_have_a_log(engine).await;
    what_a_user_did(engine).await;
}

fn by(user: &str, name: &str, seconds: i64) -> NewActivity {
    NewActivity { actor: format!("SU:{user}"), ..post(name, seconds) }
}

/// All pages of an export: activities and reactions.
async fn export<E: Engine>(scene: &Scene<E>, user: &str, limit: usize) -> (Vec<ActivityId>, Vec<String>) {
    let (mut activities, mut reactions, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = scene.feeds.export_ids(user, limit, after.as_deref()).await.expect("a page");
        assert!(page.activities.len() + page.reactions.len() <= limit);
        activities.extend(page.activities);
        reactions.extend(page.reactions);
        after = page.next;
        if after.is_none() {
            return (activities, reactions);
        }
    }
}

async fn an_export_is_what_there_is<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let user = feed("user:1");
    let mut expected = Vec::new();
    for n in 0..7 {
        let added =
            feeds.add_activity(&user, by("alice", &format!("p{n}"), n).to([feed("user:2")])).await.expect("an add");
        feeds.add_activity(&user, by("bob", &format!("q{n}"), n)).await.expect("an add");
        expected.insert(0, added.id);
    }
    feeds.add_activity(&user, post("anonymous", 9)).await.expect("an add");
    feeds.remove_activity(&user, expected.remove(2)).await.expect("a removal");
    let kept = *expected.get(3).expect("seven");
    feeds.remove_activity(&feed("user:2"), kept).await.expect("a removal of a target");
    for id in ["r1", "r2", "r3"] {
        let new = NewReaction { id: Some(id.into()), ..on_activity("like", "alice") };
        feeds.add_reaction(new).await.expect("a reaction");
    }
    feeds.add_reaction(on_activity("like", "bob")).await.expect("a reaction");
    feeds.delete_reaction("r1", true).await.expect("a soft deletion");
    feeds.delete_reaction("r2", false).await.expect("a deletion");
    for limit in [1, 2, 6, 100] {
        let (activities, reactions) = export(&scene, "alice", limit).await;
        assert_eq!(activities, expected, "pages of {limit}");
        assert_eq!(reactions, ["r3", "r1"], "pages of {limit}");
    }
    assert_eq!(export(&scene, "nobody", 10).await, (Vec::new(), Vec::new()));
    for (limit, after) in
        [(0, None), (1_001, None), (5, Some("")), (5, Some("zz-")), (5, Some("68-zz")), (5, Some("68-61"))]
    {
        let error = feeds.export_ids("alice", limit, after).await.expect_err("bad input");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{limit} {after:?}");
    }
}

async fn a_changed_actor_changes_the_list<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let added = scene.feeds.add_activity(&user, by("alice", "p", 1)).await.expect("an add");
    let changed = scene.feeds.add_activity(&user, by("bob", "p", 1)).await.expect("an add");
    assert_eq!(added.id, changed.id);
    assert_eq!(export(&scene, "alice", 10).await.0, []);
    assert_eq!(export(&scene, "bob", 10).await.0, [added.id]);
    scene.drain().await;
    assert_eq!(export(&scene, "bob", 10).await.0, [added.id]);
    let made = scene.feeds.update_activities(vec![by("carol", "p", 1), by("carol", "q", 2)]).await.expect("updates");
    let ids = |of: &[crate::Activity]| of.iter().rev().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(export(&scene, "carol", 10).await.0, ids(&made), "one changed, one made");
    let set = object(json!({"actor": "SU:dora"}));
    let update = crate::PartialUpdate { id: added.id, set, unset: Vec::new() };
    scene.feeds.update_partially(vec![update]).await.expect("an update");
    assert_eq!(export(&scene, "dora", 10).await.0, [added.id]);
    let all: Vec<ActivityId> = made.iter().map(|one| one.id).collect();
    assert_eq!(scene.feeds.delete_activities(&all).await.expect("deletions"), 2, "also one that is in no feed");
    assert!(scene.feeds.activities(&all).await.expect("activities").is_empty());
}

async fn deleted_everywhere<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let (user, other, fan) = (feed("user:1"), feed("user:2"), feed("timeline:f"));
    feeds.follow(&fan, &other, None).await.expect("a follow");
    let added = feeds.add_activity(&user, by("alice", "p", 1).to([other.clone()])).await.expect("an add");
    feeds.add_activity(&feed("user:3"), by("alice", "p", 1)).await.expect("an add to a third feed");
    let unknown = scene.id(3);
    assert_eq!(feeds.delete_activities(&[added.id, unknown, added.id]).await.expect("deletions"), 1);
    for feed in [&user, &other, &fan, &feed("user:3")] {
        assert!(scene.ids(feed).await.is_empty(), "{feed}");
    }
    assert_eq!(export(&scene, "alice", 10).await.0, []);
    scene.drain().await;
    let named = feeds.foreign_ids(&[unknown, added.id]).await.expect("names");
    assert_eq!(named, [(added.id, "p".to_owned())].into(), "a removed one can still be named");
    let report = feeds.verify([user.clone(), other, fan, feed("user:3")]).await.expect("a verification");
    assert!(report.is_clean() && report.shown == 0, "{report:?}");
    let again = feeds.add_activity(&user, by("alice", "p", 1)).await.expect("an add");
    assert_eq!(export(&scene, "alice", 10).await.0, [again.id]);
}

/// Catches a list that loses an activity, or that an add, a removal or its repetition leaves out.
async fn lists_survive_faults<E: Engine>(engine: &E, every: i64) {
    let mut points = 0;
    for remove in [false, true] {
        for fault in [Fault::StopBefore, Fault::StopAfter, Fault::AnswerLost, Fault::Refused] {
            for then_add in [false, true] {
                let mut at = 0;
                loop {
                    let scene = Scene::new(engine).await;
                    let user = feed("user:1");
                    if remove {
                        scene.feeds.add_activity(&user, by("alice", "p", 1)).await.expect("an add");
                    }
                    let faulty = TestEngine::faulty(engine.clone(), fault, at);
                    let caller = scene.other(faulty.clone()).await;
                    let id = ActivityId::compute(scene.app, super::at(1), crate::ids::Identity::ForeignId("p"));
                    let answer = if remove {
                        caller.delete_activities(&[id]).await.map(|_| ())
                    } else {
                        caller.add_activity(&user, by("alice", "p", 1)).await.map(|_| ())
                    };
                    caller.flush_finished().await;
                    if then_add {
                        scene.feeds.add_activity(&user, by("alice", "p", 1)).await.expect("an add");
                    }
                    scene.drain().await;
                    let said = format!("remove {remove}, {fault:?} at {at}, then add {then_add}");
                    let shown = scene.ids(&user).await;
                    assert_eq!(export(&scene, "alice", 10).await.0, shown, "{said}");
                    assert!(then_add || answer.is_err() || shown.is_empty() == remove, "{said}");
                    assert!(!then_add || shown == [id], "{said}");
                    if !faulty.fired() {
                        break;
                    }
                    points += 1;
                    at += every;
                }
            }
        }
    }
    assert!(points > if every == 1 { 50 } else { 10 }, "the faults do happen: {points}");
}

async fn flags_are_one_a_user<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let activity = feeds.add_activity(&feed("user:1"), by("alice", "p", 1)).await.expect("an add");
    let new = |entity_type, entity_id: &str, user: &str| NewFlag {
        entity_type,
        entity_id: entity_id.to_owned(),
        user_id: user.to_owned(),
        reason: "spam".to_owned(),
    };
    let id = activity.id.to_string();
    let first = feeds.flag(&new(FlaggedType::Activity, &id, "bob")).await.expect("a flag");
    assert_eq!((first.target_user_id.as_str(), first.id.len()), ("alice", 36));
    assert_eq!(feeds.flag(&new(FlaggedType::Activity, &id, "bob")).await.expect("the same flag"), first);
    let second = feeds.flag(&new(FlaggedType::Activity, &id, "carol")).await.expect("another flag");
    assert_eq!(feeds.flags(FlaggedType::Activity, &id, 10).await.expect("flags"), [first.clone(), second]);
    assert_eq!(feeds.flags(FlaggedType::Activity, &id, 1).await.expect("flags"), std::slice::from_ref(&first));
    assert_eq!(first.to_json().get("flag_id"), Some(&json!(first.id)));
    let reaction = feeds.add_reaction(on_activity("like", "dora")).await.expect("a reaction");
    let flag = feeds.flag(&new(FlaggedType::Reaction, &reaction.id, "bob")).await.expect("a flag");
    assert_eq!(flag.target_user_id, "dora");
    assert_eq!(feeds.flag(&new(FlaggedType::User, "x", "bob")).await.expect("a flag").target_user_id, "x");
    for (flag, kind) in [
        (new(FlaggedType::Reaction, "none", "bob"), ErrorKind::NotFound),
        (new(FlaggedType::Activity, &scene.id(1).to_string(), "bob"), ErrorKind::NotFound),
        (new(FlaggedType::Activity, "none", "bob"), ErrorKind::Invalid),
        (new(FlaggedType::User, "", "bob"), ErrorKind::Invalid),
        (new(FlaggedType::User, "x", ""), ErrorKind::Invalid),
    ] {
        assert_eq!(feeds.flag(&flag).await.expect_err("bad input").kind(), kind, "{flag:?}");
    }
    assert!(FlaggedType::from_name("stream:feeds:v2:activity").is_ok() && FlaggedType::from_name("x").is_err());
}

async fn activities_have_a_log<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let user = feed("user:1");
    let activity = feeds.add_activity(&user, by("alice", "p", 1)).await.expect("an add");
    let query = AuditQuery {
        entity_type: EntityType::Activity,
        entity_id: activity.id.to_string(),
        user_id: None,
        limit: 10,
        after: None,
    };
    let actions = async |query: &AuditQuery| -> Vec<Action> {
        let page = feeds.audit_logs(query).await.expect("a page");
        assert!(page.entries.iter().all(|one| one.user_id == "alice" && one.entity_id == query.entity_id));
        page.entries.iter().map(|one| one.action).collect()
    };
    assert_eq!(actions(&query).await, [Action::Create]);
    feeds.add_activity(&user, by("alice", "p", 1)).await.expect("the same again");
    assert_eq!(actions(&query).await, [Action::Create], "nothing was changed");
    let mut changed = by("alice", "p", 1);
    changed.custom.insert("n".into(), json!(1));
    feeds.add_activity(&user, changed).await.expect("an update");
    assert_eq!(actions(&query).await, [Action::Update, Action::Create]);
    feeds.remove_activity(&user, activity.id).await.expect("a removal");
    assert_eq!(actions(&query).await, [Action::Delete, Action::Update]);
    let one = AuditQuery { limit: 1, ..query.clone() };
    let first = feeds.audit_logs(&one).await.expect("a page");
    let second = feeds.audit_logs(&AuditQuery { after: first.next, ..one.clone() }).await.expect("a page");
    assert_eq!(second.entries.iter().map(|one| one.action).collect::<Vec<_>>(), [Action::Update]);
    let other = AuditQuery { user_id: Some("bob".into()), ..query };
    assert_eq!(actions(&other).await, []);
    for bad in [AuditQuery { limit: 0, ..one.clone() }, AuditQuery { after: Some("x".into()), ..one }] {
        assert_eq!(feeds.audit_logs(&bad).await.expect_err("bad input").kind(), ErrorKind::Invalid);
    }
}

async fn what_a_user_did<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    feeds.add_user("alice", serde_json::Map::new()).await.expect("a user");
    for n in 0..3 {
        feeds.add_activity(&feed("user:1"), by("alice", &format!("p{n}"), -9)).await.expect("an add");
        scene.clock.advance_ms(10);
        let new = NewReaction { id: Some(format!("r{n}")), ..on_activity("like", "alice") };
        feeds.add_reaction(new).await.expect("a reaction");
    }
    feeds.delete_reaction("r1", false).await.expect("a deletion");
    let all = feeds.audit_logs_of_user("alice", 100, None).await.expect("a page");
    let shown: Vec<String> =
        all.entries.iter().map(|one| format!("{} {}", one.entity_type.name(), one.action.name())).collect();
    let create = |kind: &str| format!("{kind} create");
    let expected = ["reaction", "reaction", "user", "activity", "activity", "activity"].map(create);
    assert_eq!(shown, expected, "newest first");
    assert_eq!(all.next, None);
    for limit in [1, 2] {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = feeds.audit_logs_of_user("alice", limit, after.as_deref()).await.expect("a page");
            paged.extend(page.entries);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, all.entries, "pages of {limit}, though three are of one time");
    }
    assert_eq!(feeds.audit_logs_of_user("nobody", 10, None).await.expect("a page").entries, []);
    assert_eq!(feeds.audit_logs_of_user("alice", 0, None).await.expect_err("no limit").kind(), ErrorKind::Invalid);
}
