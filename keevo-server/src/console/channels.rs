//! The channels inspector: the channels of an app, their members, their messages and threads.

use axum::extract::State;
use futures::stream::{self, StreamExt};
use keevo_chat::{AppId, Audience, Channel, ChannelId, Chat, ChatOptions, HistoryRequest, Member, Message, Place};
use keevo_core::{ErrorKind, Result};
use keevo_raft::ClusterEngine;
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Caller;
use super::reply::{Answer, Asked, Reply};
use super::{Console, feeds, page_size};
use crate::auth::grant::{Action, Target};

/// How many channels are read at once.
const AT_ONCE: usize = 8;

/// The chat of an app, for a caller that may read all of it.
pub(super) async fn chat(console: &Console, caller: &Caller, app: u32) -> Result<Chat<ClusterEngine>> {
    caller.may(Action::Read, Target::Chat(app))?;
    feeds::known(console, app).await?;
    Ok(Chat::new(console.parts().engine.clone(), AppId(app), ChatOptions::default()))
}

/// Data of an application's own, which is stored as text.
fn custom(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelsOf {
    app: u32,
    /// Only channels of this type.
    kind: Option<String>,
    /// The last channel of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

/// A page of an app's channels, in the order of the directory, each with its newest message.
pub(super) async fn list(State(console): State<Console>, caller: Caller, Asked(asked): Asked<ChannelsOf>) -> Answer {
    let limit = page_size(asked.limit)?;
    let chat = chat(&console, &caller, asked.app).await?;
    let after = asked.after.as_deref().map(str::parse::<ChannelId>).transpose()?;
    let kind = asked.kind.as_deref().filter(|kind| !kind.is_empty());
    let ids = chat.all_channels(kind, after.as_ref(), limit).await?;
    let next = ids.last().filter(|_| ids.len() == limit).map(|id| id.as_str().to_owned());
    let chat = &chat;
    let found = stream::iter(ids.into_iter().map(|id| async move { described(chat, &id).await })).buffered(AT_ONCE);
    let rows: Vec<Result<Option<Value>>> = found.collect().await;
    let rows: Vec<Value> = rows.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
    Ok(Reply(json!({ "channels": rows, "next": next })))
}

/// A channel with its newest message; `None` for an entry of the directory that has no channel.
async fn described(chat: &Chat<ClusterEngine>, id: &ChannelId) -> Result<Option<Value>> {
    let channel = match chat.channel(id).await {
        Ok(channel) => channel,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let newest = chat.history(id, HistoryRequest::newest(1)).await?;
    let mut row = rendered(&channel);
    if let (Some(map), Some(last)) = (row.as_object_mut(), newest.messages.first()) {
        map.insert("last".to_owned(), message(last));
    }
    Ok(Some(row))
}

fn rendered(channel: &Channel) -> Value {
    json!({
        "cid": channel.id.as_str(),
        "created_by": channel.created_by,
        "created_ms": channel.created_at_ms,
        "team": channel.team,
        "distinct": !channel.distinct.is_empty(),
        "frozen": channel.frozen_at_ms.is_some(),
        "disabled": channel.disabled_at_ms.is_some(),
        "custom": custom(channel.custom.as_deref()),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessagesOf {
    app: u32,
    channel: String,
    /// The message whose thread is read, instead of the channel itself.
    thread: Option<String>,
    /// Only messages with a lower number.
    before: Option<u64>,
    limit: Option<usize>,
}

/// A page of a channel's messages, or of a thread's, newest first.
pub(super) async fn messages(
    State(console): State<Console>,
    caller: Caller,
    Asked(asked): Asked<MessagesOf>,
) -> Answer {
    let limit = page_size(asked.limit)?;
    let chat = chat(&console, &caller, asked.app).await?;
    let id: ChannelId = asked.channel.parse()?;
    let channel = chat.channel(&id).await?;
    let newest = HistoryRequest::newest(limit);
    let request = asked.before.map_or(newest, |before| newest.before(before));
    let page = match asked.thread.as_deref() {
        None => chat.history(&id, request).await?,
        Some(parent) => chat.thread(&id, parent, request).await?,
    };
    Ok(Reply(json!({
        "channel": rendered(&channel),
        "messages": page.messages.iter().map(message).collect::<Vec<_>>(),
        "next": page.next,
    })))
}

fn message(one: &Message) -> Value {
    let number = match one.place {
        Place::Channel(number) => number,
        Place::Thread { reply, .. } => reply,
    };
    let stats = one.stats.clone().unwrap_or_default();
    json!({
        "id": one.id,
        "number": number,
        "parent_id": one.parent_id,
        "user_id": one.user_id,
        "text": one.text,
        "at_ms": one.created_at_ms,
        "edited_ms": one.updated_at_ms,
        "deleted_ms": one.deleted_at_ms,
        "pinned": one.pinned.is_some(),
        "system": one.system,
        "silent": one.silent,
        "shadowed": one.audience == Audience::Sender,
        "attachments": one.attachments.len(),
        "replies": stats.reply_count,
        "reactions": stats.reactions,
        "custom": custom(one.custom.as_deref()),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MembersOf {
    app: u32,
    channel: String,
    /// The last user of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

/// A page of a channel's members, by user.
pub(super) async fn members(State(console): State<Console>, caller: Caller, Asked(asked): Asked<MembersOf>) -> Answer {
    let limit = page_size(asked.limit)?;
    let chat = chat(&console, &caller, asked.app).await?;
    let id: ChannelId = asked.channel.parse()?;
    let found = chat.members(&id, asked.after.as_deref(), limit).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| last.user_id.clone());
    let row = |one: &Member| json!({ "user_id": one.user_id, "role": one.role, "joined_ms": one.joined_at_ms });
    Ok(Reply(json!({ "members": found.iter().map(row).collect::<Vec<_>>(), "next": next })))
}
