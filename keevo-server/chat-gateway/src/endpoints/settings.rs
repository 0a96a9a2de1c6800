//! What the app says of its chat: hooks, commands, and how long messages are kept. For servers.
//!
//! Invariant: a secret goes in and never comes out.

use std::collections::BTreeSet;

use keevo_core::{Error, Result};
use keevo_gateway::apps::{
    App, BEFORE_SEND_MS, BeforeSend, ChatCommand, ChatHook, ChatRetention, ChatSettings, OnFailure, Secret,
};
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::error::{Answered, Refusal};
use crate::hooks;

/// How long the hook before messages may take, where nothing is said, in milliseconds.
const TIMEOUT_MS_DEFAULT: u64 = 1_000;

fn answer(settings: &ChatSettings) -> Value {
    let before_send = settings.before_send.as_ref().map(|before| {
        json!({
            "url": before.url, "timeout_ms": before.timeout_ms, "on_failure": before.on_failure, "types": before.types,
        })
    });
    let hooks: Map<String, Value> = settings
        .hooks
        .iter()
        .map(|(name, hook)| (name.clone(), json!({ "url": hook.url, "events": hook.events })))
        .collect();
    let command = |one: &ChatCommand| json!({ "url": one.url, "description": one.description, "arguments": one.arguments, "types": one.types });
    let commands: Map<String, Value> =
        settings.commands.iter().map(|(name, one)| (name.clone(), command(one))).collect();
    json!({ "settings": {
        "before_send": before_send, "hooks": hooks, "commands": commands, "retention": settings.retention,
    } })
}

/// The name that the path has.
fn name(call: &Call) -> String {
    call.found.part("name").to_owned()
}

fn texts(call: &Call, name: &str) -> BTreeSet<String> {
    let list = call.body.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn url_and_secret(call: &Call) -> (String, Secret) {
    (call.owned("url").unwrap_or_default(), Secret::new(call.owned("secret").unwrap_or_default()))
}

async fn change(call: &Call, change: impl Fn(&mut App) -> Result<()> + Send + Sync) -> Answered<Value> {
    let app = call.gateway.shared.apps().change(call.app.id, change).await?;
    Ok(answer(&app.chat))
}

pub(crate) async fn get(call: &Call) -> Answered<Value> {
    // What was changed at another node a moment ago is read too.
    change(call, |_| Ok(())).await
}

pub(crate) async fn put_before_send(call: &Call) -> Answered<Value> {
    let (url, secret) = url_and_secret(call);
    let on_failure = match call.text("on_failure") {
        None | Some("send") => OnFailure::Send,
        Some("refuse") => OnFailure::Refuse,
        Some(_) => return Err(Refusal::field("on_failure", "is send or refuse")),
    };
    let timeout_ms = call.number("timeout_ms").unwrap_or(TIMEOUT_MS_DEFAULT);
    if !BEFORE_SEND_MS.contains(&timeout_ms) {
        let problem = format!("is {} to {}", BEFORE_SEND_MS.start(), BEFORE_SEND_MS.end());
        return Err(Refusal::field("timeout_ms", problem));
    }
    let before = BeforeSend { url, secret, timeout_ms, on_failure, types: texts(call, "types") };
    change(call, |app| {
        app.chat.before_send = Some(before.clone());
        Ok(())
    })
    .await
}

pub(crate) async fn delete_before_send(call: &Call) -> Answered<Value> {
    change(call, |app| {
        app.chat.before_send = None;
        Ok(())
    })
    .await
}

pub(crate) async fn put_hook(call: &Call) -> Answered<Value> {
    let (url, secret) = url_and_secret(call);
    let (name, hook) = (name(call), ChatHook { url, secret, events: texts(call, "events") });
    if let Some(unknown) = hook.events.iter().find(|event| !hooks::EVENTS.contains(&event.as_str())) {
        let known = hooks::EVENTS.join(", ");
        return Err(Refusal::field("events", format!("there is no event {unknown:?}: use some of {known}")));
    }
    change(call, |app| {
        app.chat.hooks.insert(name.clone(), hook.clone());
        Ok(())
    })
    .await
}

pub(crate) async fn delete_hook(call: &Call) -> Answered<Value> {
    let name = name(call);
    let answer = change(call, |app| {
        app.chat.hooks.remove(&name);
        Ok(())
    })
    .await?;
    hooks::forget(call.gateway.shared.engine(), call.app.id, &name).await?;
    Ok(answer)
}

pub(crate) async fn put_command(call: &Call) -> Answered<Value> {
    let (url, secret) = url_and_secret(call);
    let command = ChatCommand {
        url,
        secret,
        description: call.owned("description").unwrap_or_default(),
        arguments: call.owned("arguments").unwrap_or_default(),
        types: texts(call, "types"),
    };
    let name = name(call);
    change(call, |app| {
        app.chat.commands.insert(name.clone(), command.clone());
        // Its name has to be one that can be typed.
        hooks::commands(&call.gateway.shared, app).map(drop)
    })
    .await
}

pub(crate) async fn delete_command(call: &Call) -> Answered<Value> {
    let name = name(call);
    change(call, |app| {
        app.chat.commands.remove(&name);
        Ok(())
    })
    .await
}

pub(crate) async fn put_retention(call: &Call) -> Answered<Value> {
    let age_ms_max = call.number("age_ms_max").unwrap_or_default();
    let keep_pinned = call.body.get("keep_pinned").and_then(Value::as_bool).unwrap_or(true);
    let kind = name(call);
    if age_ms_max == 0 {
        return Err(Refusal::field("age_ms_max", "is 1 or more; delete the retention to keep messages for good"));
    }
    call.chats.trusted.channel_types().of(&kind)?;
    change(call, |app| {
        app.chat.retention.insert(kind.clone(), ChatRetention { age_ms_max, keep_pinned });
        Ok::<(), Error>(())
    })
    .await
}

pub(crate) async fn delete_retention(call: &Call) -> Answered<Value> {
    let kind = name(call);
    change(call, |app| {
        app.chat.retention.remove(&kind);
        Ok(())
    })
    .await
}
