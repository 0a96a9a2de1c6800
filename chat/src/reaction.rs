//! Reactions: a user may put each type on a message once.

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Result};

use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, ChannelKeys, Row, Stat};
use crate::message::validate_custom;
use crate::options::Rights;
use crate::rows::{self, ReactionRow};

/// A reaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// The message.
    pub message_id: String,
    /// Who reacted.
    pub user_id: String,
    /// The type, such as `like`.
    pub kind: String,
    /// When, in milliseconds since the epoch; 0 in the event of its removal.
    pub created_at_ms: u64,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
}

/// A reaction to be put on a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewReaction {
    /// Who reacts.
    pub user_id: String,
    /// The type.
    pub kind: String,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
}

impl NewReaction {
    /// A plain reaction.
    pub fn new(user_id: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { user_id: user_id.into(), kind: kind.into(), custom: None }
    }
}

impl<E: Engine> Chat<E> {
    /// Puts a reaction on a message; `false` where the user's reaction of this type was there already.
    /// `NotFound` without the message, `Conflict` once it is deleted.
    pub async fn react(&self, channel: &ChannelId, message_id: &str, reaction: NewReaction) -> Result<bool> {
        validate_name("a user id", &reaction.user_id)?;
        validate_name("a reaction type", &reaction.kind)?;
        validate_custom(reaction.custom.as_deref(), &self.options)?;
        let keys = self.keys(channel).await?;
        let (user, kind) = (reaction.user_id.as_str(), reaction.kind.as_str());
        for _ in 0..ATTEMPTS_MAX {
            let (place, record, message) = self.load(&keys, message_id).await?;
            if message.deleted_at_ms.is_some() {
                return Err(Error::new(ErrorKind::Conflict, format!("message '{message_id}' is deleted")));
            }
            let row = ReactionRow {
                message_id: message_id.to_owned(),
                created_at_ms: self.now_ms(),
                custom: reaction.custom.clone(),
            };
            let key = keys.reaction(place, kind, user);
            let mut batch = Batch::new()
                .merge(keys.version(), 1)
                .put(key.clone(), rows::encode(&row))
                .merge(keys.stat(place, Stat::Reactions(kind)), 1)
                .require(key.clone(), Check::Absent)
                .require(keys.message(place), Check::RevisionIs(record.revision));
            if self.options.rights == Rights::Members {
                batch = batch.require(keys.member(user), Check::Exists);
            }
            match self.engine.write(batch).await {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    self.require_member(channel, &keys, user).await?;
                    if self.get(key).await?.is_some() {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(contended("the message"))
    }

    /// Takes a reaction back; `false` where there was none. `NotFound` without the message.
    pub async fn unreact(&self, channel: &ChannelId, message_id: &str, user: &str, kind: &str) -> Result<bool> {
        validate_name("a user id", user)?;
        validate_name("a reaction type", kind)?;
        let keys = self.keys(channel).await?;
        let place = self.place_of(&keys, message_id).await?;
        let key = keys.reaction(place, kind, user);
        let batch = Batch::new()
            .merge(keys.version(), 1)
            .delete(key.clone())
            .merge(keys.stat(place, Stat::Reactions(kind)), -1)
            .require(key, Check::Exists);
        match self.engine.write(batch).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The reactions on a message, by type and user, at most `limit`.
    pub async fn reactions(&self, channel: &ChannelId, message_id: &str, limit: usize) -> Result<Vec<Reaction>> {
        let keys = self.keys(channel).await?;
        let place = self.place_of(&keys, message_id).await?;
        if limit == 0 || limit > 1_000 {
            return Err(Error::invalid(format!("a page has 1 to 1000 reactions, not {limit}")));
        }
        let ChannelKeys { keyspace, partition } = keys;
        let scan = keevo_core::Scan::prefix(keyspace, partition, keys::prefix::reactions(place), limit);
        let mut found = Vec::new();
        for (key, record) in self.first(scan, limit).await? {
            if let Row::Reaction { kind, user, .. } = Row::parse(&key.sort)? {
                found.push(Reaction::from_row(rows::decode(&record.value, "a reaction")?, kind, user));
            }
        }
        Ok(found)
    }
}

impl Reaction {
    pub(crate) fn from_row(row: ReactionRow, kind: &str, user: &str) -> Self {
        Self {
            message_id: row.message_id,
            user_id: user.to_owned(),
            kind: kind.to_owned(),
            created_at_ms: row.created_at_ms,
            custom: row.custom,
        }
    }
}
