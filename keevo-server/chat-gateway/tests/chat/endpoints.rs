//! Every endpoint once, as users and servers use it.

use serde_json::json;

use super::support::{Lab, server, user};

#[tokio::test]
async fn channels_are_made_found_and_changed() {
    let lab = Lab::new().await;
    let body = json!({ "type": "team", "id": "a", "members": ["bob"], "custom": { "name": "A" } });
    let made = lab.post("channels", &user("ann"), body.clone()).await.good();
    assert_eq!((&made["channel"]["cid"], &made["channel"]["custom"]["name"]), (&json!("team:a"), &json!("A")));
    lab.post("channels", &user("ann"), body).await.good();
    let other = json!({ "type": "team", "id": "a" });
    assert_eq!(lab.post("channels", &user("bob"), other).await.refused(), (409, 22));
    let nameless = lab.post("channels", &user("ann"), json!({ "type": "team" })).await.good();
    assert_eq!(nameless["channel"]["id"].as_str().map(str::len), Some(32));
    let pair = json!({ "type": "messaging", "distinct": true, "members": ["bob"] });
    let one = lab.post("channels", &user("ann"), pair).await.good()["channel"].clone();
    let pair = json!({ "type": "messaging", "distinct": true, "members": ["ann"] });
    assert_eq!(lab.post("channels", &user("bob"), pair).await.good()["channel"], one);
    assert_eq!(one["distinct"], true);

    let changed = lab.patch("channels/team/a", &user("ann"), json!({ "set": { "x.y": 1 }, "unset": ["name"] })).await;
    assert_eq!(changed.good()["channel"]["custom"], json!({ "x": { "y": 1 } }));
    let whole = lab.patch("channels/team/a", &user("ann"), json!({ "custom": { "z": 1 } })).await.good();
    assert_eq!(whole["channel"]["custom"], json!({ "z": 1 }));
    let frozen = lab.post("channels/team/a/freeze", &user("ann"), json!({ "frozen": true })).await.good();
    assert_eq!(frozen["channel"]["frozen"], true);
    assert_eq!(lab.post("channels/team/a/messages", &user("bob"), json!({ "text": "x" })).await.denied(), "frozen");
    lab.post("channels/team/a/freeze", &user("ann"), json!({ "frozen": false })).await.good();
    let slow = lab.post("channels/team/a/slow_mode", &user("ann"), json!({ "wait_ms": 60_000 })).await.good();
    assert_eq!(slow["channel"]["slow_mode_ms"], 60_000);
    lab.say("a", "bob", "one").await;
    let soon = lab.post("channels/team/a/messages", &user("bob"), json!({ "text": "two" })).await;
    assert_eq!(soon.refused(), (429, 60));
    assert!(
        soon.body["retry_after_ms"].as_u64().is_some_and(|ms| ms > 30_000) && soon.headers.contains_key("retry-after")
    );
    lab.post("channels/team/a/slow_mode", &user("ann"), json!({ "wait_ms": null })).await.good();
    lab.say("a", "bob", "two").await;
    let cut = lab.post("channels/team/a/truncate", &user("ann"), json!({ "up_to": 1 })).await.good();
    assert_eq!(cut["channel"]["truncated"], 1);
    let disabled = lab.post("channels/team/a/disable", &server(), json!({ "disabled": true })).await.good();
    assert_eq!(disabled["channel"]["disabled"], true);
    assert_eq!(lab.get("channels/team/a", &user("ann")).await.denied(), "disabled");

    let own = lab.post("channels/query", &user("bob"), json!({ "filter": {} })).await.good();
    assert_eq!(own["channels"].as_array().map(Vec::len), Some(1), "the other is disabled: {own}");
    let named = json!({ "filter": { "cid": { "$in": ["messaging:x", one["cid"]] } }, "sort": "cid", "limit": 10 });
    let found = lab.post("channels/query", &user("ann"), named.clone()).await.good();
    assert_eq!(found["channels"][0]["channel"]["cid"], one["cid"]);
    let hidden = lab.post("channels/query", &user("eve"), named).await.good();
    assert_eq!(hidden["channels"], json!([]), "of others");
    let all = json!({ "filter": { "members": { "$contains": "ann" } }, "sort": "-last_message_at" });
    assert_eq!(lab.post("channels/query", &server(), all).await.good()["channels"].as_array().map(Vec::len), Some(3));
    let kind = lab.get("channel_types/livestream", &user("eve")).await.good();
    assert!(kind["strangers"].as_array().is_some_and(|all| all.contains(&json!("send-message"))), "{kind}");
}

