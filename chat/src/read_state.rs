//! Read state and unread counts: computed, never counted by deliveries. The formula is in the crate's
//! documentation.
//!
//! Invariant: `others` in a read state is a fixed fact about a prefix of the sequence (who sent a message
//! and whether it counted when sent never change), so it is right for ever, whoever writes meanwhile.

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result, Revision, prefix_end};

use crate::chat::{ATTEMPTS_MAX, Chat, Head, contended, range};
use crate::history::messages_between;
use crate::ids::{ChannelId, Place, validate_name};
use crate::keys::{self, ChannelKeys, Row, Setting};
use crate::member::{behind, validate_limit};
use crate::rows::{self, AdjustmentRow, MemberRow, MessageRow, ReadRow};

/// How often the counters are read for a consistent cut before the messages are counted one by one.
const CUTS_MAX: usize = 3;
const PAGE: usize = 1_000;

/// Up to where a member has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadTo {
    /// Everything there is now.
    End,
    /// Up to this number, included.
    Sequence(u64),
    /// Up to this message of the channel, included.
    Message(String),
}

/// How far a member has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadState {
    /// The member.
    pub user_id: String,
    /// The number of the last message read; 0 = none.
    pub sequence: u64,
    /// When it was marked, in milliseconds since the epoch; when the member joined, if it never marked anything.
    pub read_at_ms: u64,
}

/// What a member has not read, all of it at one point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// How many messages that count.
    pub unread: u64,
    /// How far the member has read.
    pub read: ReadState,
    /// The number of the channel's newest message; 0 = there is none.
    pub last_sequence: u64,
}

/// Everything that an unread count is made of, read together.
struct Reading {
    head: Head,
    state: ReadRow,
    /// Of the read state; `None` where the member has marked nothing since it joined.
    revision: Option<Revision>,
    /// Countable messages of others up to the head; `None` where the member kept sending meanwhile.
    others_at_head: Option<u64>,
}

impl<E: Engine> Chat<E> {
    /// Marks messages as read; never moves back, and never beyond the newest message. `NotFound` without the message;
    /// other errors as those of [`Chat::read_state`].
    pub async fn mark_read(&self, channel: &ChannelId, user: &str, up_to: ReadTo) -> Result<ReadState> {
        self.mark_read_at(channel, user, up_to, None).await
    }

    /// As [`Chat::mark_read`], for what was read at another time.
    pub(crate) async fn mark_read_at(
        &self,
        channel: &ChannelId,
        user: &str,
        up_to: ReadTo,
        read_at_ms: Option<u64>,
    ) -> Result<ReadState> {
        let keys = self.keys(channel).await?;
        let target = match up_to {
            ReadTo::End => u64::MAX,
            ReadTo::Sequence(number) => number,
            ReadTo::Message(id) => match self.place_of(&keys, &id).await? {
                Place::Channel(number) => number,
                Place::Thread { .. } => {
                    return Err(Error::invalid(format!("message '{id}' is a reply; mark its parent as read")));
                }
            },
        };
        self.move_read(channel, &keys, user, (target, read_at_ms), false).await
    }

    /// Marks the message with this number, and all after it, as unread again. Errors as those of
    /// [`Chat::read_state`].
    pub async fn mark_unread(&self, channel: &ChannelId, user: &str, from_sequence: u64) -> Result<ReadState> {
        let keys = self.keys(channel).await?;
        self.move_read(channel, &keys, user, (from_sequence.saturating_sub(1), None), true).await
    }

    /// How far the member has read. `NotFound` without the channel; for a user who is no member `PermissionDenied`
    /// where members are required ([`Rights::Members`](crate::Rights::Members)), else `NotFound` too.
    pub async fn read_state(&self, channel: &ChannelId, user: &str) -> Result<ReadState> {
        let keys = self.keys(channel).await?;
        let reading = self.reading(channel, &keys, user).await?;
        Ok(ReadState::from_row(user, &reading.state))
    }

    /// How many messages the member has not read: exact, at a point in time during the call. Errors as those of
    /// [`Chat::read_state`].
    pub async fn unread(&self, channel: &ChannelId, user: &str) -> Result<u64> {
        Ok(self.unread_state(channel, user).await?.unread)
    }

    /// How many messages the member has not read, up to where it has read, and how far the channel goes. Errors as
    /// those of [`Chat::read_state`].
    pub async fn unread_state(&self, channel: &ChannelId, user: &str) -> Result<Unread> {
        let keys = self.keys(channel).await?;
        let Reading { head, state, others_at_head, .. } = self.reading(channel, &keys, user).await?;
        let after = match others_at_head {
            Some(others) => others.checked_sub(state.others),
            None => Some(self.count_others(&keys, user, state.position, head.sequence).await?),
        };
        let mut gone = 0_u64;
        let start = keys::prefix::adjustments_from(state.position.saturating_add(1));
        let end = prefix_end(&keys::prefix::adjustments());
        self.walk(range(&keys, start, end, PAGE), |page| {
            for (key, record) in page {
                let row: AdjustmentRow = rows::decode(&record.value, "an adjustment")?;
                if matches!(Row::parse(&key.sort)?, Row::Adjustment(number) if number <= head.sequence)
                    && row.user_id != user
                {
                    gone += 1;
                }
            }
            Ok(true)
        })
        .await?;
        let count = after.and_then(|after| after.checked_sub(gone));
        let disagree = || Error::corrupt(format!("the counters of channel {channel} and user '{user}' disagree"));
        let unread = count.ok_or_else(disagree)?;
        Ok(Unread { unread, read: ReadState::from_row(user, &state), last_sequence: head.sequence })
    }

