//! Texts that are judged before they are sent.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_chat::{AppId, ChannelId, Chat, ChatOptions};
use keevo_chat_gateway::{ChatGatewayOptions, Gatekeeper, Passed};
use keevo_core::{Error, ErrorKind, MemoryEngine, Result};
use keevo_gateway::GatewayOptions;
use serde_json::json;

use super::support::{Lab, server, user};

/// Judges by words, and remembers what was held.
#[derive(Default)]
pub(crate) struct Words {
    held: Mutex<Vec<String>>,
    asked: Mutex<Vec<String>>,
}

impl Gatekeeper for Words {
    fn pass<'a>(
        &'a self,
        app: u32,
        _: &'a ChannelId,
        id: &'a str,
        _: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, Result<Passed>> {
        assert!(app > 0 && !id.is_empty());
        self.asked.lock().expect("no panic").push(text.to_owned());
        let passed = match text {
            "mask" => Ok(Passed::Masked("****".to_owned())),
            "shadow" => Ok(Passed::Shadowed),
            "hold" => Ok(Passed::Held),
            "block" => Err(Error::new(ErrorKind::PermissionDenied, "moderation refused the message")),
            "bounce" => Err(Error::invalid("moderation refused the message; put it otherwise")),
            "late" => Err(Error::new(ErrorKind::Unavailable, "the message could not be judged in time")),
            _ => Ok(Passed::Through),
        };
        futures::future::ready(passed).boxed()
    }

    fn held<'a>(
        &'a self,
        _: u32,
        channel: &'a ChannelId,
        id: &'a str,
        user: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        self.held.lock().expect("no panic").push(format!("{channel} {id} {user} {text}"));
        futures::future::ready(Ok(())).boxed()
    }
}

#[tokio::test]
async fn texts_go_the_way_that_they_are_judged() {
    let gate: Option<Arc<dyn Gatekeeper>> = Some(Arc::new(Words::default()));
    let lab = Lab::with(MemoryEngine::new(), GatewayOptions::default(), ChatGatewayOptions::default(), gate).await;
    lab.channel("a", &["ann"]).await;
    assert_eq!(lab.say("a", "ann", "fine").await["text"], "fine");
    let masked = lab.say("a", "ann", "mask").await;
    assert_eq!(masked["text"], "****");
    let shadowed = lab.say("a", "ann", "shadow").await;
    assert_eq!((&shadowed["text"], &shadowed["sequence"]), (&json!("shadow"), &json!(3)), "it looks sent");
    assert_eq!(shadowed["shadowed"], false, "and it is not told");
    let path = "channels/team/a/messages";
    let ann = user("ann");
    let say = |text: &str| lab.post(path, &ann, json!({ "text": text }));
    assert_eq!(say("block").await.denied(), "refused");
    assert_eq!(say("bounce").await.refused(), (400, 4));
    assert_eq!(say("late").await.refused(), (503, -1));
    let page = lab.get(path, &user("ann")).await.good();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(3), "what was refused is not there");
    let edit = |text: &str| {
        let path = format!("{path}/{}", masked["id"].as_str().expect("an id"));
        let body = json!({ "text": text });
        let lab = &lab;
        async move { lab.patch(&path, &user("ann"), body).await }
    };
    assert_eq!(edit("block").await.denied(), "refused");
    assert_eq!(edit("shadow").await.good()["message"]["text"], "****", "as it was");
    assert_eq!(edit("fine again").await.good()["message"]["text"], "fine again");
    let message = format!("{path}/{}", masked["id"].as_str().expect("an id"));
    lab.patch(&format!("{message}?user_id=moderation"), &server(), json!({ "text": "f***" })).await.good();
    for (caller, words) in [(user("ann"), false), (server(), true)] {
        let edits = lab.get(&format!("{message}/edits"), &caller).await.good()["edits"].to_string();
        assert_eq!(edits.contains("fine again"), words, "what moderation covered stays covered: {edits}");
    }
}

