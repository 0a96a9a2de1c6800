//! Flags, and the queue of what is to be reviewed.
//!
//! ```text
//! 1  put the message into the queue of the app      an entry without a flag is passed over
//! 2  put the flag into the channel                  what is flagged is in the queue now
//! 3  put the entry again                            a review that came in between did not see the flag
//! 4  a review writes its verdict, then takes the entry out, if no flag came later
//! ```
//!
//! Invariant: a message with a flag that is younger than its last review is in the queue once
//! the call was answered; one that was not is repeated.

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Result, Scan, ScanRange, partition_hash};

use crate::ban::REASON_BYTES_MAX;
use crate::chat::Chat;
use crate::ids::{ChannelId, Place, validate_name};
use crate::keys::{self, ChannelKeys, QUEUE_BUCKETS, Row};
use crate::member::behind;
use crate::message::Message;
use crate::rows::{self, FlagRow, ReviewRow};

/// How many flags of a message a page of the queue shows.
const FLAGS_MAX: usize = 100;
const QUEUE_LIMIT_MAX: usize = 100;

/// A flag on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Who flagged it.
    pub user_id: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since the epoch.
    pub flagged_at_ms: u64,
}

/// A message that waits for a review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flagged {
    /// The channel.
    pub channel: ChannelId,
    /// The message, as it is now.
    pub message: Message,
    /// Who flagged it since its last review, by user, at most 100.
    pub flags: Vec<Flag>,
    /// Read on after this entry with it.
    pub cursor: String,
}

/// What a review comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The message stays.
    Keep,
    /// The message is deleted, and can be brought back.
    Delete,
    /// The message is erased.
    Erase,
}

