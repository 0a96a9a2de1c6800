//! Threads: replies, who takes part, and what of them is unread.

use keevo_chat::{Capability, ChannelId, Message, ThreadUnread};
use serde_json::{Value, json};

use super::messages::{page, rendered, request, visible};
use super::{nothing, reading};
use crate::call::Call;
use crate::error::Answered;
use crate::render;

const LIST_MAX: usize = 1_000;
const THREADS_MAX: usize = 100;

pub(crate) async fn replies(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    visible(call, &channel).await?;
    let found = call.chat().thread(&channel, call.message(), request(call)?).await?;
    page(call, &channel, found).await
}

pub(crate) async fn participants(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    visible(call, &channel).await?;
    let found = call.chat().participants(&channel, call.message(), call.limit(LIST_MAX)?).await?;
    let participants: Vec<Value> =
        found.iter().map(|one| json!({ "user_id": one.user_id, "replies": one.replies })).collect();
    Ok(json!({ "participants": participants }))
}

async fn answer(call: &Call, channel: &ChannelId, thread: &ThreadUnread) -> Answered<Value> {
    let mentions = call.chat().unread_thread_mentions(channel, &thread.parent_id, call.user()?).await?;
    Ok(json!({ "thread": render::thread_unread(thread, mentions) }))
}

pub(crate) async fn state(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let thread = call.chat().thread_unread(&channel, call.message(), call.user()?).await?;
    answer(call, &channel, &thread).await
}

pub(crate) async fn read(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::MarkRead).await?;
    let to = reading::read_to(call)?;
    let thread = call.chat().mark_thread_read(&channel, call.message(), call.user()?, to).await?;
    answer(call, &channel, &thread).await
}

pub(crate) async fn unread(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::MarkRead).await?;
    let from = call.number("from_sequence").unwrap_or_default();
    let thread = call.chat().mark_thread_unread(&channel, call.message(), call.user()?, from).await?;
    answer(call, &channel, &thread).await
}

pub(crate) async fn follow(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.chat().follow_thread(&channel, call.message(), call.user()?, call.truth("follow")).await?;
    Ok(nothing())
}

pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let limit = call.limit(THREADS_MAX)?;
    let before = call.query.parsed("cursor", "a cursor of a page of threads")?;
    call.may(&channel, Capability::ReadChannel).await?;
    // A user without threads that is no member is told so too.
    call.chat().member(&channel, user).await?;
    let found = call.chat().threads(&channel, user, before, limit).await?;
    let next = super::next(&found, limit, |last| last.parent.place.number().to_string());
    let parents: Vec<Message> = found.iter().map(|thread| thread.parent.clone()).collect();
    let parents = rendered(call, &channel, &parents).await?;
    let one = |(parent, thread): (Value, &keevo_chat::Thread)| {
        json!({
            "parent": parent,
            "unread": thread.unread.unread,
            "read_sequence": thread.unread.read_sequence,
            "last_sequence": thread.unread.last_sequence,
        })
    };
    let threads: Vec<Value> = parents.into_iter().zip(&found).map(one).collect();
    Ok(json!({ "threads": threads, "next": next }))
}
