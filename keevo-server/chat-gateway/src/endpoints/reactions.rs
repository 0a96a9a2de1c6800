//! Reactions on messages.

use keevo_chat::{Capability, ChannelId, NewReaction};
use serde_json::{Value, json};

use super::messages::{rendered, visible};
use crate::call::Call;
use crate::error::Answered;
use crate::render;

const LIST_MAX: usize = 1_000;

/// Whether something changed, and the message with its counts.
async fn answer(call: &Call, channel: &ChannelId, changed: bool) -> Answered<Value> {
    let message = call.chat().message(channel, call.message()).await?;
    let mut all = rendered(call, channel, &[message]).await?;
    Ok(json!({ "changed": changed, "message": all.pop() }))
}

pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    visible(call, &channel).await?;
    let found = call.chat().reactions(&channel, call.message(), call.limit_or(100, LIST_MAX)?).await?;
    Ok(json!({ "reactions": found.iter().map(render::reaction).collect::<Vec<_>>() }))
}

pub(crate) async fn add(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    let reaction = NewReaction {
        user_id: call.user()?.to_owned(),
        kind: call.owned("type").unwrap_or_default(),
        custom: call.object("custom"),
        score: call.body.get("score").and_then(Value::as_i64),
        unique: call.truth("unique"),
    };
    call.may(&channel, Capability::React).await?;
    visible(call, &channel).await?;
    let changed = call.chat().react(&channel, call.message(), reaction).await?;
    answer(call, &channel, changed).await
}

pub(crate) async fn remove(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    call.may(&channel, Capability::ReadChannel).await?;
    visible(call, &channel).await?;
    let changed = call.chat().unreact(&channel, call.message(), user, call.found.part("reaction")).await?;
    answer(call, &channel, changed).await
}
