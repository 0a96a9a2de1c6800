//! What happens in channels, read from the engine's changes: for whoever watches the keyspace of all chats, and so follows
//! every channel with one watch.
//!
//! Every write that makes events begins with the channel's version, so whoever reads the changes in order knows the place of
//! each event: the version that came last in the same shard, and the number of events since.

use keevo_core::{CommitEvent, Engine, Result};

use crate::chat::Chat;
use crate::event::{ChatEvent, Said, read_change};
use crate::ids::ChannelId;
use crate::keys::parse_channel;
use crate::reaction::Reaction;
use crate::subscribe::message_id;

/// What a commit says of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelSaid {
    /// The channel has this version now, and what follows of it belongs to it.
    Version(u64),
    /// An event, the next one of the version.
    Event(Box<ChatEvent>),
}

/// What happened in which channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelNews {
    /// The channel.
    pub channel: ChannelId,
    /// What happened.
    pub said: ChannelSaid,
}

impl<E: Engine> Chat<E> {
    /// What a commit in [`KEYSPACE`](crate::KEYSPACE) says of a channel of this app, or `None`: most commits say nothing. Looks the
    /// message of a reaction up that was taken back.
    pub async fn channel_news(&self, event: &CommitEvent) -> Result<Option<ChannelNews>> {
        let Some((app, channel)) = parse_channel(&event.key.partition) else { return Ok(None) };
        if app != self.app {
            return Ok(None);
        }
        let said = match read_change(&channel, &event.key.sort, event.change.clone())? {
            Said::Nothing | Said::Cut => return Ok(None),
            Said::Version(version) => ChannelSaid::Version(version),
            Said::Event(event) => ChannelSaid::Event(event),
            Said::Unreacted { place, kind, user } => {
                let message_id = message_id(self, &self.keys(&channel).await?, place).await?;
                let (created_at_ms, custom, score) = (0, None, 0);
                let reaction = Reaction { message_id, user_id: user, kind, created_at_ms, custom, score };
                ChannelSaid::Event(Box::new(ChatEvent::ReactionDeleted(reaction)))
            }
        };
        Ok(Some(ChannelNews { channel, said }))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use keevo_core::{KeyspaceKind, MemoryEngine, WatchFrom, WatchRange};

    use super::*;
    use crate::{AppId, ChatOptions, KEYSPACE, NewChannel, NewMember, NewMessage, NewReaction, ResumeFrom};

    /// Who reads all changes tells the same events at the same places as a subscription to the channel.
    #[tokio::test]
    async fn all_changes_tell_what_a_subscription_tells() {
        let engine = MemoryEngine::new();
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await.expect("made");
        let mut watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await.expect("watched");
        let chat = Chat::new(engine.clone(), AppId(3), ChatOptions::default());
        let other = Chat::new(engine, AppId(4), ChatOptions::default());
        let channel: ChannelId = "team:general".parse().expect("a name");
        let new = || NewChannel {
            created_by: "ada".into(),
            members: vec![NewMember::new("ada"), NewMember::new("bob")],
            ..NewChannel::default()
        };
        chat.create_channel(&channel, new()).await.expect("made");
        other.create_channel(&channel, new()).await.expect("made");
        let mut live = chat.subscribe(&channel, ResumeFrom::Now).await.expect("subscribed");
        chat.send(&channel, NewMessage::new("ada", "hello").with_id("m")).await.expect("sent");
        other.send(&channel, NewMessage::new("ada", "elsewhere")).await.expect("sent");
        chat.react(&channel, "m", NewReaction::new("bob", "like")).await.expect("put");
        chat.unreact(&channel, "m", "bob", "like").await.expect("taken back");
        chat.remove_member(&channel, "bob").await.expect("removed");
        let mut expected = Vec::new();
        for _ in 0..4 {
            let one = live.next().await.expect("an event").expect("read");
            expected.push((one.position.version, one.position.index, one.event));
        }
        let (mut told, mut place) = (Vec::new(), (0, 0));
        while told.len() < expected.len() {
            let event = watch.next().await.expect("a change").expect("read");
            match chat.channel_news(&event).await.expect("read").map(|change| change.said) {
                None => {}
                Some(ChannelSaid::Version(version)) => place = (version, 0),
                Some(ChannelSaid::Event(event)) => {
                    place.1 += 1;
                    if place.0 >= expected[0].0 {
                        told.push((place.0, place.1, *event));
                    }
                }
            }
        }
        assert_eq!(told, expected);
    }
}
