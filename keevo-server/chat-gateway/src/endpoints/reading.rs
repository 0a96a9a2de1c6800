//! Read marks, unread counts, delivery receipts.

use futures::stream::{self, StreamExt, TryStreamExt};
use keevo_chat::{Capability, ChannelId, ReadState, ReadTo};
use serde_json::{Value, json};

use super::next;
use crate::call::Call;
use crate::error::{Answered, Refusal};
use crate::render;

const PAGE_MAX: usize = 1_000;
/// The most channels whose counts one call computes.
const COUNTED_MAX: usize = 100;
/// How many channels are counted at once.
const CONCURRENCY: usize = 8;

/// Up to where something is read: a number, a message, or all.
pub(super) fn read_to(call: &Call) -> Answered<ReadTo> {
    match (call.number("sequence"), call.owned("message_id")) {
        (Some(_), Some(_)) => Err(Refusal::field("message_id", "stands in place of sequence, not beside it")),
        (Some(sequence), None) => Ok(ReadTo::Sequence(sequence)),
        (None, Some(id)) => Ok(ReadTo::Message(id)),
        (None, None) => Ok(ReadTo::End),
    }
}

async fn counted(call: &Call, channel: &ChannelId, user: &str) -> Answered<(Value, u64, u64)> {
    let unread = call.chat().unread_state(channel, user).await?;
    let mentions = call.chat().unread_mentions(channel, user).await?;
    Ok((render::unread(channel, &unread, mentions), unread.unread, mentions))
}

async fn answer(call: &Call, channel: &ChannelId, read: &ReadState) -> Answered<Value> {
    let (unread, ..) = counted(call, channel, call.user()?).await?;
    Ok(json!({ "read": render::read(read), "unread": unread }))
}

pub(crate) async fn read(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::MarkRead).await?;
    let read = call.chat().mark_read(&channel, call.user()?, read_to(call)?).await?;
    answer(call, &channel, &read).await
}

pub(crate) async fn mark_unread(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::MarkRead).await?;
    let from = call.number("from_sequence").unwrap_or_default();
    let read = call.chat().mark_unread(&channel, call.user()?, from).await?;
    answer(call, &channel, &read).await
}

pub(crate) async fn unread(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    let (unread, ..) = counted(call, &channel, call.user()?).await?;
    Ok(json!({ "unread": unread }))
}

/// The counts of a user's channels, a page at a time.
pub(crate) async fn all_unread(call: &Call) -> Answered<Value> {
    let user = call.user()?;
    let limit = call.limit_or(COUNTED_MAX, COUNTED_MAX)?;
    let listed = call.chat().channels_of(user, call.channel_cursor()?.as_ref(), limit).await?;
    let next = next(&listed, limit, |last| last.channel.to_string());
    let counts = stream::iter(listed).map(|listing| async move {
        match counted(call, &listing.channel, user).await {
            Ok(counts) => Ok(Some(counts)),
            // It left in between, and the list has not followed yet.
            Err(refusal) if matches!(refusal.code(), 16 | 17) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    });
    let counts: Vec<Option<(Value, u64, u64)>> = counts.buffered(CONCURRENCY).try_collect().await?;
    let (mut channels, mut unread, mut mentions) = (Vec::new(), 0_u64, 0_u64);
    for (channel, one, mentioned) in counts.into_iter().flatten() {
        channels.push(channel);
        unread = unread.saturating_add(one);
        mentions = mentions.saturating_add(mentioned);
    }
    Ok(json!({ "channels": channels, "unread": unread, "mentions": mentions, "next": next }))
}

pub(crate) async fn reads(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let limit = call.limit(PAGE_MAX)?;
    let found = call.chat().reads(&channel, call.cursor(), limit).await?;
    let next = next(&found, limit, |last| last.user_id.clone());
    Ok(json!({ "reads": found.iter().map(render::read).collect::<Vec<_>>(), "next": next }))
}

pub(crate) async fn delivered(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    let up_to = call.number("sequence").unwrap_or_default();
    let receipt = call.chat().mark_delivered(&channel, call.user()?, up_to).await?;
    Ok(json!({ "receipt": render::receipt(&receipt) }))
}

pub(crate) async fn receipts(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let limit = call.limit(PAGE_MAX)?;
    let found = call.chat().receipts(&channel, call.cursor(), limit).await?;
    let next = next(&found, limit, |last| last.user_id.clone());
    Ok(json!({ "receipts": found.iter().map(render::receipt).collect::<Vec<_>>(), "next": next }))
}
