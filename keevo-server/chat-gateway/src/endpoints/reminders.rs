//! Reminders of messages.

use keevo_chat::{Capability, ChannelId};
use serde_json::{Value, json};

use super::messages::visible;
use super::next;
use crate::call::{Call, cursor_of};
use crate::error::{Answered, Refusal};
use crate::render;

const LIST_MAX: usize = 300;

pub(crate) async fn set(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    call.may(&channel, Capability::ReadChannel).await?;
    visible(call, &channel).await?;
    let reminder = call.chat().set_reminder(&channel, call.message(), user, call.number("remind_at")).await?;
    Ok(json!({ "reminder": render::reminder(&reminder) }))
}

pub(crate) async fn delete(call: &Call) -> Answered<Value> {
    let removed = call.chat().delete_reminder(&call.channel()?, call.message(), call.user()?).await?;
    Ok(json!({ "removed": removed }))
}

pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let limit = call.limit(LIST_MAX)?;
    let bad = || Refusal::field("cursor", "is none that a page gave");
    let names = call.names_cursor()?;
    let after: Option<(ChannelId, &str)> = match names.as_deref() {
        None => None,
        Some([channel, message]) => Some((channel.parse().map_err(|_no_channel| bad())?, message)),
        Some(_) => return Err(bad()),
    };
    let after = after.as_ref().map(|(channel, message)| (channel, *message));
    let found = call.chat().reminders_of(call.user()?, after, limit).await?;
    let next = next(&found, limit, |last| cursor_of(&[last.channel.as_str(), &last.message_id]));
    Ok(json!({ "reminders": found.iter().map(render::reminder).collect::<Vec<_>>(), "next": next }))
}
