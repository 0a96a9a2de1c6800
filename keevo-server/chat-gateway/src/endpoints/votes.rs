//! Voting in polls.

use keevo_chat::{Ballot, Capability, ChannelId};
use serde_json::{Value, json};

use super::next;
use super::polls::{answer, named};
use super::sending::judge_poll;
use crate::call::Call;
use crate::error::Answered;
use crate::render;

const PAGE_MAX: usize = 1_000;

/// What the user votes now, and the poll with its counts.
async fn voted(call: &Call, channel: &ChannelId, ballot: &Ballot) -> Answered<Value> {
    let poll = call.chat().poll(channel, &ballot.poll_id).await?;
    Ok(json!({ "ballot": render::ballot(ballot), "poll": render::poll(channel, &poll) }))
}

pub(crate) async fn add(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let option = call.text("option_id").unwrap_or_default();
    let ballot = call.chat().vote(&channel, named(call), user, option).await?;
    voted(call, &channel, &ballot).await
}

pub(crate) async fn remove(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let ballot = call.chat().unvote(&channel, named(call), user, call.found.part("option")).await?;
    voted(call, &channel, &ballot).await
}

pub(crate) async fn set_answer(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let said = call.text("answer").unwrap_or_default();
    judge_poll(call, &channel, Capability::Vote, named(call), &[said]).await?;
    let ballot = call.chat().answer_poll(&channel, named(call), user, Some(said)).await?;
    voted(call, &channel, &ballot).await
}

pub(crate) async fn remove_answer(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let ballot = call.chat().answer_poll(&channel, named(call), user, None).await?;
    voted(call, &channel, &ballot).await
}

pub(crate) async fn suggest(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let (id, text) = (call.text("id").unwrap_or_default(), call.text("text").unwrap_or_default());
    judge_poll(call, &channel, Capability::Vote, named(call), &[text]).await?;
    Ok(answer(&channel, &call.chat().suggest_option(&channel, named(call), user, id, text).await?))
}

/// Who voted for what, in a poll that is not anonymous.
pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let limit = call.limit(PAGE_MAX)?;
    let found = call.chat().ballots(&channel, named(call), call.cursor(), limit).await?;
    let next = next(&found, limit, |last| last.user_id.clone().unwrap_or_default());
    Ok(json!({ "ballots": found.iter().map(render::ballot).collect::<Vec<_>>(), "next": next }))
}
