//! Checking a channel: every counter against a plain recount of the rows.
//!
//! Invariant: it shares no arithmetic with what it checks; it reads all rows and counts them.

mod personal;
mod polls;
#[cfg(test)]
mod tests;
mod threads;

use std::collections::{BTreeMap, BTreeSet};

use keevo_core::{Engine, Error, ErrorKind, Key, Record, Result};

use crate::chat::{Chat, no_channel};
use crate::ids::{ChannelId, Place};
use crate::keys::{Row, Stat};
use crate::rows::{self, MemberRow, MessageRow, ReactionRow, ReadRow};
use polls::Polls;
use threads::Threads;

const ATTEMPTS: usize = 5;

/// What a check of a channel found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// Messages of the channel's own sequence, deleted ones included.
    pub messages: u64,
    /// Replies, deleted ones included.
    pub replies: u64,
    /// Members.
    pub members: u64,
    /// Reactions.
    pub reactions: u64,
    /// What is wrong, in one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

impl<E: Engine> Chat<E> {
    /// Checks that the sequences have no gaps, that every message is found by its id, and that all counters
    /// and read states match a recount. Reads the whole channel and keeps a line per message in memory.
    /// `Conflict` where the channel does not stay still for long enough, `NotFound` without it.
    pub async fn verify(&self, channel: &ChannelId) -> Result<Verification> {
        let keys = self.keys(channel).await?;
        if self.get(keys.channel()).await?.is_none() {
            return Err(no_channel(channel));
        }
        for _ in 0..ATTEMPTS {
            let before = self.head(&keys).await?.version;
            let rows = self.all(&keys, bytes::Bytes::new()).await?;
            if self.head(&keys).await?.version == before {
                let mut audit = Audit::default();
                for (key, record) in &rows {
                    audit.add(key, record)?;
                }
                return Ok(audit.finish());
            }
        }
        Err(Error::new(ErrorKind::Conflict, format!("channel {channel} kept changing while it was checked")))
    }
}

/// What is known of a message.
struct Line {
    id: String,
    user: String,
    /// Whether it counts in the sequence that it is of, a thread's too.
    counts: bool,
    deleted: bool,
    system: bool,
}

/// Everything that the rows say, by kind.
#[derive(Default)]
struct Audit {
    sequence: u64,
    countable: u64,
    own: BTreeMap<String, u64>,
    members: BTreeSet<String>,
    /// (user, position, others) of read states and of the places where unread counts start.
    marks: Vec<(String, u64, u64)>,
    index: BTreeMap<String, u64>,
    parents: BTreeMap<String, u64>,
    messages: BTreeMap<Place, Line>,
    replies: BTreeMap<Place, u64>,
    deleted_replies: BTreeMap<Place, u64>,
    reaction_counts: BTreeMap<(Place, String), u64>,
    reactions: BTreeMap<(Place, String), u64>,
    score_sums: BTreeMap<(Place, String), i64>,
    scores: BTreeMap<(Place, String), i64>,
    threads: Threads,
    polls: Polls,
    adjustments: BTreeSet<u64>,
    problems: Vec<String>,
}

