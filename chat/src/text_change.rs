//! What messages say, read from the engine's changes: for whoever watches the keyspace of all chats, such as moderation.
//!
//! Invariant: a change is a pure function of one commit, so every watcher is told the same.

use keevo_core::{Change, CommitEvent, Result};

use crate::held::Held;
use crate::ids::{AppId, ChannelId};
use crate::keys::{Personal, Row, parse_channel, parse_user};
use crate::message::Message;
use crate::rows::{self, DeletionRow, ErasureRow, MessageRow};

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

/// A user that a commit says is being erased, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedUser {
    /// The app.
    pub app: AppId,
    /// The user.
    pub user_id: String,
    /// Under whose name its texts stay; `None` = they go, or nobody knows any more.
    pub stand_in: Option<String>,
}

impl ErasedUser {
    /// The user that a commit in [`KEYSPACE`](crate::KEYSPACE) says is erased, or `None`. Each step of the erasure tells it
    /// anew; where texts stay, the last one does not, since it no longer knows the name.
    ///
    /// # Errors
    /// `Corrupt` where the row is one of an erasure and does not decode.
    pub fn of(event: &CommitEvent) -> Result<Option<Self>> {
        let Some((app, user)) = parse_user(&event.key.partition) else { return Ok(None) };
        let (Personal::Erasure, Change::Put { value, .. }) = (Personal::parse(&event.key.sort)?, &event.change) else {
            return Ok(None);
        };
        let row: ErasureRow = rows::decode(value, "an erasure")?;
        let stand_in = row.keep_texts.then_some(row.stand_in);
        let known = stand_in.as_ref().is_none_or(|name| !name.is_empty());
        Ok(known.then(|| Self { app, user_id: user.to_owned(), stand_in }))
    }
}

/// A channel that a commit says is being erased, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedChannel {
    /// The app.
    pub app: AppId,
    /// The channel; nothing is ever called so again.
    pub channel: ChannelId,
}

impl ErasedChannel {
    /// The channel that a commit in [`KEYSPACE`](crate::KEYSPACE) says is erased, or `None`. Each step of the erasure tells it
    /// anew; its messages are told one by one too, as [`MessageChange`].
    ///
    /// # Errors
    /// `Corrupt` where the row is one of a deletion and does not decode.
    pub fn of(event: &CommitEvent) -> Result<Option<Self>> {
        let Some((app, channel)) = parse_channel(&event.key.partition) else { return Ok(None) };
        let (Row::Deletion, Change::Put { value, .. }) = (Row::parse(&event.key.sort)?, &event.change) else {
            return Ok(None);
        };
        let row: DeletionRow = rows::decode(value, "a deletion")?;
        Ok((row.erases && !row.restores).then_some(Self { app, channel }))
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

    #[tokio::test]
    async fn an_erasure_names_the_user_and_what_becomes_of_the_texts() {
        let engine = MemoryEngine::new();
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await.expect("made");
        let watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await.expect("watched");
        let chat = Chat::new(engine, AppId(3), ChatOptions::default());
        chat.erase_user("alice", crate::Texts::Erase).await.expect("begun");
        chat.erase_user("bob", crate::Texts::Keep).await.expect("begun");
        let told = watch.filter_map(async |event| ErasedUser::of(&event.expect("an event")).expect("it decodes"));
        let told: Vec<ErasedUser> = Box::pin(told).take(2).collect().await;
        assert_eq!((told[0].user_id.as_str(), &told[0].stand_in), ("alice", &None));
        assert_eq!((told[1].app, told[1].user_id.as_str()), (AppId(3), "bob"));
        assert!(told[1].stand_in.as_ref().is_some_and(|name| name.starts_with("deleted-")));
    }

    #[tokio::test]
    async fn only_what_is_erased_for_good_is_told_as_an_erased_channel() {
        let engine = MemoryEngine::new();
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await.expect("made");
        let watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await.expect("watched");
        let chat = Chat::new(engine, AppId(3), ChatOptions::default());
        for name in ["team:back", "team:gone"] {
            let channel: ChannelId = name.parse().expect("a name");
            let new = NewChannel { created_by: "alice".into(), ..NewChannel::default() };
            chat.create_channel(&channel, new).await.expect("made");
            chat.delete_channel(&channel, "alice", false).await.expect("deleted");
            if name == "team:back" {
                chat.restore_channel(&channel).await.expect("restored");
            }
        }
        let gone: ChannelId = "team:gone".parse().expect("a name");
        chat.delete_channel(&gone, "alice", true).await.expect("erased");
        chat.run_outbox_once().await.expect("the worker runs");
        let told = watch.filter_map(async |event| ErasedChannel::of(&event.expect("an event")).expect("it decodes"));
        let told: Vec<ErasedChannel> =
            Box::pin(told).take_until(tokio::time::sleep(std::time::Duration::from_millis(200))).collect().await;
        assert!(told.len() > 1, "the beginning and the end at least: {told:?}");
        assert!(told.iter().all(|one| one.app == AppId(3) && one.channel == gone), "{told:?}");
    }
}
