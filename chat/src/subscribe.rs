//! Live subscriptions: the channel's own changes, as events, without a gap.
//!
//! Every write that makes events raises the channel's version, and that row is the first change of the
//! write. So the stream counts along: a version that repeats is skipped, one that is missing ends the
//! subscription with [`ChatEvent::ReloadRequired`]. Nothing is dropped in silence.

use std::collections::VecDeque;
use std::fmt;

use futures::stream::{self, BoxStream, StreamExt};
use keevo_core::{CommitEvent, Engine, Error, ErrorKind, Result, Watch, WatchFrom, WatchRange};

use crate::chat::{Chat, no_channel};
use crate::event::{ChatEvent, Delivery, Position, Said, read_change};
use crate::history::{decode, messages_between};
use crate::ids::{ChannelId, Place};
use crate::keys::ChannelKeys;
use crate::message::Message;
use crate::reaction::Reaction;
use crate::rows::{self, MessageRow};
use crate::token::ResumeToken;

const REPLAY_PAGE: usize = 200;

/// Where a subscription starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResumeFrom {
    /// With what happens from the call on.
    Now,
    /// With the stored messages of the channel's own sequence, oldest first, as they are now, and then live.
    Beginning,
    /// Behind a token: of an event, or of a page of history.
    Token(ResumeToken),
}

/// The events of one channel. Reads on demand: a slow subscriber costs nothing but its own lag.
pub struct Subscription<E> {
    chat: Chat<E>,
    keys: ChannelKeys,
    token: ResumeToken,
    replayed: VecDeque<Message>,
    watch: Option<Watch>,
    /// The change that is being taken in: kept here, so that a dropped future loses nothing.
    pending: Option<CommitEvent>,
    /// The place of the next event.
    next: Position,
    ended: bool,
}

impl<E> fmt::Debug for Subscription<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("token", &self.token).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl<E: Engine> Chat<E> {
    /// Subscribes to a channel. `NotFound` without the channel, `Invalid` for a token of another one.
    /// Whether the caller may see the channel is for the caller to check, again at each resume.
    pub async fn subscribe(&self, channel: &ChannelId, from: ResumeFrom) -> Result<Subscription<E>> {
        let keys = self.keys(channel).await?;
        let token = match from {
            ResumeFrom::Token(token) if token.app == self.app && token.channel == *channel => token,
            ResumeFrom::Token(token) => {
                return Err(Error::invalid(format!(
                    "the resume token belongs to channel {} of app {}, not to {channel} of app {}",
                    token.channel, token.app, self.app
                )));
            }
            from => {
                let head = self.head(&keys).await?;
                let token = ResumeToken::at_head(self.app, channel, &head, 0);
                match from {
                    ResumeFrom::Beginning => ResumeToken { seen_sequence: 0, replaying: true, ..token },
                    _ => token,
                }
            }
        };
        if self.get(keys.channel()).await?.is_none() {
            return Err(no_channel(channel));
        }
        let Position { version, index } = token.position;
        let next = Position { version, index: index.saturating_add(1) };
        let chat = self.clone();
        Ok(Subscription {
            chat,
            keys,
            token,
            replayed: VecDeque::new(),
            watch: None,
            pending: None,
            next,
            ended: false,
        })
    }
}

impl<E: Engine> Subscription<E> {
    /// The token that continues behind the last event returned.
    pub fn resume(&self) -> &ResumeToken {
        &self.token
    }

    /// The next event; waits for one. `None` once an error or `ReloadRequired` was returned. After an error
    /// the token is still good: subscribe again from it. Dropping the future before it is done loses nothing.
    pub async fn next(&mut self) -> Option<Result<Delivery>> {
        if self.ended {
            return None;
        }
        match self.advance().await {
            Ok(delivery) => Some(Ok(delivery)),
            Err(error) => {
                self.ended = true;
                if error.kind() == ErrorKind::CursorCompacted {
                    return Some(Ok(self.reload(error.message())));
                }
                Some(Err(error))
            }
        }
    }

