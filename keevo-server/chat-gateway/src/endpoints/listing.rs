//! What is a user's own: its inbox, what it wants of channels, whom it muted or blocked.

use keevo_chat::Preference;
use serde_json::{Value, json};

use super::{next, nothing};
use crate::call::Call;
use crate::error::{Answered, Refusal};
use crate::render;

const INBOX_MAX: usize = 300;
const LIST_MAX: usize = 1_000;

pub(crate) async fn inbox(call: &Call) -> Answered<Value> {
    let limit = call.limit(INBOX_MAX)?;
    let found = call.chat().inbox(call.user()?, call.channel_cursor()?.as_ref(), limit).await?;
    let next = next(&found, limit, |last| last.listing.channel.to_string());
    Ok(json!({ "entries": found.iter().map(render::inbox).collect::<Vec<_>>(), "next": next }))
}

pub(crate) async fn prefer(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let truth = |name: &str| call.body.get(name).and_then(Value::as_bool);
    let asked: Vec<Preference> = [
        truth("hidden").map(Preference::Hidden),
        truth("archived").map(Preference::Archived),
        truth("pinned").map(Preference::Pinned),
        truth("muted").map(Preference::Muted),
        call.number("muted_for_ms").map(Preference::MutedFor),
    ]
    .into_iter()
    .flatten()
    .collect();
    let [one] = asked.as_slice() else {
        return Err(Refusal::input("one of hidden, archived, pinned, muted and muted_for_ms is changed at a time"));
    };
    call.chat().set_preference(&channel, user, *one).await?;
    Ok(nothing())
}

pub(crate) async fn mutes(call: &Call) -> Answered<Value> {
    let limit = call.limit(LIST_MAX)?;
    let found = call.chat().mutes_of(call.user()?, call.cursor(), limit).await?;
    let next = next(&found, limit, |last| last.user_id.clone());
    Ok(json!({ "users": found.iter().map(render::against).collect::<Vec<_>>(), "next": next }))
}

pub(crate) async fn mute(call: &Call) -> Answered<Value> {
    call.chat().mute_user(call.user()?, call.found.part("user"), call.number("for_ms")).await?;
    Ok(nothing())
}

pub(crate) async fn unmute(call: &Call) -> Answered<Value> {
    Ok(json!({ "removed": call.chat().unmute_user(call.user()?, call.found.part("user")).await? }))
}

pub(crate) async fn blocks(call: &Call) -> Answered<Value> {
    let limit = call.limit(LIST_MAX)?;
    let found = call.chat().blocks_of(call.user()?, call.cursor(), limit).await?;
    let next = next(&found, limit, |last| last.user_id.clone());
    Ok(json!({ "users": found.iter().map(render::against).collect::<Vec<_>>(), "next": next }))
}

pub(crate) async fn block(call: &Call) -> Answered<Value> {
    call.chat().block_user(call.user()?, call.found.part("user")).await?;
    Ok(nothing())
}

pub(crate) async fn unblock(call: &Call) -> Answered<Value> {
    Ok(json!({ "removed": call.chat().unblock_user(call.user()?, call.found.part("user")).await? }))
}
