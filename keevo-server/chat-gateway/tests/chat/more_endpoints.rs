//! The other endpoints: threads, reactions, read state, what users want, bans, review, users, files.

use axum::body::Body;
use axum::http::{Method, Request, header};
use keevo_chat_gateway::ChatGatewayOptions;
use keevo_core::MemoryEngine;
use keevo_gateway::GatewayOptions;
use serde_json::json;

use super::support::{KEY, Lab, server, user};

#[tokio::test]
async fn threads_have_replies_and_read_states() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    let path = "channels/team/a/messages";
    lab.post(path, &user("ann"), json!({ "id": "m", "text": "question" })).await.good();
    for (id, who) in [("r1", "bob"), ("r2", "bob"), ("r3", "ann")] {
        let reply = json!({ "id": id, "text": id, "parent_id": "m", "mentions": { "users": ["ann"] } });
        let sent = lab.post(path, &user(who), reply).await.good()["message"].clone();
        assert_eq!((&sent["sequence"], &sent["parent_sequence"]), (&json!(null), &json!(1)));
    }
    let nested = json!({ "text": "x", "parent_id": "r1" });
    assert_eq!(lab.post(path, &user("ann"), nested).await.refused(), (400, 4));
    let replies = lab.get(&format!("{path}/m/replies?order=oldest&limit=2"), &user("ann")).await.good();
    assert_eq!((&replies["messages"][1]["thread_sequence"], &replies["next"]), (&json!(2), &json!(2)));
    assert_eq!(lab.get(&format!("{path}/m"), &user("ann")).await.good()["message"]["reply_count"], 3);
    let participants = lab.get(&format!("{path}/m/participants"), &user("bob")).await.good();
    assert_eq!(
        participants["participants"],
        json!([{ "user_id": "ann", "replies": 1 }, { "user_id": "bob", "replies": 2 }])
    );
    let thread = lab.get(&format!("{path}/m/thread"), &user("ann")).await.good();
    assert_eq!((&thread["thread"]["unread"], &thread["thread"]["mentions"]), (&json!(2), &json!(2)));
    let read = lab.post(&format!("{path}/m/thread/read"), &user("ann"), json!({ "message_id": "r1" })).await.good();
    assert_eq!((&read["thread"]["unread"], &read["thread"]["read_sequence"]), (&json!(1), &json!(1)));
    let back = lab.post(&format!("{path}/m/thread/unread"), &user("ann"), json!({ "from_sequence": 1 })).await.good();
    assert_eq!(back["thread"]["unread"], 2);
    let listed = lab.get("channels/team/a/threads", &user("ann")).await.good();
    assert_eq!((&listed["threads"][0]["parent"]["id"], &listed["threads"][0]["unread"]), (&json!("m"), &json!(2)));
    lab.post(&format!("{path}/m/thread/follow"), &user("ann"), json!({ "follow": false })).await.good();
    assert_eq!(lab.get("channels/team/a/threads", &user("ann")).await.good()["threads"], json!([]));
    let both = json!({ "message_id": "r1", "sequence": 1 });
    assert_eq!(lab.post(&format!("{path}/m/thread/read"), &user("ann"), both).await.refused(), (400, 4));
}

