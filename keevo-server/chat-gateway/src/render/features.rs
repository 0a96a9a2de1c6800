//! Drafts, reminders, groups, polls and locations as the protocol writes them.

use keevo_chat::{Ballot, ChannelId, Draft, Group, Location, Poll, Reminder};
use serde_json::{Value, json};

use super::{custom, mentions};

/// Units of a coordinate in one degree.
pub(crate) const UNITS: f64 = 1e7;

pub(crate) fn draft(draft: &Draft) -> Value {
    let attachments: Vec<Value> = draft.attachments.iter().map(|one| custom(Some(one))).collect();
    json!({
        "cid": draft.channel.as_str(),
        "parent_id": draft.parent_id,
        "text": draft.text,
        "custom": custom(draft.custom.as_deref()),
        "attachments": attachments,
        "mentions": mentions(&draft.mentions),
        "quoted_id": draft.quoted_id,
        "created_at": draft.created_at_ms,
        "updated_at": draft.updated_at_ms,
    })
}

pub(crate) fn reminder(reminder: &Reminder) -> Value {
    json!({
        "cid": reminder.channel.as_str(),
        "message_id": reminder.message_id,
        "remind_at": reminder.remind_at_ms,
        "created_at": reminder.created_at_ms,
        "updated_at": reminder.updated_at_ms,
        "fired_at": reminder.fired_at_ms,
    })
}

pub(crate) fn group(group: &Group) -> Value {
    json!({
        "id": group.id,
        "name": group.name,
        "custom": custom(group.custom.as_deref()),
        "team": group.team,
        "created_at": group.created_at_ms,
        "updated_at": group.updated_at_ms,
        "members": group.members,
    })
}

pub(crate) fn poll(channel: &ChannelId, poll: &Poll) -> Value {
    let options: Vec<Value> = poll
        .options
        .iter()
        .map(|one| json!({ "id": one.id, "text": one.text, "suggested_by": one.suggested_by }))
        .collect();
    let tally = poll.tally.as_ref();
    json!({
        "id": poll.id,
        "cid": channel.as_str(),
        "name": poll.name,
        "description": poll.description,
        "options": options,
        "created_by": poll.created_by,
        "created_at": poll.created_at_ms,
        "updated_at": poll.updated_at_ms,
        "closes_at": poll.closes_at_ms,
        "closed_at": poll.closed_at_ms,
        "votes_max": poll.votes_max,
        "anonymous": poll.anonymous,
        "suggestions": poll.suggestions,
        "answers": poll.answers,
        "custom": custom(poll.custom.as_deref()),
        "version": poll.version,
        "votes": tally.map(|tally| &tally.votes),
        "voter_count": tally.map(|tally| tally.voters),
        "answer_count": tally.map(|tally| tally.answers),
    })
}

pub(crate) fn ballot(ballot: &Ballot) -> Value {
    json!({
        "poll_id": ballot.poll_id,
        "user_id": ballot.user_id,
        "options": ballot.options,
        "answer": ballot.answer,
        "voted_at": Some(ballot.voted_at_ms).filter(|at| *at > 0),
    })
}

pub(crate) fn location(channel: &ChannelId, location: &Location) -> Value {
    json!({
        "message_id": location.message_id,
        "cid": channel.as_str(),
        "user_id": location.user_id,
        "latitude": location.at.map(|at| f64::from(at.latitude_e7) / UNITS),
        "longitude": location.at.map(|at| f64::from(at.longitude_e7) / UNITS),
        "started_at": location.started_at_ms,
        "updated_at": location.updated_at_ms,
        "ends_at": location.ends_at_ms,
        "stopped_at": location.stopped_at_ms,
    })
}
