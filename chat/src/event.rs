//! Events: what subscribers see, made from the channel's own committed rows.
//!
//! Invariant: an event is a pure function of one change, so every subscriber sees the same events with the
//! same positions, live or resumed.

use std::fmt;

use bytes::Bytes;
use keevo_core::{Change, Error, Result};

use crate::channel::Channel;
use crate::ids::{ChannelId, Place};
use crate::invite::{Invite, InviteState};
use crate::keys::Row;
use crate::location::Location;
use crate::member::Member;
use crate::message::{Audience, Message};
use crate::poll::{Ballot, Poll};
use crate::reaction::Reaction;
use crate::read_state::ReadState;
use crate::receipt::Receipt;
use crate::rows::{self, ChannelRow, InviteRow, LocationRow, MemberRow, MessageRow, PollRow, ReadRow, ReceiptRow};
use crate::token::ResumeToken;

/// The place of an event in its channel: the channel's version (one more with every write that makes
/// events, no gaps) and the event's number within that write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The channel's version.
    pub version: u64,
    /// The number within the write, from 1.
    pub index: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.version, self.index)
    }
}

/// An event with its place and the token that continues behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its place. Stored messages that are replayed have none of their own: they carry the place where the
    /// live events will begin.
    pub position: Position,
    /// What happened.
    pub event: ChatEvent,
    /// A subscription from here continues behind the event.
    pub resume: ResumeToken,
}

/// What happened in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChatEvent {
    /// The channel was created.
    ChannelCreated(Channel),
    /// The channel was changed, or restored.
    ChannelUpdated(Channel),
    /// The channel was deleted.
    ChannelDeleted,
    /// A message was sent; a replayed one may have been edited or deleted since.
    MessageNew(Message),
    /// A message was edited.
    MessageUpdated(Message),
    /// A message was deleted.
    MessageDeleted(Message),
    /// A reaction was put on a message.
    ReactionNew(Reaction),
    /// A reaction was taken back.
    ReactionDeleted(Reaction),
    /// A member has read.
    Read(ReadState),
    /// A member has got messages.
    Delivered(Receipt),
    /// A member was added.
    MemberAdded(Member),
    /// A member's role, grants or custom data changed.
    MemberUpdated(Member),
    /// A member was removed.
    MemberRemoved {
        /// Who.
        user_id: String,
    },
    /// A user was invited.
    MemberInvited(Invite),
    /// An invited user said no.
    InviteRejected(Invite),
    /// An invitation was taken back.
    InviteRevoked(Invite),
    /// A poll was made.
    PollCreated(Poll),
    /// A poll was changed, or an option suggested.
    PollUpdated(Poll),
    /// A poll was closed.
    PollClosed(Poll),
    /// A poll was deleted.
    PollDeleted {
        /// Which.
        poll_id: String,
    },
    /// A user voted, or took votes back: what it votes for now. Of an anonymous poll without the user, and without it
    /// and its options where the user or the poll was deleted: read the counts.
    PollVoted(Ballot),
    /// A shared location moved.
    LocationUpdated(Location),
    /// A location is shared no longer. One that ends by its time makes no event.
    LocationStopped(Location),
    /// Events were missed that cannot be had any more: read the history again and subscribe from its token.
    /// The last event of its subscription.
    ReloadRequired {
        /// Why, for a person.
        reason: String,
    },
}

impl ChatEvent {
    /// The event's stable name, such as `message.new`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ChannelCreated(_) => "channel.created",
            Self::ChannelUpdated(_) => "channel.updated",
            Self::ChannelDeleted => "channel.deleted",
            Self::MessageNew(_) => "message.new",
            Self::MessageUpdated(_) => "message.updated",
            Self::MessageDeleted(_) => "message.deleted",
            Self::ReactionNew(_) => "reaction.new",
            Self::ReactionDeleted(_) => "reaction.deleted",
            Self::Read(_) => "message.read",
            Self::Delivered(_) => "message.delivered",
            Self::MemberAdded(_) => "member.added",
            Self::MemberUpdated(_) => "member.updated",
            Self::MemberRemoved { .. } => "member.removed",
            Self::MemberInvited(_) => "invite.new",
            Self::InviteRejected(_) => "invite.rejected",
            Self::InviteRevoked(_) => "invite.revoked",
            Self::PollCreated(_) => "poll.created",
            Self::PollUpdated(_) => "poll.updated",
            Self::PollClosed(_) => "poll.closed",
            Self::PollDeleted { .. } => "poll.deleted",
            Self::PollVoted(_) => "poll.voted",
            Self::LocationUpdated(_) => "location.updated",
            Self::LocationStopped(_) => "location.stopped",
            Self::ReloadRequired { .. } => "reload.required",
        }
    }

    /// The only user who is to be told; `None` = everybody who reads the channel.
    pub fn only_for(&self) -> Option<&str> {
        let (audience, user) = match self {
            Self::MessageNew(one) | Self::MessageUpdated(one) | Self::MessageDeleted(one) => {
                (one.audience, &one.user_id)
            }
            Self::LocationUpdated(one) | Self::LocationStopped(one) => (one.audience, &one.user_id),
            _ => return None,
        };
        (audience == Audience::Sender).then_some(user)
    }
}

