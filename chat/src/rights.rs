//! Rights: one pure function from (type, who, what) to allowed, or denied with a code; then the same with what is
//! stored.
//!
//! Invariant: a right that was checked is a precondition of the write that it allows. Where every role has the right,
//! that is the membership alone, and nothing is read before the write; else it is the very row that was judged, so a
//! change of a role that comes first wins.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::fmt;

use keevo_core::{Check, Engine, Error, ErrorKind, Result};

use crate::channel_type::{Capability, ChannelType};
use crate::chat::{Chat, no_channel, no_member};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, ChannelKeys};
use crate::restrict::Permit;
use crate::rows::{self, MemberRow, UserRow};

/// The role of a user of the app who may do anything in every channel.
pub const APP_ADMIN: &str = "admin";

/// Why something is denied, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeniedCode {
    /// The channel's type has not the feature.
    FeatureOff,
    /// The user is not a member, and strangers may not.
    NotAMember,
    /// The user's role and grants don't include it.
    NotGranted,
    /// The message is somebody else's.
    NotTheAuthor,
    /// The user is not of the channel's team.
    OtherTeam,
    /// The user is banned.
    Banned,
    /// The channel is frozen.
    Frozen,
    /// The channel is disabled.
    Disabled,
    /// Slow mode: the user has sent something a moment ago.
    SlowMode,
    /// The user's account is deactivated.
    Deactivated,
    /// The poll is not of the kind that lets anybody do so.
    PollRules,
    /// There are as many of them as there may be.
    TooMany,
}

impl DeniedCode {
    /// Its stable name, such as `not-a-member`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FeatureOff => "feature-off",
            Self::NotAMember => "not-a-member",
            Self::NotGranted => "not-granted",
            Self::NotTheAuthor => "not-the-author",
            Self::OtherTeam => "other-team",
            Self::Banned => "banned",
            Self::Frozen => "frozen",
            Self::Disabled => "disabled",
            Self::SlowMode => "slow-mode",
            Self::Deactivated => "deactivated",
            Self::PollRules => "poll-rules",
            Self::TooMany => "too-many",
        }
    }
}

/// A refusal. It is the source of an [`Error`] of kind `PermissionDenied`, or `ResourceExhausted` for slow mode and
/// for what there is too much of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub code: DeniedCode,
    /// Why, in a sentence.
    pub message: String,
    /// When it may be tried again, in milliseconds from then, where that is known.
    pub retry_ms: Option<u64>,
}

impl Denied {
    pub(crate) fn new(code: DeniedCode, message: String) -> Self {
        Self { code, message, retry_ms: None }
    }

    /// The refusal as an error. No `From`: that would leave every `?` of those who link this crate in doubt.
    pub(crate) fn into_error(self) -> Error {
        let kind = match self.code {
            DeniedCode::SlowMode | DeniedCode::TooMany => ErrorKind::ResourceExhausted,
            _ => ErrorKind::PermissionDenied,
        };
        Error::new(kind, self.message.clone()).with_source(self)
    }

    /// The refusal behind an error, if it is one.
    pub fn of(error: &Error) -> Option<&Self> {
        error.source().and_then(<dyn StdError>::downcast_ref)
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl StdError for Denied {}

/// Who wants to do something in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor<'a> {
    /// The user.
    pub user_id: &'a str,
    /// The role in the channel; `None` = no member.
    pub role: Option<&'a str>,
    /// What the member may do beyond its role.
    pub grants: &'a BTreeSet<Capability>,
}

/// Whether `actor` may do it in `channel`, which is of this type. Looks at nothing else and changes nothing.
///
/// ```
/// # use keevo_chat::{Actor, Capability, ChannelType, DeniedCode, Feature, decide};
/// # use std::collections::BTreeSet;
/// let channel = "team:a".parse()?;
/// let ada = Actor { user_id: "ada", role: Some("member"), grants: &BTreeSet::new() };
/// let kind = ChannelType::default();
/// assert!(decide(&channel, &kind, ada, Capability::React).is_ok());
/// assert_eq!(decide(&channel, &kind, ada, Capability::Ban).unwrap_err().code, DeniedCode::NotGranted);
/// let kind = kind.without(Feature::Reactions);
/// assert_eq!(decide(&channel, &kind, ada, Capability::React).unwrap_err().code, DeniedCode::FeatureOff);
/// # Ok::<(), keevo_core::Error>(())
/// ```
pub fn decide(channel: &ChannelId, kind: &ChannelType, actor: Actor<'_>, capability: Capability) -> Result<(), Denied> {
    feature(channel, kind, capability)?;
    let Some(role) = actor.role else {
        if kind.strangers.contains(&capability) {
            return Ok(());
        }
        let message = no_member(channel, actor.user_id).message().to_owned();
        return Err(Denied::new(DeniedCode::NotAMember, message));
    };
    if of_role(kind, role).is_some_and(|all| all.contains(&capability)) || actor.grants.contains(&capability) {
        return Ok(());
    }
    let message = format!(
        "user '{}' has the role '{role}' in channel {channel}, without the capability {}",
        actor.user_id,
        capability.name()
    );
    Err(Denied::new(DeniedCode::NotGranted, message))
}

pub(crate) fn feature(channel: &ChannelId, kind: &ChannelType, capability: Capability) -> Result<(), Denied> {
    match capability.feature().filter(|feature| !kind.features.contains(feature)) {
        None => Ok(()),
        Some(missing) => {
            let message = format!("channels of type {} have no {}", channel.kind(), missing.name());
            Err(Denied::new(DeniedCode::FeatureOff, message))
        }
    }
}

fn of_role<'a>(kind: &'a ChannelType, role: &str) -> Option<&'a BTreeSet<Capability>> {
    kind.grants.get(role).or_else(|| kind.grants.get("member"))
}

