//! Members of a channel, and the channels of a user.
//!
//! Invariant: a membership and the outbox job that carries it into the user's own list are one batch, so
//! the list follows whatever happens in between; see [`crate::outbox`].

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result, Scan, ScanRange, prefix_end};

use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel, no_member};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, ChannelKeys, Row};
use crate::outbox::JOB_CHANGES_MAX;
use crate::rows::{self, JobChange, JobRow, ListingRow, MemberRow};

const PAGE_MAX: usize = 1_000;

/// A member of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user_id: String,
    /// Its role in the channel, such as `member` or `moderator`.
    pub role: String,
    /// When it joined, in milliseconds since the epoch.
    pub joined_at_ms: u64,
}

/// A member to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMember {
    /// The user.
    pub user_id: String,
    /// Its role.
    pub role: String,
}

/// A channel in a user's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The channel.
    pub channel: ChannelId,
    /// The user's role there.
    pub role: String,
    /// When the user joined, in milliseconds since the epoch.
    pub joined_at_ms: u64,
}

impl NewMember {
    /// A member with the role `member`.
    pub fn new(user_id: impl Into<String>) -> Self {
        Self { user_id: user_id.into(), role: "member".to_owned() }
    }

    /// The same member with a role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.role = role.into();
        self
    }
}

impl Member {
    pub(crate) fn from_row(user: &str, row: MemberRow) -> Self {
        Self { user_id: user.to_owned(), role: row.role, joined_at_ms: row.joined_at_ms }
    }
}

impl<E: Engine> Chat<E> {
    /// Adds members, or changes the roles of those who are members already. Repeatable. What was said before
    /// a member joined is not unread. `NotFound` without the channel.
    pub async fn add_members(&self, channel: &ChannelId, members: Vec<NewMember>) -> Result<()> {
        let mut roles: BTreeMap<String, String> = BTreeMap::new();
        for member in members {
            validate_name("a user id", &member.user_id)?;
            validate_name("a role", &member.role)?;
            roles.insert(member.user_id, member.role);
        }
        let roles: Vec<(String, String)> = roles.into_iter().collect();
        let keys = self.keys(channel).await?;
        for chunk in roles.chunks(JOB_CHANGES_MAX) {
            self.add_chunk(channel, &keys, chunk).await?;
        }
        Ok(())
    }

