//! Data in and out: users are erased and exported, channels exported and imported.

use std::time::Duration;

use keevo_chat_gateway::ChatGateway;
use serde_json::{Value, json};

use super::support::{Lab, Socket, server, user};

/// All lines of an export.
async fn lines(lab: &Lab, path: &str) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = lab.get(&format!("{path}{cursor}"), &server()).await.good();
        lines.extend(page["lines"].as_array().expect("lines").clone());
        let Some(next) = page["next"].as_str() else { return lines };
        cursor = format!("?cursor={next}");
    }
}

#[tokio::test]
async fn a_user_is_exported_and_erased() {
    let lab = Lab::new().await;
    let running = tokio::spawn(ChatGateway::run(lab.chat.clone()));
    lab.channel("a", &["ann", "bob"]).await;
    lab.post("channels/team/a/messages", &user("bob"), json!({ "id": "m", "text": "secret" })).await.good();
    let path = "users/bob/export";
    assert_eq!(lab.get(path, &user("bob")).await.denied(), "server-only");
    let exported = lines(&lab, path).await;
    assert!(exported.iter().any(|line| line["message"]["text"] == "secret"), "{exported:?}");
    assert_eq!(lab.get(&format!("{path}?cursor=AQ%3D"), &server()).await.refused(), (400, 4));
    assert_eq!(lab.get("users/bob/erasure", &server()).await.good()["erasure"], json!(null));
    assert_eq!(lab.post("users/bob/erasure", &user("bob"), json!({})).await.denied(), "server-only");
    lab.post("users/bob/erasure", &server(), json!({})).await.good();
    for _ in 0..200 {
        if lab.get("users/bob/erasure", &server()).await.good()["erasure"]["done_at"].is_u64() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let message = lab.get("channels/team/a/messages/m", &user("ann")).await.good()["message"].clone();
    assert_eq!((&message["text"], &message["erased"]), (&json!(""), &json!(true)));
    assert_ne!(message["user_id"], "bob");
    assert_eq!(lab.get("inbox", &user("bob")).await.denied(), "deactivated");
    running.abort();
}

#[tokio::test]
async fn a_channel_is_imported_as_it_was_exported() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    for text in ["one", "two", "three"] {
        lab.say("a", "bob", text).await;
    }
    let exported = lines(&lab, "channels/team/a/export").await;
    assert_eq!(lab.get("channels/team/a/export", &user("ann")).await.denied(), "server-only");
    let other = Lab::new().await;
    let done = other.post("import", &server(), json!({ "lines": exported })).await.good();
    assert_eq!((&done["stored"]["message"], &done["refused"]), (&json!(3), &json!([])));
    let page = other.get("channels/team/a/messages?order=oldest", &user("ann")).await.good();
    assert_eq!(page["messages"][2]["text"], "three");
    let bad = json!({ "lines": [{ "message": { "channel": "team:none" } }] });
    assert_eq!(other.post("import", &server(), bad).await.good()["refused"][0]["line"], 0);
    assert_eq!(other.post("import", &user("ann"), json!({ "lines": [] })).await.denied(), "server-only");
}

#[tokio::test]
async fn a_deleted_channel_is_gone_until_it_is_restored() {
    let lab = Lab::new().await;
    let running = tokio::spawn(ChatGateway::run(lab.chat.clone()));
    let address = lab.serve().await;
    lab.channel("a", &["ann", "bob"]).await;
    lab.say("a", "bob", "kept").await;
    let mut socket = Socket::to(address, "bob").await;
    socket.subscribe(&["team:a"]).await;
    let path = "channels/team/a";
    assert_eq!(lab.delete(path, &user("bob")).await.denied(), "not-granted");
    assert_eq!(lab.delete(path, &user("eve")).await.denied(), "not-a-member");
    assert_eq!(lab.delete(&format!("{path}?erase=true"), &user("ann")).await.denied(), "not-granted");
    let deleted = lab.delete(path, &user("ann")).await.good()["deletion"].clone();
    assert_eq!((&deleted["deleted_by"], &deleted["erases"]), (&json!("ann"), &json!(false)));
    let [removed, _] = socket.until_each(["channel.removed", "user.channel_removed"]).await;
    assert_eq!(removed["reason"], "deleted");
    for who in [user("ann"), user("bob"), server()] {
        assert_eq!(lab.get(path, &who).await.refused(), (404, 16));
    }
    let send = lab.post("channels/team/a/messages", &user("bob"), json!({ "text": "x" })).await;
    assert_eq!(send.refused(), (404, 16));
    let again = lab.post("channels", &user("ann"), json!({ "type": "team", "id": "a" })).await;
    assert_eq!(again.refused(), (409, 22));
    assert_eq!(lab.get("inbox", &user("bob")).await.good()["entries"], json!([]));
    assert_eq!(lab.get(&format!("{path}/deletion"), &user("ann")).await.denied(), "not-granted");
    assert!(lab.get(&format!("{path}/deletion"), &server()).await.good()["deletion"]["deleted_at"].is_u64());

    assert_eq!(lab.post(&format!("{path}/restore"), &user("ann"), json!({})).await.denied(), "not-granted");
    assert_eq!(lab.post(&format!("{path}/restore"), &server(), json!({})).await.good()["channel"]["cid"], "team:a");
    socket.until("user.channel_added").await;
    let page = lab.get("channels/team/a/messages", &user("bob")).await.good();
    assert_eq!(page["messages"][0]["text"], "kept");
    lab.say("a", "bob", "on").await;

    lab.post(&format!("{path}/truncate"), &user("ann"), json!({ "up_to": 1 })).await.good();
    assert_eq!(lab.post(&format!("{path}/erase_truncated"), &user("bob"), json!({})).await.denied(), "not-granted");
    let erased = lab.post(&format!("{path}/erase_truncated"), &user("ann"), json!({})).await.good();
    assert_eq!(erased["next"], json!(null));

    lab.delete(&format!("{path}?erase=true&user_id=boss"), &server()).await.good();
    for _ in 0..200 {
        if lab.get(&format!("{path}/deletion"), &server()).await.good()["deletion"]["done_at"].is_u64() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(lab.get(&format!("{path}/deletion"), &server()).await.good()["deletion"]["done_at"].is_u64());
    assert_eq!(lab.post(&format!("{path}/restore"), &server(), json!({})).await.refused(), (409, 22));
    assert_eq!(lab.get("channels/team/a/messages", &server()).await.refused(), (404, 16));
    running.abort();
}
