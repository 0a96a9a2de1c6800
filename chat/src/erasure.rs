//! Erasing a user: everything of it, in all channels and in its own partition, as a job that goes on after a crash.
//!
//! ```text
//! 1  deactivate the user                                      it writes no more, where rights are checked
//! 2  put a pointer into the outbox, write the job, put the pointer again
//! 3  walk the channels, page by page; each page's place goes into the job
//! 4  remove the user's own rows
//! 5  write the job as done, without the stand-in; the worker takes the pointer out
//! ```
//!
//! What has to keep its place (messages and their counts) gets a stand-in as its author, drawn at random and known to the
//! job alone; so no count of anybody else moves, and nothing leads back once the job is done.
//!
//! Invariant: every change is a compare-and-set that stands for itself, so a page that is done twice changes nothing more.

mod rows_of;
mod texts;

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Result, Scan, call, partition_hash};

use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::validate_name;
use crate::keys::{self, OUTBOX_BUCKETS, Personal};
use crate::rows::{self, ErasureRow, ReminderRow, TraceRow, UserRow};
use crate::traces::Step;

/// How many of a user's own rows one step removes.
const OWN_PAGE: usize = 200;
/// How many steps one run of the outbox does for one user, so that others get their turn.
const STEPS_PER_RUN: usize = 32;

/// What becomes of what an erased user wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    /// Texts, attachments, custom data and edits are erased; places and counts stay.
    Erase,
    /// They stay, under the name of a stand-in. What they say of their author is not looked at.
    Keep,
}

/// How far the erasure of a user has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// When it was asked for, in milliseconds since the epoch.
    pub asked_at_ms: u64,
    /// When it was done; `None` = it goes on.
    pub done_at_ms: Option<u64>,
    /// Channels that held something of the user and are done.
    pub channels: u64,
    /// Messages whose author it was.
    pub messages: u64,
    /// Other rows that were its own or named it.
    pub others: u64,
}

/// A user that is being erased.
pub(crate) struct Leaving<'a> {
    pub(crate) user: &'a str,
    pub(crate) stand_in: &'a str,
    pub(crate) texts: Texts,
}

