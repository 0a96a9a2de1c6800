//! What messages say, read from the engine's changes: for whoever watches the keyspace of all chats, such as moderation.
//!
//! Invariant: a change is a pure function of one commit, so every watcher is told the same.

use keevo_core::{Change, CommitEvent, Result};

use crate::held::Held;
use crate::ids::{AppId, ChannelId};
use crate::keys::{Row, parse_channel};
use crate::message::Message;
use crate::rows::{self, MessageRow};

/// A message as a commit left it: new, edited, or deleted, and then without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageChange {
    /// The app.
    pub app: AppId,
    /// The channel.
    pub channel: ChannelId,
    /// The message, without counts.
    pub message: Message,
}

impl MessageChange {
    /// The message that a commit in [`KEYSPACE`](crate::KEYSPACE) leaves, or `None`: most commits are of other rows.
    ///
    /// # Errors
    /// `Corrupt` where the row is a message's and does not decode.
    pub fn of(event: &CommitEvent) -> Result<Option<Self>> {
        let Some((app, channel)) = parse_channel(&event.key.partition) else { return Ok(None) };
        let (Row::Message(place), Change::Put { value, .. }) = (Row::parse(&event.key.sort)?, &event.change) else {
            return Ok(None);
        };
        let row: MessageRow = rows::decode(value, "a message")?;
        Ok(Some(Self { app, channel, message: Message::from_row(row, place) }))
    }
}

/// A message, or an edit of one, that a commit left to be judged before anybody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldChange {
    /// The app.
    pub app: AppId,
    /// The channel.
    pub channel: ChannelId,
    /// What is held.
    pub held: Held,
}

impl HeldChange {
    /// What a commit in [`KEYSPACE`](crate::KEYSPACE) holds back, or `None`.
    ///
    /// # Errors
    /// `Corrupt` where the row is one of what is held and does not decode.
    pub fn of(event: &CommitEvent) -> Result<Option<Self>> {
        let Some((app, channel)) = parse_channel(&event.key.partition) else { return Ok(None) };
        let (Row::Held(_), Change::Put { value, .. }) = (Row::parse(&event.key.sort)?, &event.change) else {
            return Ok(None);
        };
        Ok(Some(Self { app, channel, held: Held::from_row(rows::decode(value, "a held message")?) }))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use keevo_core::{Engine, KeyspaceKind, MemoryEngine, WatchFrom, WatchRange};

    use super::*;
    use crate::{Chat, ChatOptions, Edit, KEYSPACE, NewChannel, NewMember, NewMessage};

    #[tokio::test]
    async fn every_version_of_a_message_is_told() {
        let engine = MemoryEngine::new();
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await.expect("made");
        let watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await.expect("watched");
        let chat = Chat::new(engine, AppId(3), ChatOptions::default());
        let channel: ChannelId = "team:general".parse().expect("a name");
        let members = vec![NewMember::new("alice")];
        let new = NewChannel { created_by: "alice".into(), members, ..NewChannel::default() };
        chat.create_channel(&channel, new).await.expect("made");
        let sent = chat.send(&channel, NewMessage::new("alice", "hello")).await.expect("sent");
        chat.send(&channel, NewMessage::new("alice", "reply").reply_to(sent.id.clone())).await.expect("sent");
        let edit = Edit { user_id: "alice".into(), text: Some("hullo".into()), ..Edit::default() };
        chat.edit(&channel, &sent.id, edit).await.expect("edited");
        chat.delete(&channel, &sent.id, "alice").await.expect("deleted");
        let changes = watch.filter_map(async |event| MessageChange::of(&event.expect("an event")).expect("it decodes"));
        let said: Vec<_> = Box::pin(changes).take(4).collect().await;
        assert!(said.iter().all(|one| one.app == AppId(3) && one.channel == channel));
        let texts: Vec<&str> = said.iter().map(|one| one.message.text.as_str()).collect();
        assert_eq!(texts, ["hello", "reply", "hullo", ""]);
    }
}