    async fn add_chunk(&self, channel: &ChannelId, keys: &ChannelKeys, chunk: &[(String, String)]) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            let wanted = chunk.iter().map(|(user, _)| keys.member(user)).collect();
            let stored = self.multi_get(wanted).await?;
            let mut changed = Vec::new();
            for ((user, role), record) in chunk.iter().zip(stored) {
                if let Some((row, check)) = changed_member(role, record)? {
                    changed.push((user.as_str(), row, check));
                }
            }
            if changed.is_empty() {
                return self.get(keys.channel()).await?.map(|_| ()).ok_or_else(|| no_channel(channel));
            }
            self.set_baselines(keys, &mut changed).await?;
            let fence = self.announce(channel, keys).await?;
            let mut batch = Batch::new()
                .merge(keys.version(), 1)
                .require(keys.channel(), Check::Exists)
                .require(keys.epoch(), fence);
            let mut job = JobRow::default();
            for (user, row, check) in changed {
                batch = batch.require(keys.member(user), check).put(keys.member(user), rows::encode(&row));
                job.changes.push(JobChange {
                    user_id: user.to_owned(),
                    role: row.role,
                    joined_at_ms: row.joined_at_ms,
                    removed: false,
                });
            }
            if self.write_with_job(channel, keys, batch, &job).await? {
                return Ok(());
            }
        }
        Err(contended("the channel's membership"))
    }

    /// Gives members who join now the place where their unread count starts, and the time.
    async fn set_baselines(&self, keys: &ChannelKeys, changed: &mut [(&str, MemberRow, Check)]) -> Result<()> {
        let now_ms = self.now_ms();
        let joining: Vec<&str> =
            changed.iter().filter(|(_, row, _)| row.version == 1).map(|(user, _, _)| *user).collect();
        if joining.is_empty() {
            return Ok(());
        }
        let own_keys: Vec<_> = joining.iter().map(|user| keys.own(user)).collect();
        let own_before = self.multi_get(own_keys.clone()).await?;
        let head = self.head(keys).await?;
        let own_after = self.multi_get(own_keys).await?;
        let mut own = own_before.into_iter().zip(own_after);
        for (user, row, _) in changed.iter_mut().filter(|(_, row, _)| row.version == 1) {
            let (before, after) = own.next().ok_or_else(|| Error::corrupt("a counter is missing"))?;
            let count = |record: Option<Record>| record.map_or(Ok(0), |record| rows::decode_count(&record.value));
            let (before, after) = (count(before)?, count(after)?);
            row.joined_at_ms = now_ms;
            row.baseline_position = head.sequence;
            row.baseline_others = if before == after {
                head.countable.checked_sub(before).ok_or_else(|| Error::corrupt("a sender's counter is too high"))?
            } else {
                self.count_others(keys, user, 0, head.sequence).await?
            };
        }
        Ok(())
    }

    /// Removes a member; `false` where it was none. Its read state goes too. `NotFound` without the channel.
    pub async fn remove_member(&self, channel: &ChannelId, user: &str) -> Result<bool> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        for _ in 0..ATTEMPTS_MAX {
            let Some(record) = self.get(keys.member(user)).await? else {
                return self.get(keys.channel()).await?.map(|_| false).ok_or_else(|| no_channel(channel));
            };
            let fence = self.announce(channel, &keys).await?;
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .require(keys.member(user), Check::RevisionIs(record.revision))
                .require(keys.epoch(), fence)
                .delete(keys.member(user))
                .delete(keys.read(user));
            let change = JobChange { user_id: user.to_owned(), removed: true, ..JobChange::default() };
            if self.write_with_job(channel, &keys, batch, &JobRow { changes: vec![change] }).await? {
                return Ok(true);
            }
        }
        Err(contended("the membership"))
    }

    /// Writes a change of membership together with its job, then does the job. `false` = a precondition failed.
    async fn write_with_job(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        batch: Batch,
        job: &JobRow,
    ) -> Result<bool> {
        let batch = batch.append(keys.job_counter(), keys::prefix::jobs(), rows::encode(job), None);
        match self.engine.write(batch).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let exists = self.get(keys.channel()).await?.is_some();
                return if exists { Ok(false) } else { Err(no_channel(channel)) };
            }
            Err(error) => return Err(error),
        }
        if let Err(error) = self.run_jobs(channel, keys).await {
            tracing::warn!(%channel, %error, "members' lists of channels are left to the outbox worker");
        }
        Ok(true)
    }

    /// The member, or `NotFound`.
    pub async fn member(&self, channel: &ChannelId, user: &str) -> Result<Member> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        let record = self.get(keys.member(user)).await?.ok_or_else(|| no_member(channel, user))?;
        Ok(Member::from_row(user, rows::decode(&record.value, "a member")?))
    }

    /// Up to `limit` members by user id, those after `after`.
    pub async fn members(&self, channel: &ChannelId, after: Option<&str>, limit: usize) -> Result<Vec<Member>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let prefix = keys::prefix::members();
        let start = after.map_or_else(|| prefix.clone(), |user| behind(&keys.member(user).sort));
        let mut members = Vec::new();
        for (key, record) in self.first(crate::chat::range(&keys, start, prefix_end(&prefix), limit), limit).await? {
            if let Row::Member(user) = Row::parse(&key.sort)? {
                members.push(Member::from_row(user, rows::decode(&record.value, "a member")?));
            }
        }
        Ok(members)
    }

    /// Up to `limit` channels of a user by name, those after `after`. Follows memberships through the
    /// outbox: at once when nothing fails, else when the worker has run.
    pub async fn channels_of(&self, user: &str, after: Option<&ChannelId>, limit: usize) -> Result<Vec<Listing>> {
        validate_name("a user id", user)?;
        validate_limit(limit)?;
        let prefix = keys::prefix::listings();
        let start = after.map_or_else(|| prefix.clone(), |channel| behind(&keys::listing(channel.as_str())));
        let keyspace = self.keyspace().await?;
        let partition = keys::user_partition(self.app, user);
        let mut scan = Scan::partition(keyspace, partition.clone(), limit);
        scan.range = ScanRange::Partition { keyspace, partition, start, end: prefix_end(&prefix) };
        let mut listings = Vec::new();
        self.walk(scan, |page| {
            for (key, record) in page {
                let row: ListingRow = rows::decode(&record.value, "a listing")?;
                if !row.removed && listings.len() < limit {
                    let channel = keys::parse_listing(&key.sort)?;
                    listings.push(Listing { channel, role: row.role, joined_at_ms: row.joined_at_ms });
                }
            }
            Ok(listings.len() < limit)
        })
        .await?;
        Ok(listings)
    }
}

/// The row of a member that is to have this role, and what must hold for it; `None` where it has it already.
fn changed_member(role: &str, stored: Option<Record>) -> Result<Option<(MemberRow, Check)>> {
    let Some(record) = stored else {
        return Ok(Some((MemberRow { role: role.to_owned(), version: 1, ..MemberRow::default() }, Check::Absent)));
    };
    let mut row: MemberRow = rows::decode(&record.value, "a member")?;
    if row.role == role {
        return Ok(None);
    }
    role.clone_into(&mut row.role);
    row.version = row.version.saturating_add(1);
    Ok(Some((row, Check::RevisionIs(record.revision))))
}

/// The first key after `sort`.
fn behind(sort: &Bytes) -> Bytes {
    let mut start = BytesMut::from(sort.as_ref());
    start.put_u8(0);
    start.freeze()
}

fn validate_limit(limit: usize) -> Result<()> {
    if limit == 0 || limit > PAGE_MAX {
        return Err(Error::invalid(format!("a page has 1 to {PAGE_MAX} entries, not {limit}")));
    }
    Ok(())
}
