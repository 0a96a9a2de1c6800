//! Scenarios: users, collections and their audit logs, alone and under races.

use futures::future::join_all;
use keevo_core::{Engine, ErrorKind, Random, SeededRandom};
use serde_json::{Map, Value, json};

use super::{Fault, Scene, TestEngine};
use crate::audit::{Action, AuditQuery, EntityType};
use crate::json::json_object;

pub(crate) async fn run<E: Engine>(engine: &E) {
    a_user_is_added_once(engine).await;
    many_users_at_once(engine).await;
    entries_of_collections(engine).await;
    racing_changes_are_all_logged(engine).await;
    a_lost_answer_is_told_and_harmless(engine).await;
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    json_object(value, "data").expect("an object")
}

async fn a_user_is_added_once<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let added = feeds.add_user("alice", object(json!({"name": "Alice"}))).await.expect("an add");
    assert_eq!(added.created_at, added.updated_at);
    assert!(added.created_at.to_zoned().ends_with('Z'));
    let again = feeds.add_user("alice", Map::new()).await.expect_err("there is one");
    assert_eq!(again.kind(), ErrorKind::Conflict);
    let kept = feeds.get_or_create_user("alice", object(json!({"name": "Other"}))).await.expect("the stored one");
    assert_eq!(kept, added);
    scene.clock.advance_ms(5);
    let updated = feeds.update_user("alice", object(json!({"name": "A."}))).await.expect("an update");
    assert_eq!(updated, feeds.user("alice").await.expect("the user"));
    assert_eq!(updated.created_at, added.created_at);
    assert!(updated.updated_at > added.updated_at);
    assert_eq!(updated.to_json().get("data"), Some(&json!({"name": "A."})));
    feeds.delete_user("alice").await.expect("a deletion");
    for error in [
        feeds.user("alice").await.map(|_| ()),
        feeds.delete_user("alice").await,
        feeds.update_user("alice", Map::new()).await.map(|_| ()),
    ] {
        assert_eq!(error.expect_err("it is gone").kind(), ErrorKind::NotFound);
    }
    let query =
        AuditQuery { entity_type: EntityType::User, entity_id: "alice".into(), user_id: None, limit: 2, after: None };
    let page = feeds.audit_logs(&query).await.expect("a page");
    assert_eq!(page.entries.iter().map(|one| one.action).collect::<Vec<_>>(), [Action::Delete, Action::Update]);
    let rest = feeds.audit_logs(&AuditQuery { after: page.next, ..query }).await.expect("a page");
    assert_eq!(rest.entries.iter().map(|one| one.action).collect::<Vec<_>>(), [Action::Create]);
    assert_eq!(rest.next, None);
    for bad in ["", "a\u{0}", &"x".repeat(256)] {
        assert_eq!(feeds.add_user(bad, Map::new()).await.expect_err("a bad id").kind(), ErrorKind::Invalid);
    }
    let large = object(json!({"text": "x".repeat(70_000)}));
    assert_eq!(feeds.add_user("large", large).await.expect_err("too large").kind(), ErrorKind::BatchTooLarge);
}

async fn many_users_at_once<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let all = |mark: &str| (0..30).map(|n| (format!("u{n}"), object(json!({"mark": mark})))).collect::<Vec<_>>();
    feeds.add_user("u3", object(json!({"mark": "old"}))).await.expect("an add");
    let added = feeds.add_users(all("new"), false).await.expect("adds");
    let marks = |users: &[crate::User]| -> Vec<String> {
        users.iter().map(|user| format!("{} {}", user.id, user.data.get("mark").unwrap_or(&Value::Null))).collect()
    };
    let expected: Vec<String> =
        (0..30).map(|n| format!("u{n} {}", if n == 3 { "\"old\"" } else { "\"new\"" })).collect();
    assert_eq!(marks(&added), expected, "in the order given, the existing one unchanged");
    feeds.add_users(all("newer"), true).await.expect("adds");
    let wanted = ["u3".to_owned(), "nobody".to_owned(), "u7".to_owned()];
    assert_eq!(marks(&feeds.users(&wanted).await.expect("users")), ["u3 \"newer\"", "u7 \"newer\""]);
    assert_eq!(feeds.delete_users(&wanted).await.expect("deletions"), 2);
    assert_eq!(feeds.users(&wanted).await.expect("users"), []);
    let many = (0..101).map(|n| (n.to_string(), Map::new())).collect();
    assert_eq!(feeds.add_users(many, false).await.expect_err("too many").kind(), ErrorKind::Invalid);
}

