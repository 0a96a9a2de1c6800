//! Events of one user: what changes in its own partition, on whichever of its devices.
//!
//! They have no numbers of their own: a token names a place in the shard's changes. Delivered in the order in which
//! they happened, each once to a subscription; one that begins at a token misses nothing behind it.
//!
//! Invariant: an event is a pure function of one change.

use std::fmt;

use bytes::Bytes;
use keevo_core::{
    Change, ClusterId, CommitEvent, Cursor, Engine, Error, ErrorKind, Result, Revision, Scan, ShardId, Watch,
    WatchFrom, WatchRange,
};
use prost::Message as _;

use crate::chat::Chat;
use crate::draft::Draft;
use crate::ids::{AppId, ChannelId, validate_name};
use crate::keys::{self, Personal};
use crate::member::Listing;
use crate::reminder::Reminder;
use crate::rows::{self, AgainstRow, CursorRow, ListingRow, TokenRow};
use crate::users::User;

const FORMAT: u8 = 1;

/// What happened to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserEvent {
    /// It became a member of a channel, or its role there changed.
    ChannelListed(Listing),
    /// It was invited to a channel.
    Invited(Listing),
    /// It is no member of the channel any more, nor invited.
    ChannelUnlisted(ChannelId),
    /// What is known of the user changed.
    UserUpdated(User),
    /// What it wants of a channel changed: hidden, archived, pinned or muted.
    PreferenceChanged(ChannelId),
    /// It muted a user, until a time or for good.
    Muted {
        /// Whom.
        user_id: String,
        /// Until when; `None` = for good.
        until_ms: Option<u64>,
    },
    /// It ended a mute; one that ends by itself makes no event.
    Unmuted(String),
    /// It blocked a user.
    Blocked(String),
    /// It ended a block.
    Unblocked(String),
    /// A draft was begun or changed.
    DraftUpdated(Draft),
    /// A draft was sent or removed.
    DraftDeleted {
        /// Where.
        channel: ChannelId,
        /// The message whose thread it was for.
        parent_id: Option<String>,
    },
    /// A reminder was set or changed.
    ReminderSet(Reminder),
    /// A reminder came due: once for each time that it was set.
    ReminderDue(Reminder),
    /// A reminder was removed.
    ReminderDeleted {
        /// The channel.
        channel: ChannelId,
        /// The message.
        message_id: String,
    },
    /// It is in a group of users now.
    GroupJoined(String),
    /// It is in that group no longer.
    GroupLeft(String),
    /// Events were missed that cannot be had any more: read the user's lists again and subscribe anew. The last event of
    /// its subscription.
    ReloadRequired {
        /// Why, for a person.
        reason: String,
    },
}

impl UserEvent {
    /// The event's stable name, such as `draft.updated`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ChannelListed(_) => "channel.listed",
            Self::Invited(_) => "channel.invited",
            Self::ChannelUnlisted(_) => "channel.unlisted",
            Self::UserUpdated(_) => "user.updated",
            Self::PreferenceChanged(_) => "preference.changed",
            Self::Muted { .. } => "user.muted",
            Self::Unmuted(_) => "user.unmuted",
            Self::Blocked(_) => "user.blocked",
            Self::Unblocked(_) => "user.unblocked",
            Self::DraftUpdated(_) => "draft.updated",
            Self::DraftDeleted { .. } => "draft.deleted",
            Self::ReminderSet(_) => "reminder.set",
            Self::ReminderDue(_) => "reminder.due",
            Self::ReminderDeleted { .. } => "reminder.deleted",
            Self::GroupJoined(_) => "group.joined",
            Self::GroupLeft(_) => "group.left",
            Self::ReloadRequired { .. } => "reload.required",
        }
    }
}

/// Where a user's subscription stands. Opaque to clients, and no proof of rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserToken {
    pub(crate) app: AppId,
    pub(crate) user: String,
    pub(crate) cursor: Cursor,
}