#[tokio::test]
async fn a_channel_is_read_as_a_client_shows_it() {
    let lab = Lab::new().await;
    lab.post("users", &server(), json!({ "users": [{ "id": "ann", "custom": { "name": "Ann" } }] })).await.good();
    lab.channel("a", &["ann", "bob"]).await;
    for number in 1..=30 {
        lab.say("a", "ann", &number.to_string()).await;
    }
    lab.post("channels/team/a/read", &user("bob"), json!({ "sequence": 28 })).await.good();
    let state = lab.get("channels/team/a", &user("bob")).await.good();
    let texts: Vec<&str> =
        state["messages"].as_array().expect("messages").iter().filter_map(|one| one["text"].as_str()).collect();
    assert_eq!((texts.len(), texts[0], texts[24], &state["before"]), (25, "6", "30", &json!(6)));
    assert_eq!((&state["unread"]["unread"], &state["unread"]["last_sequence"]), (&json!(2), &json!(30)));
    assert_eq!((&state["membership"]["role"], &state["members"][1]["user_id"]), (&json!("member"), &json!("bob")));
    assert_eq!((&state["users"]["ann"]["custom"]["name"], &state["reads"][0]["sequence"]), (&json!("Ann"), &json!(28)));
    let own: Vec<&str> =
        state["own_capabilities"].as_array().expect("a list").iter().filter_map(|one| one.as_str()).collect();
    assert!(own.contains(&"send-message") && !own.contains(&"ban"), "{own:?}");
    assert!(state["resume"].is_string() && state["watchers"]["count"] == 0);
    let older = lab.get("channels/team/a/messages?before=6&limit=3", &user("bob")).await.good();
    assert_eq!((&older["messages"][0]["sequence"], &older["next"]), (&json!(5), &json!(3)));
    let onwards = lab.get("channels/team/a/messages?after=28", &user("bob")).await.good();
    assert_eq!((&onwards["messages"][0]["sequence"], &onwards["next"]), (&json!(29), &json!(null)));
    let all = lab.get("channels/team/a?messages=0&members=0", &server()).await.good();
    assert_eq!((&all["messages"], &all["members"], &all["resume"]), (&json!([]), &json!([]), &json!(null)));
}

#[tokio::test]
async fn members_come_and_go() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann"]).await;
    let added = json!({ "members": ["bob", { "user_id": "cat", "role": "moderator", "grants": ["edit-any"], "custom": { "x": 1 } }] });
    lab.post("channels/team/a/members", &user("ann"), added).await.good();
    let page = lab.get("channels/team/a/members?limit=2", &user("bob")).await.good();
    assert_eq!((page["members"].as_array().map(Vec::len), &page["next"]), (Some(2), &json!("bob")));
    let rest = lab.get("channels/team/a/members?limit=2&cursor=bob", &user("bob")).await.good();
    assert_eq!((&rest["members"][0]["grants"], &rest["next"]), (&json!(["edit-any"]), &json!(null)));
    let found = json!({ "filter": { "role": "moderator" } });
    assert_eq!(
        lab.post("channels/team/a/members/query", &user("bob"), found).await.good()["members"][0]["user_id"],
        "cat"
    );
    let role = json!({ "members": [{ "user_id": "bob", "role": "guest" }] });
    lab.patch("channels/team/a/members", &user("ann"), role.clone()).await.good();
    assert_eq!(lab.patch("channels/team/a/members", &user("bob"), role).await.denied(), "not-granted");
    let stranger = json!({ "members": [{ "user_id": "eve", "role": "owner" }] });
    assert_eq!(
        lab.patch("channels/team/a/members", &user("ann"), stranger).await.refused(),
        (404, 16),
        "it adds nobody"
    );
    assert_eq!(lab.delete("channels/team/a/members/cat", &user("bob")).await.denied(), "not-granted");
    assert_eq!(lab.delete("channels/team/a/members/cat", &user("ann")).await.good()["removed"], true);
    assert_eq!(lab.post("channels/team/a/leave", &user("bob"), json!({})).await.good()["removed"], true);
    assert_eq!(lab.post("channels/team/a/leave", &user("bob"), json!({})).await.denied(), "not-a-member");
    assert_eq!(lab.post("channels/team/a/join", &user("bob"), json!({})).await.denied(), "not-a-member");
    let open = json!({ "type": "livestream", "id": "l" });
    lab.post("channels", &user("ann"), open).await.good();
    assert_eq!(
        lab.post("channels/livestream/l/join", &user("bob"), json!({})).await.good()["member"]["user_id"],
        "bob"
    );

    lab.post("channels/team/a/invites", &user("ann"), json!({ "users": ["bob", "dan", "eve"] })).await.good();
    let invited = lab.get("invites", &user("bob")).await.good();
    assert_eq!((&invited["invites"][0]["cid"], &invited["next"]), (&json!("team:a"), &json!(null)));
    assert_eq!(
        lab.post("channels/team/a/invites/accept", &user("bob"), json!({})).await.good()["member"]["role"],
        "member"
    );
    assert_eq!(lab.post("channels/team/a/invites/reject", &user("dan"), json!({})).await.good()["rejected"], true);
    assert_eq!(lab.delete("channels/team/a/invites/eve", &user("ann")).await.good()["revoked"], true);
    let states = lab.get("channels/team/a/invites", &user("ann")).await.good();
    assert_eq!(
        (&states["invites"][0]["state"], &states["invites"][1]["state"]),
        (&json!("rejected"), &json!("revoked"))
    );
    assert_eq!(lab.post("channels/team/a/invites/accept", &user("eve"), json!({})).await.refused(), (409, 22));
}

