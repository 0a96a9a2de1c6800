//! Users and collections over HTTP.

use axum::http::Method;
use serde_json::{Value, json};

use super::support::{Lab, server, user};

#[tokio::test]
async fn users_are_added_read_changed_and_deleted() {
    let lab = Lab::new().await;
    let ann = lab.post("user/", &server(), json!({ "id": "ann", "data": { "name": "Ann" } })).await.good();
    assert_eq!((&ann["id"], &ann["data"]["name"]), (&json!("ann"), &json!("Ann")));
    assert!(ann["created_at"].as_str().is_some_and(|time| time.ends_with('Z') && time.contains('.')));
    assert_eq!(lab.post("user/", &server(), json!({ "id": "ann" })).await.refused(), (409, 22));
    for flag in ["True", "1", "true"] {
        let again =
            lab.post(&format!("user/?get_or_create={flag}"), &server(), json!({ "id": "ann", "data": {} })).await;
        assert_eq!(again.good()["data"], json!({ "name": "Ann" }), "unchanged");
    }
    lab.post("feed/timeline/bob/follows/", &server(), json!({ "target": "user:ann" })).await.good();
    lab.post("feed/timeline/ann/follows/", &server(), json!({ "target": "user:bob" })).await.good();
    lab.post("feed/flat/x/follows/", &server(), json!({ "target": "user:ann" })).await.good();
    let counted = lab.get("user/ann/?with_follow_counts=true", &server()).await.good();
    assert_eq!((&counted["followers_count"], &counted["following_count"]), (&json!(1), &json!(1)));
    let changed = lab.ask(Method::PUT, "user/ann/", &server(), &json!({ "data": { "age": 3 } })).await.good();
    assert_eq!(changed["data"], json!({ "age": 3 }));
    let many = json!({ "users": [{ "id": "ann", "data": { "x": 1 } }, { "id": "bob" }] });
    lab.post("users/?override=true", &server(), many).await.good();
    let users = lab.get("users/?ids=bob,nobody,ann", &server()).await.good();
    assert_eq!((&users["users"][0]["id"], &users["users"][1]["data"]), (&json!("bob"), &json!({ "x": 1 })));
    lab.delete("user/ann/", &server()).await.good();
    assert_eq!(lab.get("user/ann/", &server()).await.refused(), (404, 16));
    lab.delete("users/?ids=bob,nobody", &server()).await.good();
    assert_eq!(lab.get("users/?ids=bob", &server()).await.good()["users"], json!([]));
    let log = lab.get("audit_logs/?entity_type=user&entity_id=ann", &server()).await.good();
    let actions: Vec<&Value> = log["audit_logs"].as_array().expect("a list").iter().map(|one| &one["action"]).collect();
    assert_eq!(actions, ["delete", "update", "update", "create"]);
    assert!(log.get("next").is_some());
}

#[tokio::test]
async fn entries_of_collections() {
    let lab = Lab::new().await;
    let body = json!({ "id": "c1", "data": { "name": "cheese" }, "user_id": "ann" });
    let entry = lab.post("collections/food/", &server(), body).await.good();
    assert_eq!((&entry["foreign_id"], &entry["collection"]), (&json!("food:c1"), &json!("food")));
    assert_eq!(
        lab.post("collections/food/", &server(), json!({ "id": "c1", "data": { "a": 1 } })).await.refused(),
        (409, 22)
    );
    let made_up = lab.post("collections/food/", &server(), json!({ "id": null, "data": { "a": 1 } })).await.good();
    assert_eq!(made_up["id"].as_str().map(str::len), Some(36));
    let upserted = json!({ "data": { "food": [{ "id": "c1", "name": "brie" }, { "id": "c2", "name": "feta" }] } });
    let upserted = lab.post("collections/", &server(), upserted).await.good();
    assert_eq!(upserted["data"]["food"][0]["data"], json!({ "name": "brie" }));
    let list = |name: &str| (0..600).map(|n| json!({ "id": format!("{name}{n}") })).collect::<Vec<_>>();
    let many = json!({ "data": { "food": list("f"), "drink": list("d") } });
    assert_eq!(lab.post("collections/", &server(), many).await.refused(), (400, 4), "1,200 in two collections");
    let read = lab.get("collections/?foreign_ids=food:c2,food:c9,food:c1", &server()).await.good();
    assert_eq!(read["response"]["data"].as_array().map(Vec::len), Some(2));
    let changed = lab.ask(Method::PUT, "collections/food/c1/", &server(), &json!({ "data": { "b": 2 } })).await.good();
    assert_eq!(changed["data"], json!({ "b": 2 }));
    lab.delete("collections/?collection_name=food&ids=c1&ids=c2", &server()).await.good();
    assert_eq!(lab.get("collections/food/c1/", &server()).await.refused(), (404, 16));
}