impl UserToken {
    /// The token as bytes, for a client to keep.
    pub fn encode(&self) -> Bytes {
        let cluster = self.cursor.cluster.0;
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("masked to 64 bits");
        let cursor = CursorRow {
            cluster_high: half(cluster >> 64),
            cluster_low: half(cluster),
            shard: self.cursor.shard.0,
            revision: self.cursor.revision.0,
            offset: self.cursor.offset,
        };
        let row = TokenRow { app: self.app.0, user: self.user.clone(), cursors: vec![cursor], ..TokenRow::default() };
        let mut out = vec![FORMAT];
        out.extend(row.encode_to_vec());
        out.into()
    }

    /// Reads a token's bytes; `Invalid` for anything that no version of Keevo made, `NewerFormat` for a later one's.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let foreign = || Error::invalid("the resume token of a user does not decode");
        let (&format, rest) = bytes.split_first().ok_or_else(foreign)?;
        if format > FORMAT {
            return Err(Error::new(ErrorKind::NewerFormat, format!("the resume token has format {format}")));
        }
        let row = TokenRow::decode(rest).map_err(|error| foreign().with_source(error))?;
        let (FORMAT, [cursor]) = (format, row.cursors.as_slice()) else {
            return Err(foreign());
        };
        validate_name("a user id", &row.user)?;
        let cursor = Cursor {
            cluster: ClusterId((u128::from(cursor.cluster_high) << 64) | u128::from(cursor.cluster_low)),
            shard: ShardId(cursor.shard),
            revision: Revision(cursor.revision),
            offset: cursor.offset,
        };
        Ok(Self { app: AppId(row.app), user: row.user, cursor })
    }
}

/// An event of a user, with the token that continues behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDelivery {
    /// What happened.
    pub event: UserEvent,
    /// A subscription from here continues behind the event.
    pub resume: UserToken,
}

/// The events of one user. Reads on demand: a slow subscriber costs nothing but its own lag.
pub struct UserSubscription {
    token: UserToken,
    watch: Watch,
    ended: bool,
}

impl fmt::Debug for UserSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserSubscription")
            .field("token", &self.token)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl<E: Engine> Chat<E> {
    /// The events of a user, from now on or behind a token. Whoever serves them has checked that it is this user who
    /// listens. `Invalid` for a token of another user or app.
    pub async fn subscribe_user(&self, user: &str, from: Option<UserToken>) -> Result<UserSubscription> {
        validate_name("a user id", user)?;
        let (keyspace, partition) = (self.keyspace().await?, keys::user_partition(self.app, user));
        let token = match from {
            Some(token) if token.app == self.app && token.user == user => token,
            Some(_) => return Err(Error::invalid("the resume token belongs to another user or app")),
            None => UserToken { app: self.app, user: user.to_owned(), cursor: self.user_place(user).await? },
        };
        let range = WatchRange::Partition { keyspace, partition, prefix: Bytes::new() };
        let watch = self.engine.watch(range, WatchFrom::After(vec![token.cursor])).await?;
        Ok(UserSubscription { token, watch, ended: false })
    }
}

impl<E: Engine> Chat<E> {
    /// Where what happens to a user is now: in which shard, and behind which change. Whoever watches that shard from there on,
    /// with [`UserChange`](crate::UserChange), misses nothing of it.
    pub async fn user_place(&self, user: &str) -> Result<Cursor> {
        validate_name("a user id", user)?;
        let (keyspace, partition) = (self.keyspace().await?, keys::user_partition(self.app, user));
        Ok(self.engine.scan(Scan::partition(keyspace, partition, 1)).await?.as_of)
    }
}

impl UserSubscription {
    /// The token that continues behind the last event returned.
    pub fn resume(&self) -> &UserToken {
        &self.token
    }