impl Verdict {
    fn stored(self) -> u32 {
        match self {
            Self::Keep => 1,
            Self::Delete => 2,
            Self::Erase => 3,
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Flags a message for review, up to 1,000 bytes of reason; who flags it again changes its reason. `NotFound` without the
    /// message.
    pub async fn flag(&self, channel: &ChannelId, message_id: &str, user: &str, reason: &str) -> Result<()> {
        validate_name("a user id", user)?;
        if reason.len() > REASON_BYTES_MAX {
            let message = format!("a reason has at most {REASON_BYTES_MAX} bytes, not {}", reason.len());
            return Err(Error::invalid(message));
        }
        let keys = self.keys(channel).await?;
        let place = self.place_of(&keys, message_id).await?;
        let entry = self.queue_entry(channel, message_id).await?;
        let row = FlagRow { reason: reason.to_owned(), flagged_at_ms: self.now_ms() };
        self.engine.write(Batch::new().put(entry.clone(), Bytes::new())).await?;
        let batch = Batch::new().put(keys.flag(place, user), rows::encode(&row)).merge(keys.own(user), 0);
        self.engine.write(batch.require(keys.message(place), Check::Exists)).await?;
        // A review that looked in between may have taken the entry out.
        self.engine.write(Batch::new().put(entry, Bytes::new())).await.map(drop)
    }

    /// Up to `limit` messages that wait for a review, 1 to 100, in a fixed order, those after a cursor.
    pub async fn review_queue(&self, after: Option<&str>, limit: usize) -> Result<Vec<Flagged>> {
        if limit == 0 || limit > QUEUE_LIMIT_MAX {
            return Err(Error::invalid(format!("a page has 1 to {QUEUE_LIMIT_MAX} messages, not {limit}")));
        }
        let keyspace = self.keyspace().await?;
        let (first, mut after) = match after {
            None => (0, None),
            Some(cursor) => {
                let (channel, id) = cursor.split_once(' ').ok_or_else(bad_cursor)?;
                let channel: ChannelId = channel.replace('\u{1}', " ").parse()?;
                (self.bucket(&channel).await?, Some(keys::queued(channel.as_str(), id)))
            }
        };
        let mut found = Vec::new();
        for bucket in first..QUEUE_BUCKETS {
            let partition = keys::queue_partition(self.app, bucket);
            let mut scan = Scan::partition(keyspace, partition.clone(), limit);
            if let Some(after) = after.take() {
                let (start, end) = (behind(&after), Bytes::new());
                scan.range = ScanRange::Partition { keyspace, partition, start, end };
            }
            loop {
                let page = self.engine.scan(scan.clone()).await?;
                for (entry, _) in page.records {
                    found.extend(self.flagged(&entry).await?);
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
                if page.next.is_none() {
                    break;
                }
                scan = scan.after(page.next);
            }
        }
        Ok(found)
    }

    /// Reviews a message: writes the verdict down, does what it says, and takes the message out of the queue. Repeatable.
    /// `NotFound` without the message.
    pub async fn review(&self, channel: &ChannelId, message_id: &str, by: &str, verdict: Verdict) -> Result<Message> {
        validate_name("a user id", by)?;
        let keys = self.keys(channel).await?;
        let place = self.place_of(&keys, message_id).await?;
        let entry = self.queue_entry(channel, message_id).await?;
        let queued = self.get(entry.clone()).await?;
        let row = ReviewRow { reviewed_by: by.to_owned(), reviewed_at_ms: self.now_ms(), verdict: verdict.stored() };
        let flags = self.flags(&keys, place).await?;
        match verdict {
            Verdict::Keep => {}
            Verdict::Delete => self.hide_trusted(channel, message_id).await?,
            Verdict::Erase => self.erase_trusted(channel, message_id).await?,
        }
        let mut batch = Batch::new().put(keys.review(place), rows::encode(&row)).merge(keys.own(by), 0);
        for (user, _) in flags {
            batch = batch.delete(keys.flag(place, &user));
        }
        self.engine.write(batch).await?;
        // A flag that came since has put the entry anew.
        if let Some(record) = queued
            && self.flags(&keys, place).await?.is_empty()
        {
            let removal = Batch::new().delete(entry.clone()).require(entry, Check::RevisionIs(record.revision));
            match self.engine.write(removal).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        self.message(channel, message_id).await
    }

    /// What an entry of the queue leads to; nothing where there is no flag, since whoever flags may be between its writes.
    async fn flagged(&self, entry: &Key) -> Result<Option<Flagged>> {
        let (channel, id) = keys::parse_queued(&entry.sort)?;
        let id = id.to_owned();
        let keys = self.keys(&channel).await?;
        let place = self.locate(&keys, &[&id]).await?.into_iter().flatten().next();
        let flags = match place {
            Some(place) => self.flags(&keys, place).await?,
            None => Vec::new(),
        };
        if flags.is_empty() {
            return Ok(None);
        }
        let message = self.message(&channel, &id).await?;
        let named =
            |(user_id, row): (String, FlagRow)| Flag { user_id, reason: row.reason, flagged_at_ms: row.flagged_at_ms };
        let cursor = format!("{} {id}", channel.as_str().replace(' ', "\u{1}"));
        Ok(Some(Flagged { channel, message, flags: flags.into_iter().map(named).collect(), cursor }))
    }

    async fn flags(&self, keys: &ChannelKeys, place: Place) -> Result<Vec<(String, FlagRow)>> {
        let scan = Scan::prefix(keys.keyspace, keys.partition.clone(), keys::prefix::flags(place), FLAGS_MAX);
        let mut found = Vec::new();
        for (key, record) in self.first(scan, FLAGS_MAX).await? {
            if let Row::Flag(_, user) = Row::parse(&key.sort)? {
                found.push((user.to_owned(), rows::decode(&record.value, "a flag")?));
            }
        }
        Ok(found)
    }

    async fn bucket(&self, channel: &ChannelId) -> Result<u16> {
        Ok(partition_hash(&self.keys(channel).await?.partition) % QUEUE_BUCKETS)
    }

    async fn queue_entry(&self, channel: &ChannelId, message_id: &str) -> Result<Key> {
        let partition = keys::queue_partition(self.app, self.bucket(channel).await?);
        Ok(self.keyspace().await?.key(partition, keys::queued(channel.as_str(), message_id)))
    }
}

fn bad_cursor() -> Error {
    Error::invalid("the cursor of the review queue is none that a page of it gave")
}
