//! What happens to users, told to their sockets: one watch a shard serves all users of a node whose partitions are there
//! ([`shards`]).
//!
//! Invariant: a user who is banned from the app or deactivated has no socket a moment later; whoever may have missed
//! something is told so (`user.missed`), and looked at anew.

mod shards;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use keevo_chat::{APP_ADMIN, UserChange, UserEvent, UserSaid};
use keevo_core::ShardId;
use serde_json::json;

use super::outbox::{Closing, Outbox};
use crate::render;
use shards::Shards;
pub(super) use shards::Watched;

/// A user of an app.
type Who = (u32, String);

/// The users of a node that have sockets.
#[derive(Debug, Default)]
pub(super) struct Users {
    connected: Mutex<BTreeMap<Who, BTreeMap<u64, Socket>>>,
    shards: Shards,
}

#[derive(Debug)]
struct Socket {
    outbox: Arc<Outbox>,
    /// Whether the user was an admin of the app when the socket began.
    admin: bool,
    /// Where the user's partition was then.
    shard: ShardId,
}

impl Users {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Who, BTreeMap<u64, Socket>>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a socket of a user, whose shard is watched; false where it has too many.
    pub(super) fn enter(
        &self,
        (app, user, watched): (u32, &str, &Watched),
        socket: u64,
        outbox: &Arc<Outbox>,
        admin: bool,
        max: usize,
    ) -> bool {
        let mut connected = self.lock();
        let sockets = connected.entry((app, user.to_owned())).or_default();
        if sockets.len() >= max {
            return false;
        }
        sockets.insert(socket, Socket { outbox: Arc::clone(outbox), admin, shard: watched.shard() });
        true
    }

    /// The users with sockets whose partitions are in a shard.
    fn of_shard(&self, shard: ShardId) -> Vec<Who> {
        let connected = self.lock();
        let of = connected.iter().filter(|(_, sockets)| sockets.values().any(|socket| socket.shard == shard));
        of.map(|(who, _)| who.clone()).collect()
    }

    /// Takes a socket away.
    pub(super) fn leave(&self, app: u32, user: &str, socket: u64) {
        let mut connected = self.lock();
        let key = (app, user.to_owned());
        if let Some(sockets) = connected.get_mut(&key) {
            sockets.remove(&socket);
            if sockets.is_empty() {
                connected.remove(&key);
            }
        }
    }

    fn tell(&self, change: &UserChange) {
        let connected = self.lock();
        let Some(sockets) = connected.get(&(change.app.0, change.user_id.clone())) else { return };
        let (frame, gone) = said(&change.said);
        for socket in sockets.values() {
            if gone {
                socket.outbox.close(Closing::DENIED);
            } else if let UserSaid::Event(event) = &change.said
                && let UserEvent::UserUpdated(user) = event.as_ref()
                && (user.role == APP_ADMIN) != socket.admin
            {
                // What the socket may hear is judged by the role: it begins anew.
                socket.outbox.close(Closing::FAILED);
            } else if let Some(frame) = &frame {
                socket.outbox.push(frame.clone());
            }
        }
    }

    /// Ends the sockets of a user; with an `admin` only those that began with another answer to whether it is one.
    fn end(&self, who: &Who, closing: Closing, admin: Option<bool>) {
        let connected = self.lock();
        let sockets = connected.get(who).into_iter().flat_map(BTreeMap::values);
        for socket in sockets.filter(|socket| admin.is_none_or(|admin| admin != socket.admin)) {
            socket.outbox.close(closing);
        }
    }

    /// Tells those of a shard that something may have been missed.
    fn missed(&self, shard: ShardId) {
        let frame: Utf8Bytes = json!({ "type": "user.missed" }).to_string().into();
        let connected = self.lock();
        for socket in connected.values().flat_map(BTreeMap::values).filter(|socket| socket.shard == shard) {
            socket.outbox.push(frame.clone());
        }
    }
}

/// What a socket is told, and whether it ends.
fn said(said: &UserSaid) -> (Option<Utf8Bytes>, bool) {
    let event = match said {
        UserSaid::Event(event) => event.as_ref(),
        UserSaid::Banned => return (None, true),
        UserSaid::Unbanned => return (None, false),
    };
    let frame = match event {
        UserEvent::ChannelListed(listing) => {
            json!({ "type": "user.channel_added", "cid": listing.channel.as_str(), "role": listing.role })
        }
        UserEvent::Invited(listing) => {
            json!({ "type": "user.invited", "cid": listing.channel.as_str(), "role": listing.role })
        }
        UserEvent::ChannelUnlisted(channel) => json!({ "type": "user.channel_removed", "cid": channel.as_str() }),
        UserEvent::PreferenceChanged(channel) => json!({ "type": "user.preference", "cid": channel.as_str() }),
        UserEvent::UserUpdated(user) if user.deactivated_at_ms.is_some() => return (None, true),
        UserEvent::UserUpdated(user) => json!({ "type": "user.updated", "user": render::user(user) }),
        UserEvent::Muted { .. } | UserEvent::Unmuted(_) | UserEvent::Blocked(_) | UserEvent::Unblocked(_) => {
            json!({ "type": "user.against" })
        }
        UserEvent::DraftUpdated(draft) => json!({ "type": "user.draft", "draft": render::draft(draft) }),
        UserEvent::DraftDeleted { channel, parent_id } => {
            json!({ "type": "user.draft_removed", "cid": channel.as_str(), "parent_id": parent_id })
        }
        UserEvent::ReminderSet(one) => json!({ "type": "user.reminder", "reminder": render::reminder(one) }),
        UserEvent::ReminderDue(one) => json!({ "type": "user.reminder_due", "reminder": render::reminder(one) }),
        UserEvent::ReminderDeleted { channel, message_id } => {
            json!({ "type": "user.reminder_removed", "cid": channel.as_str(), "message_id": message_id })
        }
        UserEvent::GroupJoined(group) => json!({ "type": "user.group_joined", "group_id": group }),
        UserEvent::GroupLeft(group) => json!({ "type": "user.group_left", "group_id": group }),
        _ => return (None, false),
    };
    (Some(frame.to_string().into()), false)
}
