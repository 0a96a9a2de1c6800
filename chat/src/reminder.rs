//! Reminders: a user asks to be reminded of a message, at a time or just so.
//!
//! ```text
//! 1  put an entry into the queue           one without a reminder that names its time is passed over
//! 2  write the reminder in the user's own partition
//! 3  put the entry again                   a worker that looked in between did not see the reminder
//! 4  a worker that finds the entry due writes the reminder as fired, if it is not, then takes the entry out,
//!    if it was not put again meanwhile
//! ```
//!
//! Invariant: a reminder that was answered has an entry until it has fired, and fires once for each time that it is set:
//! the write that fires it is a compare-and-set, and is the event of the user that tells so.

use bytes::Bytes;
use keevo_core::limits::TTL_MS_MAX;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Record, Result, Scan, ScanRange, prefix_end};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, DUE_BUCKETS, Personal};
use crate::member::{behind, validate_limit};
use crate::options::Rights;
use crate::rights::{Denied, DeniedCode};
use crate::rows::{self, ReminderRow};

/// The most reminders of a user.
pub const REMINDERS_MAX: u64 = 1_000;
/// How many entries one look at a bucket takes.
const DUE_PAGE: usize = 100;

/// A reminder of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reminder {
    /// The channel.
    pub channel: ChannelId,
    /// The message.
    pub message_id: String,
    /// When it is due, in milliseconds since the epoch; `None` = never, it is only kept.
    pub remind_at_ms: Option<u64>,
    /// When it was first set.
    pub created_at_ms: u64,
    /// When it was last set.
    pub updated_at_ms: u64,
    /// When it came due.
    pub fired_at_ms: Option<u64>,
}

/// What one run over the queue of reminders did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemindersRun {
    /// Reminders that came due.
    pub fired: u64,
    /// Entries that were taken out, fired or left over.
    pub entries: u64,
}

