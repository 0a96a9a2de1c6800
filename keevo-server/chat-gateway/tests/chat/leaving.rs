//! Data in and out: users are erased and exported, channels exported and imported.

use std::time::Duration;

use keevo_chat_gateway::ChatGateway;
use serde_json::{Value, json};

use super::support::{Lab, server, user};

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
