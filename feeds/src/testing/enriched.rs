//! Scenarios: enrichment by reference, with reactions, and its bounds.

use keevo_core::{Engine, ErrorKind};
use serde_json::{Map, Value, json};

use super::entities::object;
use super::reactions::child;
use super::{Scene, TestEngine, at, feed};
use crate::activity::{Activity, NewActivity};
use crate::enrich::{DEPTH_MAX, EnrichOptions, OBJECTS_MAX, ROUNDS_MAX};
use crate::reactions::{NewReaction, ReactTo};

pub(crate) async fn run<E: Engine>(engine: &E) {
    references_are_replaced(engine).await;
    reactions_are_shown_with_their_options(engine).await;
    children_are_nested(engine).await;
    the_number_of_reads_does_not_grow(engine).await;
    circles_end(engine).await;
    so_deep_and_no_deeper(engine).await;
    options_are_checked(engine).await;
}

async fn add<E: Engine>(scene: &Scene<E>, new: NewActivity) -> Activity {
    scene.feeds.add_activity(&feed("user:1"), new).await.expect("an add")
}

async fn show<E: Engine>(scene: &Scene<E>, activity: &Activity, options: &EnrichOptions) -> Map<String, Value> {
    let shown = scene.feeds.enrich_activities(std::slice::from_ref(activity), options).await.expect("a page");
    shown.into_iter().next().expect("one")
}

/// The value at a path of keys and places.
fn at_path<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

async fn references_are_replaced<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let user = feeds.add_user("alice", object(json!({"name": "Alice"}))).await.expect("a user");
    let entry = feeds.add_entry("food", Some("soup"), object(json!({"hot": true})), None).await.expect("an entry");
    let inner = add(&scene, NewActivity::new("SU:alice", "post", "text").identified("inner", at(1))).await;
    let like = NewReaction::new("like", ReactTo::Activity(inner.id.to_string()), "alice");
    let like = feeds.add_reaction(like).await.expect("a reaction");
    let mut new = NewActivity::new("SU:alice", "eat", "SO:food:soup").identified("outer", at(2));
    new.target = "SU:nobody".into();
    new.custom = object(json!({
        "about": format!("SA:{}", inner.id),
        "from": format!("SR:{}", like.id),
        "gone": "SO:food:none",
        "odd": "SA:none",
        "plain": "SU:",
        "deep": {"ref": "SU:alice"},
        "list": ["SU:alice"],
    }));
    let outer = add(&scene, new).await;
    let plain = outer.to_json();
    assert_eq!(plain.get("actor"), Some(&json!("SU:alice")));
    assert_eq!((plain.get("origin"), plain.get("to")), (Some(&Value::Null), None));
    assert_eq!(plain.get("time"), Some(&json!(outer.time.to_string())));

    let shown = Value::Object(show(&scene, &outer, &EnrichOptions::default()).await);
    assert_eq!(at_path(&shown, "/actor"), &Value::Object(user.to_json()));
    assert_eq!(at_path(&shown, "/object"), &Value::Object(entry.to_json()));
    let missing =
        json!({"id": "nobody", "reference": "SU:nobody", "reference_type": "user", "error": "ReferenceNotFound"});
    assert_eq!(at_path(&shown, "/target"), &missing);
    let missing = json!({"id": "none", "reference": "SO:food:none", "reference_type": "object", "collection": "food",
        "error": "ReferenceNotFound"});
    assert_eq!(at_path(&shown, "/gone"), &missing);
    assert_eq!(at_path(&shown, "/odd/reference_type"), &json!("activity"));
    assert_eq!(at_path(&shown, "/about/id"), &json!(inner.id.to_string()));
    assert_eq!(at_path(&shown, "/about/actor/data/name"), &json!("Alice"));
    assert_eq!(at_path(&shown, "/from/user/data/name"), &json!("Alice"));
    for (path, text) in [("/plain", "SU:"), ("/deep/ref", "SU:alice"), ("/list/0", "SU:alice"), ("/verb", "eat")] {
        assert_eq!(at_path(&shown, path), &json!(text), "only whole references at the top are replaced");
    }
    feeds.delete_reaction(&like.id, true).await.expect("a soft deletion");
    scene.feeds.remove_activity(&feed("user:1"), inner.id).await.expect("a removal");
    let shown = Value::Object(show(&scene, &outer, &EnrichOptions::default()).await);
    for path in ["/about/error", "/from/error"] {
        assert_eq!(at_path(&shown, path), &json!("ReferenceNotFound"));
    }
    let bare = EnrichOptions { references: false, ..EnrichOptions::default() };
    assert_eq!(show(&scene, &outer, &bare).await, outer.to_json());
}