impl Reminder {
    pub(crate) fn from_row(channel: ChannelId, message_id: &str, row: &ReminderRow) -> Self {
        Self {
            channel,
            message_id: message_id.to_owned(),
            remind_at_ms: row.remind_at_ms,
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
            fired_at_ms: row.fired_at_ms,
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Sets the user's reminder of a message, at a time within ten years or with none, in the place of the one that it had.
    /// A time that has passed is due at once. Repeatable: setting what is set changes nothing. `NotFound` without the
    /// message, `PermissionDenied` for who may not read the channel, `ResourceExhausted` beyond [`REMINDERS_MAX`].
    pub async fn set_reminder(
        &self,
        channel: &ChannelId,
        message_id: &str,
        user: &str,
        remind_at_ms: Option<u64>,
    ) -> Result<Reminder> {
        validate_name("a user id", user)?;
        if let Some(at_ms) = remind_at_ms.filter(|at_ms| *at_ms > self.now_ms().saturating_add(TTL_MS_MAX)) {
            return Err(Error::invalid(format!("a reminder is due within ten years, not at {at_ms}")));
        }
        let keys = self.keys(channel).await?;
        if self.options.rights == Rights::Members {
            self.judge(channel, &keys, user, &[Capability::ReadChannel]).await?;
            self.check_app(user).await?;
        }
        self.place_of(&keys, message_id).await?;
        let entry = match remind_at_ms {
            None => None,
            Some(at_ms) => Some(self.due_entry(at_ms, user, channel, message_id).await?),
        };
        if let Some(entry) = &entry {
            self.engine.write(Batch::new().put(entry.clone(), Bytes::new())).await?;
        }
        let row = self.write_reminder(channel, message_id, user, remind_at_ms).await?;
        if let Some(entry) = entry.filter(|_| row.fired_at_ms.is_none()) {
            self.engine.write(Batch::new().put(entry, Bytes::new())).await?;
        }
        Ok(Reminder::from_row(channel.clone(), message_id, &row))
    }

    async fn write_reminder(
        &self,
        channel: &ChannelId,
        message_id: &str,
        user: &str,
        remind_at_ms: Option<u64>,
    ) -> Result<ReminderRow> {
        let key = self.user_key(user, keys::reminder(channel.as_str(), message_id)).await?;
        let count_key = self.user_key(user, keys::reminder_count()).await?;
        for _ in 0..ATTEMPTS_MAX {
            let now_ms = self.now_ms();
            let mut batch = Batch::new();
            let mut row = ReminderRow { remind_at_ms, created_at_ms: now_ms, updated_at_ms: now_ms, fired_at_ms: None };
            match self.get(key.clone()).await? {
                Some(record) => {
                    let before: ReminderRow = rows::decode(&record.value, "a reminder")?;
                    if before.remind_at_ms == remind_at_ms {
                        return Ok(before);
                    }
                    row.created_at_ms = before.created_at_ms;
                    batch = batch.require(key.clone(), Check::RevisionIs(record.revision));
                }
                None if self.count(count_key.clone()).await? >= REMINDERS_MAX => {
                    let message = format!("a user has at most {REMINDERS_MAX} reminders: remove some");
                    return Err(Denied::new(DeniedCode::TooMany, message).into_error());
                }
                None => batch = batch.require(key.clone(), Check::Absent).merge(count_key.clone(), 1),
            }
            match self.engine.write(batch.put(key.clone(), rows::encode(&row))).await {
                Ok(_) => return Ok(row),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the reminder"))
    }

    /// Removes the user's reminder of a message; `false` where there was none.
    pub async fn delete_reminder(&self, channel: &ChannelId, message_id: &str, user: &str) -> Result<bool> {
        validate_name("a user id", user)?;
        validate_name("a message id", message_id)?;
        let key = self.user_key(user, keys::reminder(channel.as_str(), message_id)).await?;
        let batch = Batch::new()
            .require(key.clone(), Check::Exists)
            .delete(key)
            .merge(self.user_key(user, keys::reminder_count()).await?, -1);
        match self.engine.write(batch).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Up to `limit` reminders of a user by channel and message, those after the one of `after`; fired ones too.
    pub async fn reminders_of(
        &self,
        user: &str,
        after: Option<(&ChannelId, &str)>,
        limit: usize,
    ) -> Result<Vec<Reminder>> {
        validate_name("a user id", user)?;
        validate_limit(limit)?;
        let (keyspace, partition) = (self.keyspace().await?, keys::user_partition(self.app, user));
        let prefix = keys::reminders();
        let mut scan = Scan::prefix(keyspace, partition.clone(), prefix.clone(), limit);
        if let Some((channel, message)) = after {
            let (start, end) = (behind(&keys::reminder(channel.as_str(), message)), prefix_end(&prefix));
            scan.range = ScanRange::Partition { keyspace, partition, start, end };
        }
        let mut found = Vec::new();
        for (key, record) in self.first(scan, limit).await? {
            if let Personal::Reminder(channel, message) = Personal::parse(&key.sort)? {
                let row = rows::decode(&record.value, "a reminder")?;
                found.push(Reminder::from_row(keys::stored_channel(channel)?, message, &row));
            }
        }
        Ok(found)
    }

    /// Fires the reminders that are due by this handle's clock. What fails for one keeps no other from being fired; then,
    /// in the end, the first failure is returned, and another run tries again. Several workers do no harm.
    pub async fn run_reminders_once(&self) -> Result<RemindersRun> {
        let keyspace = self.keyspace().await?;
        let mut run = RemindersRun::default();
        let mut failed: Option<Error> = None;
        for bucket in 0..DUE_BUCKETS {
            let partition = keys::due_partition(self.app, bucket);
            let end = keys::due_after(self.now_ms());
            let mut scan = Scan::partition(keyspace, partition.clone(), DUE_PAGE);
            scan.range = ScanRange::Partition { keyspace, partition, start: Bytes::new(), end };
            loop {
                let page = self.engine.scan(scan.clone()).await?;
                for (entry, record) in page.records {
                    match self.fire(entry, &record).await {
                        Ok(fired) => {
                            run.fired += u64::from(fired);
                            run.entries += 1;
                        }
                        Err(error) => {
                            tracing::warn!(bucket, %error, "a reminder is left for the next run");
                            failed.get_or_insert(error);
                        }
                    }
                }
                if page.next.is_none() {
                    break;
                }
                scan = scan.after(page.next);
            }
        }
        failed.map_or(Ok(run), Err)
    }

    /// Step 4 for one entry; whether it fired its reminder.
    async fn fire(&self, entry: Key, record: &Record) -> Result<bool> {
        let (at_ms, user, channel, message) = keys::parse_due(&entry.sort)?;
        let key = self.user_key(user, keys::reminder(channel.as_str(), message)).await?;
        let mut fired = false;
        if let Some(stored) = self.get(key.clone()).await? {
            let mut row: ReminderRow = rows::decode(&stored.value, "a reminder")?;
            if row.remind_at_ms == Some(at_ms) && row.fired_at_ms.is_none() {
                row.fired_at_ms = Some(self.now_ms());
                let batch =
                    Batch::new().put(key.clone(), rows::encode(&row)).require(key, Check::RevisionIs(stored.revision));
                match self.engine.write(batch).await {
                    Ok(_) => fired = true,
                    // Somebody else fired or set it: the next run looks anew.
                    Err(error) if error.kind() == ErrorKind::Conflict => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
        }
        let removal = Batch::new().delete(entry.clone()).require(entry, Check::RevisionIs(record.revision));
        match self.engine.write(removal).await {
            Ok(_) => Ok(fired),
            // Put again by who sets it: the next run looks anew.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(fired),
            Err(error) => Err(error),
        }
    }

    async fn due_entry(&self, at_ms: u64, user: &str, channel: &ChannelId, message_id: &str) -> Result<Key> {
        let partition = keys::due_partition(self.app, keys::due_bucket(user));
        Ok(self.keyspace().await?.key(partition, keys::due(at_ms, user, channel.as_str(), message_id)))
    }
}
