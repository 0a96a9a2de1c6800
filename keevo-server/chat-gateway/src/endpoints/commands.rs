//! Commands that users type, such as `/giphy cats`.

use keevo_chat::{Capability, ChannelId, CommandOutcome, NewMessage};
use serde_json::{Value, json};

use super::sending::{judge_beside, made_up};
use crate::call::Call;
use crate::error::Answered;
use crate::render;

/// What can be typed in channels of a type.
pub(crate) fn list(call: &Call) -> Answered<Value> {
    let kind = call.found.part("kind");
    ChannelId::new(kind, "x")?;
    let known = call.chats.trusted.commands();
    let commands: Vec<Value> = known
        .of(kind)
        .into_iter()
        .map(|one| json!({ "name": one.name, "description": one.description, "arguments": one.arguments }))
        .collect();
    Ok(json!({ "commands": commands }))
}

/// Runs a command. What the user typed is judged first, since the app's server may send it on under the user's name.
pub(crate) async fn run(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    let text = call.text("text").unwrap_or_default();
    let id = call.owned("id").unwrap_or_else(|| made_up(call));
    judge_beside(call, &channel, Capability::RunCommand, &format!("command/{id}"), &[text]).await?;
    let message = NewMessage {
        id: Some(id),
        user_id: call.user()?.to_owned(),
        text: text.to_owned(),
        parent_id: call.owned("parent_id"),
        ..NewMessage::default()
    };
    Ok(match call.chat().run_command(&channel, message).await? {
        CommandOutcome::Done => json!({ "outcome": "done", "text": null, "message": null }),
        CommandOutcome::Told(text) => json!({ "outcome": "told", "text": text, "message": null }),
        CommandOutcome::Sent(message) => {
            json!({ "outcome": "sent", "text": null, "message": render::message(&channel, &message, None) })
        }
    })
}