#[tokio::test]
async fn reactions_are_counted_and_told_to_their_owners() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    lab.post("channels/team/a/messages", &user("ann"), json!({ "id": "m", "text": "x" })).await.good();
    let path = "channels/team/a/messages/m/reactions";
    let put = lab.post(path, &user("bob"), json!({ "type": "clap", "score": 5 })).await.good();
    assert_eq!((&put["changed"], &put["message"]["scores"]["clap"]), (&json!(true), &json!(5)));
    assert_eq!(put["message"]["own_reactions"], json!(["clap"]));
    assert_eq!(lab.post(path, &user("bob"), json!({ "type": "clap", "score": 5 })).await.good()["changed"], false);
    lab.post(path, &user("ann"), json!({ "type": "clap" })).await.good();
    let only = lab.post(path, &user("bob"), json!({ "type": "sad", "unique": true })).await.good();
    assert_eq!(
        (&only["message"]["reactions"], &only["message"]["own_reactions"]),
        (&json!({ "clap": 1, "sad": 1 }), &json!(["sad"]))
    );
    let page = lab.get("channels/team/a/messages", &user("ann")).await.good();
    assert_eq!(page["messages"][0]["own_reactions"], json!(["clap"]));
    let all = lab.get(path, &user("ann")).await.good();
    assert_eq!(all["reactions"].as_array().map(Vec::len), Some(2));
    assert_eq!(lab.delete(&format!("{path}/sad"), &user("bob")).await.good()["changed"], true);
    assert_eq!(lab.delete(&format!("{path}/sad"), &user("bob")).await.good()["changed"], false);
    assert_eq!(lab.post(path, &user("bob"), json!({ "type": "x", "score": 2_000_000 })).await.refused(), (400, 4));
}

#[tokio::test]
async fn read_marks_and_counts_agree() {
    let lab = Lab::new().await;
    for id in ["a", "b"] {
        lab.channel(id, &["ann", "bob"]).await;
        for text in ["1", "2", "3"] {
            lab.say(id, "ann", text).await;
        }
    }
    let all = lab.get("unread", &user("bob")).await.good();
    assert_eq!((&all["unread"], all["channels"].as_array().map(Vec::len)), (&json!(6), Some(2)));
    let page = lab.get("unread?limit=1", &user("bob")).await.good();
    assert_eq!((&page["unread"], &page["next"]), (&json!(3), &json!("team:a")));
    let read = lab.post("channels/team/a/read", &user("bob"), json!({})).await.good();
    assert_eq!((&read["read"]["sequence"], &read["unread"]["unread"]), (&json!(3), &json!(0)));
    let back = lab.post("channels/team/a/unread", &user("bob"), json!({ "from_sequence": 2 })).await.good();
    assert_eq!((&back["read"]["sequence"], &back["unread"]["unread"]), (&json!(1), &json!(2)));
    assert_eq!(lab.get("channels/team/a/reads", &user("ann")).await.good()["reads"][0]["user_id"], "bob");
    let got = lab.post("channels/team/a/delivered", &user("bob"), json!({ "sequence": 9 })).await.good();
    assert_eq!(got["receipt"]["sequence"], 3, "never beyond the newest");
    assert_eq!(lab.get("channels/team/a/receipts", &user("ann")).await.good()["receipts"][0]["sequence"], 3);
    assert_eq!(lab.post("channels/team/a/read", &user("eve"), json!({})).await.denied(), "not-a-member");
    lab.post("channels", &user("ann"), json!({ "type": "livestream", "id": "l", "members": ["bob"] })).await.good();
    assert_eq!(lab.post("channels/livestream/l/read", &user("bob"), json!({})).await.denied(), "feature-off");
    assert_eq!(
        lab.post("channels/livestream/l/delivered", &user("bob"), json!({ "sequence": 1 })).await.denied(),
        "feature-off"
    );
}

#[tokio::test]
async fn what_a_user_wants_is_its_own() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    for change in [
        json!({ "pinned": true }),
        json!({ "muted_for_ms": 60_000 }),
        json!({ "archived": true }),
        json!({ "hidden": true }),
    ] {
        lab.patch("channels/team/a/preference", &user("bob"), change).await.good();
    }
    let entry = lab.get("inbox", &user("bob")).await.good()["entries"][0].clone();
    assert!(
        entry["hidden"] == true
            && entry["muted"] == true
            && entry["pinned_at"].is_u64()
            && entry["muted_until"].is_u64()
    );
    assert_eq!(lab.get("inbox", &user("ann")).await.good()["entries"][0]["hidden"], false);
    let two = json!({ "pinned": true, "muted": true });
    assert_eq!(lab.patch("channels/team/a/preference", &user("bob"), two).await.refused(), (400, 4));
    lab.put("mutes/eve", &user("bob"), json!({ "for_ms": 60_000 })).await.good();
    lab.put("blocks/eve", &user("bob"), json!({})).await.good();
    assert!(lab.get("mutes", &user("bob")).await.good()["users"][0]["until"].is_u64());
    assert_eq!(lab.get("blocks", &user("bob")).await.good()["users"][0]["user_id"], "eve");
    for (kind, removed) in [("mutes", true), ("blocks", true), ("mutes", false)] {
        assert_eq!(lab.delete(&format!("{kind}/eve"), &user("bob")).await.good()["removed"], removed);
    }
    assert_eq!(lab.put("mutes/bob", &user("bob"), json!({})).await.refused(), (400, 4), "nobody mutes itself");
}

