//! Adding, changing, deleting and restoring reactions: the writes that take effect.
//!
//! Order of writes: a pointer into the outbox; then the reaction and its job in one batch of its home; from there on
//! it is so. Then the job is driven, before the caller is answered.

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{Batch, Consistency, Engine, Error, ErrorKind, Record, Result, call};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::rows::next_version;
use super::sync::Synced;
use super::{
    KINDS_MAX, NewReaction, REACTION_LEVELS_MAX, ReactTo, Reaction, ReactionChange, ReactionRow, State,
    TARGET_FEEDS_MAX, TallyRow, no_reaction,
};
use crate::audit::Action;
use crate::change::Change;
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, is_certain, unfinished};
use crate::json::encode_bounded;
use crate::names::{check_count, check_name};
use crate::outbox::{Done, JobAt};
use crate::rows::{decode, encode};
use crate::users::GET_MANY_MAX;

/// How many pages of children a deletion takes out before it is answered.
const INLINE_PAGES: usize = 1;
/// How many pages of children of an earlier life an add takes out.
const EARLIER_PAGES: usize = 100;

/// What a change makes of a reaction.
type Turned = (ReactionRow, Action);

impl<E: Engine> Feeds<E> {
    /// Adds a reaction. `Invalid` for an unknown parent or one on the third level, and for what is beyond a limit;
    /// `Conflict` when there is a reaction with that id, also a hidden one.
    pub async fn add_reaction(&self, new: NewReaction) -> Result<Reaction> {
        let mut row = self.draft_reaction(&new)?;
        let id = if let Some(id) = &new.id {
            check_name("a reaction's id", id)?;
            id.clone()
        } else {
            new_id(row.created_us, call::random_u64(self.options().random.as_ref()))
        };
        if let ReactTo::Parent(parent) = &new.on {
            self.put_under(&mut row, parent).await?;
        }
        self.check_kinds(&row).await?;
        if new.id.is_some() {
            self.check_free(&id).await?;
        }
        let now_us = row.created_us;
        let decide = |current: Option<&ReactionRow>| match current {
            Some(current) if current.state() != State::Gone => Err(taken(&id)),
            current => {
                let version = next_version(current.map_or(0, |current| current.version), now_us);
                Ok((ReactionRow { version, ..row.clone() }, Action::Create))
            }
        };
        let (added, synced) = self.turn(&id, decide).await?;
        if synced == Synced::ParentGone {
            return Err(no_parent(&added.parent));
        }
        Reaction::from_row(&id, &added)
    }

    /// The row of a new reaction, as far as it follows from the call alone.
    fn draft_reaction(&self, new: &NewReaction) -> Result<ReactionRow> {
        check_name("a reaction's kind", &new.kind)?;
        check_name("a user's id", &new.user_id)?;
        let activity = match &new.on {
            ReactTo::Activity(id) => {
                check_name("an activity's id", id)?;
                same_spelling(id)
            }
            ReactTo::Parent(_) => String::new(),
        };
        let now_us = self.stamp_us();
        Ok(ReactionRow {
            kind: new.kind.clone(),
            activity,
            level: 1,
            user: new.user_id.clone(),
            data: self.reaction_data(&new.data)?,
            target_feeds: targets(&new.target_feeds)?,
            extra: self.reaction_data(&new.target_feeds_extra_data)?,
            had_targets: !new.target_feeds.is_empty(),
            created_us: now_us,
            updated_us: now_us,
            ..ReactionRow::default()
        })
    }

    fn reaction_data(&self, data: &Map<String, Value>) -> Result<bytes::Bytes> {
        encode_bounded(data, "a reaction's data", self.options().activity_bytes_max)
    }

    /// Makes a new reaction a child of `parent`.
    async fn put_under(&self, row: &mut ReactionRow, parent: &str) -> Result<()> {
        check_name("a reaction's id", parent)?;
        let record = self.engine().get(self.reaction_key(parent), Consistency::Linearizable).await?;
        let above: Option<ReactionRow> = record.as_ref().map(decode).transpose()?;
        let above = above.filter(ReactionRow::is_live).ok_or_else(|| no_parent(parent))?;
        if above.level >= REACTION_LEVELS_MAX {
            return Err(Error::invalid(format!("reactions lie at most {REACTION_LEVELS_MAX} levels deep")));
        }
        row.level = above.level + 1;
        row.activity = above.activity;
        parent.clone_into(&mut row.parent);
        row.parent_version = above.version;
        Ok(())
    }

    /// Refuses a kind that would be one too many on its subject.
    async fn check_kinds(&self, row: &ReactionRow) -> Result<()> {
        let tally = self.engine().get(row.subject().tally(self.layout()), Consistency::Linearizable).await?;
        let tally: TallyRow = tally.as_ref().map(decode).transpose()?.unwrap_or_default();
        if tally.kinds.len() >= KINDS_MAX && tally.kind(&row.kind).is_none() {
            return Err(Error::invalid(format!("there are {KINDS_MAX} kinds of reactions on it already")));
        }
        Ok(())
    }

