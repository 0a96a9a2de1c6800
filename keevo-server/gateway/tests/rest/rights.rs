//! The rights of users' tokens and of servers' tokens, as one table each.

use std::fmt::Write;

use axum::http::Method;
use serde_json::{Value, json};

use super::support::{Lab, activity, server, token, user};

/// What `ann` is answered for each request, as status and code.
async fn answers(lab: &Lab, token: &str, requests: &[(&str, Method, String, Value)]) -> String {
    let mut table = String::new();
    for (what, method, path, body) in requests {
        let answer = lab.ask(method.clone(), path, token, body).await;
        let code = if answer.status.is_success() { "yes".to_owned() } else { format!("{:?}", answer.refused()) };
        writeln!(table, "{what}: {code}").expect("a string takes all text");
    }
    table
}

#[tokio::test]
async fn what_a_user_may_do() {
    let lab = Lab::new().await;
    let bobs = lab.add("user:bob", json!({ "actor": "SU:bob", "verb": "post", "object": "o" })).await;
    let post = |actor: &str, to: Value| json!({ "actor": actor, "verb": "post", "object": "o", "to": to });
    let (get, add, take) = (Method::GET, Method::POST, Method::DELETE);
    let none = Value::Null;
    let table = answers(
        &lab,
        &user("ann"),
        &[
            ("read own timeline", get.clone(), "feed/timeline/ann/".to_owned(), none.clone()),
            ("read another's user feed", get.clone(), "feed/user/bob/".to_owned(), none.clone()),
            ("read another's timeline", get.clone(), "feed/timeline/bob/".to_owned(), none.clone()),
            ("read another's notifications", get.clone(), "feed/notification/bob/".to_owned(), none.clone()),
            ("add to own feed", add.clone(), "feed/user/ann/".to_owned(), post("SU:ann", json!([]))),
            ("add as another", add.clone(), "feed/user/ann/".to_owned(), post("SU:bob", json!([]))),
            ("add to another's feed", add.clone(), "feed/user/bob/".to_owned(), post("SU:ann", json!([]))),
            (
                "target notifications",
                add.clone(),
                "feed/user/ann/".to_owned(),
                post("SU:ann", json!(["notification:bob"])),
            ),
            ("target a timeline", add.clone(), "feed/user/ann/".to_owned(), post("SU:ann", json!(["timeline:bob"]))),
            ("target a user feed", add.clone(), "feed/user/ann/".to_owned(), post("SU:ann", json!(["user:bob"]))),
            ("remove another's", take.clone(), format!("feed/user/bob/{bobs}/"), none.clone()),
            (
                "follow from own feed",
                add.clone(),
                "feed/timeline/ann/follows/".to_owned(),
                json!({ "target": "user:bob" }),
            ),
            (
                "follow from another's",
                add.clone(),
                "feed/timeline/bob/follows/".to_owned(),
                json!({ "target": "user:ann" }),
            ),
            ("unfollow from own feed", take.clone(), "feed/timeline/ann/follows/user:bob/".to_owned(), none.clone()),
            ("unfollow from another's", take.clone(), "feed/timeline/bob/follows/user:ann/".to_owned(), none.clone()),
            ("list own followers", get.clone(), "feed/user/ann/followers/".to_owned(), none.clone()),
            ("list another's followers", get.clone(), "feed/user/bob/followers/".to_owned(), none.clone()),
            ("list another's following", get.clone(), "feed/user/bob/following/".to_owned(), none.clone()),
            ("count another's follows", get.clone(), "stats/follow/?followers=user:bob".to_owned(), none.clone()),
            ("follow many", add.clone(), "follow_many/".to_owned(), json!([])),
            ("unfollow many", add.clone(), "unfollow_many/".to_owned(), json!([])),
            ("read by ids", get.clone(), format!("activities/?ids={bobs}"), none.clone()),
            ("personalization", get, "enrich/personalization/feed/".to_owned(), none),
        ],
    )
    .await;
    expect_test::expect![[r"
        read own timeline: yes
        read another's user feed: yes
        read another's timeline: (403, 17)
        read another's notifications: (403, 17)
        add to own feed: yes
        add as another: (403, 17)
        add to another's feed: (403, 17)
        target notifications: yes
        target a timeline: (403, 17)
        target a user feed: (403, 17)
        remove another's: (403, 17)
        follow from own feed: yes
        follow from another's: (403, 17)
        unfollow from own feed: yes
        unfollow from another's: (403, 17)
        list own followers: yes
        list another's followers: (403, 17)
        list another's following: (403, 17)
        count another's follows: (403, 17)
        follow many: (403, 17)
        unfollow many: (403, 17)
        read by ids: yes
        personalization: (403, 17)
    "]]
    .assert_eq(&table);
    assert_eq!(lab.page("feed/user/bob/").await.0, [bobs], "nothing of it touched the feed");
}

#[tokio::test]
async fn policies_can_be_changed() {
    let lab = Lab::new().await;
    let read = |path: &'static str| {
        let lab = &lab;
        async move { lab.get(path, &user("ann")).await.status.as_u16() }
    };
    assert_eq!((read("feed/user/bob/").await, read("feed/timeline/bob/").await), (200, 403));
    lab.change(|app| {
        for group in app.groups.values_mut() {
            group.others_read = !group.others_read;
        }
        app.policies.activities_read = false;
    })
    .await;
    assert_eq!((read("feed/user/bob/").await, read("feed/timeline/bob/").await), (403, 200));
    assert_eq!(read("activities/?ids=3e4b1b80-5c1a-11ef-8000-000000000000").await, 403);
}

/// What somebody has taken back is seen by him alone, and by servers.
#[tokio::test]
async fn nobody_reads_what_another_took_back() {
    let lab = Lab::new().await;
    let post = lab.add("user:ann", activity("o")).await;
    let body = json!({ "id": "mine", "kind": "comment", "activity_id": post, "data": { "text": "regretted" } });
    lab.post("reaction/", &user("bob"), body).await.good();
    lab.delete("reaction/mine/?soft=true", &user("bob")).await.good();
    for (token, seen) in [(user("ann"), 0), (user("bob"), 1), (server(), 1)] {
        let found = lab.get("reaction/get_many/?ids=mine&include_deleted=true", &token).await.good();
        assert_eq!(found["reactions"].as_array().map(Vec::len), Some(seen), "{found}");
    }
    assert_eq!(lab.get("reaction/mine/", &user("bob")).await.refused(), (404, 16));
}

/// Catches a policy that is got round by a reference: a user's own activity that refers to another showed all of it.
#[tokio::test]
async fn who_may_not_read_by_ids_does_not_by_references() {
    let lab = Lab::new().await;
    let hidden = format!("SA:{}", lab.add("timeline:bob", activity("hidden")).await);
    let share = json!({ "actor": "SU:ann", "verb": "share", "object": hidden, "by": "SU:ann" });
    lab.post("feed/user/ann/", &user("ann"), share).await.good();
    lab.post("user/", &user("ann"), json!({ "id": "ann" })).await.good();
    let read = |token: String| {
        let lab = &lab;
        async move { lab.get("enrich/feed/user/ann/", &token).await.good()["results"][0].clone() }
    };
    assert_eq!(read(user("ann")).await["object"]["object"], json!("hidden"), "by default users may");
    lab.change(|app| app.policies.activities_read = false).await;
    let shown = read(user("ann")).await;
    assert_eq!((&shown["object"], &shown["by"]["id"]), (&json!(hidden), &json!("ann")), "it stays a reference");
    assert_eq!(read(server()).await["object"]["object"], json!("hidden"));
}

#[tokio::test]
async fn a_servers_token_covers_what_it_names() {
    let lab = Lab::new().await;
    lab.add("user:ann", activity("o")).await;
    let ask = |claims: Value, method: Method, path: &'static str| {
        let lab = &lab;
        async move { lab.ask(method, path, &token(&claims), &activity("p")).await.status.as_u16() }
    };
    let read_only = || json!({ "resource": "*", "action": "read", "feed_id": "userann" });
    assert_eq!(ask(read_only(), Method::GET, "feed/user/ann/").await, 200);
    assert_eq!(ask(read_only(), Method::GET, "feed/user/bob/").await, 403);
    assert_eq!(ask(read_only(), Method::POST, "feed/user/ann/").await, 403);
    assert_eq!(ask(read_only(), Method::GET, "activities/?ids=3e4b1b80-5c1a-11ef-8000-000000000000").await, 403);
    let write = || json!({ "resource": "feed,follower", "action": "write", "feed_id": "*" });
    assert_eq!(ask(write(), Method::POST, "feed/user/ann/").await, 201);
    assert_eq!(ask(write(), Method::GET, "feed/user/ann/").await, 403);
    assert_eq!(ask(write(), Method::GET, "feed/user/ann/followers/").await, 403);
    // `user11` could be user:11 or user1:1: it is matched against the feed that the path names.
    let either = || json!({ "resource": "feed", "action": "read", "feed_id": "user11" });
    assert_eq!(ask(either(), Method::GET, "feed/user/11/").await, 200);
    assert_eq!(ask(either(), Method::GET, "feed/user/1/").await, 403);
    for claims in [json!({}), json!({ "resource": "feed" }), json!({ "resource": "feed", "action": "x" })] {
        let status = ask(claims.clone(), Method::GET, "feed/user/ann/").await;
        assert!(matches!(status, 401 | 403), "{claims}: {status}");
    }
    assert_eq!(lab.get("feed/user/ann/", &server()).await.status, 200);
}

