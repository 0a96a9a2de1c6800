//! Channels: a type, an id, custom data.

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result};

use crate::channel_delete::was_deleted;
use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel};
use crate::custom::Patch;
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, ChannelKeys, Setting};
use crate::member::NewMember;
use crate::membership::{each_once, joined, new_row};
use crate::message::validate_custom;
use crate::outbox::{JOB_CHANGES_MAX, fence};
use crate::rows::{self, ChannelRow, JobRow, MemberRow};
use crate::settings::validate_slow_mode;
use crate::users::validate_team;

/// The most members that a channel is created with: they fit one write.
const FIRST_MEMBERS_MAX: usize = 1_000;

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub id: ChannelId,
    /// Who created it.
    pub created_by: String,
    /// When, in milliseconds since the epoch.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub updated_at_ms: Option<u64>,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// The team that all of its members are of.
    pub team: Option<String>,
    /// The members that it is the one channel of, by user id; empty where it may have any members.
    pub distinct: Vec<String>,
    /// Since when it is frozen: then most can only read.
    pub frozen_at_ms: Option<u64>,
    /// Since when it is disabled: then nobody can do anything in it.
    pub disabled_at_ms: Option<u64>,
    /// How long each must wait between two messages, in milliseconds.
    pub slow_mode_ms: Option<u64>,
    /// Messages up to this number are not shown any more.
    pub truncated: u64,
}

/// A channel to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewChannel {
    /// Who creates it.
    pub created_by: String,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// Its first members, at most 1,000.
    pub members: Vec<NewMember>,
    /// A team: then only users of that team ([`Chat::put_user`]) become members. It can't be changed later.
    pub team: Option<String>,
}

/// A change of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelChange {
    /// The new custom data; `None` removes it.
    pub custom: Option<String>,
    /// Whether the custom data stays instead, but for the patch.
    pub keep: bool,
    /// Changes of single fields of the custom data.
    pub patch: Patch,
}

