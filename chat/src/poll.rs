//! Polls: a question with options, which messages show. Voting is [`crate::poll::vote`].
//!
//! A poll lies in its channel, so a vote and what it counts are one batch. What a user votes is one row, its ballot.
//!
//! Invariant: the counts change with the ballot, in the same write, and that write demands the very poll that was judged:
//! once a poll was closed, no vote comes in.

mod new;
pub(crate) mod vote;

use std::collections::{BTreeMap, BTreeSet};

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result, Scan, prefix_end};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel, range};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, ChannelKeys, PollCount, Row};
use crate::member::{behind, validate_limit};
use crate::message::{new_id, validate_custom};
use crate::restrict::Permit;
use crate::rows::{self, BallotRow, PollRow};
use new::{poll_row, validate_description, validate_text};

pub use new::{NewPoll, PollChange};

/// The most options of a poll, those that were suggested included.
pub const POLL_OPTIONS_MAX: usize = 100;
/// The longest question, option or answer, in bytes.
pub const POLL_TEXT_BYTES_MAX: usize = 1_000;
/// How many ballots one batch removes.
const BALLOTS_PAGE: usize = 200;

/// A poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// Its id, unique in the channel.
    pub id: String,
    /// The question.
    pub name: String,
    /// More on it.
    pub description: Option<String>,
    /// What can be voted for, in this order.
    pub options: Vec<PollOption>,
    /// Who made it.
    pub created_by: String,
    /// When, in milliseconds since the epoch.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub updated_at_ms: Option<u64>,
    /// When it closes by itself.
    pub closes_at_ms: Option<u64>,
    /// When it was closed.
    pub closed_at_ms: Option<u64>,
    /// The most options that one user votes for; `None` = all.
    pub votes_max: Option<u32>,
    /// Whether nobody is told who voted for what.
    pub anonymous: bool,
    /// Whether voters may suggest options.
    pub suggestions: bool,
    /// Whether voters may answer in their own words.
    pub answers: bool,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// 1 when made, one more with each change.
    pub version: u32,
    /// The counts, where they were read: not in events or answers to writes.
    pub tally: Option<PollTally>,
}

/// An option of a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollOption {
    /// Its id, unique in the poll.
    pub id: String,
    /// What it says.
    pub text: String,
    /// Who suggested it; `None` = it was there from the start, or the poll is anonymous.
    pub suggested_by: Option<String>,
}

/// The counts of a poll.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollTally {
    /// Votes by option; those without votes are left out.
    pub votes: BTreeMap<String, u64>,
    /// How many users voted or answered.
    pub voters: u64,
    /// How many answered in their own words.
    pub answers: u64,
}

/// What one user voted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ballot {
    /// The poll.
    pub poll_id: String,
    /// Who; `None` in events of an anonymous poll.
    pub user_id: Option<String>,
    /// For which options; none once all votes were taken back.
    pub options: BTreeSet<String>,
    /// What it answered in its own words.
    pub answer: Option<String>,
    /// When it last voted, in milliseconds since the epoch; 0 = never.
    pub voted_at_ms: u64,
}

impl Poll {
    pub(crate) fn from_row(id: &str, row: PollRow) -> Self {
        let shown = |by: String| Some(by).filter(|by| !by.is_empty() && !row.anonymous);
        let options = row.options.into_iter();
        Self {
            id: id.to_owned(),
            name: row.name,
            description: row.description,
            options: options
                .map(|one| PollOption { id: one.id, text: one.text, suggested_by: shown(one.suggested_by) })
                .collect(),
            created_by: row.created_by,
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
            closes_at_ms: row.closes_at_ms,
            closed_at_ms: row.closed_at_ms,
            votes_max: Some(row.votes_max).filter(|max| *max > 0),
            anonymous: row.anonymous,
            suggestions: row.suggestions,
            answers: row.answers,
            custom: row.custom,
            version: row.version,
            tally: None,
        }
    }

    /// Whether votes are taken at this time.
    pub fn is_open(&self, now_ms: u64) -> bool {
        self.closed_at_ms.is_none() && self.closes_at_ms.is_none_or(|at| at > now_ms)
    }
}

impl Ballot {
    /// As others are told of it.
    pub(crate) fn from_row(poll_id: &str, user: &str, row: BallotRow) -> Self {
        let user_id = if row.anonymous { None } else { Some(user.to_owned()) };
        Self { user_id, ..Self::own(poll_id, user, row) }
    }