#[tokio::test]
async fn bans_flags_and_reviews() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob", "cat"]).await;
    let path = "channels/team/a/bans";
    assert_eq!(lab.put(&format!("{path}/cat"), &user("bob"), json!({})).await.denied(), "not-granted");
    let ban = lab.put(&format!("{path}/bob"), &user("ann"), json!({ "for_ms": 60_000, "reason": "spam" })).await.good();
    assert_eq!((&ban["ban"]["banned_by"], &ban["ban"]["shadow"]), (&json!("ann"), &json!(false)));
    assert_eq!(lab.post("channels/team/a/messages", &user("bob"), json!({ "text": "x" })).await.denied(), "banned");
    assert_eq!(lab.get(path, &user("ann")).await.good()["bans"][0]["reason"], "spam");
    assert_eq!(lab.delete(&format!("{path}/bob"), &user("ann")).await.good()["removed"], true);
    lab.put(&format!("{path}/bob"), &user("ann"), json!({ "shadow": true })).await.good();
    let shadowed = lab.say("a", "bob", "unseen").await;
    let message = format!("channels/team/a/messages/{}", shadowed["id"].as_str().expect("an id"));
    assert_eq!(lab.get(&message, &user("bob")).await.good()["message"]["shadowed"], false, "it is not told");
    assert_eq!(lab.get(&message, &server()).await.good()["message"]["shadowed"], true);
    assert_eq!(lab.get(&message, &user("cat")).await.refused(), (404, 16), "others do not see it");
    for what in ["replies", "reactions", "edits", "participants"] {
        assert_eq!(lab.get(&format!("{message}/{what}"), &user("cat")).await.refused(), (404, 16), "{what}");
    }
    assert_eq!(lab.get("channels/team/a/messages", &user("cat")).await.good()["messages"], json!([]));

    let said = lab.say("a", "cat", "rude").await;
    let message = format!("channels/team/a/messages/{}", said["id"].as_str().expect("an id"));
    lab.post(&format!("{message}/flag"), &user("ann"), json!({ "reason": "rude" })).await.good();
    assert_eq!(lab.get("review", &user("ann")).await.denied(), "not-granted");
    let queue = lab.get("review", &server()).await.good();
    assert_eq!(
        (&queue["entries"][0]["cid"], &queue["entries"][0]["flags"][0]["reason"]),
        (&json!("team:a"), &json!("rude"))
    );
    assert_eq!(
        lab.post(&format!("{message}/review"), &user("cat"), json!({ "verdict": "keep" })).await.denied(),
        "not-granted"
    );
    assert_eq!(
        lab.post(&format!("{message}/review"), &user("ann"), json!({ "verdict": "burn" })).await.refused(),
        (400, 4)
    );
    let reviewed = lab.post(&format!("{message}/review"), &user("ann"), json!({ "verdict": "delete" })).await.good();
    assert!(reviewed["message"]["deleted_at"].is_u64());
    assert_eq!(lab.get("review", &server()).await.good()["entries"], json!([]));

    lab.put("bans/cat?user_id=boss", &server(), json!({ "reason": "enough" })).await.good();
    assert_eq!(lab.get("bans/cat", &server()).await.good()["ban"]["reason"], "enough");
    assert_eq!(lab.post("channels/team/a/messages", &user("cat"), json!({ "text": "x" })).await.denied(), "banned");
    assert_eq!(lab.post("channels", &user("cat"), json!({ "type": "team" })).await.denied(), "banned");
    assert_eq!(lab.delete("bans/cat", &server()).await.good()["removed"], true);
    assert_eq!(lab.get("bans/cat", &server()).await.good()["ban"], json!(null));
}