impl Channel {
    pub(crate) fn from_row(id: ChannelId, row: ChannelRow) -> Self {
        Self {
            id,
            created_by: row.created_by,
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
            custom: row.custom,
            team: row.team,
            distinct: row.distinct,
            frozen_at_ms: row.frozen_at_ms,
            disabled_at_ms: row.disabled_at_ms,
            slow_mode_ms: row.slow_mode_ms,
            truncated: row.truncated,
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Creates a channel with its first members, at most 1,000, in one write. Repeatable: a channel that exists with
    /// the same creator and custom data is returned as it is, and its members stay as they are. `Conflict` where it
    /// exists otherwise.
    pub async fn create_channel(&self, id: &ChannelId, new: NewChannel) -> Result<Channel> {
        if id.id().starts_with('!') {
            return Err(Error::invalid(format!("channel {id}: ids that begin with '!' are made for sets of members")));
        }
        self.create(id, new, Vec::new()).await
    }

    /// As [`Chat::create_channel`]; the channel is the one of the members `only`, unless that is empty.
    pub(crate) async fn create(&self, id: &ChannelId, new: NewChannel, only: Vec<String>) -> Result<Channel> {
        self.create_as(id, new, only, Origin::default()).await
    }

    /// As [`Chat::create`], for a channel as it was elsewhere.
    pub(crate) async fn create_as(
        &self,
        id: &ChannelId,
        new: NewChannel,
        only: Vec<String>,
        origin: Origin,
    ) -> Result<Channel> {
        self.kind_of(id)?;
        validate_name("a user id", &new.created_by)?;
        validate_custom(new.custom.as_deref(), &self.options)?;
        new.team.as_deref().map_or(Ok(()), validate_team)?;
        let members = each_once(new.members, &self.options)?;
        if members.len() > FIRST_MEMBERS_MAX {
            let message = format!(
                "a channel is created with at most {FIRST_MEMBERS_MAX} members, not {}: add the others to it",
                members.len()
            );
            return Err(Error::new(ErrorKind::BatchTooLarge, message));
        }
        self.check_team(new.team.as_deref(), members.iter().map(|one| one.user_id.as_str())).await?;
        validate_slow_mode(origin.slow_mode_ms)?;
        let keys = self.keys(id).await?;
        let now_ms = self.now_ms();
        let row = ChannelRow {
            created_by: new.created_by,
            created_at_ms: origin.created_at_ms.unwrap_or(now_ms),
            updated_at_ms: None,
            custom: new.custom,
            version: 1,
            team: new.team,
            distinct: only,
            frozen_at_ms: origin.frozen.then_some(now_ms),
            disabled_at_ms: origin.disabled.then_some(now_ms),
            slow_mode_ms: origin.slow_mode_ms,
            ..ChannelRow::default()
        };
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.multi_get(vec![keys.channel(), keys.epoch(), keys.deletion()]).await?;
            let Ok([channel, epoch, deletion]) = <[Option<Record>; 3]>::try_from(stored) else {
                return Err(Error::corrupt("the engine returned another number of records"));
            };
            if let Some(record) = channel {
                return same_channel(id, &row, rows::decode(&record.value, "a channel")?);
            }
            if deletion.is_some() {
                return Err(was_deleted(id));
            }
            self.list_channel(id).await?;
            if !members.is_empty() {
                self.put_pointer(id, &keys).await?;
            }
            let (batch, jobs) = creation(&keys, &row, fence(epoch), &members);
            match self.engine.write(batch).await {
                Ok(written) => {
                    self.do_own_jobs(id, &keys, &written, jobs).await;
                    return Ok(Channel::from_row(id.clone(), row));
                }
                // It exists by now, or the pointer may be gone again.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the channel"))
    }

    /// These channels, in their order, at most 4,096; `NotFound` where one does not exist. No consistent cut.
    pub async fn channels(&self, ids: &[ChannelId]) -> Result<Vec<Channel>> {
        let mut wanted = Vec::with_capacity(ids.len());
        for id in ids {
            wanted.push(self.keys(id).await?.channel());
        }
        let records = self.multi_get(wanted).await?;
        ids.iter()
            .zip(records)
            .map(|(id, record)| {
                let record = record.ok_or_else(|| no_channel(id))?;
                Ok(Channel::from_row(id.clone(), rows::decode(&record.value, "a channel")?))
            })
            .collect()
    }

    /// The channel, or `NotFound`.
    pub async fn channel(&self, id: &ChannelId) -> Result<Channel> {
        let keys = self.keys(id).await?;
        let record = self.get(keys.channel()).await?.ok_or_else(|| no_channel(id))?;
        Ok(Channel::from_row(id.clone(), rows::decode(&record.value, "a channel")?))
    }

    /// Changes a channel's custom data. `NotFound` where it does not exist.
    pub async fn update_channel(&self, id: &ChannelId, change: ChannelChange) -> Result<Channel> {
        validate_custom(change.custom.as_deref(), &self.options)?;
        self.change_channel(id, |row, _, _| {
            let base = if change.keep { row.custom.as_deref() } else { change.custom.as_deref() };
            row.custom = change.patch.apply(base)?;
            validate_custom(row.custom.as_deref(), &self.options)?;
            Ok(Batch::new())
        })
        .await
    }

    /// Changes a channel's row, and in the same batch what `change` returns: it is given the row, the channel's keys
    /// and the time, and may be called several times. Nothing is written where the row stays as it is.
    pub(crate) async fn change_channel(
        &self,
        id: &ChannelId,
        change: impl Fn(&mut ChannelRow, &ChannelKeys, u64) -> Result<Batch> + Send + Sync,
    ) -> Result<Channel> {
        let keys = self.keys(id).await?;
        for _ in 0..ATTEMPTS_MAX {
            let record = self.get(keys.channel()).await?.ok_or_else(|| no_channel(id))?;
            let before: ChannelRow = rows::decode(&record.value, "a channel")?;
            let mut row = before.clone();
            let now_ms = self.now_ms();
            let more = change(&mut row, &keys, now_ms)?;
            if row == before {
                return Ok(Channel::from_row(id.clone(), row));
            }
            row.updated_at_ms = Some(now_ms);
            row.version = row.version.saturating_add(1);
            let mut batch = Batch::new()
                .merge(keys.version(), 1)
                .put(keys.channel(), rows::encode(&row))
                .require(keys.channel(), Check::RevisionIs(record.revision));
            batch.ops.extend(more.ops);
            batch.preconditions.extend(more.preconditions);
            match self.engine.write(batch).await {
                Ok(_) => return Ok(Channel::from_row(id.clone(), row)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the channel"))
    }
}

/// The stored channel, where it is the one that was to be created.
/// What a channel brings with it that was elsewhere before.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    pub(crate) created_at_ms: Option<u64>,
    pub(crate) frozen: bool,
    pub(crate) disabled: bool,
    pub(crate) slow_mode_ms: Option<u64>,
}

fn same_channel(id: &ChannelId, wanted: &ChannelRow, stored: ChannelRow) -> Result<Channel> {
    // The one channel of some members is theirs, whoever asked for it first.
    let theirs = !wanted.distinct.is_empty() && stored.distinct == wanted.distinct;
    let same = stored.created_by == wanted.created_by && stored.custom == wanted.custom;
    if stored.team == wanted.team && (theirs || (same && stored.distinct == wanted.distinct)) {
        return Ok(Channel::from_row(id.clone(), stored));
    }
    let message = format!("channel {id} exists with another creator, team or other custom data");
    Err(Error::new(ErrorKind::Conflict, message))
}

/// The one write that makes a channel and its first members, and the jobs in it, which are its last operations.
fn creation(keys: &ChannelKeys, row: &ChannelRow, fence: Check, members: &[NewMember]) -> (Batch, Vec<JobRow>) {
    let mut batch = Batch::new()
        .merge(keys.version(), 1)
        .put(keys.channel(), rows::encode(row))
        .merge(keys.own(&row.created_by), 0)
        .require(keys.channel(), Check::Absent)
        .require(keys.deletion(), Check::Absent);
    if row.frozen_at_ms.is_some() {
        batch = batch.put(keys.setting(Setting::Frozen), Bytes::new());
    }
    if row.disabled_at_ms.is_some() {
        batch = batch.put(keys.setting(Setting::Disabled), Bytes::new());
    }
    if let Some(wait_ms) = row.slow_mode_ms {
        batch = batch.put(keys.setting(Setting::SlowMode), wait_ms.to_be_bytes().to_vec());
    }
    if members.is_empty() {
        return (batch, Vec::new());
    }
    batch = batch.require(keys.epoch(), fence);
    let mut jobs = Vec::new();
    for chunk in members.chunks(JOB_CHANGES_MAX) {
        let mut job = JobRow::default();
        for new in chunk {
            let member = MemberRow { joined_at_ms: row.created_at_ms, ..new_row(new) };
            batch = batch.put(keys.member(&new.user_id), rows::encode(&member));
            job.changes.push(joined(&new.user_id, &member));
        }
        jobs.push(job);
    }
    for job in &jobs {
        batch = batch.append(keys.job_counter(), keys::prefix::jobs(), rows::encode(job), None);
    }
    (batch, jobs)
}
