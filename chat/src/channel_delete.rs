//! Deleting channels: out of sight and restorable, or for good; a job that goes on after a crash.
//!
//! ```text
//! delete    move the channel's row into the deletion's, and disable the channel: one batch
//!           then, by the outbox worker: take the channel out of its members' lists, page by page
//! erase     the same, and then: erase all messages, page by page; take the channel out of the directory; remove its rows
//! restore   move the row back: one batch; then put the channel into its members' lists again
//! ```
//!
//! Whatever writes to a channel demands its row, so nothing is written to a channel whose row is away, whoever it is that
//! writes. Messages are erased one by one, so that whoever follows them, such as an index, forgets them too.
//!
//! Invariant: a channel has its row, or its deletion has it, and never both; an id that was erased is never used again.

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Record, Result, Scan, ScanRange, prefix_end};

use crate::channel::Channel;
use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel};
use crate::ids::{ChannelId, validate_name};
use crate::invite::{Invite, InviteState};
use crate::keys::{self, ChannelKeys, Row, Setting};
use crate::member::behind;
use crate::outbox::{JOB_CHANGES_MAX, fence};
use crate::rows::{self, ChannelRow, DeletionRow, InviteRow, JobChange, JobRow, MemberRow, MessageRow};

/// How many messages one step erases.
const MESSAGES_PAGE: usize = 100;
/// How many steps one run of the outbox does for one channel, so that others get their turn.
const STEPS_PER_RUN: usize = 32;

/// What is to be done next; stored, so numbers stay.
const MEMBERS: u32 = 0;
const INVITES: u32 = 1;
const MESSAGES: u32 = 2;
const ROWS: u32 = 3;
const DONE: u32 = 4;

/// That a channel is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// When it was deleted, in milliseconds since the epoch.
    pub deleted_at_ms: u64,
    /// By whom.
    pub deleted_by: String,
    /// Whether everything of it is erased, so that it can't be restored.
    pub erases: bool,
    /// When all was done; `None` = it goes on.
    pub done_at_ms: Option<u64>,
}

