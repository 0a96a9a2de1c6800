//! What an event holds beside its type and place: one field, by kind.

use keevo_chat::{ChannelId, ChatEvent};
use serde_json::{Value, json};

use super::{ballot, channel, invite, location, member, message, poll, reaction, read, receipt};

/// The name of the field, and what it holds.
pub(crate) fn event(of: &ChannelId, event: &ChatEvent) -> (&'static str, Value) {
    match event {
        ChatEvent::ChannelCreated(one) | ChatEvent::ChannelUpdated(one) => ("channel", channel(one)),
        ChatEvent::MessageNew(one) | ChatEvent::MessageUpdated(one) | ChatEvent::MessageDeleted(one) => {
            ("message", message(of, one, None))
        }
        ChatEvent::ReactionNew(one) | ChatEvent::ReactionDeleted(one) => ("reaction", reaction(one)),
        ChatEvent::Read(one) => ("read", read(one)),
        ChatEvent::Delivered(one) => ("receipt", receipt(one)),
        ChatEvent::MemberAdded(one) | ChatEvent::MemberUpdated(one) => ("member", member(one)),
        ChatEvent::MemberRemoved { user_id } => ("user_id", json!(user_id)),
        ChatEvent::MemberInvited(one) | ChatEvent::InviteRejected(one) | ChatEvent::InviteRevoked(one) => {
            ("invite", invite(one))
        }
        ChatEvent::PollCreated(one) | ChatEvent::PollUpdated(one) | ChatEvent::PollClosed(one) => {
            ("poll", poll(of, one))
        }
        ChatEvent::PollDeleted { poll_id } => ("poll_id", json!(poll_id)),
        ChatEvent::PollVoted(one) => ("ballot", ballot(one)),
        ChatEvent::LocationUpdated(one) | ChatEvent::LocationStopped(one) => ("location", location(of, one)),
        ChatEvent::ChannelDeleted => ("cid", json!(of.as_str())),
        ChatEvent::ReloadRequired { reason } => ("reason", json!(reason)),
        _ => ("more", Value::Null),
    }
}