/// What a request names beside its path is judged too: targets that are added, marks, users in a list.
#[tokio::test]
async fn what_a_user_names_is_judged_like_what_he_addresses() {
    let lab = Lab::new().await;
    let own =
        json!({ "actor": "SU:ann", "verb": "post", "object": "o", "foreign_id": "f:1", "time": "2026-01-01T00:00:00" });
    lab.add("user:ann", own).await;
    let retarget = |added: &'static str| {
        let body = json!({ "foreign_id": "f:1", "time": "2026-01-01T00:00:00", "added_targets": [added] });
        let lab = &lab;
        async move { lab.post("feed_targets/user/ann/activity_to_targets/", &user("ann"), body).await }
    };
    assert_eq!(retarget("timeline:bob").await.refused(), (403, 17));
    retarget("notification:bob").await.good();

    lab.change(|app| app.groups.values_mut().for_each(|group| group.others_read = true)).await;
    let read = |query: &'static str| {
        let lab = &lab;
        async move { lab.get(&format!("feed/notification/bob/{query}"), &user("ann")).await }
    };
    read("").await.good();
    for query in ["?mark_seen=true", "?mark_read=true"] {
        assert_eq!(read(query).await.refused(), (403, 17), "{query}");
    }
    assert_eq!(read("").await.good()["unseen"], json!(1), "nobody sees for somebody else");

    let users = |ids: &[&str]| json!({ "users": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>() });
    lab.post("users/", &server(), users(&["bob"])).await.good();
    assert_eq!(lab.post("users/?override=true", &user("ann"), users(&["ann", "bob"])).await.refused(), (403, 17));
    lab.post("users/", &user("ann"), users(&["ann"])).await.good();
    assert_eq!(lab.delete("users/?ids=ann,bob", &user("ann")).await.refused(), (403, 17));
    let left = lab.get("users/?ids=ann,bob", &server()).await.good();
    assert_eq!(left["users"].as_array().map(Vec::len), Some(2), "none of a list that is refused goes");
    lab.delete("users/?ids=ann", &user("ann")).await.good();
}

