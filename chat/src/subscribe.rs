//! Live subscriptions: the channel's own changes, as events, without a gap.
//!
//! Every write that makes events raises the channel's version, and that row is the first change of the
//! write. So the stream counts along: a version that repeats is skipped, one that is missing ends the
//! subscription with [`ChatEvent::ReloadRequired`]. Nothing is dropped in silence.
//!
//! A member's subscription ends at the change that removes the member, so that no front end has to look for it.

use std::collections::VecDeque;
use std::fmt;

use futures::stream::{self, BoxStream, StreamExt};
use keevo_core::{CommitEvent, Engine, Error, ErrorKind, Result, Revision, Watch, WatchFrom, WatchRange};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel};
use crate::event::{ChatEvent, Delivery, Position, Said, read_change};
use crate::history::{decode, messages_between};
use crate::ids::{ChannelId, Place, validate_name};
use crate::keys::{ChannelKeys, Setting};
use crate::membership::joined_revision;
use crate::message::Message;
use crate::reaction::Reaction;
use crate::rights::{Actor, Denied, DeniedCode, decide, granted};
use crate::rows::{self, MemberRow, MessageRow};
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
    /// Who listens; `None` = a trusted caller.
    listener: Option<Listener>,
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

/// A member who listens, as it was when the subscription began.
#[derive(Debug, Clone)]
struct Listener {
    user: String,
    /// The revision at which it joined.
    joined: Revision,
    /// The number of the newest message before it joined.
    baseline: u64,
}

impl<E: Engine> Chat<E> {
    /// Subscribes to a channel for a trusted caller: nobody's membership is looked at. `NotFound` without the
    /// channel, `Invalid` for a token of another channel or of a user.
    pub async fn subscribe(&self, channel: &ChannelId, from: ResumeFrom) -> Result<Subscription<E>> {
        self.open(channel, None, from).await
    }

    /// Subscribes a member to a channel, or a stranger where the channel's type lets strangers read. A member's
    /// subscription ends with `PermissionDenied` where it is removed.
    /// [`ResumeFrom::Beginning`] means the first message after the user joined.
    ///
    /// `NotFound` without the channel, `PermissionDenied` for a user who is no member, `Invalid` for a token of
    /// another channel or user, `CursorCompacted` for one from before the user (last) joined: read the history
    /// again and subscribe from its token.
    pub async fn subscribe_as(&self, channel: &ChannelId, user: &str, from: ResumeFrom) -> Result<Subscription<E>> {
        validate_name("a user id", user)?;
        self.check_app(user).await?;
        let disabled = self.keys(channel).await?.setting(Setting::Disabled);
        if self.get(disabled).await?.is_some() && !self.is_app_admin(user).await? {
            return Err(Denied::new(DeniedCode::Disabled, format!("channel {channel} is disabled")).into_error());
        }
        self.open(channel, Some(user), from).await
    }

    pub(crate) async fn open(
        &self,
        channel: &ChannelId,
        user: Option<&str>,
        from: ResumeFrom,
    ) -> Result<Subscription<E>> {
        let keys = self.keys(channel).await?;
        let (token, listener) = match from {
            ResumeFrom::Token(token) => {
                self.check_binding(&token, channel, user)?;
                let listener = self.listener(channel, &keys, user).await?;
                if let Some(Listener { user, joined, .. }) = &listener
                    && token.cursor.revision < *joined
                {
                    return Err(Error::new(
                        ErrorKind::CursorCompacted,
                        format!("the resume token is from before user '{user}' joined {channel}: reload the channel"),
                    ));
                }
                (token, listener)
            }
            ResumeFrom::Now => self.start(channel, &keys, user, false).await?,
            ResumeFrom::Beginning => self.start(channel, &keys, user, true).await?,
        };
        let Position { version, index } = token.position;
        let next = Position { version, index: index.saturating_add(1) };
        let chat = self.clone();
        Ok(Subscription {
            chat,
            keys,
            listener,
            token,
            replayed: VecDeque::new(),
            watch: None,
            pending: None,
            next,
            ended: false,
        })
    }

    fn check_binding(&self, token: &ResumeToken, channel: &ChannelId, user: Option<&str>) -> Result<()> {
        if token.app != self.app || token.channel != *channel {
            return Err(Error::invalid(format!(
                "the resume token belongs to channel {} of app {}, not to {channel} of app {}",
                token.channel, token.app, self.app
            )));
        }
        if token.user.as_deref() != user {
            return Err(Error::invalid("the resume token belongs to another user's subscription, or to nobody's"));
        }
        Ok(())
    }

    /// Where a new subscription starts. The membership is read after the head: who is a member then, and joined
    /// before the head, was one all the time in between, so its removal is an event behind the head.
    async fn start(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        user: Option<&str>,
        replaying: bool,
    ) -> Result<(ResumeToken, Option<Listener>)> {
        for _ in 0..ATTEMPTS_MAX {
            let head = self.head(keys).await?;
            let listener = self.listener(channel, keys, user).await?;
            if listener.as_ref().is_some_and(|listener| head.as_of.revision < listener.joined) {
                continue;
            }
            let mut token = ResumeToken::at_head(self.app, channel, &head, 0);
            token.user = user.map(str::to_owned);
            if replaying {
                let truncated = self.count(keys.setting(Setting::Truncated)).await?;
                token.seen_sequence = listener.as_ref().map_or(0, |listener| listener.baseline).max(truncated);
                token.replaying = true;
            }
            return Ok((token, listener));
        }
        Err(contended("the membership"))
    }