    /// Up to `limit` read states of a channel by user, those after `after`. Members who marked nothing have none.
    pub async fn reads(&self, channel: &ChannelId, after: Option<&str>, limit: usize) -> Result<Vec<ReadState>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let prefix = keys::prefix::reads();
        let start = after.map_or_else(|| prefix.clone(), |user| behind(&keys.read(user).sort));
        let mut found = Vec::new();
        for (key, record) in self.first(range(&keys, start, prefix_end(&prefix), limit), limit).await? {
            if let Row::Read(user) = Row::parse(&key.sort)? {
                found.push(ReadState::from_row(user, &rows::decode(&record.value, "a read state")?));
            }
        }
        Ok(found)
    }

    async fn move_read(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        user: &str,
        (target, read_at_ms): (u64, Option<u64>),
        back: bool,
    ) -> Result<ReadState> {
        for _ in 0..ATTEMPTS_MAX {
            let reading = self.reading(channel, keys, user).await?;
            let position = target.min(reading.head.sequence);
            if position == reading.state.position || (position < reading.state.position && !back) {
                return Ok(ReadState::from_row(user, &reading.state));
            }
            let others = self.others_up_to(keys, user, position, &reading).await?;
            let read_at_ms = read_at_ms.unwrap_or_else(|| self.now_ms());
            let row = ReadRow { position, others, read_at_ms };
            let check = reading.revision.map_or(Check::Absent, Check::RevisionIs);
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .put(keys.read(user), rows::encode(&row))
                .require(keys.read(user), check)
                .require(keys.member(user), Check::Exists);
            match self.engine.write(batch).await {
                Ok(_) => return Ok(ReadState::from_row(user, &row)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the read state"))
    }

    /// Countable messages of others up to `position`: from the nearer of the two places where it is known.
    async fn others_up_to(&self, keys: &ChannelKeys, user: &str, position: u64, reading: &Reading) -> Result<u64> {
        let ReadRow { position: known, others, .. } = reading.state;
        let disagree = || Error::corrupt(format!("the counters of user '{user}' disagree with the messages"));
        let head = reading.head.sequence;
        match reading.others_at_head {
            Some(at_head) if head - position <= position.abs_diff(known) => {
                let between = self.count_others(keys, user, position, head).await?;
                at_head.checked_sub(between).ok_or_else(disagree)
            }
            _ if position >= known => Ok(others + self.count_others(keys, user, known, position).await?),
            _ => {
                let between = self.count_others(keys, user, position, known).await?;
                others.checked_sub(between).ok_or_else(disagree)
            }
        }
    }

    /// Counts the countable messages of others with `after < number <= up_to`, one by one.
    pub(crate) async fn count_others(&self, keys: &ChannelKeys, user: &str, after: u64, up_to: u64) -> Result<u64> {
        if after >= up_to {
            return Ok(0);
        }
        let mut count = 0;
        let scan = messages_between(keys, None, Some(after), Some(up_to.saturating_add(1)), PAGE);
        self.walk(scan, |page| {
            for (_, record) in page {
                let row: MessageRow = rows::decode(&record.value, "a message")?;
                count += u64::from(row.countable() && row.user_id != user);
            }
            Ok(true)
        })
        .await?;
        Ok(count)
    }

    /// Reads the member's state and the channel's counters. The counters are one read view; the member's own
    /// counter only grows, so when it reads the same before and after that view, it belongs to it.
    async fn reading(&self, channel: &ChannelId, keys: &ChannelKeys, user: &str) -> Result<Reading> {
        validate_name("a user id", user)?;
        let mut cuts = 0;
        loop {
            let wanted = vec![keys.member(user), keys.read(user), keys.own(user), keys.setting(Setting::Truncated)];
            let Ok([member, read, own, truncated]) = <[Option<Record>; 4]>::try_from(self.multi_get(wanted).await?)
            else {
                return Err(Error::corrupt("the engine returned another number of records"));
            };
            let Some(member) = member else {
                return Err(self.not_a_member(channel, keys, user, self.stranger()).await);
            };
            let own = own.map_or(Ok(0), |record| rows::decode_count(&record.value))?;
            let head = self.head(keys).await?;
            let own_after = self.count(keys.own(user)).await?;
            cuts += 1;
            if own != own_after && cuts < CUTS_MAX {
                continue;
            }
            let (state, revision) = match read {
                Some(record) => (rows::decode::<ReadRow>(&record.value, "a read state")?, Some(record.revision)),
                None => (baseline(&rows::decode(&member.value, "a member")?), None),
            };
            let others_at_head = if own == own_after { head.countable.checked_sub(own) } else { None };
            let mut reading = Reading { head, state, revision, others_at_head };
            let truncated = truncated.map_or(Ok(0), |record| rows::decode_count(&record.value))?;
            if truncated > reading.state.position {
                // What is not shown any more is not unread, as if it had been read.
                reading.state.others = self.others_up_to(keys, user, truncated, &reading).await?;
                reading.state.position = truncated;
            }
            return Ok(reading);
        }
    }
}

/// The read state of a member that has marked nothing since it joined.
fn baseline(member: &MemberRow) -> ReadRow {
    ReadRow { position: member.baseline_position, others: member.baseline_others, read_at_ms: member.joined_at_ms }
}

impl ReadState {
    pub(crate) fn from_row(user: &str, row: &ReadRow) -> Self {
        Self { user_id: user.to_owned(), sequence: row.position, read_at_ms: row.read_at_ms }
    }
}