/// Identity is global. Catches a user who overwrites another's activity, wherever it lies, by adding one of the same foreign
/// id and time to a feed of his own; and one who hands his activity to another as its actor.
#[tokio::test]
async fn nobody_puts_words_into_anothers_mouth() {
    let lab = Lab::new().await;
    let of = |actor: &str, object: &str| json!({ "actor": actor, "verb": "post", "object": object, "foreign_id": "f:1", "time": "2026-01-01T00:00:00" });
    let id = lab.post("feed/user/bob/", &user("bob"), of("SU:bob", "his")).await.good()["id"].clone();
    for body in [of("SU:ann", "hers"), json!({ "activities": [activity("new"), of("SU:ann", "hers")] })] {
        assert_eq!(lab.post("feed/user/ann/", &user("ann"), body).await.refused(), (403, 17));
    }
    assert_eq!(lab.page("feed/user/ann/").await.0, Vec::<String>::new(), "nothing of a list that is refused is added");
    lab.post("feed/user/bob/", &user("bob"), of("SU:bob", "edited")).await.good();
    let set = |actor: &str| json!({ "changes": [{ "id": id, "set": { "actor": actor, "mood": "good" } }] });
    assert_eq!(lab.post("activity/", &user("bob"), set("SU:ann")).await.refused(), (403, 17));
    lab.post("activity/", &user("bob"), set("SU:bob")).await.good();
    let shown = lab.get("feed/user/bob/", &server()).await.good()["results"][0].clone();
    assert_eq!((&shown["id"], &shown["actor"], &shown["object"]), (&id, &json!("SU:bob"), &json!("edited")));
    lab.post("feed/user/ann/", &server(), of("SU:ann", "a server may")).await.good();
    lab.post("activity/", &server(), set("SU:cid")).await.good();
}
