//! Commands that an app's server carries out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_chat::{CommandCall, CommandHandler, CommandInfo, CommandReply, Commands, NewMessage};
use keevo_core::{Error, Result};
use keevo_gateway::Gateway;
use keevo_gateway::apps::{App, ChatCommand};
use keevo_gateway::shared::Outgoing;
use serde_json::{Value, json};

use crate::endpoints::sending::mentions_of;
use crate::error::Refusal;
use crate::field::{Field, Kind, check, check_object, may};

/// How long a command may take.
const WITHIN: Duration = Duration::from_secs(3);
const ANSWER: &[Field] = &[may("tell", Kind::Text), may("send", Kind::Object)];
const MESSAGE: &[Field] = &[
    may("text", Kind::Text),
    may("custom", Kind::Object),
    may("attachments", Kind::Objects),
    may("mentions", Kind::Object),
    may("silent", Kind::Truth),
];

/// A command's address.
struct Hook {
    gateway: Gateway,
    app: u32,
    api_key: String,
    command: ChatCommand,
}

/// The commands of an app, as chat takes them.
pub(crate) fn commands(gateway: &Gateway, app: &App) -> Result<Commands> {
    let mut commands = Commands::default().taking_at_most(WITHIN);
    for (name, command) in &app.chat.commands {
        let info = CommandInfo {
            name: name.clone(),
            description: command.description.clone(),
            arguments: command.arguments.clone(),
        };
        let handler: Arc<dyn CommandHandler> = Arc::new(Hook {
            gateway: gateway.clone(),
            app: app.id,
            api_key: app.keys.first().map(|one| one.key.clone()).unwrap_or_default(),
            command: command.clone(),
        });
        if command.types.is_empty() {
            commands = commands.with(None, info.clone(), Arc::clone(&handler))?;
        }
        for kind in &command.types {
            commands = commands.with(Some(kind), info.clone(), Arc::clone(&handler))?;
        }
    }
    Ok(commands)
}

impl CommandHandler for Hook {
    fn run(&self, call: CommandCall) -> BoxFuture<'static, Result<CommandReply>> {
        let (gateway, command, api_key) = (self.gateway.clone(), self.command.clone(), self.api_key.clone());
        let id = format!("{:032x}", gateway.options().random.next_u128());
        let body = json!({
            "type": "command",
            "id": id,
            "app_id": self.app,
            "cid": call.channel.as_str(),
            "user_id": call.user_id,
            "name": call.name,
            "arguments": call.arguments,
            "parent_id": call.parent_id,
            "at": gateway.now_ms(),
        });
        async move {
            let outgoing = Outgoing {
                url: &command.url,
                secret: &command.secret,
                api_key: &api_key,
                id: &id,
                attempt: 1,
                within: WITHIN,
                body: body.to_string().into(),
            };
            let answer = gateway.post(outgoing).await;
            answer.and_then(|answer| read(&answer)).map_err(|error| failed(&call.name, &error))
        }
        .boxed()
    }
}

/// The user is told that the command failed, and no more: what the app's server says of itself is for the log.
fn failed(name: &str, error: &Error) -> Error {
    tracing::warn!(command = name, %error, "a command failed");
    Error::new(keevo_core::ErrorKind::Unavailable, format!("the command '/{name}' could not be carried out"))
}

fn read(answer: &Bytes) -> Result<CommandReply> {
    let bad = |refusal: Refusal| Error::invalid(format!("its answer is malformed: {}", refusal.detail()));
    let answer = check(answer, ANSWER).map_err(bad)?;
    if let Some(text) = answer.get("tell").and_then(Value::as_str) {
        return Ok(CommandReply::Tell(text.to_owned()));
    }
    let Some(Value::Object(message)) = answer.get("send") else { return Ok(CommandReply::Nothing) };
    check_object(message, MESSAGE).map_err(bad)?;
    let mentions = message.get("mentions").and_then(Value::as_object).map(mentions_of).transpose().map_err(bad)?;
    let attachments = message.get("attachments").and_then(Value::as_array).into_iter().flatten();
    Ok(CommandReply::Send(Box::new(NewMessage {
        text: message.get("text").and_then(Value::as_str).unwrap_or_default().to_owned(),
        custom: message.get("custom").filter(|custom| custom.is_object()).map(Value::to_string),
        attachments: attachments.map(Value::to_string).collect(),
        mentions: mentions.unwrap_or_default(),
        silent: message.get("silent").and_then(Value::as_bool).unwrap_or(false),
        ..NewMessage::default()
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tell_send_or_say_nothing() {
        let said = |text: &str| read(&Bytes::copy_from_slice(text.as_bytes()));
        assert_eq!(said("{}").expect("read"), CommandReply::Nothing);
        assert_eq!(said(r#"{"tell": "done"}"#).expect("read"), CommandReply::Tell("done".to_owned()));
        let CommandReply::Send(message) =
            said(r#"{"send": {"text": "x", "mentions": {"users": ["bob"]}}}"#).expect("read")
        else {
            panic!("a message")
        };
        assert_eq!((message.text.as_str(), message.mentions.users.len()), ("x", 1));
        for bad in ["7", r#"{"send": {"user_id": "bob"}}"#, r#"{"send": "x"}"#, "{"] {
            assert!(said(bad).is_err(), "{bad}");
        }
    }
}