impl Audit {
    fn add(&mut self, key: &Key, record: &Record) -> Result<()> {
        let value = &record.value;
        match Row::parse(&key.sort)? {
            Row::Sequence => self.sequence = rows::decode_count(value)?,
            Row::Countable => self.countable = rows::decode_count(value)?,
            Row::Own(user) => {
                self.own.insert(user.to_owned(), rows::decode_count(value)?);
            }
            Row::Member(user) => {
                let row: MemberRow = rows::decode(value, "a member")?;
                self.members.insert(user.to_owned());
                self.marks.push((user.to_owned(), row.baseline_position, row.baseline_others));
            }
            Row::Read(user) => {
                let row: ReadRow = rows::decode(value, "a read state")?;
                self.marks.push((user.to_owned(), row.position, row.others));
            }
            Row::Index(id) => {
                self.index.insert(id.to_owned(), rows::decode_count(value)?);
            }
            Row::Parent(id) => {
                self.parents.insert(id.to_owned(), rows::decode_count(value)?);
            }
            Row::Message(place) => {
                let row: MessageRow = rows::decode(value, "a message")?;
                let line = Line {
                    counts: row.counts(),
                    deleted: row.deleted_at_ms.is_some(),
                    system: row.system || row.audience != 0,
                    id: row.id,
                    user: row.user_id,
                };
                self.messages.insert(place, line);
            }
            Row::Stat(place, Stat::Replies) => {
                self.replies.insert(place, rows::decode_count(value)?);
            }
            Row::Stat(place, Stat::DeletedReplies) => {
                self.deleted_replies.insert(place, rows::decode_count(value)?);
            }
            Row::Stat(place, Stat::Reactions(kind)) => {
                self.reaction_counts.insert((place, kind.to_owned()), rows::decode_count(value)?);
            }
            Row::Stat(place, Stat::Scores(kind)) => {
                self.score_sums.insert((place, kind.to_owned()), rows::decode_sum(value)?);
            }
            Row::Reaction { place, kind, .. } => {
                let row: ReactionRow = rows::decode(value, "a reaction")?;
                *self.scores.entry((place, kind.to_owned())).or_default() += row.points();
                *self.reactions.entry((place, kind.to_owned())).or_default() += 1;
            }
            Row::Adjustment(number) => {
                self.adjustments.insert(number);
            }
            row @ (Row::Stat(_, Stat::CountableReplies)
            | Row::ThreadRead(..)
            | Row::Participant(..)
            | Row::Followed(..)
            | Row::ThreadAdjustment(..)) => self.threads.add(row, value)?,
            row @ (Row::Poll(_) | Row::PollCount(..) | Row::Ballot { .. }) => self.polls.add(row, value)?,
            Row::Version
            | Row::Channel
            | Row::Deletion
            | Row::Invite(_)
            | Row::Ban(_)
            | Row::Receipt(_)
            | Row::Flag(..)
            | Row::Pin(_)
            | Row::Edit(..)
            | Row::OnlyReaction(..)
            | Row::Review(_)
            | Row::Mention(..)
            | Row::MentionCounter(..)
            | Row::Location(_)
            | Row::PassedOver(_)
            | Row::Held(_)
            | Row::Other => {}
        }
        Ok(())
    }

    fn expect(&mut self, what: &str, stored: u64, counted: u64) {
        if stored != counted {
            self.problems.push(format!("{what} is {stored} and should be {counted}"));
        }
    }

    fn finish(mut self) -> Verification {
        let messages = std::mem::take(&mut self.messages);
        self.check_sequences(&messages);
        self.check_ids(&messages);
        self.check_countable(&messages);
        self.check_marks(&messages);
        self.check_reactions(&messages);
        self.problems.extend(std::mem::take(&mut self.threads).problems(&messages));
        self.problems.extend(std::mem::take(&mut self.polls).problems());
        let replies = messages.keys().filter(|place| matches!(place, Place::Thread { .. })).count();
        let reactions = self.reactions.values().sum();
        Verification {
            messages: size(messages.len() - replies),
            replies: size(replies),
            members: size(self.members.len()),
            reactions,
            problems: self.problems,
        }
    }