#[tokio::test]
async fn what_is_shadowed_or_held_is_seen_by_its_author_alone() {
    let words = Arc::new(Words::default());
    let gate: Option<Arc<dyn Gatekeeper>> = Some(Arc::clone(&words) as _);
    let engine = MemoryEngine::new();
    let lab = Lab::with(engine.clone(), GatewayOptions::default(), ChatGatewayOptions::default(), gate).await;
    lab.channel("a", &["ann", "bob"]).await;
    let path = "channels/team/a/messages";
    lab.say("a", "ann", "shadow").await;
    let body = json!({ "id": "h1", "text": "hold", "custom": { "n": 1 } });
    let answer = lab.post(path, &user("ann"), body.clone()).await.good();
    assert_eq!((&answer["held"], &answer["message"]["sequence"]), (&json!(true), &json!(null)), "{answer}");
    assert_eq!(answer["message"]["custom"], json!({ "n": 1 }));
    assert_eq!(lab.post(path, &user("ann"), body.clone()).await.good()["held"], true, "a retry");
    assert_eq!(words.held.lock().expect("no panic")[0], "team:a h1 ann hold");

    let count = async |who: &str, path: &str, list: &str| {
        let page = lab.get(path, &user(who)).await.good();
        page[list].as_array().map(Vec::len)
    };
    let held = "channels/team/a/held";
    assert_eq!((count("ann", path, "messages").await, count("bob", path, "messages").await), (Some(1), Some(0)));
    assert_eq!((count("ann", held, "held").await, count("bob", held, "held").await), (Some(1), Some(0)));
    let all = lab.get(held, &server()).await.good();
    assert_eq!(all["held"][0]["text"], "hold", "servers see all that is held");
    assert_eq!(lab.get(held, &user("zoe")).await.denied(), "not-a-member");
    assert_eq!(lab.get(&format!("{path}/h1"), &user("ann")).await.refused().0, 404);
    let unread = lab.get("channels/team/a/unread", &user("bob")).await.good();
    assert_eq!(unread["unread"]["unread"], 0, "{unread}");

    let chat = Chat::new(engine, AppId(lab.app.id), ChatOptions::default());
    let channel = "team:a".parse().expect("a name");
    chat.release(&channel, "h1", |text| text == "hold", None).await.expect("released").expect("it was held");
    assert_eq!((count("bob", path, "messages").await, count("ann", held, "held").await), (Some(1), Some(0)));
    let answer = lab.post(path, &user("ann"), body).await.good();
    assert_eq!((&answer["held"], &answer["message"]["sequence"]), (&json!(null), &json!(2)), "a late retry");

    // An edit that is held.
    let edited = lab.patch(&format!("{path}/h1"), &user("ann"), json!({ "text": "hold" })).await.good();
    assert_eq!((&edited["held"], &edited["message"]["edit"]), (&json!(true), &json!(true)), "{edited}");
    assert_eq!(count("ann", held, "held").await, Some(1));
}

/// Who may not say something learns nothing of how it would be judged, and costs no judgement.
#[tokio::test]
async fn nobody_is_asked_about_what_may_not_be_said() {
    let words = Arc::new(Words::default());
    let gate: Option<Arc<dyn Gatekeeper>> = Some(Arc::clone(&words) as _);
    let lab = Lab::with(MemoryEngine::new(), GatewayOptions::default(), ChatGatewayOptions::default(), gate).await;
    lab.channel("a", &["ann", "bob"]).await;
    let path = "channels/team/a/messages";
    let said = lab.post(path, &user("ann"), json!({ "id": "m1", "text": "fine" })).await.good();
    assert_eq!(said["message"]["text"], "fine");
    lab.post("channels/team/a/polls", &user("ann"), json!({ "id": "p", "name": "fine", "options": [{ "text": "x" }] }))
        .await
        .good();
    lab.post(path, &user("bob"), json!({ "id": "b1", "text": "fine" })).await.good();
    let asked = || std::mem::take(&mut *words.asked.lock().expect("no panic"));
    assert_eq!(asked().len(), 3);
    let message = format!("{path}/m1");
    let zoe = user("zoe");
    assert_eq!(lab.post(path, &zoe, json!({ "text": "block" })).await.denied(), "not-a-member");
    assert_eq!(lab.post(path, &zoe, json!({ "id": "m1", "text": "block" })).await.denied(), "not-a-member");
    assert_eq!(lab.patch(&message, &zoe, json!({ "text": "block" })).await.denied(), "not-a-member");
    assert_eq!(lab.patch(&message, &user("bob"), json!({ "text": "block" })).await.denied(), "not-the-author");
    let place = json!({ "latitude": 1.0, "longitude": 1.0, "for_ms": 60_000, "text": "block" });
    assert_eq!(lab.post("channels/team/a/locations", &zoe, place).await.denied(), "not-a-member");
    let poll = json!({ "name": "block", "options": [{ "text": "x" }] });
    assert_eq!(lab.post("channels/team/a/polls", &zoe, poll).await.denied(), "not-a-member");
    assert_eq!(
        lab.patch("channels/team/a/polls/p", &user("bob"), json!({ "name": "block" })).await.denied(),
        "not-granted"
    );
    let suggestion = json!({ "id": "s", "text": "block" });
    assert_eq!(lab.post("channels/team/a/polls/p/options", &zoe, suggestion).await.denied(), "not-a-member");
    assert_eq!(lab.post("channels/team/a/commands", &zoe, json!({ "text": "/block" })).await.denied(), "not-a-member");
    lab.put("channels/team/a/bans/bob", &user("ann"), json!({})).await.good();
    assert_eq!(lab.post(path, &user("bob"), json!({ "text": "block" })).await.denied(), "banned");
    // Its own message is answered again, and no other text under its id.
    let again = lab.post(path, &user("bob"), json!({ "id": "b1", "text": "fine" })).await.good();
    assert_eq!(again["message"]["id"], "b1");
    assert_eq!(lab.post(path, &user("bob"), json!({ "id": "b1", "text": "block" })).await.denied(), "banned");
    assert_eq!(asked(), ["fine"], "only about what was said before");
}
