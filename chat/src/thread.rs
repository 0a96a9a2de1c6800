//! Threads: who takes part, who follows, and what of them is unread.
//!
//! Whoever replies, and whoever wrote the message replied to, takes part and follows. The unread count of a thread is
//! computed by the formula of a channel's, over the thread's own sequence:
//!
//! ```text
//! unread = (countable replies ever sent - those of the user)          50 parent 00 and 53 parent user
//!        - (countable replies of others, up to the read position)     stored with it
//!        - (replies of others behind it that no longer count)         61 parent n
//! ```
//!
//! Invariant: a reply and what it counts are one batch, so at any point in time the rows agree.

use std::collections::BTreeMap;

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result, Revision, Scan, prefix_end};

use crate::chat::{ATTEMPTS_MAX, Chat, contended, range};
use crate::history::messages_between;
use crate::ids::{ChannelId, Place, validate_name};
use crate::keys::{self, ChannelKeys, Row, Stat};
use crate::member::validate_limit;
use crate::message::Message;
use crate::read_state::ReadTo;
use crate::rows::{self, AdjustmentRow, MessageRow, ThreadReadRow};

/// How often the counters are read for a consistent cut before the replies are counted one by one.
const CUTS_MAX: usize = 3;
const PAGE: usize = 1_000;

/// Who takes part in a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// The user.
    pub user_id: String,
    /// How many countable replies it ever sent; 0 for one who only wrote the message replied to.
    pub replies: u64,
}

/// What a user has not read of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadUnread {
    /// The message replied to.
    pub parent_id: String,
    /// How many replies that count.
    pub unread: u64,
    /// The number of the last reply read; 0 = none.
    pub read_sequence: u64,
    /// The number of the newest reply.
    pub last_sequence: u64,
}

/// A thread that a user follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// The message replied to.
    pub parent: Message,
    /// What the user has not read.
    pub unread: ThreadUnread,
}

/// Everything that an unread count is made of, read together.
struct Reading {
    /// Replies ever sent.
    newest: u64,
    state: ThreadReadRow,
    revision: Option<Revision>,
    /// Countable replies of others ever sent; `None` where the user kept sending meanwhile.
    others: Option<u64>,
}