#[tokio::test]
async fn what_users_and_entries_cannot_be() {
    let lab = Lab::new().await;
    for (method, path, body, expected) in [
        (Method::POST, "user/", json!({}), (400, 4)),
        (Method::POST, "user/", json!({ "id": "" }), (400, 4)),
        (Method::POST, "user/", json!({ "id": "a", "data": "text" }), (400, 4)),
        (Method::POST, "user/", json!({ "id": "a\n" }), (400, 4)),
        (Method::POST, "user/?get_or_create=maybe", json!({ "id": "a" }), (400, 4)),
        (Method::PUT, "user/nobody/", json!({ "data": {} }), (404, 16)),
        (Method::PUT, "user/nobody/", json!({ "data": "text" }), (400, 4)),
        (Method::DELETE, "user/nobody/", json!(null), (404, 16)),
        (Method::POST, "users/", json!({ "users": {} }), (400, 4)),
        (Method::POST, "users/", json!({ "users": [{}] }), (400, 4)),
        (Method::POST, "collections/food/", json!({ "data": {} }), (400, 4)),
        (Method::POST, "collections/food/", json!({ "data": "text" }), (400, 4)),
        (Method::POST, "collections/food/", json!({ "id": "a b", "data": { "a": 1 } }), (400, 4)),
        (Method::POST, "collections/food/", json!({ "id": ["a"], "data": { "a": 1 } }), (400, 4)),
        (Method::PUT, "collections/food/x/", json!({ "data": { "id": 1 } }), (400, 4)),
        (Method::GET, "collections/food/x/", json!(null), (404, 16)),
        (Method::POST, "collections/", json!({ "data": { "food": [{ "name": "x" }] } }), (400, 4)),
        (Method::POST, "collections/", json!({ "data": [] }), (400, 4)),
        (Method::GET, "collections/?foreign_ids=nothing", json!(null), (400, 4)),
        (Method::DELETE, "collections/?ids=a", json!(null), (400, 4)),
        (Method::GET, "audit_logs/", json!(null), (400, 4)),
        (Method::GET, "audit_logs/?entity_type=planet&entity_id=1", json!(null), (400, 4)),
    ] {
        assert_eq!(lab.ask(method, path, &server(), &body).await.refused(), expected, "{path} {body}");
    }
}

#[tokio::test]
async fn users_change_what_is_theirs() {
    let lab = Lab::new().await;
    let (ann, bob) = (user("ann"), user("bob"));
    lab.post("user/", &ann, json!({ "id": "ann" })).await.good();
    assert_eq!(lab.post("user/", &ann, json!({ "id": "bob" })).await.refused(), (403, 17));
    assert_eq!(lab.ask(Method::PUT, "user/ann/", &bob, &json!({ "data": {} })).await.refused(), (403, 17));
    assert_eq!(lab.delete("user/ann/", &bob).await.refused(), (403, 17));
    lab.get("user/ann/", &bob).await.good();
    let entry = lab.post("collections/food/", &ann, json!({ "data": { "a": 1 } })).await.good();
    let path = format!("collections/food/{}/", entry["id"].as_str().expect("an id"));
    assert_eq!(lab.ask(Method::PUT, &path, &bob, &json!({ "data": { "a": 2 } })).await.refused(), (403, 17));
    assert_eq!(lab.delete(&path, &bob).await.refused(), (403, 17));
    assert_eq!(lab.post("collections/", &ann, json!({ "data": {} })).await.refused(), (403, 17));
    assert_eq!(lab.get("audit_logs/?entity_type=user&entity_id=ann", &ann).await.refused(), (403, 17));
    lab.ask(Method::PUT, &path, &ann, &json!({ "data": { "a": 2 } })).await.good();
    lab.delete(&path, &ann).await.good();
}
