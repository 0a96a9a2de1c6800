//! Drafts, reminders, groups and live locations.

use serde_json::json;

use super::support::{Came, Lab, Socket, server, user};

#[tokio::test]
async fn drafts_are_kept_listed_and_sent_once() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    lab.channel("b", &["ann"]).await;
    lab.say("a", "bob", "a question").await;
    lab.post("channels/team/a/messages", &user("bob"), json!({ "id": "m", "text": "x" })).await.good();
    let path = "channels/team/a/draft";
    let kept = json!({ "text": "hal", "custom": { "x": 1 }, "mentions": { "users": ["bob"] } });
    let draft = lab.put(path, &user("ann"), kept).await.good()["draft"].clone();
    assert_eq!((&draft["cid"], &draft["text"], &draft["parent_id"]), (&json!("team:a"), &json!("hal"), &json!(null)));
    lab.put(path, &user("ann"), json!({ "text": "reply", "parent_id": "m" })).await.good();
    lab.put("channels/team/b/draft", &user("ann"), json!({ "text": "b" })).await.good();
    assert_eq!(lab.get(path, &user("bob")).await.good()["draft"], json!(null), "nobody reads another's");
    assert_eq!(lab.put(path, &user("eve"), json!({ "text": "x" })).await.denied(), "not-a-member");
    assert_eq!(lab.put(path, &user("ann"), json!({})).await.refused(), (400, 4), "it says nothing");

    let mut texts = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = lab.get(&format!("drafts?limit=1{cursor}"), &user("ann")).await.good();
        texts.extend(page["drafts"].as_array().expect("drafts").iter().map(|one| one["text"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(texts, ["hal", "reply", "b"]);
    assert_eq!(lab.get("drafts?cursor=%21%21", &user("ann")).await.refused(), (400, 4));
    assert_eq!(lab.get("drafts?cursor=e30", &user("ann")).await.refused(), (400, 4), "JSON, and none of ours");

    let ann = user("ann");
    let send = || lab.post("channels/team/a/draft/send", &ann, json!({ "id": "s" }));
    let sent = send().await.good()["message"].clone();
    assert_eq!((&sent["text"], &sent["mentions"]["users"]), (&json!("hal"), &json!(["bob"])));
    assert_eq!(send().await.good()["message"]["sequence"], sent["sequence"], "a repeat sends nothing");
    assert_eq!(lab.get(path, &user("ann")).await.good()["draft"], json!(null));
    let nothing = json!({ "id": "never" });
    assert_eq!(lab.post("channels/team/a/draft/send", &user("ann"), nothing).await.refused(), (404, 16));
    let page = lab.get("channels/team/a/messages", &user("ann")).await.good();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(3));
    assert_eq!(lab.delete(&format!("{path}?parent_id=m"), &user("ann")).await.good()["removed"], true);
    assert_eq!(lab.delete(&format!("{path}?parent_id=m"), &user("ann")).await.good()["removed"], false);
}

#[tokio::test]
async fn a_reminder_that_is_due_is_told_to_its_user() {
    let lab = Lab::new().await;
    let running = tokio::spawn(keevo_chat_gateway::ChatGateway::run(lab.chat.clone()));
    let address = lab.serve().await;
    lab.channel("a", &["ann", "bob"]).await;
    lab.post("channels/team/a/messages", &user("bob"), json!({ "id": "m", "text": "x" })).await.good();
    let mut socket = Socket::to(address, "ann").await;
    let path = "channels/team/a/messages/m/reminder";
    let far = json!({ "remind_at": 4_000_000_000_000_u64 });
    assert_eq!(lab.put(path, &user("ann"), far).await.refused(), (400, 4), "in more than ten years");
    assert_eq!(lab.put(path, &user("eve"), json!({})).await.denied(), "not-a-member");
    let missing = "channels/team/a/messages/none/reminder";
    assert_eq!(lab.put(missing, &user("ann"), json!({})).await.refused(), (404, 16));
    let kept = lab.put(path, &user("ann"), json!({})).await.good()["reminder"].clone();
    assert_eq!((&kept["message_id"], &kept["remind_at"]), (&json!("m"), &json!(null)));
    let set = lab.put(path, &user("ann"), json!({ "remind_at": 1 })).await.good()["reminder"].clone();
    assert_eq!(set["remind_at"], 1);
    let due = socket.until("user.reminder_due").await;
    assert_eq!((&due["reminder"]["cid"], &due["reminder"]["message_id"]), (&json!("team:a"), &json!("m")));
    let listed = lab.get("reminders?limit=1", &user("ann")).await.good();
    assert!(listed["reminders"][0]["fired_at"].is_u64(), "{listed}");
    let next = listed["next"].as_str().expect("a full page has a next");
    assert_eq!(lab.get(&format!("reminders?cursor={next}"), &user("ann")).await.good()["reminders"], json!([]));
    assert_eq!(lab.delete(path, &user("ann")).await.good()["removed"], true);
    assert_eq!(lab.get("reminders", &user("ann")).await.good()["reminders"], json!([]));
    running.abort();
}

#[tokio::test]
async fn groups_are_made_by_admins_and_mentioned_by_members() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    assert_eq!(lab.put("groups/ops", &user("ann"), json!({ "name": "Ops" })).await.denied(), "not-granted");
    let made = lab.put("groups/ops", &server(), json!({ "name": "Ops", "custom": { "x": 1 } })).await.good();
    assert_eq!((&made["group"]["name"], &made["group"]["members"]), (&json!("Ops"), &json!(0)));
    let added = lab.post("groups/ops/members", &server(), json!({ "users": ["bob", "cat"] })).await.good();
    assert_eq!(added["group"]["members"], 2);
    assert_eq!(lab.get("groups", &user("bob")).await.good()["groups"][0]["id"], "ops");
    assert_eq!(lab.get("groups/ops/members?limit=1", &user("ann")).await.good()["user_ids"], json!(["bob"]));
    let said = json!({ "text": "@ops", "mentions": { "groups": ["ops"] } });
    lab.post("channels/team/a/messages", &user("ann"), said).await.good();
    assert_eq!(lab.get("channels/team/a/unread", &user("bob")).await.good()["unread"]["mentions"], 1);
    lab.delete("groups/ops/members/bob", &server()).await.good();
    assert_eq!(lab.get("channels/team/a/unread", &user("bob")).await.good()["unread"]["mentions"], 0);

    lab.post("users", &server(), json!({ "users": [{ "id": "cat", "teams": ["red"] }] })).await.good();
    lab.put("groups/reds", &server(), json!({ "name": "Reds", "team": "red" })).await.good();
    assert_eq!(lab.post("groups/reds/members", &server(), json!({ "users": ["bob"] })).await.denied(), "other-team");
    lab.post("groups/reds/members", &server(), json!({ "users": ["cat"] })).await.good();
    assert_eq!(lab.get("groups/reds", &user("bob")).await.denied(), "other-team");
    assert_eq!(lab.get("groups/reds/members", &user("bob")).await.denied(), "other-team");
    assert_eq!(lab.get("groups/reds", &user("cat")).await.good()["group"]["members"], 1);
    let other = json!({ "name": "Reds", "team": "blue" });
    assert_eq!(lab.put("groups/reds", &server(), other).await.refused(), (409, 22));
    lab.delete("groups/ops", &server()).await.good();
    assert_eq!(lab.get("groups/ops", &server()).await.refused(), (404, 16));
    assert_eq!(lab.get("groups", &user("cat")).await.good()["groups"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn locations_move_until_they_are_stopped() {
    let lab = Lab::new().await;
    let address = lab.serve().await;
    lab.channel("a", &["ann", "bob", "mal"]).await;
    let mut socket = Socket::to(address, "bob").await;
    socket.subscribe(&["team:a"]).await;
    let path = "channels/team/a/locations";
    let here = json!({ "id": "m", "latitude": 52.520_008, "longitude": -13.4, "for_ms": 60_000 });
    let shared = lab.post(path, &user("ann"), here.clone()).await.good();
    assert_eq!(shared["message"]["shares_location"], true);
    assert_eq!(
        (&shared["location"]["latitude"], &shared["location"]["longitude"]),
        (&json!(52.520_008), &json!(-13.4))
    );
    for (name, bad) in [("latitude", json!(90.1)), ("longitude", json!(-180.1)), ("for_ms", json!(0))] {
        let mut body = here.clone();
        body[name] = bad;
        body["id"] = json!("other");
        assert_eq!(lab.post(path, &user("ann"), body).await.refused(), (400, 4), "{name}");
    }
    let message = "channels/team/a/messages/m/location";
    let there = json!({ "latitude": 1, "longitude": 2 });
    assert_eq!(lab.patch(message, &user("bob"), there.clone()).await.denied(), "not-the-author");
    assert_eq!(lab.patch(message, &user("ann"), there).await.good()["location"]["latitude"], 1.0);
    assert_eq!(lab.get(message, &user("bob")).await.good()["location"]["longitude"], 2.0);
    assert_eq!(lab.get(path, &user("bob")).await.good()["locations"].as_array().map(Vec::len), Some(1));
    assert_eq!(lab.get(path, &user("eve")).await.denied(), "not-a-member");

    // Who is banned in the shadow moves where nobody else sees it.
    lab.put("channels/team/a/bans/mal", &user("ann"), json!({ "shadow": true })).await.good();
    let hidden = json!({ "id": "h", "latitude": 3, "longitude": 3, "for_ms": 60_000 });
    lab.post(path, &user("mal"), hidden).await.good();
    lab.patch("channels/team/a/messages/h/location", &user("mal"), json!({ "latitude": 4, "longitude": 4 }))
        .await
        .good();
    assert_eq!(lab.get(path, &user("bob")).await.good()["locations"].as_array().map(Vec::len), Some(1));
    assert_eq!(lab.get(path, &user("mal")).await.good()["locations"].as_array().map(Vec::len), Some(2));
    assert_eq!(lab.get("channels/team/a/messages/h/location", &user("bob")).await.refused(), (404, 16));

    let stopped = lab.delete(message, &user("ann")).await.good()["location"].clone();
    assert_eq!((&stopped["latitude"], stopped["stopped_at"].is_u64()), (&json!(null), true));
    let mut told = Vec::new();
    while told.last() != Some(&("location.stopped".to_owned(), "m".to_owned())) {
        let Came::Frame(frame) = socket.next().await else { panic!("the socket ended") };
        let kind = frame["type"].as_str().unwrap_or_default();
        if kind.starts_with("location.") {
            let id = frame["location"]["message_id"].as_str().expect("a location").to_owned();
            told.push((kind.to_owned(), id));
        }
    }
    let expected = [("location.updated", "m"), ("location.stopped", "m")];
    assert_eq!(told, expected.map(|(kind, id)| (kind.to_owned(), id.to_owned())), "nothing of what is hidden");
}
