//! The gate: what chat asks before a message is sent or edited.
//!
//! Invariant: a message passes only once its version has a verdict or waits for one, on disk.

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_chat::ChannelId;
use keevo_chat_gateway::{Gatekeeper, Passed};
use keevo_core::{Clock, Engine, Error, ErrorKind, Random, Result, SystemClock};
use keevo_gateway::apps::OsRandom;
use keevo_moderation_policy::{Action, Checked, Moderator, Reason, Ruling, TextKind, TextVersion, Verdict, WhenLate};

use super::sources::{chat_scope, message_id};

/// Which way a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It is sent as it is.
    Through,
    /// It is sent with this text.
    Masked(String),
    /// It is kept back; once it is, [`Gate::held`] is to be told.
    Held,
    /// Its author alone is to see it.
    Shadowed,
}

/// What chat asks before it sends. Cheap to clone.
pub struct Gate<E> {
    moderator: Moderator<E>,
    clock: SystemClock,
}

impl<E> std::fmt::Debug for Gate<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl<E: Engine> Gate<E> {
    pub(crate) fn new(moderator: Moderator<E>) -> Self {
        Self { moderator, clock: SystemClock::new() }
    }

    /// An id for a message that brings none: its verdict is named by it.
    pub fn new_id(&self) -> String {
        format!("{:032x}", OsRandom.next_u128())
    }

    /// Judges a message that `user` is about to send, or an edit of it.
    ///
    /// # Errors
    /// `PermissionDenied` for one that is blocked, `Invalid` for one that its author may put otherwise, `Unavailable`
    /// where no verdict came in time and the policy says to wait for one; and those of the store.
    pub async fn pass(&self, app: u32, channel: &ChannelId, id: &str, user: &str, text: &str) -> Result<Way> {
        let version = self.version(app, channel, id, user, text)?;
        match self.moderator.check(version).await? {
            Checked::Judged(verdict) if verdict.action == Action::Hold => {
                // Who sends again what a person has let go, or refused, is told so.
                let decided = self.moderator.verdicts().await?.decision(&verdict.version).await?;
                match decided.map(|decided| decided.decision.ruling) {
                    None => Ok(Way::Held),
                    Some(Ruling::Allow) => Ok(Way::Through),
                    Some(Ruling::Remove | Ruling::Ban) => Err(refused(&verdict)),
                }
            }
            Checked::Judged(verdict) => way(*verdict),
            Checked::Late(WhenLate::Send) => Ok(Way::Through),
            Checked::Late(WhenLate::Hold) => Ok(Way::Held),
            Checked::Late(WhenLate::Refuse) => {
                let message = "the message could not be judged in time, and is not sent before it is: send it again";
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }
}

impl<E: Engine> Gate<E> {
    /// What was to be held is: its verdict lets it go or refuses it, sooner than the change stream would say so.
    pub async fn held(&self, app: u32, channel: &ChannelId, id: &str, user: &str, text: &str) -> Result<()> {
        self.moderator.held(&self.version(app, channel, id, user, text)?).await
    }

    fn version(&self, app: u32, channel: &ChannelId, id: &str, user: &str, text: &str) -> Result<TextVersion> {
        let version = TextVersion::new(app, TextKind::Message, message_id(channel, id), text)?;
        Ok(version.by(user, chat_scope(channel), self.clock.now_ms()))
    }
}

impl<E: Engine> Gatekeeper for Gate<E> {
    fn pass<'a>(
        &'a self,
        app: u32,
        channel: &'a ChannelId,
        id: &'a str,
        user: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, Result<Passed>> {
        let passed = Self::pass(self, app, channel, id, user, text).map(|way| {
            way.map(|way| match way {
                Way::Through => Passed::Through,
                Way::Masked(text) => Passed::Masked(text),
                Way::Held => Passed::Held,
                Way::Shadowed => Passed::Shadowed,
            })
        });
        passed.boxed()
    }

    fn held<'a>(
        &'a self,
        app: u32,
        channel: &'a ChannelId,
        id: &'a str,
        user: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        Self::held(self, app, channel, id, user, text).boxed()
    }
}

fn way(verdict: Verdict) -> Result<Way> {
    match verdict.action {
        Action::Allow | Action::Flag => Ok(Way::Through),
        Action::Mask => Ok(verdict.masked.map_or(Way::Through, Way::Masked)),
        Action::Hold => Ok(Way::Held),
        Action::Shadow => Ok(Way::Shadowed),
        Action::Bounce => {
            Err(Error::invalid(format!("moderation refused the message ({}); put it otherwise", why(&verdict))))
        }
        Action::Block => Err(refused(&verdict)),
    }
}

fn refused(verdict: &Verdict) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("moderation refused the message ({})", why(verdict)))
}

/// Why, without naming listed terms: who tests the lists learns nothing of them.
fn why(verdict: &Verdict) -> &str {
    let strictest = verdict.reasons.iter().find_map(|reason| match reason {
        Reason::Label { label, action, .. } if *action == verdict.action => Some(label.as_str()),
        Reason::Listed { action, .. } if *action == verdict.action => Some("a blocked term"),
        _ => None,
    });
    strictest.unwrap_or("its content")
}
