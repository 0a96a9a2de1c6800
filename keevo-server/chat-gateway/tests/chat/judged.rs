//! Texts that are judged before they are sent.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_chat::ChannelId;
use keevo_chat_gateway::{ChatGatewayOptions, Gatekeeper, Passed};
use keevo_core::{Error, ErrorKind, MemoryEngine, Result};
use keevo_gateway::GatewayOptions;
use serde_json::json;

use super::support::{Lab, user};

/// Judges by words.
pub(crate) struct Words;

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
        let passed = match text {
            "mask" => Ok(Passed::Masked("****".to_owned())),
            "shadow" => Ok(Passed::Shadowed),
            "block" => Err(Error::new(ErrorKind::PermissionDenied, "moderation refused the message")),
            "bounce" => Err(Error::invalid("moderation refused the message; put it otherwise")),
            "late" => Err(Error::new(ErrorKind::Unavailable, "the message could not be judged in time")),
            _ => Ok(Passed::Through),
        };
        futures::future::ready(passed).boxed()
    }
}

#[tokio::test]
async fn texts_go_the_way_that_they_are_judged() {
    let gate: Option<Arc<dyn Gatekeeper>> = Some(Arc::new(Words));
    let lab = Lab::with(MemoryEngine::new(), GatewayOptions::default(), ChatGatewayOptions::default(), gate).await;
    lab.channel("a", &["ann"]).await;
    assert_eq!(lab.say("a", "ann", "fine").await["text"], "fine");
    let masked = lab.say("a", "ann", "mask").await;
    assert_eq!(masked["text"], "****");
    let shadowed = lab.say("a", "ann", "shadow").await;
    assert_eq!((&shadowed["text"], &shadowed["sequence"]), (&json!("shadow"), &json!(null)), "it looks sent");
    let path = "channels/team/a/messages";
    let ann = user("ann");
    let say = |text: &str| lab.post(path, &ann, json!({ "text": text }));
    assert_eq!(say("block").await.denied(), "refused");
    assert_eq!(say("bounce").await.refused(), (400, 4));
    assert_eq!(say("late").await.refused(), (503, -1));
    let page = lab.get(path, &user("ann")).await.good();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(2), "what was refused is not there");
    let edit = |text: &str| {
        let path = format!("{path}/{}", masked["id"].as_str().expect("an id"));
        let body = json!({ "text": text });
        let lab = &lab;
        async move { lab.patch(&path, &user("ann"), body).await }
    };
    assert_eq!(edit("block").await.denied(), "refused");
    assert_eq!(edit("shadow").await.good()["message"]["text"], "****", "as it was");
    assert_eq!(edit("fine again").await.good()["message"]["text"], "fine again");
}