    fn check_sequences(&mut self, messages: &BTreeMap<Place, Line>) {
        let mut newest = 0;
        let mut threads: BTreeMap<Place, (u64, u64)> = BTreeMap::new();
        for (place, line) in messages {
            match *place {
                Place::Channel(number) => {
                    self.expect(&format!("the number after {newest}"), number, newest + 1);
                    newest = number;
                }
                Place::Thread { parent, reply } => {
                    let thread = Place::Channel(parent);
                    let (count, deleted) = threads.entry(thread).or_default();
                    let expected = *count + 1;
                    (*count, *deleted) = (reply, *deleted + u64::from(line.deleted));
                    self.expect(&format!("the number after {parent}.{}", expected - 1), reply, expected);
                    if !messages.contains_key(&thread) {
                        self.problems.push(format!("reply {place} has no parent"));
                    }
                }
            }
        }
        self.expect("the sequence", self.sequence, newest);
        let counted: BTreeMap<Place, u64> = threads.iter().map(|(place, (count, _))| (*place, *count)).collect();
        let deleted: BTreeMap<Place, u64> =
            threads.iter().filter(|(_, (_, deleted))| *deleted > 0).map(|(place, (_, n))| (*place, *n)).collect();
        if self.replies != counted {
            self.problems.push(format!("the reply counts are {:?} and should be {counted:?}", self.replies));
        }
        self.deleted_replies.retain(|_, count| *count > 0);
        if self.deleted_replies != deleted {
            let stored = &self.deleted_replies;
            self.problems.push(format!("the counts of deleted replies are {stored:?} and should be {deleted:?}"));
        }
    }

    fn check_ids(&mut self, messages: &BTreeMap<Place, Line>) {
        self.expect("the number of ids", size(self.index.len()), size(messages.len()));
        for (place, line) in messages {
            let parent = match place {
                Place::Channel(_) => None,
                Place::Thread { parent, .. } => Some(parent),
            };
            if self.index.get(&line.id) != Some(&place.number()) || self.parents.get(&line.id) != parent {
                self.problems.push(format!("message '{}' at {place} is not found by its id", line.id));
            }
        }
    }

    fn check_countable(&mut self, messages: &BTreeMap<Place, Line>) {
        let mut all = 0;
        let mut own: BTreeMap<String, u64> = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for (place, line) in messages {
            if !line.counts || matches!(place, Place::Thread { .. }) {
                continue;
            }
            all += 1;
            *own.entry(line.user.clone()).or_default() += 1;
            if line.deleted {
                gone.insert(place.number());
            }
        }
        self.expect("the count of countable messages", self.countable, all);
        self.own.retain(|_, count| *count > 0);
        if self.own != own {
            self.problems.push(format!("the senders' counters are {:?} and should be {own:?}", self.own));
        }
        if self.adjustments != gone {
            let stored = &self.adjustments;
            self.problems.push(format!("the messages that count no longer are {stored:?} and should be {gone:?}"));
        }
    }

    fn check_marks(&mut self, messages: &BTreeMap<Place, Line>) {
        let mut marks = std::mem::take(&mut self.marks);
        marks.sort_by_key(|(_, position, _)| *position);
        let mut sequence = messages.iter().filter(|(place, _)| matches!(place, Place::Channel(_))).peekable();
        let (mut all, mut own): (u64, BTreeMap<&str, u64>) = (0, BTreeMap::new());
        for (user, position, others) in marks {
            while let Some((_, line)) = sequence.next_if(|(place, _)| place.number() <= position) {
                all += u64::from(line.counts);
                *own.entry(&line.user).or_default() += u64::from(line.counts);
            }
            let counted = all - own.get(user.as_str()).copied().unwrap_or(0);
            self.expect(&format!("what '{user}' has read up to {position}"), others, counted);
            if position > self.sequence {
                self.problems.push(format!("'{user}' has read up to {position}, beyond the newest message"));
            }
        }
    }

    fn check_reactions(&mut self, messages: &BTreeMap<Place, Line>) {
        self.reaction_counts.retain(|_, count| *count > 0);
        if self.reaction_counts != self.reactions {
            let (stored, counted) = (&self.reaction_counts, &self.reactions);
            self.problems.push(format!("the reaction counts are {stored:?} and should be {counted:?}"));
        }
        self.score_sums.retain(|_, sum| *sum != 0);
        self.scores.retain(|_, sum| *sum != 0);
        if self.score_sums != self.scores {
            let (stored, counted) = (&self.score_sums, &self.scores);
            self.problems.push(format!("the sums of scores are {stored:?} and should be {counted:?}"));
        }
        for (place, kind) in self.reactions.keys() {
            if !messages.contains_key(place) {
                self.problems.push(format!("a reaction '{kind}' is on {place}, where no message is"));
            }
        }
    }
}

fn size(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