impl Erasure {
    fn from_row(row: &ErasureRow) -> Self {
        Self {
            asked_at_ms: row.asked_at_ms,
            done_at_ms: row.done_at_ms,
            channels: row.channels,
            messages: row.messages,
            others: row.others,
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Asks for the erasure of a user and begins it; the outbox worker ends it ([`Chat::erasure`] tells how far it is).
    /// The user is deactivated at once. Where it was erased before, it is done anew, for what came since. Its id stays known as
    /// that of a deactivated user, so that nobody gets it. What backups and retained changes hold runs out with those; what
    /// other users say of it, in texts or by muting or blocking it, is theirs and stays. Until it is done, [`Chat::verify`]
    /// may find it among those who take part in threads without having written there.
    pub async fn erase_user(&self, user: &str, texts: Texts) -> Result<Erasure> {
        validate_name("a user id", user)?;
        self.close_account(user).await?;
        let pointer = self.erasure_pointer(user).await?;
        let key = self.user_key(user, keys::erasure()).await?;
        self.engine.write(Batch::new().put(pointer.clone(), Bytes::new())).await?;
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.get(key.clone()).await?;
            let check = stored.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            let before: Option<ErasureRow> =
                stored.map(|record| rows::decode(&record.value, "an erasure")).transpose()?;
            let going = before.filter(|row| row.done_at_ms.is_none());
            let row = match &going {
                // Texts that are to be erased are, whoever asked for it.
                Some(row) if row.keep_texts && texts == Texts::Erase => {
                    ErasureRow { keep_texts: false, at: Some(TraceRow::default()), ..row.clone() }
                }
                Some(row) => row.clone(),
                None => ErasureRow {
                    stand_in: format!("deleted-{:032x}", call::random_u128(self.options.random.as_ref())),
                    keep_texts: texts == Texts::Keep,
                    asked_at_ms: self.now_ms(),
                    at: Some(TraceRow::default()),
                    ..ErasureRow::default()
                },
            };
            if going.as_ref() != Some(&row) {
                let batch = Batch::new().put(key.clone(), rows::encode(&row)).require(key.clone(), check);
                match self.engine.write(batch).await {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Conflict => continue,
                    Err(error) => return Err(error),
                }
            }
            // A worker that looked in between did not see the job, and may have taken the pointer out.
            self.engine.write(Batch::new().put(pointer, Bytes::new())).await?;
            return Ok(Erasure::from_row(&row));
        }
        Err(contended("the erasure"))
    }

    /// How far the erasure of a user has come; `None` where none was asked for.
    pub async fn erasure(&self, user: &str) -> Result<Option<Erasure>> {
        validate_name("a user id", user)?;
        let stored = self.get(self.user_key(user, keys::erasure()).await?).await?;
        stored.map(|record| Ok(Erasure::from_row(&rows::decode(&record.value, "an erasure")?))).transpose()
    }

    /// Does what is left to be done for a user whose pointer lies in the outbox, as far as a run goes: how many steps, and
    /// whether all is done.
    pub(crate) async fn run_erasure(&self, user: &str) -> Result<(u64, bool)> {
        for steps in 0..STEPS_PER_RUN {
            if !self.erasure_step(user).await? {
                return Ok((u64::try_from(steps).unwrap_or(u64::MAX), true));
            }
        }
        Ok((u64::try_from(STEPS_PER_RUN).unwrap_or(u64::MAX), false))
    }

    /// One step; `false` = there is nothing to do.
    async fn erasure_step(&self, user: &str) -> Result<bool> {
        let key = self.user_key(user, keys::erasure()).await?;
        let Some(record) = self.get(key.clone()).await? else {
            return Ok(false);
        };
        let mut job: ErasureRow = rows::decode(&record.value, "an erasure")?;
        if job.done_at_ms.is_some() {
            return Ok(false);
        }
        let texts = if job.keep_texts { Texts::Keep } else { Texts::Erase };
        let stand_in = job.stand_in.clone();
        let leaving = Leaving { user, stand_in: &stand_in, texts };
        let mut at = job.at.take().unwrap_or_default();
        match self.trace(user, &mut at).await? {
            Step::Rows(channel, keys, rows) => {
                for (key, record) in rows {
                    let done = Box::pin(self.erase_row(&channel, &keys, &leaving, &key, record)).await?;
                    job.messages += u64::from(done.message);
                    job.others += u64::from(done.other);
                }
            }
            Step::Walked(keys) => {
                self.erase_last_traces(&keys, &leaving).await?;
                job.channels += 1;
            }
            Step::Moved => {}
            Step::End => {
                let removed = self.erase_own_rows(user).await?;
                job.others += removed;
                if removed == 0 {
                    job.done_at_ms = Some(self.now_ms());
                    job.stand_in = String::new();
                }
            }
        }
        job.at = Some(at).filter(|_| job.done_at_ms.is_none());
        let batch = Batch::new().put(key.clone(), rows::encode(&job)).require(key, Check::RevisionIs(record.revision));
        match self.engine.write(batch).await {
            // Another worker does the same step, which is harmless.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(true),
            Err(error) => Err(error),
            Ok(_) => Ok(true),
        }
    }

    /// Where the pointer to a user's job lies, in the outbox. Names of channels don't begin with 00.
    pub(crate) async fn erasure_pointer(&self, user: &str) -> Result<Key> {
        let bucket = partition_hash(&keys::user_partition(self.app, user)) % OUTBOX_BUCKETS;
        let sort = [&[0], user.as_bytes()].concat();
        Ok(self.keyspace().await?.key(keys::outbox_partition(self.app, bucket), sort))
    }

    /// Deactivates the user, whether it was ever put or not, and forgets what is known of it.
    async fn close_account(&self, user: &str) -> Result<()> {
        let key = self.user_key(user, keys::user()).await?;
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.get(key.clone()).await?;
            let check = stored.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            let before: UserRow =
                stored.map(|record| rows::decode(&record.value, "a user")).transpose()?.unwrap_or_default();
            let row = UserRow {
                role: "deleted".to_owned(),
                created_at_ms: before.created_at_ms,
                deactivated_at_ms: before.deactivated_at_ms.or_else(|| Some(self.now_ms())),
                ..UserRow::default()
            };
            let batch = Batch::new().put(key.clone(), rows::encode(&row)).require(key.clone(), check);
            match self.engine.write(batch).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the user"))
    }

    /// Removes up to a page of the rows of the user's own partition, and how many that were. What stays: that the user is
    /// deactivated, the job, and for a while that it is no longer in channels.
    async fn erase_own_rows(&self, user: &str) -> Result<u64> {
        let (keyspace, partition) = (self.keyspace().await?, keys::user_partition(self.app, user));
        let entry = keyspace.key(keys::directory_partition(self.app, user), Bytes::copy_from_slice(user.as_bytes()));
        self.engine.write(Batch::new().delete(entry)).await?;
        let (mut batch, mut due) = (Batch::new(), Vec::new());
        let mut scan = Scan::partition(keyspace, partition, OWN_PAGE);
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            for (key, record) in page.records {
                match Personal::parse(&key.sort)? {
                    Personal::User | Personal::Erasure => continue,
                    Personal::Listing(_) if rows::decode::<rows::ListingRow>(&record.value, "a listing")?.removed => {
                        continue;
                    }
                    Personal::InGroup(group) => {
                        self.leave_found_group(group, user).await?;
                        return Ok(1);
                    }
                    Personal::Reminder(channel, message) => {
                        let row: ReminderRow = rows::decode(&record.value, "a reminder")?;
                        if let Some(at_ms) = row.remind_at_ms {
                            let bucket = keys::due_partition(self.app, keys::due_bucket(user));
                            due.push(keyspace.key(bucket, keys::due(at_ms, user, channel, message)));
                        }
                    }
                    _ => {}
                }
                batch = batch.delete(key);
            }
            if batch.ops.len() >= OWN_PAGE || page.next.is_none() {
                break;
            }
            scan = scan.after(page.next);
        }
        if batch.ops.is_empty() {
            return Ok(0);
        }
        if !due.is_empty() {
            let entries = due.into_iter().fold(Batch::new(), Batch::delete);
            self.engine.write(entries).await?;
        }
        let removed = u64::try_from(batch.ops.len()).unwrap_or(u64::MAX);
        self.engine.write(batch).await?;
        Ok(removed)
    }
}

/// The user that a pointer in the outbox names, if it names one.
pub(crate) fn pointed_user(sort: &[u8]) -> Option<Result<&str>> {
    let name = sort.strip_prefix(&[0])?;
    let broken = |error| Error::corrupt("a pointer of the outbox does not decode").with_source(error);
    Some(std::str::from_utf8(name).map_err(broken))
}
