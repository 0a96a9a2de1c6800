//! Joining a channel and leaving it.
//!
//! Invariant: a membership and the outbox job that carries it into the user's own list are one batch, so
//! the list follows whatever happens in between; see [`crate::outbox`].

use std::collections::BTreeMap;

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Record, Result, Revision, Written};

use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, ChannelKeys};
use crate::member::NewMember;
use crate::message::validate_custom;
use crate::options::{ChatOptions, Rights};
use crate::outbox::{JOB_CHANGES_MAX, fence};
use crate::rows::{self, ChannelRow, JobChange, JobRow, MemberRow};

/// How often a join insists that no message was sent since it read where its unread count starts.
const FENCED_ATTEMPTS: usize = ATTEMPTS_MAX / 2;

/// What becomes of those who are members already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Present {
    /// They stay as they are.
    Keep,
    /// They get the role, grants and custom data given.
    Change,
}

/// A member's row as it is to be, and what must hold for it.
pub(crate) struct Changed<'a> {
    pub(crate) user: &'a str,
    pub(crate) row: MemberRow,
    pub(crate) check: Check,
}

impl Changed<'_> {
    fn joins(&self) -> bool {
        self.row.version == 1
    }
}

impl<E: Engine> Chat<E> {
    /// Adds members; those who are members already stay as they are. Repeatable. What was said before a member
    /// joined is not unread. `NotFound` without the channel, `PermissionDenied` for users who are not of its team,
    /// `Conflict` for others than those whose one channel it is.
    pub async fn add_members(&self, channel: &ChannelId, members: Vec<NewMember>) -> Result<()> {
        self.change_members(channel, members, Present::Keep).await
    }

    /// Adds members, or changes roles, grants and custom data of those who are members already. Repeatable. Errors as
    /// those of [`Chat::add_members`].
    pub async fn put_members(&self, channel: &ChannelId, members: Vec<NewMember>) -> Result<()> {
        self.change_members(channel, members, Present::Change).await
    }

    /// As [`Chat::add_members`], for members who joined at other times, by user id.
    pub(crate) async fn add_members_at(
        &self,
        channel: &ChannelId,
        members: Vec<NewMember>,
        joined_at_ms: &BTreeMap<String, u64>,
    ) -> Result<()> {
        self.change_members_at(channel, members, Present::Keep, joined_at_ms).await
    }

    async fn change_members(&self, channel: &ChannelId, members: Vec<NewMember>, present: Present) -> Result<()> {
        self.change_members_at(channel, members, present, &BTreeMap::new()).await
    }

    async fn change_members_at(
        &self,
        channel: &ChannelId,
        members: Vec<NewMember>,
        present: Present,
        joined_at_ms: &BTreeMap<String, u64>,
    ) -> Result<()> {
        let members = each_once(members, &self.options)?;
        let keys = self.keys(channel).await?;
        self.check_admission(channel, &keys, &members).await?;
        for chunk in members.chunks(JOB_CHANGES_MAX) {
            self.change_chunk(channel, &keys, chunk, present, joined_at_ms).await?;
        }
        Ok(())
    }