#[tokio::test]
async fn messages_are_sent_once_changed_and_taken_back() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    let path = "channels/team/a/messages";
    let body = json!({
        "id": "m1", "text": "hello @bob", "custom": { "k": 1 }, "attachments": [{ "type": "image", "url": "x" }],
        "mentions": { "users": ["bob"], "channel": false },
    });
    let sent = lab.post(path, &user("ann"), body.clone()).await.good()["message"].clone();
    assert_eq!((&sent["sequence"], &sent["attachments"][0]["type"]), (&json!(1), &json!("image")));
    assert_eq!(lab.post(path, &user("ann"), body).await.good()["message"], sent, "sent once");
    let other = json!({ "id": "m1", "text": "another" });
    assert_eq!(lab.post(path, &user("ann"), other).await.refused(), (409, 22));
    assert_eq!(lab.get("channels/team/a/unread", &user("bob")).await.good()["unread"]["mentions"], 1);

    let edit = json!({ "text": "hello", "set": { "k": 2 }, "mentions": {} });
    assert_eq!(lab.patch(&format!("{path}/m1"), &user("bob"), edit.clone()).await.denied(), "not-the-author");
    let edited = lab.patch(&format!("{path}/m1"), &user("ann"), edit).await.good()["message"].clone();
    assert_eq!((&edited["custom"]["k"], &edited["version"]), (&json!(2), &json!(2)));
    let edits = lab.get(&format!("{path}/m1/edits"), &user("bob")).await.good();
    assert_eq!(edits["edits"][0]["text"], "hello @bob");
    lab.post(&format!("{path}/m1/pin"), &user("ann"), json!({ "pinned": true })).await.good();
    assert_eq!(lab.get("channels/team/a/pinned", &user("bob")).await.good()["messages"][0]["pinned"]["by"], "ann");
    let gone = lab.delete(&format!("{path}/m1"), &user("ann")).await.good()["message"].clone();
    assert!(gone["deleted_at"].is_u64() && gone["text"] == "" && gone["erased"] == false);
    assert_eq!(lab.get(&format!("{path}/m1/edits"), &user("bob")).await.good()["edits"], json!([]), "nor in its edits");
    let back = lab.post(&format!("{path}/m1/undelete"), &user("ann"), json!({})).await.good()["message"].clone();
    assert_eq!((&back["text"], &back["deleted_at"]), (&json!("hello"), &json!(null)));
    let erased = lab.delete(&format!("{path}/m1?erase=true"), &user("ann")).await.good()["message"].clone();
    assert_eq!(erased["erased"], true);
    assert_eq!(lab.post(&format!("{path}/m1/undelete"), &user("ann"), json!({})).await.refused(), (409, 22));
    let found = json!({ "filter": { "text": { "$autocomplete": "wor" } } });
    lab.say("a", "bob", "the world").await;
    assert_eq!(lab.post(&format!("{path}/query"), &user("ann"), found).await.good()["messages"][0]["user_id"], "bob");
    assert_eq!(lab.post(path, &user("ann"), json!({ "text": "x", "system": true })).await.denied(), "server-only");
    let system = json!({ "text": "ann left", "system": true, "created_at": 5 });
    let told = lab.post(&format!("{path}?user_id=ann"), &server(), system).await.good()["message"].clone();
    assert_eq!((&told["system"], &told["created_at"]), (&json!(true), &json!(5)));
}