impl<E: Engine> Chat<E> {
    /// Up to `limit` of those who take part in a thread, by user id. `Invalid` for a reply.
    pub async fn participants(&self, channel: &ChannelId, parent_id: &str, limit: usize) -> Result<Vec<Participant>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let parent = self.parent_place(&keys, parent_id).await?;
        let scan = Scan::prefix(keys.keyspace, keys.partition.clone(), keys::prefix::participants(parent), limit);
        let mut found = Vec::new();
        for (key, record) in self.first(scan, limit).await? {
            if let Row::Participant(_, user) = Row::parse(&key.sort)? {
                found.push(Participant { user_id: user.to_owned(), replies: rows::decode_count(&record.value)? });
            }
        }
        Ok(found)
    }

    /// Marks replies of a thread as read; never moves back, and never beyond the newest reply. Returns what is unread
    /// then. `Invalid` for a reply as the parent, and for a message of another thread to read to.
    pub async fn mark_thread_read(
        &self,
        channel: &ChannelId,
        parent_id: &str,
        user: &str,
        up_to: ReadTo,
    ) -> Result<ThreadUnread> {
        let keys = self.keys(channel).await?;
        let parent = self.parent_place(&keys, parent_id).await?;
        let target = match up_to {
            ReadTo::End => u64::MAX,
            ReadTo::Sequence(number) => number,
            ReadTo::Message(id) => match self.place_of(&keys, &id).await? {
                Place::Thread { parent: of, reply } if of == parent => reply,
                _ => return Err(Error::invalid(format!("message '{id}' is no reply to '{parent_id}'"))),
            },
        };
        self.move_thread(channel, &keys, parent, user, |state, newest| {
            let position = target.min(newest);
            (position > state.position).then_some((position, false))
        })
        .await?;
        self.thread_state(channel, &keys, parent, parent_id, user).await
    }

    /// Marks the reply with this number, and all after it, as unread again.
    pub async fn mark_thread_unread(
        &self,
        channel: &ChannelId,
        parent_id: &str,
        user: &str,
        from_sequence: u64,
    ) -> Result<ThreadUnread> {
        let keys = self.keys(channel).await?;
        let parent = self.parent_place(&keys, parent_id).await?;
        self.move_thread(channel, &keys, parent, user, |state, newest| {
            let position = from_sequence.saturating_sub(1).min(newest);
            (position != state.position).then_some((position, state.unfollowed))
        })
        .await?;
        self.thread_state(channel, &keys, parent, parent_id, user).await
    }

    /// Takes a thread off the user's list of threads, or puts it back there. Only threads that the user takes part in,
    /// or has marked, can be on it.
    pub async fn follow_thread(&self, channel: &ChannelId, parent_id: &str, user: &str, follow: bool) -> Result<()> {
        let keys = self.keys(channel).await?;
        let parent = self.parent_place(&keys, parent_id).await?;
        self.move_thread(channel, &keys, parent, user, |state, _| {
            (state.unfollowed == follow || follow).then_some((state.position, !follow))
        })
        .await
    }

    /// What a user has not read of a thread: exact, at a point in time during the call. `PermissionDenied` or `NotFound`
    /// for a user who is no member, as for [`Chat::read_state`].
    pub async fn thread_unread(&self, channel: &ChannelId, parent_id: &str, user: &str) -> Result<ThreadUnread> {
        let keys = self.keys(channel).await?;
        let parent = self.parent_place(&keys, parent_id).await?;
        self.thread_state(channel, &keys, parent, parent_id, user).await
    }

    /// Up to `limit` threads of the channel that a user follows, 1 to 100, newest parent first; those before the parent
    /// with the number `before`.
    pub async fn threads(
        &self,
        channel: &ChannelId,
        user: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Thread>> {
        validate_name("a user id", user)?;
        if limit == 0 || limit > 100 {
            return Err(Error::invalid(format!("a page has 1 to 100 threads, not {limit}")));
        }
        let keys = self.keys(channel).await?;
        let prefix = keys::prefix::followed(user);
        let end = before.map_or_else(|| prefix_end(&prefix), |number| keys.followed(user, number).sort);
        let mut parents = Vec::new();
        self.walk(range(&keys, prefix, end, limit).backward(), |page| {
            for (key, _) in page {
                if let Row::Followed(_, parent) = Row::parse(&key.sort)? {
                    parents.push(parent);
                }
            }
            Ok(parents.len() < 4 * limit)
        })
        .await?;
        let mut found = Vec::new();
        for parent in parents {
            let Some(record) = self.get(keys.message(Place::Channel(parent))).await? else {
                continue;
            };
            let reading = self.thread_reading(channel, &keys, parent, user).await?;
            if reading.state.unfollowed {
                continue;
            }
            let mut message = Message::from_row(rows::decode(&record.value, "a message")?, Place::Channel(parent));
            message.stats = Some(self.stats_of(&keys, message.place).await?);
            let unread = self.count_thread(&keys, parent, &message.id, user, reading).await?;
            found.push(Thread { parent: message, unread });
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    async fn parent_place(&self, keys: &ChannelKeys, id: &str) -> Result<u64> {
        match self.place_of(keys, id).await? {
            Place::Channel(parent) => Ok(parent),
            Place::Thread { .. } => Err(Error::invalid(format!("message '{id}' is a reply, and has no thread"))),
        }
    }

    async fn thread_state(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        parent: u64,
        parent_id: &str,
        user: &str,
    ) -> Result<ThreadUnread> {
        let reading = self.thread_reading(channel, keys, parent, user).await?;
        self.count_thread(keys, parent, parent_id, user, reading).await
    }

    async fn count_thread(
        &self,
        keys: &ChannelKeys,
        parent: u64,
        parent_id: &str,
        user: &str,
        reading: Reading,
    ) -> Result<ThreadUnread> {
        let Reading { newest, state, others, .. } = reading;
        let after = match others {
            Some(others) => others.checked_sub(state.others),
            None => Some(self.count_replies(keys, parent, user, state.position, newest).await?),
        };
        let mut gone = 0_u64;
        let start = keys.thread_adjustment(parent, state.position.saturating_add(1)).sort;
        let end = prefix_end(&keys::prefix::thread_adjustments(parent));
        self.walk(range(keys, start, end, PAGE), |page| {
            for (key, record) in page {
                let row: AdjustmentRow = rows::decode(&record.value, "an adjustment")?;
                let within = matches!(Row::parse(&key.sort)?, Row::ThreadAdjustment(_, reply) if reply <= newest);
                gone += u64::from(within && row.user_id != user);
            }
            Ok(true)
        })
        .await?;
        let count = after.and_then(|after| after.checked_sub(gone));
        let disagree = || Error::corrupt(format!("the counters of thread '{parent_id}' and user '{user}' disagree"));
        let unread = count.ok_or_else(disagree)?;
        let parent_id = parent_id.to_owned();
        Ok(ThreadUnread { parent_id, unread, read_sequence: state.position, last_sequence: newest })
    }

    /// Moves the read position where `target` says so, from what it is and from the newest reply.
    async fn move_thread(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        parent: u64,
        user: &str,
        target: impl Fn(&ThreadReadRow, u64) -> Option<(u64, bool)> + Send + Sync,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            let reading = self.thread_reading(channel, keys, parent, user).await?;
            let Some((position, unfollowed)) = target(&reading.state, reading.newest) else {
                return Ok(());
            };
            let known = reading.state.position;
            let between = self.count_replies(keys, parent, user, known.min(position), known.max(position)).await?;
            let others = if position >= known {
                Some(reading.state.others + between)
            } else {
                reading.state.others.checked_sub(between)
            };
            let others = others.ok_or_else(|| Error::corrupt("a thread's counters disagree with its replies"))?;
            let row = ThreadReadRow { position, others, read_at_ms: self.now_ms(), unfollowed };
            let key = keys.thread_read(parent, user);
            let check = reading.revision.map_or(Check::Absent, Check::RevisionIs);
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .put(key.clone(), rows::encode(&row))
                .merge(keys.followed(user, parent), 0)
                .merge(keys.own(user), 0)
                .require(key, check)
                .require(keys.member(user), Check::Exists);
            match self.engine.write(batch).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the thread's read state"))
    }

    /// Countable replies of others with `after < number <= up_to`, one by one.
    async fn count_replies(&self, keys: &ChannelKeys, parent: u64, user: &str, after: u64, up_to: u64) -> Result<u64> {
        if after >= up_to {
            return Ok(0);
        }
        let mut count = 0;
        let scan = messages_between(keys, Some(parent), Some(after), Some(up_to.saturating_add(1)), PAGE);
        self.walk(scan, |page| {
            for (_, record) in page {
                let row: MessageRow = rows::decode(&record.value, "a message")?;
                count += u64::from(row.counts() && row.user_id != user);
            }
            Ok(true)
        })
        .await?;
        Ok(count)
    }

    /// The thread's counters are one read view; the user's own only grows, so when it reads the same before and after
    /// that view, it belongs to it.
    async fn thread_reading(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        parent: u64,
        user: &str,
    ) -> Result<Reading> {
        validate_name("a user id", user)?;
        let mut cuts = 0;
        loop {
            let wanted = vec![keys.member(user), keys.thread_read(parent, user), keys.participant(parent, user)];
            let Ok([member, read, own]) = <[Option<Record>; 3]>::try_from(self.multi_get(wanted).await?) else {
                return Err(Error::corrupt("the engine returned another number of records"));
            };
            if member.is_none() {
                return Err(self.not_a_member(channel, keys, user, self.stranger()).await);
            }
            let own = own.map_or(Ok(0), |record| rows::decode_count(&record.value))?;
            let counters = self.thread_counters(keys, parent).await?;
            let own_after = self.count(keys.participant(parent, user)).await?;
            cuts += 1;
            if own != own_after && cuts < CUTS_MAX {
                continue;
            }
            let revision = read.as_ref().map(|record| record.revision);
            let state = read.map(|record| rows::decode(&record.value, "a thread's read state")).transpose()?;
            let (newest, countable) = counters;
            let others = if own == own_after { countable.checked_sub(own) } else { None };
            return Ok(Reading { newest, state: state.unwrap_or_default(), revision, others });
        }
    }

    /// Replies ever sent, and countable ones.
    async fn thread_counters(&self, keys: &ChannelKeys, parent: u64) -> Result<(u64, u64)> {
        let (start, end) = keys::prefix::thread_counters(parent);
        let mut counts: BTreeMap<bool, u64> = BTreeMap::new();
        for (key, record) in self.first(range(keys, start, end, 16), 16).await? {
            match Row::parse(&key.sort)? {
                Row::Stat(_, Stat::Replies) => counts.insert(true, rows::decode_count(&record.value)?),
                Row::Stat(_, Stat::CountableReplies) => counts.insert(false, rows::decode_count(&record.value)?),
                _ => None,
            };
        }
        let of = |all| counts.get(&all).copied().unwrap_or(0);
        Ok((of(true), of(false)))
    }
}