    /// The next event; waits for one. `None` once an error or `ReloadRequired` was returned. After an error the token
    /// is still good. Dropping the future before it is done loses nothing.
    pub async fn next(&mut self) -> Option<Result<UserDelivery>> {
        while !self.ended {
            let change = match futures::StreamExt::next(&mut self.watch).await {
                Some(Ok(change)) => change,
                Some(Err(error)) if error.kind() == ErrorKind::CursorCompacted => {
                    return Some(Ok(self.reload(error.message())));
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                None => {
                    self.ended = true;
                    return Some(Err(Error::new(ErrorKind::Unavailable, "the engine ended the watch")));
                }
            };
            let CommitEvent { cursor, key, change } = change;
            let seen = self.token.cursor;
            if (cursor.cluster, cursor.shard) == (seen.cluster, seen.shard) && cursor <= seen {
                continue;
            }
            match read_change(&self.token.user, &key.sort, change) {
                Ok(said) => {
                    self.token.cursor = cursor;
                    if let Some(event) = said {
                        return Some(Ok(UserDelivery { event, resume: self.token.clone() }));
                    }
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    fn reload(&mut self, reason: &str) -> UserDelivery {
        self.ended = true;
        UserDelivery { event: UserEvent::ReloadRequired { reason: reason.to_owned() }, resume: self.token.clone() }
    }
}

/// The event that a change of a user's partition makes, if it makes one.
pub(crate) fn read_change(user: &str, sort: &[u8], change: Change) -> Result<Option<UserEvent>> {
    let row = Personal::parse(sort)?;
    Ok(match change {
        Change::Put { value, .. } => read_put(user, row, &value)?,
        Change::Delete => match row {
            Personal::Mute(other) => Some(UserEvent::Unmuted(other.to_owned())),
            Personal::Block(other) => Some(UserEvent::Unblocked(other.to_owned())),
            Personal::Draft(channel, parent_id) => Some(UserEvent::DraftDeleted {
                channel: keys::stored_channel(channel)?,
                parent_id: parent_id.map(str::to_owned),
            }),
            Personal::Reminder(channel, message) => Some(UserEvent::ReminderDeleted {
                channel: keys::stored_channel(channel)?,
                message_id: message.to_owned(),
            }),
            Personal::InGroup(group) => Some(UserEvent::GroupLeft(group.to_owned())),
            Personal::Preference(channel) => Some(UserEvent::PreferenceChanged(keys::stored_channel(channel)?)),
            _ => None,
        },
        Change::DeleteRange { .. } => None,
    })
}

fn read_put(user: &str, row: Personal<'_>, value: &Bytes) -> Result<Option<UserEvent>> {
    Ok(Some(match row {
        Personal::Listing(channel) => {
            let row: ListingRow = rows::decode(value, "a listing")?;
            let channel: ChannelId = keys::stored_channel(channel)?;
            if row.removed {
                return Ok(Some(UserEvent::ChannelUnlisted(channel)));
            }
            let invited = row.invited;
            let listing = Listing { channel, role: row.role, joined_at_ms: row.joined_at_ms };
            if invited { UserEvent::Invited(listing) } else { UserEvent::ChannelListed(listing) }
        }
        Personal::User => UserEvent::UserUpdated(User::from_row(user, rows::decode(value, "a user")?)),
        Personal::Preference(channel) => UserEvent::PreferenceChanged(keys::stored_channel(channel)?),
        Personal::Mute(other) => {
            let row: AgainstRow = rows::decode(value, "a mute")?;
            UserEvent::Muted { user_id: other.to_owned(), until_ms: row.until_ms }
        }
        Personal::Block(other) => UserEvent::Blocked(other.to_owned()),
        Personal::Draft(channel, parent_id) => UserEvent::DraftUpdated(Draft::from_row(
            keys::stored_channel(channel)?,
            parent_id.map(str::to_owned),
            rows::decode(value, "a draft")?,
        )),
        Personal::Reminder(channel, message) => {
            let reminder =
                Reminder::from_row(keys::stored_channel(channel)?, message, &rows::decode(value, "a reminder")?);
            if reminder.fired_at_ms.is_some() {
                UserEvent::ReminderDue(reminder)
            } else {
                UserEvent::ReminderSet(reminder)
            }
        }
        Personal::InGroup(group) => UserEvent::GroupJoined(group.to_owned()),
        Personal::AppBan | Personal::Erasure | Personal::Other => return Ok(None),
    }))
}
