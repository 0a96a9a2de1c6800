//! Invitations: asked, and then accepted, rejected or taken back.
//!
//! An invitation is a row beside the members', never one of theirs, so whoever asks for a member finds none.
//!
//! Invariant: accepting is the join itself, in one batch with the end of the invitation; so of an acceptance, a rejection
//! and a revocation at once exactly one happens.

use std::collections::BTreeSet;

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Record, Result, Scan, prefix_end};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel, range};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, ChannelKeys, Row};
use crate::member::{Listing, Member, NewMember, behind, validate_limit};
use crate::membership::{Changed, each_once, grant_names, new_row};
use crate::outbox::{JOB_CHANGES_MAX, fence};
use crate::restrict::Permit;
use crate::rows::{self, InviteRow, JobChange, JobRow};

/// What became of an invitation. One that was accepted is a member, and no invitation any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteState {
    /// It waits for an answer.
    Pending,
    /// The user said no.
    Rejected,
    /// It was taken back.
    Revoked,
}

/// An invitation to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// Who is invited.
    pub user_id: String,
    /// What became of it.
    pub state: InviteState,
    /// The role that the user is to have.
    pub role: String,
    /// What the user may do beyond its role.
    pub grants: BTreeSet<Capability>,
    /// Custom data of the member to be, a JSON object.
    pub custom: Option<String>,
    /// Who invited.
    pub invited_by: String,
    /// When, in milliseconds since the epoch.
    pub invited_at_ms: u64,
    /// When it was rejected or taken back.
    pub answered_at_ms: Option<u64>,
}

impl InviteState {
    fn stored(self) -> u32 {
        match self {
            Self::Pending => 1,
            Self::Rejected => 2,
            Self::Revoked => 3,
        }
    }

    fn from_stored(state: u32) -> Result<Self> {
        match state {
            1 => Ok(Self::Pending),
            2 => Ok(Self::Rejected),
            3 => Ok(Self::Revoked),
            _ => Err(Error::corrupt(format!("an invitation has the state {state}, which no version wrote"))),
        }
    }
}

impl Invite {
    pub(crate) fn from_row(user: &str, row: InviteRow) -> Result<Self> {
        Ok(Self {
            user_id: user.to_owned(),
            state: InviteState::from_stored(row.state)?,
            role: row.role,
            grants: row.grants.iter().filter_map(|name| Capability::from_name(name)).collect(),
            custom: row.custom,
            invited_by: row.invited_by,
            invited_at_ms: row.invited_at_ms,
            answered_at_ms: row.answered_at_ms,
        })
    }

    fn member(self) -> NewMember {
        NewMember { user_id: self.user_id, role: self.role, grants: self.grants, custom: self.custom }
    }
}

impl<E: Engine> Chat<E> {
    /// Invites users. Who is a member, or has an invitation that waits, stays as it is; who rejected one is asked again.
    /// Repeatable. Errors as those of [`Chat::add_members`]. Where rights are checked, `by` needs the capability to invite,
    /// and for a role or grants other than those of new members the one to change roles.
    pub async fn invite(&self, channel: &ChannelId, by: &str, users: Vec<NewMember>) -> Result<()> {
        validate_name("a user id", by)?;
        let users = each_once(users, &self.options)?;
        let keys = self.keys(channel).await?;
        self.check_admission(channel, &keys, &users).await?;
        for chunk in users.chunks(JOB_CHANGES_MAX) {
            self.invite_chunk(channel, &keys, by, chunk).await?;
        }
        Ok(())
    }

    async fn invite_chunk(&self, channel: &ChannelId, keys: &ChannelKeys, by: &str, users: &[NewMember]) -> Result<()> {
        let mut announced = None;
        for _ in 0..ATTEMPTS_MAX {
            let mut wanted: Vec<Key> =
                users.iter().flat_map(|one| [keys.member(&one.user_id), keys.invite(&one.user_id)]).collect();
            wanted.push(keys.epoch());
            let mut stored = self.multi_get(wanted).await?;
            let epoch = fence(stored.pop().flatten());
            let permit = self.permit_invites(channel, keys, by, users).await?;
            let mut batch = permit
                .guard(Batch::new())
                .merge(keys.version(), 1)
                .merge(keys.own(by), 0)
                .require(keys.channel(), Check::Exists)
                .require(keys.epoch(), epoch.clone());
            let mut job = JobRow::default();
            let now_ms = self.now_ms();
            for (new, pair) in users.iter().zip(stored.chunks(2)) {
                let [None, invite] = pair else {
                    continue;
                };
                let check = match invite {
                    None => Check::Absent,
                    Some(record) if is_pending(record)? => continue,
                    Some(record) => Check::RevisionIs(record.revision),
                };
                let row = InviteRow {
                    state: InviteState::Pending.stored(),
                    role: new.role.clone(),
                    grants: grant_names(new),
                    custom: new.custom.clone(),
                    invited_by: by.to_owned(),
                    invited_at_ms: now_ms,
                    answered_at_ms: None,
                };
                batch = batch
                    .require(keys.member(&new.user_id), Check::Absent)
                    .require(keys.invite(&new.user_id), check)
                    .put(keys.invite(&new.user_id), rows::encode(&row));
                job.changes.push(JobChange {
                    user_id: new.user_id.clone(),
                    role: row.role,
                    joined_at_ms: now_ms,
                    removed: false,
                    invited: true,
                });
            }
            if job.changes.is_empty() {
                return Ok(());
            }
            self.announce_once(channel, keys, &epoch, &mut announced).await?;
            if self.write_with_job(channel, keys, batch, job).await? {
                return Ok(());
            }
        }
        Err(contended("the channel's invitations"))
    }