    /// Whether these users may become members: as the channel's team and its set of members say, which never change.
    pub(crate) async fn check_admission(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        members: &[NewMember],
    ) -> Result<()> {
        let record = self.get(keys.channel()).await?.ok_or_else(|| no_channel(channel))?;
        let row: ChannelRow = rows::decode(&record.value, "a channel")?;
        if !row.distinct.is_empty()
            && let Some(other) = members.iter().find(|one| row.distinct.binary_search(&one.user_id).is_err())
        {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("channel {channel} is the one of its members: user '{}' needs another one", other.user_id),
            ));
        }
        if self.options.rights == Rights::Members {
            for member in members {
                self.check_app(&member.user_id).await?;
            }
        }
        self.check_team(row.team.as_deref(), members.iter().map(|one| one.user_id.as_str())).await
    }

    async fn change_chunk(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        chunk: &[NewMember],
        present: Present,
        joined_at_ms: &BTreeMap<String, u64>,
    ) -> Result<()> {
        let mut announced = None;
        for attempt in 0..ATTEMPTS_MAX {
            let mut wanted: Vec<Key> = chunk.iter().map(|one| keys.member(&one.user_id)).collect();
            wanted.push(keys.epoch());
            let mut stored = self.multi_get(wanted).await?;
            let epoch = fence(stored.pop().flatten());
            let mut changed = Vec::new();
            for (new, record) in chunk.iter().zip(stored) {
                let mut one = changed_member(new, record, present)?;
                if let Some(one) = one.as_mut().filter(|one| one.joins()) {
                    one.row.joined_at_ms = joined_at_ms.get(one.user).copied().unwrap_or(0);
                }
                changed.extend(one);
            }
            if changed.is_empty() {
                return self.get(keys.channel()).await?.map(|_| ()).ok_or_else(|| no_channel(channel));
            }
            self.announce_once(channel, keys, &epoch, &mut announced).await?;
            let guard = Batch::new().require(keys.epoch(), epoch);
            if self.write_changed(channel, keys, changed, guard, attempt).await? {
                return Ok(());
            }
        }
        Err(contended("the channel's membership"))
    }

    /// Writes members as they are to be, with the job that tells their lists, where `guard` holds, which demands the
    /// epoch under which the pointer was put; `false` = a precondition failed. Whoever joins is invited no longer.
    pub(crate) async fn write_changed(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        mut changed: Vec<Changed<'_>>,
        guard: Batch,
        attempt: usize,
    ) -> Result<bool> {
        let unmoved = self.set_baselines(keys, &mut changed, attempt < FENCED_ATTEMPTS).await?;
        let mut batch = guard.merge(keys.version(), 1).require(keys.channel(), Check::Exists);
        if let Some(unmoved) = unmoved {
            batch = batch.require(keys.sequence(), unmoved);
        }
        let mut job = JobRow::default();
        for Changed { user, row, check } in changed {
            if row.version == 1 {
                batch = batch.delete(keys.invite(user));
            }
            batch = batch.require(keys.member(user), check).put(keys.member(user), rows::encode(&row));
            job.changes.push(joined(user, &row));
        }
        self.write_with_job(channel, keys, batch, job).await
    }

    /// Gives members who join now the place where their unread count starts, and the time, unless they joined at another. Returns what must hold of
    /// the sequence so that nothing was sent in between; the own counters are read after the head, so it covers them.
    async fn set_baselines(
        &self,
        keys: &ChannelKeys,
        changed: &mut [Changed<'_>],
        fenced: bool,
    ) -> Result<Option<Check>> {
        let own_keys: Vec<Key> = changed.iter().filter(|one| one.joins()).map(|one| keys.own(one.user)).collect();
        if own_keys.is_empty() {
            return Ok(None);
        }
        let head = self.head(keys).await?;
        let mut own = self.multi_get(own_keys).await?.into_iter();
        let now_ms = self.now_ms();
        for one in changed.iter_mut().filter(|one| one.joins()) {
            let own = own.next().ok_or_else(|| Error::corrupt("a counter is missing"))?;
            let own = own.map_or(Ok(0), |record| rows::decode_count(&record.value))?;
            if one.row.joined_at_ms == 0 {
                one.row.joined_at_ms = now_ms;
            }
            one.row.baseline_position = head.sequence;
            one.row.baseline_others = if fenced {
                // Too small only where the user sent something after the head: then the write is refused.
                head.countable.saturating_sub(own)
            } else {
                self.count_others(keys, one.user, 0, head.sequence).await?
            };
        }
        let unmoved = match head.sequence {
            0 => Check::Absent,
            sequence => Check::ValueIs(sequence.to_be_bytes().to_vec().into()),
        };
        Ok(fenced.then_some(unmoved))
    }

    /// Removes a member; `false` where it was none. Its read state goes too. `NotFound` without the channel, `Conflict`
    /// where the channel is the one of its members: those it keeps.
    pub async fn remove_member(&self, channel: &ChannelId, user: &str) -> Result<bool> {
        self.remove_one(channel, user, false).await
    }

    /// As [`Chat::remove_member`], also from a channel that keeps its members.
    pub(crate) async fn remove_for_good(&self, channel: &ChannelId, user: &str) -> Result<bool> {
        self.remove_one(channel, user, true).await
    }

    async fn remove_one(&self, channel: &ChannelId, user: &str, for_good: bool) -> Result<bool> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        let mut announced = None;
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.multi_get(vec![keys.member(user), keys.epoch(), keys.channel()]).await?;
            let Ok([member, epoch, row]) = <[Option<Record>; 3]>::try_from(stored) else {
                return Err(Error::corrupt("the engine returned another number of records"));
            };
            let row: ChannelRow = match row {
                Some(record) => rows::decode(&record.value, "a channel")?,
                // A channel that is deleted has its members still.
                None if for_good => ChannelRow::default(),
                None => return Err(no_channel(channel)),
            };
            let Some(record) = member else {
                return Ok(false);
            };
            if !row.distinct.is_empty() && !for_good {
                let message = format!("channel {channel} is the one of its members, and keeps them: hide it instead");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            let epoch = fence(epoch);
            self.announce_once(channel, &keys, &epoch, &mut announced).await?;
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .require(keys.member(user), Check::RevisionIs(record.revision))
                .require(keys.epoch(), epoch)
                .delete(keys.member(user))
                .delete(keys.read(user))
                .delete(keys.receipt(user));
            let change = JobChange { user_id: user.to_owned(), removed: true, ..JobChange::default() };
            if self.write_with_job(channel, &keys, batch, JobRow { changes: vec![change] }).await? {
                return Ok(true);
            }
        }
        Err(contended("the membership"))
    }

    /// Puts the pointer, unless it was put under the same epoch before.
    pub(crate) async fn announce_once(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        epoch: &Check,
        announced: &mut Option<Check>,
    ) -> Result<()> {
        if announced.as_ref() != Some(epoch) {
            self.put_pointer(channel, keys).await?;
            *announced = Some(epoch.clone());
        }
        Ok(())
    }

    /// Writes a change of membership together with its job, then does the job. `false` = a precondition failed.
    pub(crate) async fn write_with_job(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        batch: Batch,
        job: JobRow,
    ) -> Result<bool> {
        let batch = batch.append(keys.job_counter(), keys::prefix::jobs(), rows::encode(&job), None);
        match self.engine.write(batch).await {
            Ok(written) => {
                self.do_own_jobs(channel, keys, &written, vec![job]).await;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let exists = self.get(keys.channel()).await?.is_some();
                if exists { Ok(false) } else { Err(no_channel(channel)) }
            }
            Err(error) => Err(error),
        }
    }

    /// Does the jobs that a write has just stored, and no others: whoever stored those does them. The jobs are
    /// the last merges and appends of their batch.
    pub(crate) async fn do_own_jobs(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        written: &Written,
        jobs: Vec<JobRow>,
    ) {
        let first = written.assigned.len().saturating_sub(jobs.len());
        let numbers = written.assigned.iter().skip(first);
        let numbered = numbers.map(|number| rows::assigned_count(Some(number)));
        let numbered: Result<Vec<(u64, JobRow)>> =
            numbered.zip(jobs).map(|(number, job)| number.map(|number| (number, job))).collect();
        let done = match numbered {
            Ok(jobs) => self.do_jobs(channel, keys, jobs).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%channel, %error, "members' lists of channels are left to the outbox worker");
        }
    }
}