async fn reactions_are_shown_with_their_options<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let activity = add(&scene, NewActivity::new("a", "post", "x").identified("p", at(1))).await;
    let outer = NewActivity::new("a", "repost", format!("SA:{}", activity.id)).identified("q", at(2));
    let outer = add(&scene, outer).await;
    let id = activity.id.to_string();
    let mut last = String::new();
    for n in 0..7 {
        for (kind, user) in [("like", "alice"), ("comment", if n % 2 == 0 { "alice" } else { "bob" })] {
            let new = NewReaction {
                id: Some(format!("{kind}{n}")),
                ..NewReaction::new(kind, ReactTo::Activity(id.clone()), user)
            };
            last = feeds.add_reaction(new).await.expect("a reaction").id;
        }
    }
    let old = NewReaction { id: Some("old".into()), ..NewReaction::new("clap", ReactTo::Activity(id.clone()), "bob") };
    feeds.add_reaction(old).await.expect("a reaction");
    feeds.delete_reaction("old", false).await.expect("a deletion");
    assert_eq!(last, "comment6");

    let all = EnrichOptions {
        user_id: Some("bob".into()),
        own_reactions: true,
        recent_reactions: true,
        reaction_counts: true,
        link_base: "http://localhost/api/v1.0/".into(),
        ..EnrichOptions::default()
    };
    let shown = Value::Object(show(&scene, &outer, &all).await);
    assert_eq!(at_path(&shown, "/reaction_counts"), &json!({}));
    let shown = at_path(&shown, "/object");
    assert_eq!(at_path(shown, "/reaction_counts"), &json!({"like": 7, "comment": 7, "clap": 0}));
    let ids = |value: &Value, path: &str| -> Vec<String> {
        let list = at_path(value, path).as_array().cloned().unwrap_or_default();
        list.iter().map(|one| at_path(one, "/id").as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(ids(shown, "/latest_reactions/like"), ["like6", "like5", "like4", "like3", "like2"]);
    assert_eq!(ids(shown, "/own_reactions/comment"), ["comment5", "comment3", "comment1"]);
    assert_eq!(at_path(shown, "/own_reactions/like"), &Value::Null);
    assert_eq!(at_path(shown, "/latest_reactions/clap"), &Value::Null);
    let next =
        format!("http://localhost/api/v1.0/reaction/activity_id/{id}/like/?id_lt=like2&limit=5&withOwnChildren=false");
    assert_eq!(
        at_path(shown, "/latest_reactions_extra"),
        &json!({"like": {"next": next}, "comment": {"next":
        next.replace("/like/", "/comment/").replace("like2", "comment2")}})
    );

    let few = EnrichOptions { kinds: vec!["comment".into()], recent_reactions_limit: 7, own_reactions: false, ..all };
    let shown = Value::Object(show(&scene, &activity, &few).await);
    assert_eq!(at_path(&shown, "/reaction_counts"), &json!({"comment": 7}));
    assert_eq!(ids(&shown, "/latest_reactions/comment").len(), 7);
    assert_eq!(at_path(&shown, "/latest_reactions_extra"), &json!({"comment": {"next": ""}}));
    assert_eq!(at_path(&shown, "/own_reactions"), &Value::Null);
    let reaction = at_path(&shown, "/latest_reactions/comment/0");
    assert_eq!(at_path(reaction, "/user/error"), &json!("ReferenceNotFound"));
    assert_eq!((at_path(reaction, "/parent"), at_path(reaction, "/activity_id")), (&json!(""), &json!(id)));
}

async fn children_are_nested<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let top =
        NewReaction { id: Some("top".into()), ..NewReaction::new("comment", ReactTo::Activity("x".into()), "alice") };
    let top = feeds.add_reaction(top).await.expect("a reaction");
    for n in 0..8 {
        for kind in ["like", "comment"] {
            let new = NewReaction { id: Some(format!("{kind}{n}")), ..child(kind, "top", "bob") };
            feeds.add_reaction(new).await.expect("a child");
        }
    }
    feeds.add_reaction(child("like", "comment7", "alice")).await.expect("a grandchild");
    let own = EnrichOptions { user_id: Some("alice".into()), own_children: true, ..EnrichOptions::default() };
    let shown = feeds.render_reactions(std::slice::from_ref(&top), &own).await.expect("a page");
    let shown = Value::Object(shown.into_iter().next().expect("one"));
    let count = |path: &str| at_path(&shown, path).as_array().map_or(0, Vec::len);
    assert_eq!((count("/latest_children/like"), count("/latest_children/comment")), (5, 5), "ten over all kinds");
    assert_eq!(at_path(&shown, "/children_counts"), &json!({"like": 8, "comment": 8}));
    assert_eq!(at_path(&shown, "/own_children"), &json!({}));
    let comment = at_path(&shown, "/latest_children/comment/0");
    assert_eq!(at_path(comment, "/id"), &json!("comment7"));
    assert_eq!(at_path(comment, "/children_counts"), &json!({"like": 1}));
    assert_eq!(at_path(comment, "/latest_children/like/0/parent"), &json!("comment7"));
    assert_eq!(at_path(comment, "/own_children/like/0/user_id"), &json!("alice"));
    assert_eq!(at_path(comment, "/latest_children/like/0/latest_children"), &json!({}));
    let without = feeds.render_reactions(&[top], &EnrichOptions::default()).await.expect("a page");
    assert!(without.iter().all(|one| !one.contains_key("own_children")));
}