/// Whether every member may, whatever its role: then nobody's role has to be looked at.
pub(crate) fn everybody(kind: &ChannelType, capability: Capability) -> bool {
    kind.grants.contains_key("member") && kind.grants.values().all(|all| all.contains(&capability))
}

/// The capabilities that a member's row grants; names of later versions are passed over.
pub(crate) fn granted(row: &MemberRow) -> BTreeSet<Capability> {
    row.grants.iter().filter_map(|name| Capability::from_name(name)).collect()
}

impl<E: Engine> Chat<E> {
    /// `PermissionDenied` unless the user may do this in the channel: what a front end asks before a call that names no
    /// user. The source of the error is a [`Denied`]. `NotFound` without the channel. Asks whatever
    /// [`Rights`](crate::Rights) say.
    pub async fn authorize(&self, channel: &ChannelId, user: &str, capability: Capability) -> Result<()> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        if self.get(keys.channel()).await?.is_none() {
            return Err(no_channel(channel));
        }
        self.careful_permit(channel, &keys, user, &[capability]).await.map(drop)
    }

    /// Reads who the user is, and decides.
    pub(crate) async fn judge(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        user: &str,
        capabilities: &[Capability],
    ) -> Result<Permit> {
        let kind = self.kind_of(channel)?;
        let stored = self.get(keys.member(user)).await?;
        let revision = stored.as_ref().map(|record| record.revision);
        let row: Option<MemberRow> = stored.map(|record| rows::decode(&record.value, "a member")).transpose()?;
        let grants = row.as_ref().map(granted).unwrap_or_default();
        let actor = Actor { user_id: user, role: row.as_ref().map(|row| row.role.as_str()), grants: &grants };
        for capability in capabilities {
            match decide(channel, &kind, actor, *capability) {
                Ok(()) => {}
                Err(denied) if denied.code == DeniedCode::FeatureOff => return Err(denied.into_error()),
                Err(_) if self.is_app_admin(user).await? => return Ok(Permit::default()),
                Err(_) if self.get(keys.channel()).await?.is_none() => return Err(no_channel(channel)),
                Err(denied) => return Err(denied.into_error()),
            }
        }
        Ok(revision.map_or_else(Permit::default, |revision| Permit::member(keys, user, Check::RevisionIs(revision))))
    }

    pub(crate) async fn is_app_admin(&self, user: &str) -> Result<bool> {
        let Some(record) = self.get(self.user_key(user, keys::user()).await?).await? else {
            return Ok(false);
        };
        let row: UserRow = rows::decode(&record.value, "a user")?;
        Ok(row.role == APP_ADMIN && row.deactivated_at_ms.is_none())
    }
}

/// The refusal of a user who is no member.
pub(crate) fn not_a_member(channel: &ChannelId, user: &str) -> Error {
    Denied::new(DeniedCode::NotAMember, no_member(channel, user).message().to_owned()).into_error()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel_type::Feature;

    fn channel() -> ChannelId {
        "team:a".parse().expect("a name")
    }

    fn code(kind: &ChannelType, role: Option<&str>, grants: &[Capability], what: Capability) -> Option<DeniedCode> {
        let grants = grants.iter().copied().collect();
        decide(&channel(), kind, Actor { user_id: "u", role, grants: &grants }, what).err().map(|denied| denied.code)
    }

    #[test]
    fn role_grants_and_switches_decide() {
        let kind = ChannelType::default();
        assert_eq!(code(&kind, None, &[], Capability::SendMessage), Some(DeniedCode::NotAMember));
        assert_eq!(code(&kind, Some("member"), &[], Capability::SendMessage), None);
        assert_eq!(code(&kind, Some("a role of my own"), &[], Capability::SendMessage), None, "as a member");
        assert_eq!(code(&kind, Some("guest"), &[], Capability::EditOwn), Some(DeniedCode::NotGranted));
        assert_eq!(code(&kind, Some("guest"), &[Capability::EditOwn], Capability::EditOwn), None, "by its own grant");
        let closed = kind.clone().without(Feature::Pins);
        assert_eq!(code(&closed, Some("admin"), &[], Capability::PinMessage), Some(DeniedCode::FeatureOff));
        let open = kind.with_strangers([Capability::ReadChannel]);
        assert_eq!(code(&open, None, &[], Capability::ReadChannel), None);
        assert_eq!(code(&open, None, &[], Capability::SendMessage), Some(DeniedCode::NotAMember));
    }

    #[test]
    fn a_role_that_lacks_something_is_looked_at() {
        let kind = ChannelType::default();
        assert!(everybody(&kind, Capability::SendMessage));
        assert!(!everybody(&kind, Capability::EditOwn), "guests can't");
        let muted = kind.with_grants("reader", [Capability::ReadChannel]);
        assert!(!everybody(&muted, Capability::SendMessage));
        assert_eq!(code(&muted, Some("reader"), &[], Capability::SendMessage), Some(DeniedCode::NotGranted));
    }

    #[test]
    fn an_error_tells_its_code() {
        let error = Denied::new(DeniedCode::Frozen, "it is frozen".to_owned()).into_error();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(Denied::of(&error).expect("a refusal").code, DeniedCode::Frozen);
        assert!(Denied::of(&Error::invalid("x")).is_none());
    }
}