    fn own(poll_id: &str, user: &str, row: BallotRow) -> Self {
        Self {
            poll_id: poll_id.to_owned(),
            user_id: Some(user.to_owned()),
            options: row.options.into_iter().collect(),
            answer: row.answer,
            voted_at_ms: row.voted_at_ms,
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Makes a poll. Making the same id again returns the stored poll; the same id with another question or other options
    /// is a `Conflict`. A message shows it with [`NewMessage::poll_id`](crate::NewMessage::poll_id). `NotFound` without
    /// the channel.
    pub async fn create_poll(&self, channel: &ChannelId, new: NewPoll) -> Result<Poll> {
        let now_ms = self.now_ms();
        let id = new.id.clone().unwrap_or_else(|| new_id(&self.options, now_ms));
        validate_name("a poll id", &id)?;
        let row = poll_row(new, now_ms)?;
        validate_custom(row.custom.as_deref(), &self.options)?;
        let keys = self.keys(channel).await?;
        let user = row.created_by.as_str();
        for attempt in 0..ATTEMPTS_MAX {
            let permit = self.permit(channel, &keys, user, &[Capability::MakePoll], attempt > 0).await?;
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .put(keys.poll(&id), rows::encode(&row))
                .merge(keys.own(user), 0)
                .require(keys.channel(), Check::Exists)
                .require(keys.poll(&id), Check::Absent);
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok(Poll::from_row(&id, row)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
            if let Some(record) = self.get(keys.poll(&id)).await? {
                let stored: PollRow = rows::decode(&record.value, "a poll")?;
                if stored.fingerprint == row.fingerprint {
                    return Ok(Poll::from_row(&id, stored));
                }
                let message = format!("poll '{id}' was made before by another, or with another question or options");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            if self.get(keys.channel()).await?.is_none() {
                return Err(no_channel(channel));
            }
        }
        Err(contended("the channel"))
    }

    /// The poll with its counts, or `NotFound`.
    pub async fn poll(&self, channel: &ChannelId, id: &str) -> Result<Poll> {
        let keys = self.keys(channel).await?;
        let (_, row) = self.load_poll(&keys, id).await?;
        let mut poll = Poll::from_row(id, row);
        poll.tally = Some(self.tally(&keys, id).await?);
        Ok(poll)
    }

    /// Up to `limit` polls of a channel by id, those after `after`, without counts.
    pub async fn polls(&self, channel: &ChannelId, after: Option<&str>, limit: usize) -> Result<Vec<Poll>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let prefix = keys::polls();
        let start = after.map_or_else(|| prefix.clone(), |id| behind(&keys.poll(id).sort));
        let mut found = Vec::new();
        self.walk(range(&keys, start, prefix_end(&prefix), limit), |page| {
            for (key, record) in page {
                let row: PollRow = rows::decode(&record.value, "a poll")?;
                if let Row::Poll(id) = Row::parse(&key.sort)?
                    && row.deleted_at_ms.is_none()
                    && found.len() < limit
                {
                    found.push(Poll::from_row(id, row));
                }
            }
            Ok(found.len() < limit)
        })
        .await?;
        Ok(found)
    }

    /// Changes a poll. Repeatable. `NotFound` without it, `PermissionDenied` for another than who made it, unless it may
    /// delete messages of others.
    pub async fn update_poll(&self, channel: &ChannelId, id: &str, user: &str, change: PollChange) -> Result<Poll> {
        validate_custom(change.custom.as_deref(), &self.options)?;
        change.name.as_deref().map_or(Ok(()), |name| validate_text("a question", name))?;
        validate_description(change.description.as_deref())?;
        self.change_poll(channel, id, user, |row, _| {
            if let Some(name) = &change.name {
                row.name.clone_from(name);
            }
            if let Some(description) = &change.description {
                row.description = Some(description.clone()).filter(|text| !text.is_empty());
            }
            if let Some(closes_at_ms) = change.closes_at_ms {
                row.closes_at_ms = closes_at_ms;
            }
            if change.custom.is_some() {
                row.custom.clone_from(&change.custom);
            }
            Ok(())
        })
        .await
    }

    /// Closes a poll: no vote comes in any more. Repeatable. Errors as those of [`Chat::update_poll`].
    pub async fn close_poll(&self, channel: &ChannelId, id: &str, user: &str) -> Result<Poll> {
        self.change_poll(channel, id, user, |row, now_ms| {
            row.closed_at_ms = row.closed_at_ms.or(Some(now_ms));
            Ok(())
        })
        .await
    }

    /// Deletes a poll with its votes; messages that show it stay. Its id is never used again. Repeatable, also where a crash
    /// cut it off. Errors as those of [`Chat::update_poll`].
    pub async fn delete_poll(&self, channel: &ChannelId, id: &str, user: &str) -> Result<()> {
        let deleted = self
            .change_poll(channel, id, user, |row, now_ms| {
                *row = PollRow {
                    created_by: row.created_by.clone(),
                    created_at_ms: row.created_at_ms,
                    anonymous: row.anonymous,
                    version: row.version,
                    fingerprint: row.fingerprint,
                    deleted_at_ms: Some(now_ms),
                    closed_at_ms: row.closed_at_ms.or(Some(now_ms)),
                    ..PollRow::default()
                };
                Ok(())
            })
            .await;
        match deleted {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let keys = self.keys(channel).await?;
                if self.get(keys.poll(id)).await?.is_none() {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        let keys = self.keys(channel).await?;
        self.remove_ballots(&keys, id).await
    }

    /// Removes the ballots of a deleted poll. Nobody can add to them any more.
    async fn remove_ballots(&self, keys: &ChannelKeys, id: &str) -> Result<()> {
        for prefix in [keys::ballots(id), keys::poll_counts(id)] {
            loop {
                let scan = Scan::prefix(keys.keyspace, keys.partition.clone(), prefix.clone(), BALLOTS_PAGE);
                let found = self.first(scan, BALLOTS_PAGE).await?;
                if found.is_empty() {
                    break;
                }
                let mut batch = Batch::new().merge(keys.version(), 1);
                for (key, record) in found {
                    if let Row::Ballot { .. } = Row::parse(&key.sort)? {
                        let row: BallotRow = rows::decode(&record.value, "a ballot")?;
                        batch = vote::recount(keys, batch, id, &row, &BallotRow::default());
                    }
                    batch = batch.require(key.clone(), Check::RevisionIs(record.revision)).delete(key);
                }
                match self.engine.write(batch).await {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Conflict => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn change_poll(
        &self,
        channel: &ChannelId,
        id: &str,
        user: &str,
        change: impl Fn(&mut PollRow, u64) -> Result<()> + Send + Sync,
    ) -> Result<Poll> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let (record, mut row) = self.load_poll(&keys, id).await?;
            let needed = if row.created_by == user { Capability::MakePoll } else { Capability::DeleteAny };
            let permit = self.permit(channel, &keys, user, &[needed], attempt > 0).await?;
            let before = row.clone();
            change(&mut row, self.now_ms())?;
            if row == before {
                return Ok(Poll::from_row(id, row));
            }
            if self.write_poll(&keys, id, &record, &mut row, &permit).await? {
                return Ok(Poll::from_row(id, row));
            }
        }
        Err(contended("the poll"))
    }

    /// Writes a poll as it is to be; `false` = it was changed meanwhile.
    async fn write_poll(
        &self,
        keys: &ChannelKeys,
        id: &str,
        before: &Record,
        row: &mut PollRow,
        permit: &Permit,
    ) -> Result<bool> {
        row.updated_at_ms = Some(self.now_ms());
        row.version = row.version.saturating_add(1);
        let batch = Batch::new()
            .merge(keys.version(), 1)
            .put(keys.poll(id), rows::encode(row))
            .require(keys.poll(id), Check::RevisionIs(before.revision));
        match self.engine.write(permit.guard(batch)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn load_poll(&self, keys: &ChannelKeys, id: &str) -> Result<(Record, PollRow)> {
        validate_name("a poll id", id)?;
        let record = self.get(keys.poll(id)).await?.ok_or_else(|| no_poll(id))?;
        let row: PollRow = rows::decode(&record.value, "a poll")?;
        if row.deleted_at_ms.is_some() { Err(no_poll(id)) } else { Ok((record, row)) }
    }

    async fn tally(&self, keys: &ChannelKeys, id: &str) -> Result<PollTally> {
        let mut tally = PollTally::default();
        for (key, record) in self.all(keys, keys::poll_counts(id)).await? {
            let count = rows::decode_count(&record.value)?;
            match Row::parse(&key.sort)? {
                Row::PollCount(_, PollCount::Voters) => tally.voters = count,
                Row::PollCount(_, PollCount::Answers) => tally.answers = count,
                Row::PollCount(_, PollCount::Votes(option)) if count > 0 => {
                    tally.votes.insert(option.to_owned(), count);
                }
                _ => {}
            }
        }
        Ok(tally)
    }
}

pub(crate) fn no_poll(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("poll '{id}' does not exist in the channel"))
}
