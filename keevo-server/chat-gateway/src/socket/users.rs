//! What happens to users, told to their sockets: one watch of the keyspace of chats serves all users of a node.
//!
//! Invariant: a user who is banned from the app or deactivated has no socket a moment later; whoever may have missed
//! something is told so (`user.missed`), and looked at anew.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use futures::{StreamExt, TryStreamExt};
use keevo_chat::{APP_ADMIN, KEYSPACE, UserChange, UserEvent, UserSaid};
use keevo_core::{Cursor, Engine, Error, ErrorKind, KeyspaceKind, Result, ShardId, WatchFrom, WatchRange};
use serde_json::json;

use super::hub::Hub;
use super::outbox::{Closing, Outbox};
use crate::render;

/// How long the watch rests after it broke.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a socket waits for the watch to be there.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// How many users are looked at together after the watch broke.
const LOOKED_AT: usize = 16;

/// The users of a node that have sockets.
#[derive(Debug)]
pub(super) struct Users {
    connected: Mutex<BTreeMap<(u32, String), BTreeMap<u64, Socket>>>,
    runs: AtomicBool,
    /// Whether the watch is in place.
    watching: tokio::sync::watch::Sender<bool>,
}

#[derive(Debug)]
struct Socket {
    outbox: Arc<Outbox>,
    /// Whether the user was an admin of the app when the socket began.
    admin: bool,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            connected: Mutex::default(),
            runs: AtomicBool::new(false),
            watching: tokio::sync::watch::Sender::new(false),
        }
    }
}

impl Users {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u32, String), BTreeMap<u64, Socket>>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a socket of a user; false where it has too many.
    pub(super) fn enter(
        &self,
        app: u32,
        user: &str,
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
        sockets.insert(socket, Socket { outbox: Arc::clone(outbox), admin });
        true
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
    fn end(&self, (app, user): &(u32, String), closing: Closing, admin: Option<bool>) {
        let connected = self.lock();
        let sockets = connected.get(&(*app, user.clone())).into_iter().flat_map(BTreeMap::values);
        for socket in sockets.filter(|socket| admin.is_none_or(|admin| admin != socket.admin)) {
            socket.outbox.close(closing);
        }
    }

    fn missed(&self) {
        let frame: Utf8Bytes = json!({ "type": "user.missed" }).to_string().into();
        for socket in self.lock().values().flat_map(BTreeMap::values) {
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

impl Hub {
    /// Makes sure that the watch of users is in place, for a socket that begins.
    pub(super) async fn watch_users(&self) {
        let users = &self.inner.users;
        if !users.runs.swap(true, Ordering::SeqCst) {
            let hub = self.clone();
            tokio::spawn(async move {
                let stop = hub.inner.shared.stopping().clone();
                stop.run_until_cancelled(Box::pin(hub.run_users())).await;
            });
        }
        let mut watching = users.watching.subscribe();
        if tokio::time::timeout(READY_WITHIN, watching.wait_for(|there| *there)).await.is_err() {
            tracing::warn!("the watch of users is not in place yet");
        }
    }

    async fn run_users(&self) {
        let users = &self.inner.users;
        let mut cursors: BTreeMap<ShardId, Cursor> = BTreeMap::new();
        let mut again = false;
        loop {
            let followed = self.follow_users(&mut cursors, again).await;
            again = true;
            if let Err(error) = followed {
                tracing::debug!(%error, "the watch of users broke");
                if matches!(error.kind(), ErrorKind::CursorCompacted | ErrorKind::WrongCluster | ErrorKind::Invalid) {
                    cursors.clear();
                }
            }
            users.watching.send_replace(false);
            if users.lock().is_empty() {
                users.runs.store(false, Ordering::SeqCst);
                // Somebody may have come in between, and found it running.
                if users.lock().is_empty() || users.runs.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Ends the sockets of those who were banned or deactivated, or whose role has changed, while nothing was heard.
    async fn look_at_users(&self) -> Result<()> {
        let users = &self.inner.users;
        let connected: Vec<(u32, String)> = users.lock().keys().cloned().collect();
        let looking = futures::stream::iter(connected).map(|who| async move {
            let chats = self.inner.chats.of(who.0);
            let looked = match chats.live(&who.1).await {
                Ok(()) => chats.is_admin(&who.1).await,
                Err(refusal) => Err(refusal),
            };
            match looked {
                Ok(admin) => users.end(&who, Closing::FAILED, Some(admin)),
                Err(refusal) if refusal.code() == 17 => users.end(&who, Closing::DENIED, None),
                Err(_unavailable) => {
                    return Err(Error::new(ErrorKind::Unavailable, "the users of the node cannot be looked at"));
                }
            }
            Ok(())
        });
        looking.buffer_unordered(LOOKED_AT).try_collect().await
    }

    /// Watches from the cursors on until the watch breaks, or nobody is connected any more. When it does so `again`, shards
    /// that had said nothing before are watched from then on, so something may have been missed.
    async fn follow_users(&self, cursors: &mut BTreeMap<ShardId, Cursor>, again: bool) -> Result<()> {
        let users = &self.inner.users;
        let engine = self.inner.shared.engine();
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await?;
        let from =
            if cursors.is_empty() { WatchFrom::Now } else { WatchFrom::After(cursors.values().copied().collect()) };
        let mut watch = engine.watch(WatchRange::Keyspace(keyspace), from).await?;
        users.watching.send_replace(true);
        if again {
            users.missed();
            self.look_at_users().await?;
        }
        loop {
            let event = match tokio::time::timeout(Duration::from_secs(30), watch.next()).await {
                Ok(Some(event)) => event?,
                Ok(None) => return Ok(()),
                Err(_quiet) if users.lock().is_empty() => return Ok(()),
                Err(_quiet) => continue,
            };
            cursors.insert(event.cursor.shard, event.cursor);
            if let Some(change) = UserChange::of(&event)? {
                users.tell(&change);
            }
        }
    }
}
