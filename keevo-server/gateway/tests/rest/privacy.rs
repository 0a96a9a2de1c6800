//! Data privacy, and flags for moderators.

use axum::http::Method;
use serde_json::{Value, json};

use super::support::{Lab, server, user};

fn by(actor: &str, object: &str) -> Value {
    json!({ "actor": actor, "verb": "post", "object": object, "to": ["flat:all"] })
}

#[tokio::test]
async fn what_is_a_users_is_exported_and_deleted() {
    let lab = Lab::new().await;
    let (one, other) = (lab.add("user:ann", by("SU:ann", "1")).await, lab.add("user:ann", by("SU:ann", "2")).await);
    let bobs = lab.add("user:bob", by("SU:bob", "3")).await;
    lab.post("feed/timeline/bob/follows/", &server(), json!({ "target": "user:ann" })).await.good();
    let like = json!({ "kind": "like", "activity_id": bobs, "user_id": "ann" });
    let like = lab.post("reaction/", &server(), like).await.good();
    let export = lab.get("data_privacy/export_ids/ann", &server()).await.good();
    let expected = json!({
        "user_id": "ann", "activity_count": 2, "reaction_count": 1,
        "activity_ids": [other, one], "reaction_ids": [like["id"]],
    });
    assert_eq!(export["export"], expected);
    assert!(export.get("next").is_none(), "that is all");

    let gone = json!({ "activities": [{ "id": one, "remove_from_feeds": ["user:ann"] }, { "id": other }] });
    lab.post("data_privacy/delete_activities/", &server(), gone).await.good();
    assert_eq!(lab.page("feed/user/ann/").await.0, Vec::<String>::new());
    assert_eq!(lab.page("feed/timeline/bob/").await.0, Vec::<String>::new());
    assert_eq!(lab.page("feed/flat/all/").await.0, std::slice::from_ref(&bobs), "the other's stays");
    lab.post("data_privacy/delete_reactions/", &server(), json!({ "ids": [like["id"]] })).await.good();
    let export = lab.get("data_privacy/export_ids/ann/", &server()).await.good();
    assert_eq!((&export["export"]["activity_ids"], &export["export"]["reaction_ids"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn flags_tell_whose_a_thing_is_and_are_one_a_user() {
    let lab = Lab::new().await;
    let bobs = lab.add("user:bob", by("SU:bob", "1")).await;
    let flag =
        |kind: &str, id: &str| json!({ "entity_type": kind, "entity_id": id, "reason": "rude", "user_id": "ann" });
    let first = lab.post("moderation/flag", &user("ann"), flag("stream:feeds:v2:activity", &bobs)).await.good();
    assert_eq!((&first["target_user_id"], &first["user_id"]), (&json!("bob"), &json!("ann")));
    assert!(first["created_at"].as_str().is_some_and(|time| time.ends_with('Z')));
    let again = lab.post("moderation/flag/", &server(), flag("stream:feeds:v2:activity", &bobs)).await.good();
    assert_eq!(again["flag_id"], first["flag_id"]);
    let on_user = lab.post("moderation/flag/", &server(), flag("stream:user", "carl")).await.good();
    assert_eq!(on_user["target_user_id"], json!("carl"));
    assert_eq!(lab.post("moderation/flag/", &user("eve"), flag("stream:user", "bob")).await.refused(), (403, 17));
}

#[tokio::test]
async fn what_privacy_and_flags_refuse() {
    let lab = Lab::new().await;
    let absent = "3e4b1b80-5c1a-11ef-8000-000000000000";
    let flag = |kind: &str, id: &str| json!({ "entity_type": kind, "entity_id": id, "user_id": "ann" });
    for (method, path, body, expected) in [
        (Method::POST, "data_privacy/delete_activities/", json!({}), (400, 4)),
        (Method::POST, "data_privacy/delete_activities/", json!({ "activities": [absent] }), (400, 4)),
        (Method::POST, "data_privacy/delete_activities/", json!({ "activities": [{ "id": "x" }] }), (400, 4)),
        (
            Method::POST,
            "data_privacy/delete_activities/",
            json!({ "activities": [{ "id": absent, "remove_from_feeds": ["planet:1"] }] }),
            (400, 6),
        ),
        (Method::POST, "data_privacy/delete_reactions/", json!({ "ids": "x" }), (400, 4)),
        (Method::GET, "data_privacy/export_ids/ann/?next=nowhere", json!(null), (400, 4)),
        (Method::POST, "moderation/flag/", json!({}), (400, 10)),
        (Method::POST, "moderation/flag/", flag("planet", "1"), (400, 4)),
        (Method::POST, "moderation/flag/", json!({ "entity_type": "stream:user", "user_id": "ann" }), (400, 4)),
        (Method::POST, "moderation/flag/", flag("stream:feeds:v2:activity", absent), (404, 16)),
        (Method::POST, "moderation/flag/", flag("stream:feeds:v2:reaction", absent), (404, 16)),
    ] {
        assert_eq!(lab.ask(method, path, &server(), &body).await.refused(), expected, "{path} {body}");
    }
    for (method, path) in [
        (Method::POST, "data_privacy/delete_activities/"),
        (Method::POST, "data_privacy/delete_reactions/"),
        (Method::GET, "data_privacy/export_ids/ann/"),
    ] {
        assert_eq!(lab.ask(method, path, &user("ann"), &json!({})).await.refused(), (403, 17), "{path}");
    }
}