/// Catches a page that reads one thing after the other.
async fn the_number_of_reads_does_not_grow<E: Engine>(engine: &E) {
    let mut reads = Vec::new();
    for size in [3, 30] {
        let scene = Scene::new(engine).await;
        let mut activities = Vec::new();
        for n in 0..size {
            scene.feeds.add_user(&format!("u{n}"), Map::new()).await.expect("a user");
            let new =
                NewActivity::new(format!("SU:u{n}"), "post", format!("SO:food:{n}")).identified(format!("p{n}"), at(n));
            let activity = add(&scene, new).await;
            for kind in ["like", "comment"] {
                let on = ReactTo::Activity(activity.id.to_string());
                let id = Some(format!("{kind}{n}"));
                scene
                    .feeds
                    .add_reaction(NewReaction { id, ..NewReaction::new(kind, on, format!("u{n}")) })
                    .await
                    .expect("one");
            }
            scene.feeds.add_reaction(child("like", &format!("comment{n}"), "u0")).await.expect("a child");
            activities.push(activity);
        }
        let options = EnrichOptions {
            user_id: Some("u0".into()),
            own_reactions: true,
            recent_reactions: true,
            reaction_counts: true,
            own_children: true,
            ..EnrichOptions::default()
        };
        let counting = TestEngine::faulty(engine.clone(), super::Fault::Refused, i64::MAX);
        let reader = scene.other(counting.clone()).await;
        let shown = reader.enrich_activities(&activities, &options).await.expect("a page");
        assert_eq!(i64::try_from(shown.len()).expect("small"), size);
        assert!(shown.iter().all(|one| at_path(
            &Value::Object(one.clone()),
            "/latest_reactions/comment/0/latest_children/like/0/user/id"
        ) == &json!("u0")));
        reads.push(counting.reads());
    }
    assert!(reads.first() == reads.last() && reads.iter().all(|reads| *reads <= 6), "{reads:?}");
}

/// Catches activities that refer to each other for ever, and pages that grow without bound.
async fn circles_end<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let one = add(&scene, NewActivity::new("a", "x", "y").identified("one", at(1))).await;
    let mut many = NewActivity::new("a", "x", format!("SA:{}", one.id)).identified("one", at(1));
    for n in 0..150 {
        many.custom.insert(format!("f{n}"), format!("SA:{}", one.id).into());
    }
    let circle = add(&scene, many).await;
    assert_eq!(circle.id, one.id);
    let counting = TestEngine::faulty(engine.clone(), super::Fault::Refused, i64::MAX);
    let reader = scene.other(counting.clone()).await;
    let shown = reader.enrich_activities(&[circle], &EnrichOptions::default()).await.expect("a page");
    let text = serde_json::to_string(&shown).expect("JSON");
    let activities = text.matches("\"foreign_id\":\"one\"").count();
    assert!(activities > 1_000 && activities <= OBJECTS_MAX + 1, "{activities}");
    assert!(counting.reads() <= u64::try_from(ROUNDS_MAX).expect("small"));
}

/// Catches activities within activities that are shown at any depth.
async fn so_deep_and_no_deeper<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let mut last = add(&scene, NewActivity::new("a", "x", "the first")).await;
    for n in 1..8 {
        let object = format!("SA:{}", last.id);
        last = add(&scene, NewActivity::new("a", "x", object).identified(format!("n{n}"), at(n))).await;
    }
    let shown = Value::Object(show(&scene, &last, &EnrichOptions::default()).await);
    let (mut at, mut depth) = (at_path(&shown, "/object"), 0);
    while at.is_object() {
        (at, depth) = (at_path(at, "/object"), depth + 1);
    }
    assert_eq!(depth, DEPTH_MAX);
    assert!(at.as_str().is_some_and(|text| text.starts_with("SA:")), "the next one stays a reference: {at}");
}

async fn options_are_checked<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let of = EnrichOptions::default;
    for bad in [
        EnrichOptions { recent_reactions_limit: 0, ..of() },
        EnrichOptions { recent_reactions_limit: 26, ..of() },
        EnrichOptions { own_reactions: true, ..of() },
        EnrichOptions { own_children: true, ..of() },
        EnrichOptions { user_id: Some(String::new()), ..of() },
        EnrichOptions { kinds: vec![String::new()], ..of() },
    ] {
        let error = scene.feeds.enrich_activities(&[], &bad).await.expect_err("bad options");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad:?}");
    }
}
