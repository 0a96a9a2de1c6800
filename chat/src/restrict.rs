//! Restrictions: what keeps a user from writing although its role would let it.
//!
//! ```text
//! first try     the write demands that no restriction is there, and the membership where every role may: nothing is read
//! refused       the restrictions and the member are read and judged: denied with a code, or
//! next try      the write demands what was judged
//! ```
//!
//! Invariant: nothing that restricts is passed over, whatever comes between a look and a write, since both tries demand it.

use std::collections::BTreeSet;

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, Error, Key, Record, Result, call};

use crate::channel_type::{Capability, ChannelType};
use crate::chat::Chat;
use crate::ids::ChannelId;
use crate::keys::{self, ChannelKeys, Setting};
use crate::options::Rights;
use crate::rights::{Denied, DeniedCode, everybody, feature};
use crate::rows::{self, BanRow, UserRow};

/// What must hold for a write, so that what was judged holds when it is applied, and what the write leaves behind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permit {
    checks: Vec<(Key, Check)>,
    /// Rows that keep the user from sending again for so long.
    cooldowns: Vec<(Key, u64)>,
    /// Users whose messages nobody else is to see.
    shadowed: BTreeSet<String>,
}

impl Permit {
    /// The batch, if all of it still holds then.
    pub(crate) fn guard(&self, batch: Batch) -> Batch {
        let batch = self.checks.iter().fold(batch, |batch, (key, check)| batch.require(key.clone(), check.clone()));
        self.cooldowns.iter().fold(batch, |batch, (key, wait_ms)| batch.put_ttl(key.clone(), Bytes::new(), *wait_ms))
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        for check in other.checks {
            if !self.checks.contains(&check) {
                self.checks.push(check);
            }
        }
        self.cooldowns.extend(other.cooldowns);
        self.shadowed.extend(other.shadowed);
        self
    }

    /// Whether nobody else is to see what the user sends.
    pub(crate) fn shadows(&self, user: &str) -> bool {
        self.shadowed.contains(user)
    }

    pub(crate) fn member(keys: &ChannelKeys, user: &str, check: Check) -> Self {
        Self::default().demand(keys.member(user), check)
    }

    fn demand(mut self, key: Key, check: Check) -> Self {
        self.checks.push((key, check));
        self
    }
}

/// Whether frozen channels and bans keep users from it.
fn is_restricted(capability: Capability) -> bool {
    use Capability as C;
    let reads = matches!(capability, C::ReadChannel | C::MarkRead | C::Leave | C::Flag);
    let runs = matches!(
        capability,
        C::DeleteAny
            | C::UpdateChannel
            | C::DeleteChannel
            | C::FreezeChannel
            | C::TruncateChannel
            | C::Ban
            | C::AddMembers
            | C::RemoveMembers
            | C::ChangeRoles
            | C::Review
            | C::SkipSlowMode
            | C::WriteWhenFrozen
    );
    !reads && !runs
}

fn sends(capabilities: &[Capability]) -> bool {
    capabilities.iter().any(|one| matches!(one, Capability::SendMessage | Capability::SendReply))
}

impl<E: Engine> Chat<E> {
    /// The right to do all of this, where rights are checked here; else nothing has to hold. After a write that it guarded
    /// was refused, ask again with `look`: then it says why, or allows what it can.
    pub(crate) async fn permit(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        user: &str,
        capabilities: &[Capability],
        look: bool,
    ) -> Result<Permit> {
        if self.options.rights == Rights::Trusted {
            return Ok(Permit::default());
        }
        let kind = self.kind_of(channel)?;
        for capability in capabilities {
            feature(channel, &kind, *capability).map_err(Denied::into_error)?;
        }
        if look || !capabilities.iter().all(|one| everybody(&kind, *one)) {
            return self.careful_permit(channel, keys, user, capabilities).await;
        }
        self.check_app(user).await?;
        Ok(blind_permit(keys, &kind, user, capabilities))
    }

    /// Reads the member and what restricts it, and judges.
    pub(crate) async fn careful_permit(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        user: &str,
        capabilities: &[Capability],
    ) -> Result<Permit> {
        let permit = self.judge(channel, keys, user, capabilities).await?;
        self.check_app(user).await?;
        let wanted = vec![
            keys.setting(Setting::Disabled),
            keys.setting(Setting::Frozen),
            keys.setting(Setting::SlowMode),
            keys.ban(user),
            keys.cooldown(user),
        ];
        let Ok([disabled, frozen, slow, ban, cooldown]) =
            <[Option<Record>; 5]>::try_from(self.multi_get(wanted).await?)
        else {
            return Err(Error::corrupt("the engine returned another number of records"));
        };
        if disabled.is_some() && !self.is_app_admin(user).await? {
            return Err(Denied::new(DeniedCode::Disabled, format!("channel {channel} is disabled")).into_error());
        }
        let permit =
            if disabled.is_none() { permit.demand(keys.setting(Setting::Disabled), Check::Absent) } else { permit };
        if !capabilities.iter().any(|one| is_restricted(*one)) {
            return Ok(permit);
        }
        let permit = if frozen.is_none() {
            permit.demand(keys.setting(Setting::Frozen), Check::Absent)
        } else if self.judge(channel, keys, user, &[Capability::WriteWhenFrozen]).await.is_ok() {
            permit
        } else {
            return Err(Denied::new(DeniedCode::Frozen, format!("channel {channel} is frozen")).into_error());
        };
        let permit = self.banned(channel, keys, user, capabilities, ban, permit)?;
        if sends(capabilities) { self.slowed(channel, keys, user, slow, cooldown, permit).await } else { Ok(permit) }
    }