/// Members by user, each once; the last one given counts.
pub(crate) fn each_once(members: Vec<NewMember>, options: &ChatOptions) -> Result<Vec<NewMember>> {
    let mut found: BTreeMap<String, NewMember> = BTreeMap::new();
    for member in members {
        validate_name("a user id", &member.user_id)?;
        validate_name("a role", &member.role)?;
        validate_custom(member.custom.as_deref(), options)?;
        found.insert(member.user_id.clone(), member);
    }
    Ok(found.into_values().collect())
}

/// The row of a member who joins.
pub(crate) fn new_row(new: &NewMember) -> MemberRow {
    MemberRow {
        role: new.role.clone(),
        version: 1,
        grants: grant_names(new),
        custom: new.custom.clone(),
        ..MemberRow::default()
    }
}

/// The names of what a member may do beyond its role, as they are stored.
pub(crate) fn grant_names(new: &NewMember) -> Vec<String> {
    new.grants.iter().map(|grant| grant.name().to_owned()).collect()
}

/// What a member's list of channels is to say.
pub(crate) fn joined(user: &str, row: &MemberRow) -> JobChange {
    JobChange {
        user_id: user.to_owned(),
        role: row.role.clone(),
        joined_at_ms: row.joined_at_ms,
        ..JobChange::default()
    }
}

/// The revision at which the member joined: a change of its role rewrites the row, but keeps this.
pub(crate) fn joined_revision(row: &MemberRow, record: &Record) -> Revision {
    if row.joined_revision == 0 { record.revision } else { Revision(row.joined_revision) }
}

/// The row of a member that is to have this role, and what must hold for it; `None` where nothing is to change.
fn changed_member(new: &NewMember, stored: Option<Record>, present: Present) -> Result<Option<Changed<'_>>> {
    let user = new.user_id.as_str();
    let Some(record) = stored else {
        return Ok(Some(Changed { user, row: new_row(new), check: Check::Absent }));
    };
    let mut row: MemberRow = rows::decode(&record.value, "a member")?;
    let grants = grant_names(new);
    if present == Present::Keep || (row.role == new.role && row.grants == grants && row.custom == new.custom) {
        return Ok(None);
    }
    row.joined_revision = joined_revision(&row, &record).0;
    row.role.clone_from(&new.role);
    (row.grants, row.custom) = (grants, new.custom.clone());
    row.version = row.version.saturating_add(1);
    Ok(Some(Changed { user, row, check: Check::RevisionIs(record.revision) }))
}