    /// Refuses an id that is taken, and lets what an earlier life of it left behind be finished first.
    async fn check_free(&self, id: &str) -> Result<()> {
        let record = self.engine().get(self.reaction_key(id), Consistency::Linearizable).await?;
        let Some(row) = record.as_ref().map(decode::<ReactionRow>).transpose()? else { return Ok(()) };
        if row.state() != State::Gone {
            return Err(taken(id));
        }
        if self.sync(id, EARLIER_PAGES).await? == Synced::PartOfChildren {
            let message = format!("the reaction {id:?} that was deleted still has children; try again later");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(())
    }

    /// Changes a reaction. `NotFound` when there is none, or when it is hidden.
    pub async fn update_reaction(&self, id: &str, change: ReactionChange) -> Result<Reaction> {
        check_name("a reaction's id", id)?;
        let data = change.data.as_ref().map(|data| self.reaction_data(data)).transpose()?;
        let extra = change.target_feeds_extra_data.as_ref().map(|extra| self.reaction_data(extra)).transpose()?;
        let target_feeds = change.target_feeds.as_deref().map(targets).transpose()?;
        let now_us = self.stamp_us();
        let decide = |current: Option<&ReactionRow>| {
            let current = current.filter(|row| row.is_live()).ok_or_else(|| no_reaction(id))?;
            let mut row = current.turned(State::Live, now_us);
            row.data = data.clone().unwrap_or(row.data);
            row.extra = extra.clone().unwrap_or(row.extra);
            row.target_feeds = target_feeds.clone().unwrap_or(row.target_feeds);
            row.had_targets |= !row.target_feeds.is_empty();
            Ok((row, Action::Update))
        };
        let (row, _) = self.turn(id, decide).await?;
        Reaction::from_row(id, &row)
    }

    /// Deletes a reaction, and its children with it. A `soft` deletion hides it until it is restored, and leaves its
    /// children as they are. `NotFound` when there is none, or when it is hidden already and `soft` is asked for.
    pub async fn delete_reaction(&self, id: &str, soft: bool) -> Result<()> {
        check_name("a reaction's id", id)?;
        let now_us = self.stamp_us();
        let decide = |current: Option<&ReactionRow>| match current.map(|row| (row, row.state())) {
            Some((row, State::Live)) if soft => Ok((row.turned(State::Hidden, now_us), Action::SoftDelete)),
            Some((row, State::Live | State::Hidden)) if !soft => Ok((row.turned(State::Gone, now_us), Action::Delete)),
            _ => Err(no_reaction(id)),
        };
        self.turn(id, decide).await.map(|_| ())
    }

    /// Shows a hidden reaction again. `NotFound` when there is none that is hidden, or its parent is gone.
    pub async fn restore_reaction(&self, id: &str) -> Result<Reaction> {
        check_name("a reaction's id", id)?;
        let now_us = self.stamp_us();
        let decide = |current: Option<&ReactionRow>| {
            let current = current.filter(|row| row.state() == State::Hidden).ok_or_else(|| no_reaction(id))?;
            Ok((current.turned(State::Live, now_us), Action::Restore))
        };
        let (row, synced) = self.turn(id, decide).await?;
        if synced == Synced::ParentGone {
            return Err(no_reaction(id));
        }
        Reaction::from_row(id, &row)
    }

    /// Deletes up to 1,000 reactions, hidden ones too, and returns how many there were.
    pub async fn delete_reactions(&self, ids: &[String]) -> Result<usize> {
        check_count("reactions", ids.len(), GET_MANY_MAX)?;
        ids.iter().try_for_each(|id| check_name("a reaction's id", id))?;
        let mut count = 0;
        for id in ids {
            match self.delete_reaction(id, false).await {
                Ok(()) => count += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Deletes the child of a reaction that is gone since `version`; false when there is no such child.
    pub(crate) fn take_reaction<'a>(&'a self, id: &'a str, version: u64) -> BoxFuture<'a, Result<bool>> {
        async move {
            let record = self.engine().get(self.reaction_key(id), Consistency::Linearizable).await?;
            let Some(row) = record.as_ref().map(decode::<ReactionRow>).transpose()? else { return Ok(false) };
            if row.parent_version > version {
                return Ok(true);
            }
            if row.state() != State::Gone {
                match self.delete_reaction(id, false).await {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => return Ok(true),
                }
            }
            // Others are at it, or were interrupted.
            self.sync(id, INLINE_PAGES).await.map(|_| true)
        }
        .boxed()
    }

    /// Turns a reaction into what `decide` makes of it, and brings what follows from it to that.
    async fn turn(
        &self,
        id: &str,
        decide: impl Fn(Option<&ReactionRow>) -> Result<Turned> + Send + Sync,
    ) -> Result<(ReactionRow, Synced)> {
        let key = self.reaction_key(id);
        let read = |record: Option<&Record>| decide(record.map(decode).transpose()?.as_ref());
        // What is refused at once leaves no pointer behind.
        read(self.engine().get(key.clone(), Consistency::Linearizable).await?.as_ref())?;
        let pointers = self.point_at([JobAt::Reaction(id.to_owned())]).await?;
        let Some(pointer) = pointers.first().cloned() else {
            return Err(Error::new(ErrorKind::Unavailable, "no pointer was made"));
        };
        let job = self.reaction_job_key(id, pointer.number);
        let written = self
            .change(&key, "the reaction", |record| {
                let (row, action) = read(record)?;
                let batch = Batch::new().put(job.clone(), "");
                let batch = if row.state() == State::Gone {
                    batch.put_ttl(key.clone(), encode(&row), self.options().removed_ttl_ms)
                } else {
                    batch.put(key.clone(), encode(&row))
                };
                let batch = self.audited(batch, &key.partition, action, &row.user, row.updated_us);
                Ok(Change::Write(batch, row))
            })
            .await;
        let row = match written {
            Ok(row) => row,
            Err(error) => {
                if is_certain(&error) {
                    self.end(pointers).await;
                }
                return Err(error);
            }
        };
        let synced = match self.renew_pointers(&pointers).await {
            Ok(()) => self.sync(id, INLINE_PAGES).await,
            Err(error) => Err(error),
        };
        match synced {
            Ok(Synced::PartOfChildren) => self.leave(pointer),
            Ok(_) => self.finish([Done { pointer, job: Some(job) }]).await,
            Err(error) => {
                self.leave(pointer);
                return Err(unfinished("the reaction", error));
            }
        }
        Ok((row, synced?))
    }
}

/// The stored names of target feeds, each once.
fn targets(feeds: &[FeedId]) -> Result<Vec<String>> {
    if feeds.len() > TARGET_FEEDS_MAX {
        let count = feeds.len();
        return Err(Error::invalid(format!("a reaction has at most {TARGET_FEEDS_MAX} target feeds, not {count}")));
    }
    let mut names: Vec<String> = Vec::new();
    for feed in feeds {
        if !names.iter().any(|name| name == feed.as_str()) {
            names.push(feed.to_string());
        }
    }
    Ok(names)
}

/// One spelling for the ids of activities, which are UUIDs; other texts stay as they are.
pub(crate) fn same_spelling(id: &str) -> String {
    Uuid::try_parse(id).map_or_else(|_| id.to_owned(), |uuid| uuid.to_string())
}

/// A version 7 UUID that holds the microsecond.
fn new_id(at_us: u64, random: u64) -> String {
    let mut bytes = [0; 10];
    let us = u16::try_from(at_us % 1_000).unwrap_or_default().to_be_bytes();
    let (head, tail) = bytes.split_at_mut(2);
    head.copy_from_slice(&us);
    tail.copy_from_slice(&random.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(at_us / 1_000, &bytes).into_uuid().to_string()
}

/// The microsecond in an id that [`new_id`] made.
pub(crate) fn made_us(id: &str) -> Option<u64> {
    let uuid = Uuid::try_parse(id).ok().filter(|uuid| uuid.get_version_num() == 7)?;
    let (_, _, us, _) = uuid.as_fields();
    let us = u64::from(us & 0x0fff);
    let (seconds, nanos) = uuid.get_timestamp()?.to_unix();
    let ms = seconds.checked_mul(1_000)?.checked_add(u64::from(nanos) / 1_000_000)?;
    (us < 1_000).then(|| ms * 1_000 + us)
}

/// The microsecond that any UUID with a time in it names, whoever made it.
pub(crate) fn named_us(id: &str) -> Option<u64> {
    let (seconds, nanos) = Uuid::try_parse(id).ok()?.get_timestamp()?.to_unix();
    seconds.checked_mul(1_000_000)?.checked_add(u64::from(nanos) / 1_000)
}

fn taken(id: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("there is a reaction {id:?} already"))
}

fn no_parent(parent: &str) -> Error {
    Error::invalid(format!("there is no reaction {parent:?} to be a parent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_holds_its_microsecond() {
        for at_us in [0, 999, 1_777_636_800_123_456, 1_777_636_800_999_000] {
            let id = new_id(at_us, 0x0123_4567_89ab_cdef);
            assert_eq!((id.len(), made_us(&id)), (36, Some(at_us)), "{id}");
        }
        assert_ne!(new_id(5, 1), new_id(5, 2));
        assert_eq!(made_us("1c60f680-43d3-11e4-b852-33fb4a479b7b"), None);
        assert_eq!(made_us("mine"), None);
    }

    #[test]
    fn an_id_from_elsewhere_names_its_time() {
        // 2014-09-24T10:11:12.123456, as the activity's id says that has the same one.
        assert_eq!(named_us("1c60f680-43d3-11e4-b852-33fb4a479b7b"), Some(1_411_553_472_123_456));
        assert_eq!(named_us("8bd9a9a0-0000-4000-8000-000000000000"), None);
        assert_eq!(named_us("mine"), None);
    }
}