    /// The events as a stream.
    pub fn into_stream(self) -> BoxStream<'static, Result<Delivery>> {
        stream::unfold(self, |mut subscription| async move {
            let item = subscription.next().await?;
            Some((item, subscription))
        })
        .boxed()
    }

    async fn advance(&mut self) -> Result<Delivery> {
        while self.token.replaying {
            if let Some(message) = self.replayed.pop_front() {
                self.token.seen_sequence = message.place.number();
                return Ok(self.deliver(ChatEvent::MessageNew(message)));
            }
            self.fetch_stored().await?;
        }
        loop {
            let change = match &self.pending {
                Some(change) => change.clone(),
                None => self.next_change().await?,
            };
            self.pending = Some(change.clone());
            let delivery = self.accept(change).await?;
            self.pending = None;
            if let Some(delivery) = delivery {
                return Ok(delivery);
            }
        }
    }

    async fn fetch_stored(&mut self) -> Result<()> {
        let scan = messages_between(&self.keys, None, Some(self.token.seen_sequence), None, REPLAY_PAGE);
        for (key, record) in self.chat.first(scan, REPLAY_PAGE).await? {
            self.replayed.push_back(decode(&key.sort, &record)?);
        }
        if self.replayed.is_empty() {
            self.token.replaying = false;
        }
        Ok(())
    }

    async fn next_change(&mut self) -> Result<CommitEvent> {
        if self.watch.is_none() {
            let range = WatchRange::Partition {
                keyspace: self.keys.keyspace,
                partition: self.keys.partition.clone(),
                prefix: bytes::Bytes::new(),
            };
            self.watch = Some(self.chat.engine.watch(range, WatchFrom::After(vec![self.token.cursor])).await?);
        }
        let ended = || Error::new(ErrorKind::Unavailable, "the engine ended the watch");
        match &mut self.watch {
            Some(watch) => watch.next().await.ok_or_else(ended)?,
            None => Err(ended()),
        }
    }

    /// Takes one change in; returns the event that it makes, if it is a new one.
    async fn accept(&mut self, change: CommitEvent) -> Result<Option<Delivery>> {
        let CommitEvent { cursor, key, change } = change;
        let seen = self.token.cursor;
        if (cursor.cluster, cursor.shard) == (seen.cluster, seen.shard) && cursor <= seen {
            return Ok(None);
        }
        let event = match read_change(&self.token.channel, &key.sort, change)? {
            Said::Nothing => {
                self.token.cursor = cursor;
                return Ok(None);
            }
            Said::Cut => {
                self.ended = true;
                return Ok(Some(self.reload("rows of the channel were removed")));
            }
            Said::Version(version) => return Ok(self.enter(version, cursor)),
            Said::Event(event) => event,
            Said::Unreacted { place, kind, user } => {
                let message_id = message_id(&self.chat, &self.keys, place).await?;
                ChatEvent::ReactionDeleted(Reaction { message_id, user_id: user, kind, created_at_ms: 0, custom: None })
            }
        };
        // From here on nothing waits, so the state moves as a whole.
        self.token.cursor = cursor;
        let position = self.next;
        self.next.index = position.index.saturating_add(1);
        if position <= self.token.position {
            return Ok(None);
        }
        self.token.position = position;
        if let ChatEvent::MessageNew(Message { place: Place::Channel(number), .. }) = event {
            if number <= self.token.seen_sequence {
                return Ok(None);
            }
            self.token.seen_sequence = number;
        }
        Ok(Some(self.deliver(event)))
    }

    /// A write with this version begins.
    fn enter(&mut self, version: u64, cursor: keevo_core::Cursor) -> Option<Delivery> {
        let last = self.token.position.version;
        if version > last.saturating_add(1) {
            self.ended = true;
            return Some(self.reload(&format!("versions {} to {} of the channel are missing", last + 1, version - 1)));
        }
        self.token.cursor = cursor;
        if version > last {
            self.token.position = Position { version, index: 0 };
        }
        self.next = Position { version, index: 1 };
        None
    }

    fn deliver(&self, event: ChatEvent) -> Delivery {
        Delivery { position: self.token.position, event, resume: self.token.clone() }
    }

    fn reload(&self, reason: &str) -> Delivery {
        self.deliver(ChatEvent::ReloadRequired { reason: reason.to_owned() })
    }
}

/// The id of the message at `place`, which never changes.
async fn message_id<E: Engine>(chat: &Chat<E>, keys: &ChannelKeys, place: Place) -> Result<String> {
    match chat.get(keys.message(place)).await? {
        Some(record) => Ok(rows::decode::<MessageRow>(&record.value, "a message")?.id),
        None => Ok(String::new()),
    }
}
