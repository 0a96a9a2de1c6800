//! What is stored, as the JSON of exports and imports.
//!
//! Invariant: an import takes every line of an export and stores the same again.

use serde_json::{Map, Value, json};

use crate::channel::Channel;
use crate::member::Member;
use crate::message::{Message, Shows};
use crate::reaction::Reaction;
use crate::rows::{BallotRow, OptionRow, PollRow};
use crate::users::User;

/// JSON as it is stored; null where there is none. What does not read is a string, so that nothing is lost.
pub(crate) fn raw(text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_no_json| text.into()))
}

pub(crate) fn user(user: &User) -> Value {
    slim(json!({
        "id": user.id, "role": user.role, "teams": user.teams, "custom": raw(user.custom.as_deref()),
        "created_at_ms": user.created_at_ms, "updated_at_ms": user.updated_at_ms,
        "deactivated_at_ms": user.deactivated_at_ms,
    }))
}

pub(crate) fn channel(channel: &Channel) -> Value {
    slim(json!({
        "channel": channel.id.as_str(), "created_by": channel.created_by, "created_at_ms": channel.created_at_ms,
        "custom": raw(channel.custom.as_deref()), "team": channel.team, "distinct": channel.distinct,
        "frozen": channel.frozen_at_ms.is_some(), "disabled": channel.disabled_at_ms.is_some(),
        "slow_mode_ms": channel.slow_mode_ms,
    }))
}

pub(crate) fn member(channel: &str, member: &Member) -> Value {
    let grants: Vec<&str> = member.grants.iter().map(|grant| grant.name()).collect();
    slim(json!({
        "channel": channel, "user": member.user_id, "role": member.role, "joined_at_ms": member.joined_at_ms,
        "grants": grants, "custom": raw(member.custom.as_deref()),
    }))
}

pub(crate) fn message(channel: &str, message: &Message) -> Value {
    let (poll, location) = match &message.shows {
        Some(Shows::Poll(id)) => (Some(id), false),
        Some(Shows::Location) => (None, true),
        None => (None, false),
    };
    let pinned = message
        .pinned
        .as_ref()
        .map(|pin| slim(json!({ "by": pin.pinned_by, "at_ms": pin.pinned_at_ms, "until_ms": pin.expires_at_ms })));
    slim(json!({
        "channel": channel, "id": message.id, "user": message.user_id, "text": message.text,
        "parent": message.parent_id, "custom": raw(message.custom.as_deref()),
        "attachments": message.attachments.iter().map(|one| raw(Some(one))).collect::<Vec<_>>(),
        "mentions": message.mentions.users, "mentioned_groups": message.mentions.groups,
        "mentions_channel": message.mentions.channel, "quoted": message.quoted_id, "poll": poll, "location": location,
        "pinned": pinned, "system": message.system, "silent": message.silent,
        "created_at_ms": message.created_at_ms, "updated_at_ms": message.updated_at_ms,
        "deleted_at_ms": message.deleted_at_ms, "erased": message.erased,
    }))
}

pub(crate) fn poll(channel: &str, id: &str, row: &PollRow) -> Value {
    let option = |option: &OptionRow| {
        let by = Some(&option.suggested_by).filter(|by| !by.is_empty());
        slim(json!({ "id": option.id, "text": option.text, "suggested_by": by }))
    };
    slim(json!({
        "channel": channel, "id": id, "name": row.name, "description": row.description,
        "options": row.options.iter().map(option).collect::<Vec<_>>(), "created_by": row.created_by,
        "created_at_ms": row.created_at_ms, "updated_at_ms": row.updated_at_ms, "closes_at_ms": row.closes_at_ms,
        "closed_at_ms": row.closed_at_ms, "votes_max": Some(row.votes_max).filter(|max| *max > 0),
        "anonymous": row.anonymous, "suggestions": row.suggestions, "answers": row.answers,
        "custom": raw(row.custom.as_deref()), "deleted_at_ms": row.deleted_at_ms,
    }))
}

pub(crate) fn vote(channel: &str, poll: &str, user: &str, row: &BallotRow) -> Value {
    slim(json!({
        "channel": channel, "poll": poll, "user": user, "options": row.options, "answer": row.answer,
        "voted_at_ms": row.voted_at_ms,
    }))
}

pub(crate) fn reaction(channel: &str, reaction: &Reaction) -> Value {
    slim(json!({
        "channel": channel, "message": reaction.message_id, "user": reaction.user_id, "type": reaction.kind,
        "created_at_ms": reaction.created_at_ms, "custom": raw(reaction.custom.as_deref()), "score": reaction.score,
    }))
}

/// An object without the fields that say nothing: null, false, and empty lists.
fn slim(value: Value) -> Value {
    let Value::Object(fields) = value else {
        return value;
    };
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(all) => !all.is_empty(),
        _ => true,
    };
    Value::Object(fields.into_iter().filter(|(_, value)| says(value)).collect::<Map<_, _>>())
}