    fn banned(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        user: &str,
        capabilities: &[Capability],
        ban: Option<Record>,
        mut permit: Permit,
    ) -> Result<Permit> {
        let Some(record) = ban else {
            return Ok(permit.demand(keys.ban(user), Check::Absent));
        };
        let row: BanRow = rows::decode(&record.value, "a ban")?;
        if row.shadow {
            if capabilities.iter().any(|one| matches!(one, Capability::MakePoll | Capability::Vote)) {
                // A poll has no audience of its own, so that what it says would reach everybody.
                let message = format!("user '{user}' may not take part in polls of channel {channel}");
                return Err(Denied::new(DeniedCode::NotGranted, message).into_error());
            }
            if sends(capabilities) {
                permit.shadowed.insert(user.to_owned());
            }
            return Ok(permit.demand(keys.ban(user), Check::RevisionIs(record.revision)));
        }
        let mut denied = Denied::new(DeniedCode::Banned, format!("user '{user}' is banned from channel {channel}"));
        denied.retry_ms = record.expires_at_ms.map(|at| at.saturating_sub(self.now_ms()));
        Err(denied.into_error())
    }

    async fn slowed(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        user: &str,
        slow: Option<Record>,
        cooldown: Option<Record>,
        mut permit: Permit,
    ) -> Result<Permit> {
        let Some(slow) = slow else {
            return Ok(permit.demand(keys.setting(Setting::SlowMode), Check::Absent));
        };
        if self.judge(channel, keys, user, &[Capability::SkipSlowMode]).await.is_ok() {
            return Ok(permit);
        }
        // A call that was accepted once is repeated without the pauses between such calls.
        if call::is_replay() {
            return Ok(permit.demand(keys.setting(Setting::SlowMode), Check::RevisionIs(slow.revision)));
        }
        if let Some(cooldown) = cooldown {
            let message = format!("channel {channel} is in slow mode, and user '{user}' has just sent a message");
            let mut denied = Denied::new(DeniedCode::SlowMode, message);
            denied.retry_ms = cooldown.expires_at_ms.map(|at| at.saturating_sub(self.now_ms()));
            return Err(denied.into_error());
        }
        permit.cooldowns.push((keys.cooldown(user), rows::decode_count(&slow.value)?));
        let permit = permit.demand(keys.setting(Setting::SlowMode), Check::RevisionIs(slow.revision));
        Ok(permit.demand(keys.cooldown(user), Check::Absent))
    }

    /// `PermissionDenied`, where rights are checked, for a user that is deactivated, or banned from the app or the channel; a
    /// shadow ban keeps nobody out.
    pub(crate) async fn not_banned(&self, channel: &ChannelId, keys: &ChannelKeys, user: &str) -> Result<Permit> {
        if self.options.rights == Rights::Trusted {
            return Ok(Permit::default());
        }
        self.check_app(user).await?;
        let ban = self.get(keys.ban(user)).await?;
        self.banned(channel, keys, user, &[], ban, Permit::default())
    }

    /// `PermissionDenied`, whoever checks rights, for a user that has been kept out since it wrote something that is held.
    pub(crate) async fn still_let_in(&self, channel: &ChannelId, keys: &ChannelKeys, user: &str) -> Result<Permit> {
        self.check_app(user).await?;
        let ban = self.get(keys.ban(user)).await?;
        self.banned(channel, keys, user, &[Capability::SendMessage], ban, Permit::default())
    }

    /// `PermissionDenied` for a user that is deactivated or banned from the app.
    pub(crate) async fn check_app(&self, user: &str) -> Result<()> {
        let wanted = vec![self.user_key(user, keys::user()).await?, self.user_key(user, keys::app_ban()).await?];
        let Ok([row, ban]) = <[Option<Record>; 2]>::try_from(self.multi_get(wanted).await?) else {
            return Err(Error::corrupt("the engine returned another number of records"));
        };
        if let Some(record) = ban {
            let mut denied = Denied::new(DeniedCode::Banned, format!("user '{user}' is banned from the app"));
            denied.retry_ms = record.expires_at_ms.map(|at| at.saturating_sub(self.now_ms()));
            return Err(denied.into_error());
        }
        if let Some(record) = row
            && rows::decode::<UserRow>(&record.value, "a user")?.deactivated_at_ms.is_some()
        {
            return Err(Denied::new(DeniedCode::Deactivated, format!("user '{user}' is deactivated")).into_error());
        }
        Ok(())
    }
}

/// The right of a member where every role has it, if nothing restricts it.
fn blind_permit(keys: &ChannelKeys, kind: &ChannelType, user: &str, capabilities: &[Capability]) -> Permit {
    let mut permit = Permit::default();
    if !capabilities.iter().all(|one| kind.strangers.contains(one)) {
        permit = Permit::member(keys, user, Check::Exists);
    }
    permit = permit.demand(keys.setting(Setting::Disabled), Check::Absent);
    if capabilities.iter().any(|one| is_restricted(*one)) {
        permit = permit.demand(keys.setting(Setting::Frozen), Check::Absent).demand(keys.ban(user), Check::Absent);
    }
    if sends(capabilities) {
        permit = permit.demand(keys.setting(Setting::SlowMode), Check::Absent);
    }
    permit
}
