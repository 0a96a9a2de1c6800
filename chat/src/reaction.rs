//! Reactions: a user may put each type on a message once, with a score.
//!
//! Invariant: the counts and the sums of scores change with the reaction, in the same batch.

use std::collections::BTreeSet;

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Result, Revision};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::{ChannelId, Place, validate_name};
use crate::keys::{self, ChannelKeys, Row, Stat};
use crate::message::{Message, validate_custom};
use crate::rights::{Denied, DeniedCode};
use crate::rows::{self, ReactionRow};

/// The largest score, either way: a million, so that sums of them can't overflow.
const SCORE_MAX: u64 = 1_000_000;
/// The most types of reactions among which a unique one finds those that it replaces.
const KINDS_MAX: usize = 500;
/// How many reactions are looked up at once.
const LOOKED_UP_MAX: usize = 1_000;

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
    /// How much it counts, such as the number of claps.
    pub score: i64,
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
    /// How much it counts, up to 1,000,000 either way; `None` = 1.
    pub score: Option<i64>,
    /// Whether it takes the place of the user's other reactions on the message.
    pub unique: bool,
}

/// Where a reaction was put first.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Here,
    Elsewhere { created_at_ms: Option<u64> },
}

impl Origin {
    fn created_at_ms(self) -> Option<u64> {
        match self {
            Self::Here => None,
            Self::Elsewhere { created_at_ms } => created_at_ms,
        }
    }
}

/// What a user has on a message already.
#[derive(Default)]
struct Found {
    /// Of the type that is to be put.
    same: Option<(Revision, ReactionRow)>,
    /// Of other types, where the new one is to be the only one.
    others: Vec<(String, Revision, ReactionRow)>,
    /// The row that makes such changes of one user follow one another.
    only: Option<Revision>,
}

impl NewReaction {
    /// A plain reaction.
    pub fn new(user_id: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { user_id: user_id.into(), kind: kind.into(), ..Self::default() }
    }
}

impl<E: Engine> Chat<E> {
    /// Puts a reaction on a message, or gives the user's reaction of this type another score or custom data; `false`
    /// where nothing changes. A `unique` one takes the place of the user's other reactions on the message.
    /// `NotFound` without the message, `Conflict` once it is deleted.
    pub async fn react(&self, channel: &ChannelId, message_id: &str, reaction: NewReaction) -> Result<bool> {
        self.react_as(channel, message_id, reaction, Origin::Here).await
    }

    /// Puts a reaction that was put elsewhere, at a time that may be known: on a message that is deleted too, but not on one
    /// that is erased, which keeps none.
    pub(crate) async fn react_at(
        &self,
        channel: &ChannelId,
        message_id: &str,
        reaction: NewReaction,
        created_at_ms: Option<u64>,
    ) -> Result<bool> {
        self.react_as(channel, message_id, reaction, Origin::Elsewhere { created_at_ms }).await
    }

