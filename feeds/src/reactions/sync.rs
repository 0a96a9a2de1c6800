//! Driving a reaction's job: everything that follows from the reaction is brought to what it says now.
//!
//! The job holds nothing but its key: the home row is read when the job is driven, so a late drive of an old job
//! does what a new one would. Each step may be repeated.

use futures::{StreamExt, TryStreamExt};
use keevo_core::{Batch, Check, Consistency, Engine, Error, ErrorKind, Key, Record, Result};

use super::subject::Counted;
use super::{REACTION_LEVELS_MAX, ReactionRow, State, Subject};
use crate::audit::Action;
use crate::deliver::Driven;
use crate::feeds::{ATTEMPTS, Feeds, contended};
use crate::keys::{self, ENTITY, JOB, REACTIONS};
use crate::outbox::{Done, Pointer};
use crate::rows::{decode, encode};

/// How many children of a deleted reaction are taken out at once.
const CHILDREN_PAGE: usize = 100;
/// How many of them are under way at once.
const CHILDREN_AT_ONCE: usize = 8;
/// How many pages of them one drive takes out before it makes room for other jobs.
const CHILDREN_PAGES: usize = 10;

/// How far a reaction was brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synced {
    /// All that follows from it is so.
    Wholly,
    /// There are children left to take out.
    PartOfChildren,
    /// Its parent was deleted meanwhile, and so it is gone itself.
    ParentGone,
}

impl<E: Engine> Feeds<E> {
    pub(crate) fn reaction_key(&self, id: &str) -> Key {
        self.layout().key(self.layout().reaction(id), ENTITY)
    }

    pub(crate) fn reaction_job_key(&self, id: &str, number: u64) -> Key {
        self.layout().key(self.layout().reaction(id), keys::join(JOB, &number.to_be_bytes()))
    }

    /// Drives the job behind a pointer. `None` when there is no job.
    pub(crate) async fn drive_reaction(&self, id: &str, pointer: &Pointer) -> Result<Option<Driven>> {
        let job = self.reaction_job_key(id, pointer.number);
        if self.engine().get(job.clone(), Consistency::Linearizable).await?.is_none() {
            return Ok(None);
        }
        if self.sync(id, CHILDREN_PAGES).await? == Synced::PartOfChildren {
            return Ok(Some(Driven::Further));
        }
        self.finish([Done { pointer: pointer.clone(), job: Some(job) }]).await;
        Ok(Some(Driven::Finished))
    }

    /// Brings everything that follows from a reaction to what it says. Takes out up to so many pages of children.
    pub(crate) async fn sync(&self, id: &str, pages: usize) -> Result<Synced> {
        let mut done = Synced::Wholly;
        for _ in 0..ATTEMPTS {
            let record = self.engine().get(self.reaction_key(id), Consistency::Linearizable).await?;
            let Some(record) = record else { return Ok(done) };
            let row: ReactionRow = decode(&record)?;
            let (counted, (), ()) =
                futures::try_join!(self.count(id, &row), self.index_user(id, &row), self.place_reaction(id, &row))?;
            if counted == Counted::Closed {
                self.drop_orphan(id, &record, &row).await?;
                done = Synced::ParentGone;
                continue;
            }
            if row.state() == State::Gone
                && row.level < REACTION_LEVELS_MAX
                && !self.take_children(id, &row, pages).await?
            {
                return Ok(Synced::PartOfChildren);
            }
            return Ok(done);
        }
        Err(contended("the reaction"))
    }

    /// Deletes a reaction whose parent was deleted before this one was counted, unless it has changed since.
    async fn drop_orphan(&self, id: &str, record: &Record, row: &ReactionRow) -> Result<()> {
        let key = self.reaction_key(id);
        let now_us = self.stamp_us();
        let gone = row.turned(State::Gone, now_us);
        let batch = Batch::new().require(key.clone(), Check::RevisionIs(record.revision)).put_ttl(
            key.clone(),
            encode(&gone),
            self.options().removed_ttl_ms,
        );
        let batch = self.audited(batch, &key.partition, Action::Delete, &row.user, now_us);
        match self.engine().write(batch).await {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes the children of a reaction that is gone; false when there are more than `pages` of them.
    async fn take_children(&self, id: &str, row: &ReactionRow, pages: usize) -> Result<bool> {
        self.close_subject(id, row.version).await?;
        let partition = Subject::Reaction(id.to_owned()).partition(self.layout());
        let start = bytes::Bytes::from_static(REACTIONS);
        let mut before = Vec::new();
        for _ in 0..pages {
            let children = self.newest_in(&partition, &start, CHILDREN_PAGE).await?;
            if children.is_empty() {
                return Ok(true);
            }
            if children == before {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("the children of reaction {id:?} do not leave"),
                ));
            }
            let take = |child: super::RefRow| {
                let partition = partition.clone();
                async move {
                    if !self.take_reaction(&child.id, row.version).await? {
                        self.drop_place(&partition, REACTIONS, &child).await?;
                    }
                    Ok::<_, Error>(())
                }
            };
            let taken: Vec<_> = children.iter().cloned().map(take).collect();
            futures::stream::iter(taken).buffer_unordered(CHILDREN_AT_ONCE).try_collect::<Vec<()>>().await?;
            before = children;
        }
        Ok(self.newest_in(&partition, &start, 1).await?.is_empty())
    }
}