/// What a change says.
pub(crate) enum Said {
    /// Nothing that a subscriber sees.
    Nothing,
    /// The channel has this version now, and what follows belongs to it.
    Version(u64),
    /// An event.
    Event(Box<ChatEvent>),
    /// A reaction was taken back; the row is gone, so the message's id has to be looked up.
    Unreacted { place: Place, kind: String, user: String },
    /// Rows went that no event names.
    Cut,
}

/// Reads a change of a channel's partition.
pub(crate) fn read_change(channel: &ChannelId, sort: &[u8], change: Change) -> Result<Said> {
    let row = Row::parse(sort)?;
    Ok(match (row, change) {
        (_, Change::DeleteRange { .. }) | (Row::Version | Row::Message(_), Change::Delete) => Said::Cut,
        (Row::Channel, Change::Delete) => Said::Event(Box::new(ChatEvent::ChannelDeleted)),
        (Row::Member(user), Change::Delete) => {
            Said::Event(Box::new(ChatEvent::MemberRemoved { user_id: user.to_owned() }))
        }
        (Row::Reaction { place, kind, user }, Change::Delete) => {
            Said::Unreacted { place, kind: kind.to_owned(), user: user.to_owned() }
        }
        (Row::Ballot { poll, .. }, Change::Delete) => {
            Said::Event(Box::new(ChatEvent::PollVoted(Ballot { poll_id: poll.to_owned(), ..Ballot::default() })))
        }
        (Row::Version, Change::Put { value, .. }) => Said::Version(rows::decode_count(&value)?),
        (row, Change::Put { value, .. }) => {
            read_put(channel, row, &value)?.map_or(Said::Nothing, |event| Said::Event(Box::new(event)))
        }
        (_, Change::Delete) => Said::Nothing,
    })
}

fn read_put(channel: &ChannelId, row: Row<'_>, value: &Bytes) -> Result<Option<ChatEvent>> {
    Ok(Some(match row {
        Row::Channel => {
            let row: ChannelRow = rows::decode(value, "a channel")?;
            let first = is_first(row.version)?;
            let channel = Channel::from_row(channel.clone(), row);
            if first { ChatEvent::ChannelCreated(channel) } else { ChatEvent::ChannelUpdated(channel) }
        }
        Row::Member(user) => {
            let row: MemberRow = rows::decode(value, "a member")?;
            let first = is_first(row.version)?;
            let member = Member::from_row(user, row);
            if first { ChatEvent::MemberAdded(member) } else { ChatEvent::MemberUpdated(member) }
        }
        Row::Message(place) => {
            let row: MessageRow = rows::decode(value, "a message")?;
            let first = is_first(row.version)?;
            let message = Message::from_row(row, place);
            if message.deleted_at_ms.is_some() {
                ChatEvent::MessageDeleted(message)
            } else if first {
                ChatEvent::MessageNew(message)
            } else {
                ChatEvent::MessageUpdated(message)
            }
        }
        Row::Reaction { kind, user, .. } => {
            ChatEvent::ReactionNew(Reaction::from_row(rows::decode(value, "a reaction")?, kind, user))
        }
        Row::Read(user) => {
            let row: ReadRow = rows::decode(value, "a read state")?;
            ChatEvent::Read(ReadState::from_row(user, &row))
        }
        Row::Receipt(user) => {
            let row: ReceiptRow = rows::decode(value, "a receipt")?;
            ChatEvent::Delivered(Receipt::from_row(user, &row))
        }
        Row::Invite(user) => {
            let row: InviteRow = rows::decode(value, "an invitation")?;
            let invite = Invite::from_row(user, row)?;
            match invite.state {
                InviteState::Pending => ChatEvent::MemberInvited(invite),
                InviteState::Rejected => ChatEvent::InviteRejected(invite),
                InviteState::Revoked => ChatEvent::InviteRevoked(invite),
            }
        }
        Row::Poll(id) => {
            let row: PollRow = rows::decode(value, "a poll")?;
            let first = is_first(row.version)?;
            if row.deleted_at_ms.is_some() {
                return Ok(Some(ChatEvent::PollDeleted { poll_id: id.to_owned() }));
            }
            let poll = Poll::from_row(id, row);
            match poll.closed_at_ms {
                Some(_) => ChatEvent::PollClosed(poll),
                None if first => ChatEvent::PollCreated(poll),
                None => ChatEvent::PollUpdated(poll),
            }
        }
        Row::Ballot { poll, user } => {
            ChatEvent::PollVoted(Ballot::from_row(poll, user, rows::decode(value, "a ballot")?))
        }
        Row::Location(id) => {
            let row: LocationRow = rows::decode(value, "a location")?;
            // It begins with its message.
            if is_first(row.version)? {
                return Ok(None);
            }
            let location = Location::from_row(id, &row);
            if location.stopped_at_ms.is_some() {
                ChatEvent::LocationStopped(location)
            } else {
                ChatEvent::LocationUpdated(location)
            }
        }
        _ => return Ok(None),
    }))
}

fn is_first(version: u32) -> Result<bool> {
    match version {
        0 => Err(Error::corrupt("a row has version 0")),
        version => Ok(version == 1),
    }
}