    async fn react_as(
        &self,
        channel: &ChannelId,
        message_id: &str,
        reaction: NewReaction,
        origin: Origin,
    ) -> Result<bool> {
        validate_name("a user id", &reaction.user_id)?;
        validate_name("a reaction type", &reaction.kind)?;
        validate_custom(reaction.custom.as_deref(), &self.options)?;
        if reaction.score.is_some_and(|score| score.unsigned_abs() > SCORE_MAX) {
            return Err(Error::invalid(format!("a score is at most {SCORE_MAX}, either way")));
        }
        let keys = self.keys(channel).await?;
        let user = reaction.user_id.as_str();
        // Most reactions are new ones: the first try of one that stands alone needs no look.
        let mut look = reaction.unique;
        for attempt in 0..ATTEMPTS_MAX {
            let (place, record, message) = self.load(&keys, message_id).await?;
            if message.deleted_at_ms.is_some() && (matches!(origin, Origin::Here) || message.erased != 0) {
                return Err(Error::new(ErrorKind::Conflict, format!("message '{message_id}' is deleted")));
            }
            let found = if look { self.reactions_of(&keys, place, user, &reaction).await? } else { Found::default() };
            let row = ReactionRow {
                message_id: message_id.to_owned(),
                created_at_ms: origin.created_at_ms().unwrap_or_else(|| self.now_ms()),
                custom: reaction.custom.clone(),
                score: reaction.score,
            };
            if found.others.is_empty() && found.same.as_ref().is_some_and(|(_, same)| says_the_same(same, &row)) {
                return Ok(false);
            }
            let permit = self.permit(channel, &keys, user, &[Capability::React], attempt > 0).await?;
            let batch = reacting(&keys, place, &reaction, &row, &found)
                .require(keys.message(place), Check::RevisionIs(record.revision));
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Conflict => look = true,
                Err(error) => return Err(error),
            }
        }
        Err(contended("the message"))
    }

    /// The user's reaction of the type and, where it is to be the only one, the others.
    async fn reactions_of(
        &self,
        keys: &ChannelKeys,
        place: Place,
        user: &str,
        reaction: &NewReaction,
    ) -> Result<Found> {
        let mut kinds = BTreeSet::from([reaction.kind.clone()]);
        let mut found = Found::default();
        if reaction.unique {
            found.only = self.get(keys.only_reaction(place, user)).await?.map(|record| record.revision);
            kinds.extend(self.stats_of(keys, place).await?.reactions.into_keys());
            if kinds.len() > KINDS_MAX {
                let message = format!("the message has reactions of more than {KINDS_MAX} types");
                return Err(Denied::new(DeniedCode::TooMany, message).into_error());
            }
        }
        let wanted = kinds.iter().map(|kind| keys.reaction(place, kind, user)).collect();
        for (kind, record) in kinds.into_iter().zip(self.multi_get(wanted).await?) {
            let Some(record) = record else {
                continue;
            };
            let row: ReactionRow = rows::decode(&record.value, "a reaction")?;
            if kind == reaction.kind {
                found.same = Some((record.revision, row));
            } else {
                found.others.push((kind, record.revision, row));
            }
        }
        Ok(found)
    }

    /// Takes a reaction back; `false` where there was none. `NotFound` without the message.
    pub async fn unreact(&self, channel: &ChannelId, message_id: &str, user: &str, kind: &str) -> Result<bool> {
        validate_name("a user id", user)?;
        validate_name("a reaction type", kind)?;
        let keys = self.keys(channel).await?;
        let place = self.place_of(&keys, message_id).await?;
        let key = keys.reaction(place, kind, user);
        for _ in 0..ATTEMPTS_MAX {
            let Some(record) = self.get(key.clone()).await? else {
                return Ok(false);
            };
            let row: ReactionRow = rows::decode(&record.value, "a reaction")?;
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .delete(key.clone())
                .merge(keys.stat(place, Stat::Reactions(kind)), -1)
                .merge(keys.stat(place, Stat::Scores(kind)), -row.points())
                .require(key.clone(), Check::RevisionIs(record.revision));
            match self.engine.write(batch).await {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the reaction"))
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

impl<E: Engine> Chat<E> {
    /// The types of the user's reactions on each of these messages of a channel, in their order: of the types that the
    /// messages' own counts name, so messages without counts have none.
    pub async fn own_reactions(
        &self,
        channel: &ChannelId,
        messages: &[Message],
        user: &str,
    ) -> Result<Vec<Vec<String>>> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        let mut asked = Vec::new();
        for (number, message) in messages.iter().enumerate() {
            let kinds = message.stats.iter().flat_map(|stats| stats.reactions.keys());
            asked.extend(kinds.map(|kind| (number, kind, keys.reaction(message.place, kind, user))));
        }
        let mut found = vec![Vec::new(); messages.len()];
        for chunk in asked.chunks(LOOKED_UP_MAX) {
            let records = self.multi_get(chunk.iter().map(|(_, _, key)| key.clone()).collect()).await?;
            for ((number, kind, _), record) in chunk.iter().zip(records) {
                if let (Some(own), Some(_)) = (found.get_mut(*number), record) {
                    own.push((*kind).clone());
                }
            }
        }
        Ok(found)
    }
}

fn says_the_same(one: &ReactionRow, other: &ReactionRow) -> bool {
    one.points() == other.points() && one.custom == other.custom
}

/// The write of a reaction in place of those that were found.
fn reacting(keys: &ChannelKeys, place: Place, new: &NewReaction, row: &ReactionRow, found: &Found) -> Batch {
    let (user, kind) = (new.user_id.as_str(), new.kind.as_str());
    let key = keys.reaction(place, kind, user);
    let mut batch = Batch::new().merge(keys.version(), 1).put(key.clone(), rows::encode(row));
    let (counted, points) = match &found.same {
        None => (1, row.points()),
        Some((_, same)) => (0, row.points() - same.points()),
    };
    let check = found.same.as_ref().map_or(Check::Absent, |(revision, _)| Check::RevisionIs(*revision));
    batch = batch
        .merge(keys.stat(place, Stat::Reactions(kind)), counted)
        .merge(keys.stat(place, Stat::Scores(kind)), points)
        .require(key, check);
    for (kind, revision, row) in &found.others {
        let key = keys.reaction(place, kind, user);
        batch = batch
            .delete(key.clone())
            .merge(keys.stat(place, Stat::Reactions(kind)), -1)
            .merge(keys.stat(place, Stat::Scores(kind)), -row.points())
            .require(key, Check::RevisionIs(*revision));
    }
    if new.unique {
        // Two of one user at once both write this row, so one of them looks again.
        let only = keys.only_reaction(place, user);
        let check = found.only.map_or(Check::Absent, Check::RevisionIs);
        batch = batch.put(only.clone(), Bytes::copy_from_slice(kind.as_bytes())).require(only, check);
    }
    batch.merge(keys.own(user), 0)
}

impl Reaction {
    pub(crate) fn from_row(row: ReactionRow, kind: &str, user: &str) -> Self {
        let score = row.points();
        Self {
            message_id: row.message_id,
            user_id: user.to_owned(),
            kind: kind.to_owned(),
            created_at_ms: row.created_at_ms,
            score,
            custom: row.custom,
        }
    }
}