async fn entries_of_collections<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let feeds = &scene.feeds;
    let data = || object(json!({"name": "burger"}));
    let added = feeds.add_entry("food", Some("cheese-burger"), data(), Some("alice")).await.expect("an add");
    let again = feeds.add_entry("food", Some("cheese-burger"), data(), None).await.expect_err("there is one");
    assert_eq!(again.kind(), ErrorKind::Conflict);
    let made = feeds.add_entry("food", None, data(), None).await.expect("an add");
    assert_eq!((made.id.len(), made.user_id.as_deref()), (36, None));
    assert_eq!(feeds.entry("food", &made.id).await.expect("the entry"), made);
    let updated = feeds.update_entry("food", "cheese-burger", object(json!({"n": 2}))).await.expect("an update");
    assert_eq!(updated.user_id.as_deref(), Some("alice"));
    assert_eq!(updated.created_at, added.created_at);
    assert_eq!(updated.to_json().get("foreign_id"), Some(&json!("food:cheese-burger")));
    let upserts = vec![("cheese-burger".to_owned(), data()), ("soup".to_owned(), object(json!({"hot": true})))];
    assert_eq!(feeds.upsert_entries("food", upserts).await.expect("upserts").len(), 2);
    let name = |id: &str| ("food".to_owned(), id.to_owned());
    let found = feeds.entries(&[name("soup"), name("none"), name("cheese-burger")]).await.expect("entries");
    assert_eq!(found.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["soup", "cheese-burger"]);
    feeds.delete_entry("food", "soup").await.expect("a deletion");
    assert_eq!(feeds.delete_entry("food", "soup").await.expect_err("gone").kind(), ErrorKind::NotFound);
    let ids = ["soup".to_owned(), "cheese-burger".to_owned(), made.id];
    assert_eq!(feeds.delete_entries("food", &ids).await.expect("deletions"), 2);
    for (collection, id, data) in [
        ("food", Some("a b"), data()),
        ("food", Some(""), data()),
        ("fo:od", Some("x"), data()),
        ("food", Some("x"), Map::new()),
    ] {
        let error = feeds.add_entry(collection, id, data, None).await.expect_err("bad input");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let with_id = feeds.update_entry("food", "x", object(json!({"id": "y"}))).await.expect_err("an id is fixed");
    assert_eq!(with_id.kind(), ErrorKind::Invalid);
}

/// Catches a change that overwrites another one that it did not see, and a log that is not of one piece with them.
async fn racing_changes_are_all_logged<E: Engine>(engine: &E) {
    for seed in 0..4 {
        let scene = Scene::new(engine).await;
        let feeds = scene.other(TestEngine::yielding(engine.clone(), seed)).await;
        let random = SeededRandom::new(seed);
        let adds = (0..5).map(|n| {
            let (feeds, data) = (feeds.clone(), object(json!({"n": n, "by": random.next_u64() % 9})));
            async move { feeds.add_user("bob", data).await }
        });
        let added = join_all(adds).await;
        let winner: Vec<_> = added.iter().filter_map(|one| one.as_ref().ok()).collect();
        assert_eq!(winner.len(), 1, "one add wins");
        assert_eq!(feeds.user("bob").await.expect("the user"), **winner.first().expect("one"));
        let updates = (0..5).map(|n| {
            let feeds = feeds.clone();
            async move { feeds.update_user("bob", object(json!({"n": n}))).await.expect("an update") }
        });
        join_all(updates).await;
        let query = AuditQuery {
            entity_type: EntityType::User,
            entity_id: "bob".into(),
            user_id: Some("bob".into()),
            limit: 100,
            after: None,
        };
        let log = feeds.audit_logs(&query).await.expect("a log");
        assert_eq!(log.entries.len(), 6, "one add and five updates, each once");
    }
}

async fn a_lost_answer_is_told_and_harmless<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let lossy = scene.other(TestEngine::faulty(engine.clone(), Fault::AnswerLost, 0)).await;
    let lost = lossy.add_user("carol", object(json!({"n": 1}))).await.expect_err("the answer is lost");
    assert_eq!(lost.kind(), ErrorKind::OutcomeUnknown);
    let stored = lossy.get_or_create_user("carol", Map::new()).await.expect("the user");
    assert_eq!(stored.data, object(json!({"n": 1})));
}
