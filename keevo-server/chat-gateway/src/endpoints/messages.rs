//! Messages: sending, reading, changing and taking back.

use keevo_chat::{Audience, Capability, ChannelId, Edit, HistoryPage, HistoryRequest, Message, MessagesQuery, Order};
use serde_json::{Value, json};

use super::held;
use super::sending::{self, Sent, attachments, mentions};
use crate::call::{Call, Caller};
use crate::error::{Answered, Refusal, of_query};
use crate::gate::Passed;
use crate::hooks::{self, Saying};
use crate::render;

const PAGE_MAX: usize = 300;
const LIST_MAX: usize = 1_000;
/// Who edits what is masked.
const MODERATION: &str = "moderation";

/// Messages as objects, with the viewer's own reactions where counts are there.
pub(crate) async fn rendered(call: &Call, channel: &ChannelId, messages: &[Message]) -> Answered<Vec<Value>> {
    let own = match call.viewer() {
        Some(user) => Some(call.chats.trusted.own_reactions(channel, messages, user).await?),
        None => None,
    };
    let one = |(number, message): (usize, &Message)| {
        let own = own.as_ref().and_then(|own| own.get(number)).filter(|_| message.stats.is_some());
        let mut rendered = render::message(channel, message, own.map(Vec::as_slice));
        if call.is_server()
            && message.audience == Audience::Sender
            && let Some(shadowed) = rendered.get_mut("shadowed")
        {
            *shadowed = true.into();
        }
        rendered
    };
    Ok(messages.iter().enumerate().map(one).collect())
}

/// The answer of a write: the message without counts.
pub(super) fn written(channel: &ChannelId, message: &Message) -> Value {
    json!({ "message": render::message(channel, message, None) })
}

pub(crate) async fn send(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    match sending::judged(call, &channel, sending::message(call)?).await? {
        Sent::Not(answer) => Ok(answer),
        Sent::Goes(new) => Ok(written(&channel, &call.chat().send(&channel, *new).await?)),
    }
}

/// Which page of a history a request asks for.
pub(super) fn request(call: &Call) -> Answered<HistoryRequest> {
    let before = call.query.parsed("before", "a number")?;
    let after = call.query.parsed("after", "a number")?;
    let order = match call.query.get("order") {
        None if after.is_some() && before.is_none() => Order::OldestFirst,
        None | Some("newest") => Order::NewestFirst,
        Some("oldest") => Order::OldestFirst,
        Some(_) => return Err(Refusal::field("order", "is newest or oldest")),
    };
    Ok(HistoryRequest { before, after, limit: call.limit(PAGE_MAX)?, order })
}

/// A page as the caller sees it.
pub(super) async fn page(call: &Call, channel: &ChannelId, page: HistoryPage) -> Answered<Value> {
    let next = page.next;
    let messages = match call.viewer() {
        Some(user) => page.visible_to(user).messages,
        None => page.messages,
    };
    Ok(json!({ "messages": rendered(call, channel, &messages).await?, "next": next }))
}

pub(crate) async fn history(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let found = call.chat().history(&channel, request(call)?).await?;
    page(call, &channel, found).await
}

pub(crate) async fn query(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let asked = MessagesQuery { query: call.asked(), viewer: call.viewer().map(str::to_owned) };
    let found = call.chat().query_messages(&channel, &asked).await.map_err(of_query)?;
    Ok(json!({ "messages": rendered(call, &channel, &found.items).await?, "next": found.next }))
}

/// The message that the path names, if the caller sees it.
pub(super) async fn visible(call: &Call, channel: &ChannelId) -> Answered<Message> {
    let message = call.chat().message(channel, call.message()).await?;
    if let Caller::User(user) = &call.caller
        && !message.is_visible_to(user)
    {
        let detail = format!("message '{}' does not exist in the channel", call.message());
        return Err(keevo_gateway::shared::ApiError::not_found(detail).into());
    }
    Ok(message)
}

pub(crate) async fn get(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let message = visible(call, &channel).await?;
    let mut all = rendered(call, &channel, &[message]).await?;
    Ok(json!({ "message": all.pop() }))
}

pub(crate) async fn edit(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    let id = call.message();
    let attachments = if call.body.contains_key("attachments") { Some(attachments(call)?) } else { None };
    let mut edit = Edit {
        user_id: call.user()?.to_owned(),
        text: call.owned("text"),
        custom: call.object("custom"),
        attachments,
        mentions: mentions(call)?,
        patch: call.patch(),
    };
    call.chat().check_editor(&channel, id, &edit).await?;
    hooks::ask(call, &channel, Saying::Edit(id, &mut edit)).await?;
    if let (Some(gate), Some(text)) = (&call.gateway.gate, &edit.text)
        && !text.is_empty()
    {
        match gate.pass(call.app.id, &channel, id, &edit.user_id, text).await.map_err(sending::refused)? {
            Passed::Through => {}
            Passed::Masked(text) => edit.text = Some(text),
            Passed::Held => return held::edit(call, gate.as_ref(), &channel, edit).await,
            // Who reads the message still reads what it said before.
            Passed::Shadowed => return get(call).await,
        }
    }
    Ok(written(&channel, &call.chat().edit(&channel, id, edit).await?))
}

pub(crate) async fn delete(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let deleted = if call.query.flag("erase")? {
        call.chat().erase(&channel, call.message(), user).await?
    } else {
        call.chat().delete(&channel, call.message(), user).await?
    };
    Ok(written(&channel, &deleted))
}

pub(crate) async fn undelete(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    Ok(written(&channel, &call.chat().undelete(&channel, call.message(), user).await?))
}

pub(crate) async fn edits(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let message = visible(call, &channel).await?;
    // What was taken back is not read in its edits either.
    let hidden = message.deleted_at_ms.is_some() && !call.is_server();
    let mut edits = if hidden { Vec::new() } else { call.chat().edits(&channel, call.message()).await? };
    // Nor what was masked or held back after it had been sent.
    edits.retain(|edit| edit.replaced_by != MODERATION || call.is_server());
    Ok(json!({ "edits": edits.iter().map(render::previous).collect::<Vec<_>>() }))
}

pub(crate) async fn pin(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let (pinned, until) = (call.truth("pinned"), call.number("until"));
    Ok(written(&channel, &call.chat().pin(&channel, call.message(), user, pinned, until).await?))
}

pub(crate) async fn pinned(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let mut messages = call.chat().pinned(&channel, call.limit(LIST_MAX)?).await?;
    messages.retain(|message| call.viewer().is_none_or(|user| message.is_visible_to(user)));
    Ok(json!({ "messages": rendered(call, &channel, &messages).await? }))
}