impl Deletion {
    fn from_row(row: &DeletionRow) -> Self {
        Self {
            deleted_at_ms: row.deleted_at_ms,
            deleted_by: row.deleted_by.clone(),
            erases: row.erases,
            done_at_ms: row.done_at_ms,
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Deletes a channel: at once nobody reads it by its name or writes to it, and its members' lists lose it soon, by the outbox
    /// worker ([`Chat::deletion`] tells how far it is). [`Chat::restore_channel`] brings all of it back, unless it
    /// `erases`: then nothing is kept of it but that its id was used, and what backups and retained changes hold.
    /// Repeatable; one that was deleted can be erased later. Rights are not looked at.
    ///
    /// `NotFound` without the channel, `Conflict` for erasing the one channel of its members: truncate it and erase what was
    /// truncated ([`Chat::erase_truncated`]), since its members would get its id again.
    pub async fn delete_channel(&self, channel: &ChannelId, by: &str, erases: bool) -> Result<Deletion> {
        validate_name("a user id", by)?;
        let keys = self.keys(channel).await?;
        let mut announced = None;
        for _ in 0..ATTEMPTS_MAX {
            let (found, deletion, epoch) = self.load_deletion(&keys).await?;
            let before = deletion.as_ref().map(|(_, row)| row.clone());
            let check = deletion.map_or(Check::Absent, |(record, _)| Check::RevisionIs(record.revision));
            let mut batch = Batch::new();
            let row = match (found, before) {
                (None, None) => return Err(no_channel(channel)),
                (None, Some(before)) if before.erases || !erases => return Ok(Deletion::from_row(&before)),
                (None, Some(before)) => {
                    let stage = if before.stage == DONE { MESSAGES } else { before.stage };
                    DeletionRow { erases, stage, done_at_ms: None, ..before }
                }
                (Some((record, row)), _) => {
                    batch = batch
                        .merge(keys.version(), 1)
                        .delete(keys.channel())
                        .require(keys.channel(), Check::RevisionIs(record.revision))
                        .put(keys.setting(Setting::Disabled), Bytes::new());
                    let (deleted_at_ms, deleted_by) = (self.now_ms(), by.to_owned());
                    DeletionRow { channel: Some(row), deleted_at_ms, deleted_by, erases, ..DeletionRow::default() }
                }
            };
            if erases && row.channel.as_ref().is_some_and(|row| !row.distinct.is_empty()) {
                let message =
                    format!("channel {channel} is the one of its members: truncate it, and erase that instead");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            let epoch = fence(epoch);
            self.announce_once(channel, &keys, &epoch, &mut announced).await?;
            let batch = batch
                .put(keys.deletion(), rows::encode(&row))
                .require(keys.deletion(), check)
                .require(keys.epoch(), epoch);
            match self.engine.write(batch).await {
                Ok(_) => return Ok(Deletion::from_row(&row)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the channel"))
    }

    /// Whether and how a channel is deleted; `None` where it is not.
    pub async fn deletion(&self, channel: &ChannelId) -> Result<Option<Deletion>> {
        let keys = self.keys(channel).await?;
        let (_, deletion, _) = self.load_deletion(&keys).await?;
        Ok(deletion.filter(|(_, row)| !row.restores).map(|(_, row)| Deletion::from_row(&row)))
    }

    /// Brings a deleted channel back, as it was; its members' lists get it again soon. Repeatable. `NotFound` where there is
    /// and was none, `Conflict` for one that is erased.
    pub async fn restore_channel(&self, channel: &ChannelId) -> Result<Channel> {
        let keys = self.keys(channel).await?;
        let mut announced = None;
        for _ in 0..ATTEMPTS_MAX {
            let (found, deletion, epoch) = self.load_deletion(&keys).await?;
            if let Some((_, row)) = found {
                return Ok(Channel::from_row(channel.clone(), row));
            }
            let (record, before) = deletion.ok_or_else(|| no_channel(channel))?;
            let mut row = before.channel.filter(|_| !before.erases).ok_or_else(|| erased(channel))?;
            (row.updated_at_ms, row.version) = (Some(self.now_ms()), row.version.saturating_add(1));
            let epoch = fence(epoch);
            self.announce_once(channel, &keys, &epoch, &mut announced).await?;
            let mut batch = Batch::new()
                .merge(keys.version(), 1)
                .put(keys.channel(), rows::encode(&row))
                .put(keys.deletion(), rows::encode(&DeletionRow { restores: true, ..DeletionRow::default() }))
                .require(keys.channel(), Check::Absent)
                .require(keys.deletion(), Check::RevisionIs(record.revision))
                .require(keys.epoch(), epoch);
            if row.disabled_at_ms.is_none() {
                batch = batch.delete(keys.setting(Setting::Disabled));
            }
            match self.engine.write(batch).await {
                Ok(_) => return Ok(Channel::from_row(channel.clone(), row)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the channel"))
    }

    /// The channel's row, its deletion and its epoch, in one read.
    async fn load_deletion(&self, keys: &ChannelKeys) -> Result<Loaded> {
        let stored = self.multi_get(vec![keys.channel(), keys.deletion(), keys.epoch()]).await?;
        let Ok([channel, deletion, epoch]) = <[Option<Record>; 3]>::try_from(stored) else {
            return Err(Error::corrupt("the engine returned another number of records"));
        };
        let channel = channel.map(|record| Ok::<_, Error>((rows::decode(&record.value, "a channel")?, record)));
        let deletion = deletion.map(|record| Ok::<_, Error>((rows::decode(&record.value, "a deletion")?, record)));
        Ok((
            channel.transpose()?.map(|(row, record)| (record, row)),
            deletion.transpose()?.map(|(row, record)| (record, row)),
            epoch,
        ))
    }

    /// Does what is left to be done for a channel that is deleted or restored, as far as a run goes: how many steps, and whether
    /// all is done.
    pub(crate) async fn run_deletion(&self, channel: &ChannelId, keys: &ChannelKeys) -> Result<(u64, bool)> {
        for steps in 0..STEPS_PER_RUN {
            if !self.deletion_step(channel, keys).await? {
                return Ok((u64::try_from(steps).unwrap_or(u64::MAX), true));
            }
        }
        Ok((u64::try_from(STEPS_PER_RUN).unwrap_or(u64::MAX), false))
    }

    /// Whether nothing is left to be done for a deletion of the channel.
    pub(crate) async fn is_deletion_done(&self, keys: &ChannelKeys) -> Result<bool> {
        let Some(record) = self.get(keys.deletion()).await? else { return Ok(true) };
        Ok(rows::decode::<DeletionRow>(&record.value, "a deletion")?.done_at_ms.is_some())
    }

    /// One step; `false` = there is nothing to do.
    async fn deletion_step(&self, channel: &ChannelId, keys: &ChannelKeys) -> Result<bool> {
        let Some(record) = self.get(keys.deletion()).await? else { return Ok(false) };
        let mut row: DeletionRow = rows::decode(&record.value, "a deletion")?;
        if row.done_at_ms.is_some() {
            return Ok(false);
        }
        let (mut batch, mut job) = (Batch::new(), JobRow::default());
        match row.stage {
            MEMBERS | INVITES => {
                let prefix = if row.stage == MEMBERS { keys::prefix::members() } else { keys::prefix::invites() };
                let found = self.deletion_page(keys, &prefix, &row.after, JOB_CHANGES_MAX).await?;
                for (key, record) in &found {
                    job.changes.extend(listed(&key.sort, &record.value, row.restores)?);
                }
                row.advance(found.last().filter(|_| found.len() == JOB_CHANGES_MAX));
            }
            MESSAGES => {
                let prefix = keys::prefix::all_messages();
                let found = self.deletion_page(keys, &prefix, &row.after, MESSAGES_PAGE).await?;
                for (_, record) in &found {
                    let message: MessageRow = rows::decode(&record.value, "a message")?;
                    if message.erased == 0 {
                        self.erase_trusted(channel, &message.id).await?;
                    }
                }
                row.advance(found.last().filter(|_| found.len() == MESSAGES_PAGE));
            }
            ROWS => {
                self.unlist_channel(channel).await?;
                for (start, end) in keys.all_but_counters() {
                    batch = batch.delete_range(start, end);
                }
                (row.stage, row.channel) = (DONE, None);
            }
            stage => return Err(Error::corrupt(format!("a deletion has the stage {stage}, which there is not"))),
        }
        if row.stage == MESSAGES && !row.erases {
            row.stage = DONE;
        }
        if row.stage == DONE {
            row.done_at_ms = Some(self.now_ms());
        }
        batch = batch.require(keys.deletion(), Check::RevisionIs(record.revision));
        batch = match row.done_at_ms {
            Some(_) if row.restores => batch.delete(keys.deletion()),
            _ => batch.put(keys.deletion(), rows::encode(&row)),
        };
        let jobs = if job.changes.is_empty() { Vec::new() } else { vec![job] };
        for job in &jobs {
            batch = batch.append(keys.job_counter(), keys::prefix::jobs(), rows::encode(job), None);
        }
        match self.engine.write(batch).await {
            Ok(written) => {
                self.do_own_jobs(channel, keys, &written, jobs).await;
                Ok(true)
            }
            // Another worker is at it, or somebody restores or erases the channel.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Up to `limit` rows of a prefix behind the place that a deletion has come to.
    async fn deletion_page(
        &self,
        keys: &ChannelKeys,
        prefix: &Bytes,
        after: &Bytes,
        limit: usize,
    ) -> Result<Vec<(Key, Record)>> {
        let mut scan = Scan::prefix(keys.keyspace, keys.partition.clone(), prefix.clone(), limit);
        if !after.is_empty() {
            let (start, end) = (behind(after), prefix_end(prefix));
            scan.range =
                ScanRange::Partition { keyspace: keys.keyspace, partition: keys.partition.clone(), start, end };
        }
        self.first(scan, limit).await
    }
}

type Loaded = (Option<(Record, ChannelRow)>, Option<(Record, DeletionRow)>, Option<Record>);

impl DeletionRow {
    /// Goes on behind the last row of a full page, or with the next stage.
    fn advance(&mut self, last: Option<&(Key, Record)>) {
        if let Some((key, _)) = last {
            self.after = Bytes::copy_from_slice(&key.sort);
        } else {
            (self.stage, self.after) = (self.stage + 1, Bytes::new());
        }
    }
}

/// What the list of a member, or of one who is invited, is to say.
fn listed(sort: &[u8], value: &Bytes, restores: bool) -> Result<Option<JobChange>> {
    let change = match Row::parse(sort)? {
        Row::Member(user) => {
            let row: MemberRow = rows::decode(value, "a member")?;
            let (role, joined_at_ms) = (row.role, row.joined_at_ms);
            JobChange { user_id: user.to_owned(), role, joined_at_ms, ..JobChange::default() }
        }
        Row::Invite(user) => {
            let invite = Invite::from_row(user, rows::decode::<InviteRow>(value, "an invitation")?)?;
            if invite.state != InviteState::Pending {
                return Ok(None);
            }
            let (user_id, role, joined_at_ms) = (invite.user_id, invite.role, invite.invited_at_ms);
            JobChange { user_id, role, joined_at_ms, removed: false, invited: true }
        }
        _ => return Ok(None),
    };
    if restores {
        return Ok(Some(change));
    }
    Ok(Some(JobChange { user_id: change.user_id, removed: true, ..JobChange::default() }))
}

/// The error of a channel that is deleted, where it would be made anew.
pub(crate) fn was_deleted(channel: &ChannelId) -> Error {
    let message = format!("channel {channel} was deleted: restore it, or use another id");
    Error::new(ErrorKind::Conflict, message)
}

fn erased(channel: &ChannelId) -> Error {
    Error::new(ErrorKind::Conflict, format!("channel {channel} is erased: nothing of it is left"))
}
