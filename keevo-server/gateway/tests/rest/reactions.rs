//! Reactions, enrichment and rankings over HTTP.

use axum::http::Method;
use serde_json::{Value, json};

use super::support::{Lab, activity, server, user};

fn id_of(body: &Value) -> String {
    body["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn reactions_are_added_listed_changed_and_restored() {
    let lab = Lab::new().await;
    let post = lab.add("user:ann", activity("o")).await;
    let like = json!({ "kind": "like", "activity_id": post, "user_id": "bob", "data": { "n": 1 } });
    let like = lab.post("reaction/", &server(), like).await.good();
    assert_eq!((&like["kind"], &like["parent"], &like["data"]), (&json!("like"), &json!(""), &json!({ "n": 1 })));
    assert!(like.get("target_feeds").is_none() && like.get("deleted_at").is_none());
    let like = id_of(&like);
    let child = json!({ "kind": "reply", "parent": like, "user_id": "ann" });
    lab.post("reaction/", &server(), child).await.good();
    let read = lab.get(&format!("reaction/{like}/"), &server()).await.good();
    assert_eq!(read["children_counts"], json!({ "reply": 1 }));
    let changed = lab.ask(Method::PUT, &format!("reaction/{like}/"), &server(), &json!({ "data": { "n": 2 } })).await;
    assert_eq!(changed.good()["data"], json!({ "n": 2 }));
    for number in 0..4 {
        let body = json!({ "kind": "comment", "activity_id": post, "user_id": format!("u{number}") });
        lab.post("reaction/", &server(), body).await.good();
    }
    let mut path = format!("reaction/activity_id/{post}/comment/?limit=3");
    let mut seen = 0;
    loop {
        let page = lab.get(&path, &server()).await.good();
        seen += page["results"].as_array().expect("a list").len();
        let next = page["next"].as_str().expect("next").to_owned();
        if next.is_empty() {
            break;
        }
        assert_eq!(next.matches('?').count(), 1, "{next}");
        path = next.strip_prefix("/api/v1.0/").expect("a path of the API").replace("&api_key=key", "");
    }
    assert_eq!(seen, 4);
    let with = lab.get(&format!("reaction/activity_id/{post}/?with_activity_data=true"), &server()).await.good();
    assert_eq!(with["activity"]["id"], json!(post));
    lab.delete(&format!("reaction/{like}/?soft=True"), &server()).await.good();
    assert_eq!(lab.get(&format!("reaction/{like}/"), &server()).await.refused(), (404, 16));
    lab.ask(Method::PUT, &format!("reaction/{like}/restore/"), &server(), &json!({})).await.good();
    assert_eq!(
        lab.ask(Method::PUT, &format!("reaction/{like}/restore/"), &server(), &json!({})).await.refused(),
        (404, 16)
    );
    lab.get(&format!("reaction/{like}/"), &server()).await.good();
}

#[tokio::test]
async fn users_react_as_themselves() {
    let lab = Lab::new().await;
    let post = lab.add("user:ann", activity("o")).await;
    let react = |token: String, extra: Value| {
        let mut body = json!({ "kind": "like", "activity_id": post });
        for (name, value) in extra.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let lab = &lab;
        async move { lab.post("reaction/", &token, body).await }
    };
    let own = react(user("bob"), json!({})).await.good();
    assert_eq!(own["user_id"], json!("bob"));
    assert_eq!(react(user("bob"), json!({ "user_id": "ann" })).await.refused(), (403, 17));
    assert_eq!(react(server(), json!({})).await.refused(), (400, 10));
    react(user("bob"), json!({ "target_feeds": ["notification:ann"] })).await.good();
    assert_eq!(react(user("bob"), json!({ "target_feeds": ["timeline:ann"] })).await.refused(), (403, 17));
    let path = format!("reaction/{}/", id_of(&own));
    assert_eq!(lab.delete(&path, &user("ann")).await.refused(), (403, 17));
    assert_eq!(lab.ask(Method::PUT, &path, &user("ann"), &json!({ "data": {} })).await.refused(), (403, 17));
    lab.delete(&path, &user("bob")).await.good();
    for (body, expected) in [
        (json!({ "kind": "like" }), (400, 4)),
        (json!({ "activity_id": "x" }), (400, 4)),
        (json!({ "kind": "like", "activity_id": "x", "data": "text" }), (400, 4)),
        (json!({ "kind": "like", "parent": "nobody" }), (400, 4)),
        (
            json!({ "kind": "like", "activity_id": "x", "target_feeds": (0..21).map(|n| format!("flat:{n}")).collect::<Vec<_>>() }),
            (400, 4),
        ),
        (json!({ "kind": "like", "activity_id": "x", "target_feeds": "flat:1" }), (400, 4)),
        (json!({ "kind": "like", "activity_id": "x", "target_feeds": ["nobody:1"] }), (400, 6)),
    ] {
        let mut body = body;
        body["user_id"] = json!("bob");
        assert_eq!(lab.post("reaction/", &server(), body.clone()).await.refused(), expected, "{body}");
    }
    assert_eq!(lab.get("reaction/planet/1/", &server()).await.refused(), (400, 4));
    assert_eq!(lab.get("reaction/user_id/bob/?limit=26", &server()).await.refused(), (400, 4));
}

#[tokio::test]
async fn enriched_feeds_show_what_is_referred_to() {
    let lab = Lab::new().await;
    lab.post("user/", &server(), json!({ "id": "ann", "data": { "name": "Ann" } })).await.good();
    let body = json!({ "actor": "SU:ann", "verb": "eat", "object": "SO:food:none" });
    let post = lab.add("user:ann", body).await;
    for name in ["bob", "cid"] {
        lab.post("reaction/", &server(), json!({ "kind": "like", "activity_id": post, "user_id": name })).await.good();
    }
    let plain = lab.get("feed/user/ann/", &server()).await.good();
    assert_eq!(plain["results"][0]["actor"], json!("SU:ann"));
    let options =
        "withOwnReactions=true&user_id=bob&withRecentReactions=1&withReactionCounts=True&recentReactionsLimit=1";
    let rich = lab.get(&format!("enrich/feed/user/ann/?{options}"), &server()).await.good();
    let one = &rich["results"][0];
    assert_eq!(one["actor"]["data"], json!({ "name": "Ann" }));
    assert_eq!(one["object"]["error"], json!("ReferenceNotFound"));
    assert_eq!(one["reaction_counts"], json!({ "like": 2 }));
    assert_eq!(one["own_reactions"]["like"].as_array().map(Vec::len), Some(1));
    let more = one["latest_reactions_extra"]["like"]["next"].as_str().expect("next");
    assert!(more.starts_with("http://feeds.test/api/v1.0/reaction/activity_id/"), "{more}");
    let by_id = lab.get(&format!("enrich/activities/?ids={post}&withReactionCounts=true"), &server()).await.good();
    assert_eq!(by_id["results"][0]["reaction_counts"], json!({ "like": 2 }));
    assert_eq!(lab.get("enrich/feed/user/ann/?withOwnReactions=true", &server()).await.refused(), (400, 10));
    lab.get("enrich/feed/user/ann/?withOwnReactions=true", &user("bob")).await.good();
    assert_eq!(lab.get("feed/user/ann/?recentReactionsLimit=26", &server()).await.refused(), (400, 4));
}

#[tokio::test]
async fn feeds_are_ranked_by_their_groups_expressions() {
    let lab = Lab::new().await;
    lab.change(|app| {
        let group = app.groups.get_mut("user").expect("a default group");
        group
            .rankings
            .insert("popular".to_owned(), json!({ "score": "popularity * 2", "defaults": { "popularity": 1 } }));
    })
    .await;
    for (name, popularity) in [("a", json!(3)), ("b", json!(null)), ("c", json!(7))] {
        let mut body = activity(name);
        if !popularity.is_null() {
            body["popularity"] = popularity;
        }
        lab.add("user:ann", body).await;
    }
    let page = lab.get("feed/user/ann/?ranking=popular&limit=2&withScoreVars=true", &server()).await.good();
    let order: Vec<&Value> = page["results"].as_array().expect("a list").iter().map(|one| &one["object"]).collect();
    assert_eq!(order, ["c", "a"]);
    assert_eq!(page["results"][0]["score"], json!(14.0));
    let next = page["next"].as_str().expect("next");
    assert!(next.contains("offset=2") && next.contains("ranking=popular"), "{next}");
    let path = next.strip_prefix("/api/v1.0/").expect("a path of the API").replace("&api_key=key", "");
    let last = lab.get(&path, &server()).await.good();
    assert_eq!((&last["results"][0]["object"], &last["next"]), (&json!("b"), &json!("")));
    assert_eq!(lab.get("feed/user/ann/?ranking=unknown", &server()).await.refused(), (400, 12));
    for vars in ["x", "[1]", "7"] {
        assert_eq!(lab.get(&format!("feed/user/ann/?rankingVars={vars}"), &server()).await.refused(), (400, 4));
    }
    let bad = lab.gateway.apps().change(lab.app.id, |app| {
        let group = app.groups.get_mut("user").expect("a default group");
        group.rankings.insert("bad".to_owned(), json!({ "score": "1 +" }));
        Ok(())
    });
    assert!(bad.await.expect_err("refused").message().contains("ranking bad"));
}

#[tokio::test]
async fn targets_updates_and_many_feeds() {
    let lab = Lab::new().await;
    let named = json!({
        "actor": "SU:ann", "verb": "post", "object": "o", "foreign_id": "f:1", "time": "2026-01-01T00:00:00",
        "to": ["flat:1", "flat:2"],
    });
    let id = lab.add("user:ann", named.clone()).await;
    let change = |body: Value| {
        let mut body = body;
        body["foreign_id"] = json!("f:1");
        body["time"] = json!("2026-01-01T00:00:00.000000");
        let lab = &lab;
        async move { lab.post("feed_targets/user/ann/activity_to_targets/", &server(), body).await }
    };
    let changed = change(json!({ "new_targets": ["flat:3", "flat:2"] })).await.good();
    assert_eq!(changed["activity"]["to"], json!(["flat:2", "flat:3"]));
    assert_eq!((&changed["added"], &changed["removed"]), (&json!(["flat:3"]), &json!(["flat:1"])));
    change(json!({ "removed_targets": ["flat:2", "flat:3"] })).await.good();
    let page = lab.get("feed/user/ann/", &server()).await.good();
    assert!(page["results"][0].get("to").is_none(), "the last target takes the key with it");
    for bad in
        [json!({}), json!({ "new_targets": "flat:1" }), json!({ "new_targets": ["flat:1"], "added_targets": [] })]
    {
        assert_eq!(change(bad.clone()).await.refused(), (400, 4), "{bad}");
    }
    let update = |body: Value| {
        let lab = &lab;
        async move { lab.post("activities/", &server(), json!({ "activities": [body] })).await }
    };
    let mut edited = named.clone();
    edited["verb"] = json!("edit");
    edited["to"] = json!([]);
    update(edited.clone()).await.good();
    assert_eq!(lab.get("feed/user/ann/", &server()).await.good()["results"][0]["verb"], json!("edit"));
    edited["to"] = json!(["flat:9"]);
    assert_eq!(update(edited).await.refused(), (400, 4));
    assert_eq!(update(activity("o")).await.refused(), (400, 4));
    let partial = json!({ "id": id, "set": { "a.b": 1 }, "unset": ["nothing"] });
    let bare = lab.post("activity/", &server(), partial.clone()).await.good();
    assert_eq!(bare["a"], json!({ "b": 1 }));
    let many = lab.post("activity/", &server(), json!({ "changes": [partial] })).await.good();
    assert_eq!(many["activities"][0]["id"], json!(id));
    let gone = json!({ "id": "3e4b1b80-5c1a-11ef-8000-000000000000", "set": { "a": 1 } });
    assert_eq!(lab.post("activity/", &server(), json!({ "changes": [gone] })).await.refused(), (404, 16));
    let fixed = json!({ "id": id, "set": { "time": "x" } });
    assert_eq!(lab.post("activity/", &server(), fixed).await.refused(), (400, 4));
    let others = json!({ "id": id, "set": { "a": 2 } });
    assert_eq!(lab.post("activity/", &user("bob"), others.clone()).await.refused(), (403, 17));
    lab.post("activity/", &user("ann"), others).await.good();
    let feeds: Vec<String> = (0..30).map(|n| format!("flat:m{n}")).collect();
    lab.post("feed/add_to_many/", &server(), json!({ "activity": activity("m"), "feeds": feeds })).await.good();
    assert_eq!(lab.page("feed/flat/m29/").await.0.len(), 1);
    for bad in [json!({}), json!({ "activity": activity("m") }), json!({ "activity": activity("m"), "feeds": [] })] {
        assert_eq!(lab.post("feed/add_to_many/", &server(), bad.clone()).await.refused(), (400, 4), "{bad}");
    }
}
