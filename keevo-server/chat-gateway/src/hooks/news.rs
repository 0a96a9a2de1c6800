//! Events as hooks are told of them: those of channels as sockets get them, and a few of users.
//!
//! Invariant: an event has the same id whoever tells it, however often: its channel and its place there, or the place of its
//! change.

use std::collections::BTreeMap;

use keevo_chat::{ChannelSaid, Chat, UserChange, UserEvent, UserSaid};
use keevo_core::{AnyEngine, CommitEvent, Result, ShardId};
use serde_json::{Value, json};

use super::claim::Place;
use crate::render;

/// Every event that a hook can ask for.
pub(crate) const EVENTS: &[&str] = &[
    "channel.created",
    "channel.deleted",
    "channel.updated",
    "invite.new",
    "invite.rejected",
    "invite.revoked",
    "location.stopped",
    "location.updated",
    "member.added",
    "member.removed",
    "member.updated",
    "message.deleted",
    "message.delivered",
    "message.new",
    "message.read",
    "message.updated",
    "poll.closed",
    "poll.created",
    "poll.deleted",
    "poll.updated",
    "poll.voted",
    "reaction.deleted",
    "reaction.new",
    "reminder.due",
    "user.banned",
    "user.unbanned",
    "user.updated",
];
/// What stands for events that were missed: the hook was away for longer than changes are kept.
pub(super) const MISSED: &str = "events.missed";

/// Reads changes in their order, shard by shard.
pub(super) struct Reader {
    places: BTreeMap<ShardId, Place>,
}

impl Reader {
    /// Reads on behind the places that were told last.
    pub(super) fn behind(places: BTreeMap<ShardId, Place>) -> Self {
        Self { places }
    }

    /// The place of the last event of a shard.
    pub(super) fn place(&self, shard: ShardId) -> Place {
        self.places.get(&shard).cloned().unwrap_or_default()
    }

    /// The type of the event that a change makes, and the event.
    pub(super) async fn read(
        &mut self,
        chat: &Chat<AnyEngine>,
        app: u32,
        change: &CommitEvent,
    ) -> Result<Option<(&'static str, Value)>> {
        if let Some(said) = chat.channel_news(change).await? {
            let place = self.places.entry(change.cursor.shard).or_default();
            let event = match said.said {
                ChannelSaid::Version(version) => {
                    *place = Place { cid: said.channel.to_string(), version, index: 0 };
                    return Ok(None);
                }
                ChannelSaid::Event(event) => event,
            };
            place.index = place.index.saturating_add(1);
            let (name, value) = render::event(&said.channel, &event);
            let mut told = json!({
                "id": format!("{}@{}.{}", said.channel, place.version, place.index),
                "type": event.name(),
                "cid": said.channel.as_str(),
                "version": place.version,
                "index": place.index,
            });
            if let Value::Object(told) = &mut told {
                told.insert(name.to_owned(), value);
            }
            return Ok(Some((event.name(), told)));
        }
        Ok(UserChange::of(change)?.filter(|said| said.app.0 == app).and_then(|said| of_user(&said, change)))
    }
}

fn of_user(said: &UserChange, change: &CommitEvent) -> Option<(&'static str, Value)> {
    let (kind, name, value) = match &said.said {
        UserSaid::Banned => ("user.banned", "ban", Value::Null),
        UserSaid::Unbanned => ("user.unbanned", "ban", Value::Null),
        UserSaid::Event(event) => match event.as_ref() {
            UserEvent::UserUpdated(user) => ("user.updated", "user", render::user(user)),
            UserEvent::ReminderDue(reminder) => ("reminder.due", "reminder", render::reminder(reminder)),
            _ => return None,
        },
    };
    let at = change.cursor;
    let id = format!("user:{}@{}.{}.{}", said.user_id, at.shard.0, at.revision.0, at.offset);
    let mut told = json!({ "id": id, "type": kind, "user_id": said.user_id });
    if let (Value::Object(told), false) = (&mut told, value.is_null()) {
        told.insert(name.to_owned(), value);
    }
    Some((kind, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_events_is_sorted_and_names_each_once() {
        assert!(EVENTS.windows(2).all(|pair| pair.first() < pair.last()));
    }
}