#[tokio::test]
async fn users_are_put_by_servers_and_change_themselves() {
    let lab = Lab::new().await;
    let users = json!({ "users": [
        { "id": "ann", "role": "admin", "teams": ["red"], "custom": { "name": "Ann" } }, { "id": "bob" },
    ] });
    assert_eq!(lab.post("users", &user("ann"), users.clone()).await.denied(), "server-only");
    lab.post("users", &server(), users).await.good();
    assert_eq!(lab.get("users/ann", &user("bob")).await.good()["user"]["teams"], json!(["red"]));
    let found = json!({ "filter": { "custom.name": { "$autocomplete": "an" } } });
    assert_eq!(lab.post("users/query", &user("bob"), found).await.good()["users"][0]["id"], "ann");
    let change = json!({ "set": { "mood": "fine" } });
    let changed = lab.patch("users/ann", &user("ann"), change.clone()).await.good()["user"].clone();
    assert_eq!(
        (&changed["custom"]["mood"], &changed["role"], &changed["teams"]),
        (&json!("fine"), &json!("admin"), &json!(["red"]))
    );
    assert_eq!(lab.patch("users/ann", &user("bob"), change.clone()).await.denied(), "another-user");
    assert_eq!(lab.patch("users/new", &user("new"), change.clone()).await.good()["user"]["role"], "user");
    assert_eq!(lab.patch("users/none", &server(), change).await.refused(), (404, 16));
    assert_eq!(lab.get("review", &user("ann")).await.good()["entries"], json!([]), "an admin of the app may");
    lab.post("users/bob/deactivate", &server(), json!({ "deactivated": true })).await.good();
    assert_eq!(lab.post("channels", &user("bob"), json!({ "type": "team" })).await.denied(), "deactivated");
    for path in ["inbox", "unread", "invites", "mutes", "users/bob"] {
        assert_eq!(lab.get(path, &user("bob")).await.denied(), "deactivated", "{path}");
    }
    let guest = lab.post("guests", &server(), json!({ "custom": { "x": 1 } })).await.good();
    assert_eq!(guest["user"]["role"], "guest");
}

#[tokio::test]
async fn files_are_those_of_the_feeds_gateway() {
    let dir = tempfile::tempdir().expect("a folder");
    let base = GatewayOptions { files_dir: Some(dir.path().to_owned()), ..GatewayOptions::default() };
    let lab = Lab::with(MemoryEngine::new(), base, ChatGatewayOptions::default(), None).await;
    let form = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nhi\r\n--x--\r\n";
    let upload = |token: String| {
        Request::builder()
            .method(Method::POST)
            .uri(format!("/chat/v1/files?api_key={KEY}"))
            .header(header::AUTHORIZATION, token)
            .header(header::CONTENT_TYPE, "multipart/form-data; boundary=x")
            .header(header::ORIGIN, "https://page.example")
            .body(Body::from(form))
            .expect("a request")
    };
    let stored = lab.send(upload(user("ann"))).await;
    assert_eq!(stored.headers.get_all("access-control-allow-origin").iter().count(), 1, "said once");
    let url = stored.good()["file"].as_str().expect("an address").to_owned();
    assert_eq!(lab.send(upload("forged".to_owned())).await.refused(), (401, 43));
    let named: String = form_urlencoded::Serializer::new(String::new()).append_pair("url", &url).finish();
    assert!(lab.get(&format!("files?{named}"), &user("bob")).await.good()["file"].is_string());
    assert_eq!(lab.delete(&format!("files?{named}"), &user("bob")).await.status, 403);
    lab.delete(&format!("files?{named}"), &user("ann")).await.good();
    assert_eq!(lab.get(&format!("files?{named}"), &user("ann")).await.status, 404);
}