    /// The member who listens, as it is now; `None` where no user is named and the channel exists.
    async fn listener(&self, channel: &ChannelId, keys: &ChannelKeys, user: Option<&str>) -> Result<Option<Listener>> {
        let Some(user) = user else {
            return self.get(keys.channel()).await?.map(|_| None).ok_or_else(|| no_channel(channel));
        };
        let Some(record) = self.get(keys.member(user)).await? else {
            if self.kind_of(channel)?.strangers.contains(&Capability::ReadChannel) {
                return self.get(keys.channel()).await?.map(|_| None).ok_or_else(|| no_channel(channel));
            }
            return Err(self.not_a_member(channel, keys, user, ErrorKind::PermissionDenied).await);
        };
        let row: MemberRow = rows::decode(&record.value, "a member")?;
        let grants = granted(&row);
        let actor = Actor { user_id: user, role: Some(&row.role), grants: &grants };
        decide(channel, &self.kind_of(channel)?, actor, Capability::ReadChannel).map_err(Denied::into_error)?;
        let joined = joined_revision(&row, &record);
        Ok(Some(Listener { user: user.to_owned(), joined, baseline: row.baseline_position }))
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
        let page = self.chat.first(scan, REPLAY_PAGE).await?;
        self.check_listener().await?;
        self.token.replaying = !page.is_empty();
        for (key, record) in page {
            let message = decode(&key.sort, &record)?;
            if self.is_for_listener(&message) {
                self.replayed.push_back(message);
            } else if self.replayed.is_empty() {
                self.token.seen_sequence = message.place.number();
            }
        }
        Ok(())
    }

    /// Refuses stored messages that were read after the listener was removed: its removal is behind them.
    async fn check_listener(&mut self) -> Result<()> {
        let Some(Listener { user, joined, .. }) = &self.listener else {
            return Ok(());
        };
        match self.chat.listener(&self.token.channel, &self.keys, Some(user)).await? {
            Some(now) if now.joined == *joined => Ok(()),
            _ => Err(removed(&self.token.channel, user)),
        }
    }

    async fn next_change(&mut self) -> Result<CommitEvent> {
        match self.watched().await {
            Err(error) if error.kind() == ErrorKind::CursorCompacted => {
                // Where nothing has happened in the channel since, nothing was missed.
                let head = self.chat.head(&self.keys).await?;
                if self.token.position != (Position { version: head.version, index: u32::MAX }) {
                    return Err(error);
                }
                (self.token.cursor, self.watch) = (head.as_of, None);
                self.watched().await
            }
            watched => watched,
        }
    }

    async fn watched(&mut self) -> Result<CommitEvent> {
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
        let said = read_change(&self.token.channel, &key.sort, change)?;
        if let (Said::Event(event), Some(Listener { user, .. })) = (&said, &self.listener)
            && matches!(event.as_ref(), ChatEvent::MemberRemoved { user_id } if user_id == user)
        {
            return Err(removed(&self.token.channel, user));
        }
        let event = match said {
            Said::Nothing => {
                self.token.cursor = cursor;
                return Ok(None);
            }
            Said::Cut => {
                self.ended = true;
                return Ok(Some(self.reload("rows of the channel were removed")));
            }
            Said::Version(version) => return Ok(self.enter(version, cursor)),
            Said::Event(event) => *event,
            Said::Unreacted { place, kind, user } => {
                let message_id = message_id(&self.chat, &self.keys, place).await?;
                let (created_at_ms, custom, score) = (0, None, 0);
                ChatEvent::ReactionDeleted(Reaction { message_id, user_id: user, kind, created_at_ms, custom, score })
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
        let only_for = event.only_for();
        let hidden = self.token.user.as_deref().is_some_and(|user| only_for.is_some_and(|only| only != user));
        Ok(if hidden { None } else { Some(self.deliver(event)) })
    }

    fn is_for_listener(&self, message: &Message) -> bool {
        self.token.user.as_deref().is_none_or(|user| message.is_visible_to(user))
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

/// The end of a subscription whose user is a member no longer.
fn removed(channel: &ChannelId, user: &str) -> Error {
    let message = format!("user '{user}' was removed from channel {channel}");
    Error::new(ErrorKind::PermissionDenied, message)
}

/// The id of the message at `place`, which never changes.
pub(crate) async fn message_id<E: Engine>(chat: &Chat<E>, keys: &ChannelKeys, place: Place) -> Result<String> {
    match chat.get(keys.message(place)).await? {
        Some(record) => Ok(rows::decode::<MessageRow>(&record.value, "a message")?.id),
        None => Ok(String::new()),
    }
}
