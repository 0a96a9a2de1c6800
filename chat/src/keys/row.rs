//! What a sort key of a channel's partition names.
//!
//! Invariant: reading never panics: a known tag followed by nonsense is `Corrupt`, and a tag of a later version is
//! [`Row::Other`].

use bytes::Buf;
use keevo_core::Result;

use super::{
    ADJUSTMENT, BALLOT, BAN, CHANNEL, COUNTERS, DELETION, EDIT, FLAG, FOLLOWED, HELD, INDEX, INVITE, LOCATION, MEMBER,
    MENTION, MENTION_COUNTER, MESSAGE, ONLY_REACTION, OWN, PARENT, PARTICIPANT, PASSED_OVER, PIN, POLL, POLL_COUNTS,
    REACTION, READ, RECEIPT, REVIEW, STATS, THREAD_ADJUSTMENT, THREAD_READ, broken, named_number, parse_mentioned,
    parse_place, text,
};
use crate::ids::Place;

/// What restricts a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Frozen,
    Disabled,
    SlowMode,
    Truncated,
}

impl Setting {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Frozen => 1,
            Self::Disabled => 2,
            Self::SlowMode => 3,
            Self::Truncated => 4,
        }
    }
}

/// A count that is kept for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stat<'a> {
    CountableReplies,
    Replies,
    DeletedReplies,
    Reactions(&'a str),
    Scores(&'a str),
}

/// Who is mentioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mentioned<'a> {
    Everybody,
    User(&'a str),
    Group(&'a str),
}

/// A count that is kept for a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PollCount<'a> {
    /// Who voted or answered.
    Voters,
    /// Who answered in its own words.
    Answers,
    /// Votes for an option.
    Votes(&'a str),
}

/// What a sort key of a channel names, as far as events, counts and checks need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row<'a> {
    Version,
    Sequence,
    Countable,
    Own(&'a str),
    Channel,
    Deletion,
    Member(&'a str),
    Read(&'a str),
    Invite(&'a str),
    Ban(&'a str),
    Receipt(&'a str),
    Flag(Place, &'a str),
    Index(&'a str),
    Parent(&'a str),
    Message(Place),
    Stat(Place, Stat<'a>),
    Reaction {
        place: Place,
        kind: &'a str,
        user: &'a str,
    },
    ThreadRead(u64, &'a str),
    Participant(u64, &'a str),
    Followed(&'a str, u64),
    Adjustment(u64),
    ThreadAdjustment(u64, u64),
    Pin(Place),
    Edit(Place, u32),
    OnlyReaction(Place, &'a str),
    Review(Place),
    /// A mention, its sequence (`None` = the channel's own) and its number there.
    Mention(Mentioned<'a>, Option<u64>, u64),
    MentionCounter(Mentioned<'a>, Option<u64>),
    Poll(&'a str),
    PollCount(&'a str, PollCount<'a>),
    Ballot {
        poll: &'a str,
        user: &'a str,
    },
    Location(&'a str),
    PassedOver(Place),
    /// A message, or an edit of one, that is kept back, by its id.
    Held(&'a str),
    /// A row that needs no name here, or one of a later version.
    Other,
}

impl<'a> Row<'a> {
    /// Reads a sort key. `Corrupt` where a known tag is followed by nonsense.
    pub(crate) fn parse(sort: &'a [u8]) -> Result<Self> {
        let Some((&tag, rest)) = sort.split_first() else {
            return Ok(Self::Other);
        };
        Ok(match (tag, rest) {
            (COUNTERS, [1]) => Self::Version,
            (COUNTERS, [2]) => Self::Sequence,
            (COUNTERS, [3]) => Self::Countable,
            (OWN, user) => Self::Own(text(user)?),
            (CHANNEL, []) => Self::Channel,
            (DELETION, []) => Self::Deletion,
            (MEMBER, user) => Self::Member(text(user)?),
            (READ, user) => Self::Read(text(user)?),
            (INVITE, user) => Self::Invite(text(user)?),
            (BAN, user) => Self::Ban(text(user)?),
            (RECEIPT, user) => Self::Receipt(text(user)?),
            (FLAG, rest) => {
                let (place, user) = parse_place(rest)?;
                Self::Flag(place, text(user)?)
            }
            (PASSED_OVER, place) => Self::PassedOver(whole_place(place)?),
            (HELD, id) => Self::Held(text(id)?),
            (INDEX, id) => Self::Index(text(id)?),
            (PARENT, id) => Self::Parent(text(id)?),
            (MESSAGE, place) => Self::Message(whole_place(place)?),
            (STATS, rest) => match parse_place(rest)? {
                (place, [0]) => Self::Stat(place, Stat::CountableReplies),
                (place, [1]) => Self::Stat(place, Stat::Replies),
                (place, [2]) => Self::Stat(place, Stat::DeletedReplies),
                (place, [3, kind @ ..]) => Self::Stat(place, Stat::Reactions(text(kind)?)),
                (place, [4, kind @ ..]) => Self::Stat(place, Stat::Scores(text(kind)?)),
                _ => Self::Other,
            },
            (THREAD_READ, rest) => named_number(rest).map(|(parent, user)| Self::ThreadRead(parent, user))?,
            (PARTICIPANT, rest) => named_number(rest).map(|(parent, user)| Self::Participant(parent, user))?,
            (FOLLOWED, rest) => {
                let (user, number) = rest.split_last_chunk::<8>().ok_or_else(broken)?;
                Self::Followed(text(user)?.strip_suffix('\0').ok_or_else(broken)?, u64::from_be_bytes(*number))
            }
            (THREAD_ADJUSTMENT, mut numbers) if numbers.len() == 16 => {
                Self::ThreadAdjustment(numbers.get_u64(), numbers.get_u64())
            }
            (PIN, place) => Self::Pin(whole_place(place)?),
            (EDIT, rest) => {
                let (place, mut number) = parse_place(rest)?;
                if number.len() != 4 {
                    return Err(broken());
                }
                Self::Edit(place, number.get_u32())
            }
            (ONLY_REACTION, rest) => {
                let (place, user) = parse_place(rest)?;
                Self::OnlyReaction(place, text(user)?)
            }
            (REVIEW, place) => Self::Review(whole_place(place)?),
            (MENTION, rest) => {
                let (whom, parent, mut number) = parse_mentioned(rest)?;
                if number.len() != 8 {
                    return Err(broken());
                }
                Self::Mention(whom, parent, number.get_u64())
            }
            (MENTION_COUNTER, rest) => {
                let (whom, parent, rest) = parse_mentioned(rest)?;
                if !rest.is_empty() {
                    return Err(broken());
                }
                Self::MentionCounter(whom, parent)
            }
            (POLL, poll) => Self::Poll(text(poll)?),
            (POLL_COUNTS, rest) => match text(rest)?.split_once('\0').ok_or_else(broken)? {
                (poll, "\u{1}") => Self::PollCount(poll, PollCount::Voters),
                (poll, "\u{2}") => Self::PollCount(poll, PollCount::Answers),
                (poll, option) => {
                    let option = option.strip_prefix('\u{3}').ok_or_else(broken)?;
                    Self::PollCount(poll, PollCount::Votes(option))
                }
            },
            (BALLOT, rest) => {
                let (poll, user) = text(rest)?.split_once('\0').ok_or_else(broken)?;
                Self::Ballot { poll, user }
            }
            (LOCATION, id) => Self::Location(text(id)?),
            (REACTION, rest) => {
                let (place, rest) = parse_place(rest)?;
                let (kind, user) = text(rest)?.split_once('\0').ok_or_else(broken)?;
                Self::Reaction { place, kind, user }
            }
            (ADJUSTMENT, mut number) if number.len() == 8 => Self::Adjustment(number.get_u64()),
            _ => Self::Other,
        })
    }
}

/// A place with nothing behind it.
fn whole_place(bytes: &[u8]) -> Result<Place> {
    match parse_place(bytes)? {
        (place, []) => Ok(place),
        _ => Err(broken()),
    }
}