    async fn permit_invites(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        by: &str,
        users: &[NewMember],
    ) -> Result<Permit> {
        let mut needed = vec![Capability::Invite];
        if users.iter().any(|one| one.role != NewMember::new("").role || !one.grants.is_empty()) {
            needed.push(Capability::ChangeRoles);
        }
        self.permit(channel, keys, by, &needed, true).await
    }

    /// The user accepts: it becomes a member. Repeatable. `NotFound` without an invitation, `Conflict` for one that was
    /// rejected or taken back, `PermissionDenied` for a user who has left the channel's team, and where rights are checked for
    /// one that is banned or deactivated.
    pub async fn accept_invite(&self, channel: &ChannelId, user: &str) -> Result<Member> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        let mut announced = None;
        for attempt in 0..ATTEMPTS_MAX {
            let stored = self.multi_get(vec![keys.member(user), keys.invite(user), keys.epoch()]).await?;
            let Ok([member, invite, epoch]) = <[Option<Record>; 3]>::try_from(stored) else {
                return Err(Error::corrupt("the engine returned another number of records"));
            };
            if let Some(record) = member {
                return Ok(Member::from_row(user, rows::decode(&record.value, "a member")?));
            }
            let unchanged = invite.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            let new = self.open_invite(channel, &keys, user, invite).await?.member();
            self.check_admission(channel, &keys, std::slice::from_ref(&new)).await?;
            let epoch = fence(epoch);
            self.announce_once(channel, &keys, &epoch, &mut announced).await?;
            let changed = Changed { user, row: new_row(&new), check: Check::Absent };
            let guard = Batch::new().require(keys.epoch(), epoch).require(keys.invite(user), unchanged);
            let guard = self.not_banned(channel, &keys, user).await?.guard(guard);
            if self.write_changed(channel, &keys, vec![changed], guard, attempt).await? {
                return self.member(channel, user).await;
            }
        }
        Err(contended("the invitation"))
    }

    /// The user rejects its invitation; `false` where it has none that waits. `NotFound` without the channel.
    pub async fn reject_invite(&self, channel: &ChannelId, user: &str) -> Result<bool> {
        self.end_invite(channel, user, InviteState::Rejected).await
    }

    /// Takes an invitation back; `false` where there is none that waits. `NotFound` without the channel.
    pub async fn revoke_invite(&self, channel: &ChannelId, user: &str) -> Result<bool> {
        self.end_invite(channel, user, InviteState::Revoked).await
    }

    async fn end_invite(&self, channel: &ChannelId, user: &str, state: InviteState) -> Result<bool> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        let mut announced = None;
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.multi_get(vec![keys.invite(user), keys.epoch(), keys.channel()]).await?;
            let Ok([invite, epoch, row]) = <[Option<Record>; 3]>::try_from(stored) else {
                return Err(Error::corrupt("the engine returned another number of records"));
            };
            row.ok_or_else(|| no_channel(channel))?;
            let Some(record) = invite else {
                return Ok(false);
            };
            let mut row: InviteRow = rows::decode(&record.value, "an invitation")?;
            if row.state != InviteState::Pending.stored() {
                return Ok(false);
            }
            (row.state, row.answered_at_ms) = (state.stored(), Some(self.now_ms()));
            let epoch = fence(epoch);
            self.announce_once(channel, &keys, &epoch, &mut announced).await?;
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .require(keys.invite(user), Check::RevisionIs(record.revision))
                .require(keys.epoch(), epoch)
                .put(keys.invite(user), rows::encode(&row));
            let change = JobChange { user_id: user.to_owned(), removed: true, ..JobChange::default() };
            if self.write_with_job(channel, &keys, batch, JobRow { changes: vec![change] }).await? {
                return Ok(true);
            }
        }
        Err(contended("the invitation"))
    }

    /// Up to `limit` invitations of a channel by user, those after `after`, in whatever state.
    pub async fn invites(&self, channel: &ChannelId, after: Option<&str>, limit: usize) -> Result<Vec<Invite>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let prefix = keys::prefix::invites();
        let start = after.map_or_else(|| prefix.clone(), |user| behind(&keys.invite(user).sort));
        let scan: Scan = range(&keys, start, prefix_end(&prefix), limit);
        let mut found = Vec::new();
        for (key, record) in self.first(scan, limit).await? {
            if let Row::Invite(user) = Row::parse(&key.sort)? {
                found.push(Invite::from_row(user, rows::decode(&record.value, "an invitation")?)?);
            }
        }
        Ok(found)
    }

    /// Up to `limit` channels that a user is invited to, by name, those after `after`; `joined_at_ms` is when it was
    /// invited. Follows invitations through the outbox, as [`Chat::channels_of`] does.
    pub async fn invites_of(&self, user: &str, after: Option<&ChannelId>, limit: usize) -> Result<Vec<Listing>> {
        self.listings(user, after, limit, true).await
    }

    /// The invitation that waits for the user's answer, or why there is none.
    async fn open_invite(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        user: &str,
        stored: Option<Record>,
    ) -> Result<Invite> {
        let Some(record) = stored else {
            if self.get(keys.channel()).await?.is_none() {
                return Err(no_channel(channel));
            }
            let message = format!("user '{user}' is not invited to channel {channel}");
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let invite = Invite::from_row(user, rows::decode(&record.value, "an invitation")?)?;
        let over = match invite.state {
            InviteState::Pending => return Ok(invite),
            InviteState::Rejected => "was rejected",
            InviteState::Revoked => "was taken back",
        };
        let message = format!("the invitation of user '{user}' to channel {channel} {over}");
        Err(Error::new(ErrorKind::Conflict, message))
    }
}

fn is_pending(record: &Record) -> Result<bool> {
    Ok(rows::decode::<InviteRow>(&record.value, "an invitation")?.state == InviteState::Pending.stored())
}
