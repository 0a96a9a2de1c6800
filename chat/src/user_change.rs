//! What happens to users, read from the engine's changes: for whoever watches the keyspace of all chats, and so serves the
//! users of a whole node with one watch.
//!
//! Invariant: a change is a pure function of one commit, so every watcher is told the same.

use keevo_core::{Change, CommitEvent, Result};

use crate::ids::AppId;
use crate::keys::{self, Personal};
use crate::user_event::{UserEvent, read_change};

/// What a commit says of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserSaid {
    /// One of the user's own events.
    Event(Box<UserEvent>),
    /// It was banned from the app.
    Banned,
    /// Its ban from the app was ended. One that runs out ends without a change.
    Unbanned,
}

/// What happened to which user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserChange {
    /// The app.
    pub app: AppId,
    /// The user.
    pub user_id: String,
    /// What happened.
    pub said: UserSaid,
}

impl UserChange {
    /// What a commit in [`KEYSPACE`](crate::KEYSPACE) says of a user, or `None`: most commits are of channels.
    ///
    /// # Errors
    /// `Corrupt` where the row is a user's and does not decode.
    pub fn of(event: &CommitEvent) -> Result<Option<Self>> {
        let Some((app, user)) = keys::parse_user(&event.key.partition) else { return Ok(None) };
        let said = match (Personal::parse(&event.key.sort)?, &event.change) {
            (Personal::AppBan, Change::Put { .. }) => Some(UserSaid::Banned),
            (Personal::AppBan, Change::Delete) => Some(UserSaid::Unbanned),
            _ => {
                read_change(user, &event.key.sort, event.change.clone())?.map(|event| UserSaid::Event(Box::new(event)))
            }
        };
        Ok(said.map(|said| Self { app, user_id: user.to_owned(), said }))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use keevo_core::{Engine, KeyspaceKind, MemoryEngine, WatchFrom, WatchRange};

    use super::*;
    use crate::{ChannelId, Chat, ChatOptions, KEYSPACE, NewBan, NewChannel, NewMember, NewUser};

    #[tokio::test]
    async fn what_happens_to_each_user_is_told() {
        let engine = MemoryEngine::new();
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await.expect("made");
        let watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await.expect("watched");
        let chat = Chat::new(engine, AppId(7), ChatOptions::default());
        let channel: ChannelId = "team:a".parse().expect("a name");
        let members = vec![NewMember::new("ada")];
        let new = NewChannel { created_by: "ada".into(), members, ..NewChannel::default() };
        chat.create_channel(&channel, new).await.expect("made");
        chat.put_user(NewUser::new("bob")).await.expect("put");
        let ban = NewBan { banned_by: "ada".into(), ..NewBan::default() };
        chat.ban_from_app("bob", ban).await.expect("banned");
        chat.unban_from_app("bob").await.expect("ended");
        let changes = watch.filter_map(async |event| UserChange::of(&event.expect("an event")).expect("it decodes"));
        let told: Vec<(String, &'static str)> = Box::pin(changes)
            .take(4)
            .map(|change| {
                assert_eq!(change.app, AppId(7));
                let said = match change.said {
                    UserSaid::Event(event) => event.name(),
                    UserSaid::Banned => "banned",
                    UserSaid::Unbanned => "unbanned",
                };
                (change.user_id, said)
            })
            .collect()
            .await;
        let expected = [("ada", "channel.listed"), ("bob", "user.updated"), ("bob", "banned"), ("bob", "unbanned")];
        assert_eq!(told, expected.map(|(user, said)| (user.to_owned(), said)));
    }
}
