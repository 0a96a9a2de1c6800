//! Polls: making, reading, changing and closing them. Voting is in `votes`.
//!
//! Who may not read the channel is not told whether it has a poll of that name.

use keevo_chat::{Capability, ChannelId, NewPoll, Poll, PollChange};
use serde_json::{Value, json};

use super::sending::{judge_poll, made_up};
use super::{next, nothing};
use crate::call::Call;
use crate::error::{Answered, Refusal};
use crate::field::{Field, Kind, check_object, may, must};
use crate::render;

const LIST_MAX: usize = 100;
const OPTION: &[Field] = &[may("id", Kind::Text), must("text", Kind::Text)];

/// The poll that the path names.
pub(super) fn named(call: &Call) -> &str {
    call.found.part("poll")
}

pub(super) fn answer(channel: &ChannelId, poll: &Poll) -> Value {
    json!({ "poll": render::poll(channel, poll) })
}

/// The options of the body; one without an id has its number as its id, from 1.
fn options(call: &Call) -> Answered<Vec<(String, String)>> {
    let list = call.list("options", keevo_chat::POLL_OPTIONS_MAX)?;
    let one = |(number, value): (usize, &Value)| {
        let object = value.as_object().ok_or_else(|| Refusal::field("options", "is a list of JSON objects"))?;
        check_object(object, OPTION)?;
        let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok((text("id").unwrap_or_else(|| (number + 1).to_string()), text("text").unwrap_or_default()))
    };
    list.iter().enumerate().map(one).collect()
}

/// How many options one user votes for: 1 where nothing is said, and all for 0.
fn votes_max(call: &Call) -> Answered<Option<u32>> {
    match call.number("votes_max") {
        None => Ok(Some(1)),
        Some(0) => Ok(None),
        Some(max) => {
            let bad = |_too_large| Refusal::field("votes_max", "is the number of votes of a user");
            Ok(Some(u32::try_from(max).map_err(bad)?))
        }
    }
}

pub(crate) async fn create(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    let new = NewPoll {
        id: Some(call.owned("id").unwrap_or_else(|| made_up(call))),
        created_by: call.user()?.to_owned(),
        name: call.owned("name").unwrap_or_default(),
        description: call.owned("description"),
        options: options(call)?,
        closes_at_ms: call.number("closes_at").filter(|at| *at > 0),
        votes_max: votes_max(call)?,
        anonymous: call.truth("anonymous"),
        suggestions: call.truth("suggestions"),
        answers: call.truth("answers"),
        custom: call.object("custom"),
    };
    let mut texts = vec![new.name.as_str(), new.description.as_deref().unwrap_or_default()];
    texts.extend(new.options.iter().map(|(_, text)| text.as_str()));
    judge_poll(call, &channel, Capability::MakePoll, new.id.as_deref().unwrap_or_default(), &texts).await?;
    Ok(answer(&channel, &call.chat().create_poll(&channel, new).await?))
}

pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let limit = call.limit(LIST_MAX)?;
    let found = call.chat().polls(&channel, call.cursor(), limit).await?;
    let next = next(&found, limit, |last| last.id.clone());
    Ok(json!({ "polls": found.iter().map(|one| render::poll(&channel, one)).collect::<Vec<_>>(), "next": next }))
}

/// A poll with its counts, and what the user voted.
pub(crate) async fn get(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let poll = call.chat().poll(&channel, named(call)).await?;
    let ballot = match call.viewer() {
        Some(user) => Some(call.chat().ballot(&channel, &poll.id, user).await?),
        None => None,
    };
    let ballot = ballot.as_ref().filter(|ballot| ballot.voted_at_ms > 0).map(render::ballot);
    Ok(json!({ "poll": render::poll(&channel, &poll), "ballot": ballot }))
}

/// Changes a poll. `closes_at: 0` = it does not close by itself.
pub(crate) async fn update(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    call.may(&channel, Capability::ReadChannel).await?;
    let change = PollChange {
        name: call.owned("name"),
        description: call.owned("description"),
        closes_at_ms: call.number("closes_at").map(|at| Some(at).filter(|at| *at > 0)),
        custom: call.object("custom"),
    };
    let texts = [change.name.as_deref().unwrap_or_default(), change.description.as_deref().unwrap_or_default()];
    let made = call.chat().poll(&channel, named(call)).await?.created_by;
    let needed = if made == user { Capability::MakePoll } else { Capability::DeleteAny };
    judge_poll(call, &channel, needed, named(call), &texts).await?;
    Ok(answer(&channel, &call.chat().update_poll(&channel, named(call), user, change).await?))
}

pub(crate) async fn close(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    Ok(answer(&channel, &call.chat().close_poll(&channel, named(call), call.user()?).await?))
}

pub(crate) async fn delete(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    call.chat().delete_poll(&channel, named(call), call.user()?).await?;
    Ok(nothing())
}
