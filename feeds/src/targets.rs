//! Changing the `to` targets of an activity that is there already.
//!
//! Order of writes, as for adds and removals: pointers; then the activity's row together with a job that puts it into
//! the new targets and one that takes it out of the old ones, in one batch; then both jobs are driven. So the change
//! is made wholly or not at all, and readers see it from that batch on.

use keevo_core::{Batch, Check, Consistency, Engine, Error, ErrorKind, Result, Revision};

use crate::activity::{Activity, TO_MAX};
use crate::audit::Action;
use crate::deliver::ActivityJob;
use crate::feed_id::FeedId;
use crate::feeds::{ATTEMPTS, Feeds, contended, is_certain, unfinished};
use crate::ids::ActivityId;
use crate::outbox::{JobAt, Pointer};
use crate::rows::{ActivityRow, EntryRow, JobRow, decode, encode};

/// What becomes of an activity's targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// These and no others.
    Replace(Vec<FeedId>),
    /// These come, those go. One that is in both comes.
    Change {
        /// What comes; one that is there already stays.
        added: Vec<FeedId>,
        /// What goes; one that is not there is no error.
        removed: Vec<FeedId>,
    },
}

/// What became of an activity's targets.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedTargets {
    /// The activity as it is now.
    pub activity: Activity,
    /// The targets that came.
    pub added: Vec<FeedId>,
    /// The targets that went.
    pub removed: Vec<FeedId>,
}

/// A change as it was decided on one state of the activity.
struct Decided {
    row: ActivityRow,
    fresh: Vec<EntryRow>,
    taken: Vec<EntryRow>,
}

impl<E: Engine> Feeds<E> {
    /// Changes the targets that the add to `feed` gave an activity.
    ///
    /// `NotFound` where `feed` does not hold it as its own; `Invalid` for more than 100 targets; `OutcomeUnknown` when
    /// it may have been changed.
    pub async fn change_targets(&self, feed: &FeedId, id: ActivityId, targets: &Targets) -> Result<ChangedTargets> {
        let mut unused = Vec::new();
        let changed = self.change_targets_of(feed, id, targets, &mut unused).await;
        // Pointers that are still here lead to no job, unless the write of them had no clear end.
        if changed.as_ref().err().is_none_or(is_certain) {
            self.end(unused).await;
        }
        changed
    }

    async fn change_targets_of(
        &self,
        feed: &FeedId,
        id: ActivityId,
        targets: &Targets,
        unused: &mut Vec<Pointer>,
    ) -> Result<ChangedTargets> {
        let home = self.layout().activity(id);
        for _ in 0..ATTEMPTS {
            let record = self.engine().get(home.clone(), Consistency::Linearizable).await?;
            let before: ActivityRow = record.as_ref().map(decode).transpose()?.unwrap_or_default();
            let revision = record.map_or(Revision(0), |record| record.revision);
            let decided = self.decide_targets(feed, id, targets, before)?;
            let names = |entries: &[EntryRow]| entries.iter().map(EntryRow::feed_id).collect::<Result<Vec<_>>>();
            let changed = ChangedTargets {
                activity: Activity::from_row(id, &decided.row, None)?,
                added: names(&decided.fresh)?,
                removed: names(&decided.taken)?,
            };
            if decided.fresh.is_empty() && decided.taken.is_empty() {
                return Ok(changed);
            }
            if unused.is_empty() {
                *unused = self.point_at([JobAt::Activity(id), JobAt::Activity(id)]).await?;
            }
            let (jobs, batch) = self.target_jobs(id, decided, revision, unused);
            match self.engine().write(batch).await {
                Ok(_) => unused.retain(|pointer| !jobs.iter().any(|job| job.pointer.as_ref() == Some(pointer))),
                Err(error) if error.kind() == ErrorKind::Conflict => continue,
                Err(error) => return Err(error),
            }
            let after = |error| unfinished("the change of targets", error);
            let pointers: Vec<Pointer> = jobs.iter().filter_map(|job| job.pointer.clone()).collect();
            if let Err(error) = self.renew_pointers(&pointers).await {
                for pointer in pointers {
                    self.leave(pointer);
                }
                return Err(after(error));
            }
            self.drive_first(jobs).await.map_err(after)?;
            return Ok(changed);
        }
        Err(contended("the activity"))
    }

    fn decide_targets(
        &self,
        feed: &FeedId,
        id: ActivityId,
        targets: &Targets,
        mut row: ActivityRow,
    ) -> Result<Decided> {
        if !row.entries.iter().any(|entry| entry.feed == feed.as_str() && entry.via.is_empty()) {
            return Err(Error::new(ErrorKind::NotFound, format!("the feed {feed} was not given the activity {id}")));
        }
        let is_target = |entry: &EntryRow| entry.via == feed.as_str();
        let stays = |name: &str| match targets {
            Targets::Replace(new) => new.iter().any(|one| one.as_str() == name),
            Targets::Change { added, removed } => {
                let named = |list: &[FeedId]| list.iter().any(|one| one.as_str() == name);
                named(added) || !named(removed)
            }
        };
        let (taken, kept): (Vec<EntryRow>, Vec<EntryRow>) =
            std::mem::take(&mut row.entries).into_iter().partition(|entry| is_target(entry) && !stays(&entry.feed));
        row.entries = kept;
        let generation = (row.last_gen + 1).max(self.call_ms());
        let (Targets::Replace(wanted) | Targets::Change { added: wanted, .. }) = targets;
        let mut fresh: Vec<EntryRow> = Vec::new();
        for target in wanted.iter().filter(|target| *target != feed) {
            if !row.entries.iter().any(|entry| is_target(entry) && entry.feed == target.as_str()) {
                let entry = EntryRow { feed: target.to_string(), via: feed.to_string(), generation };
                row.entries.push(entry.clone());
                fresh.push(entry);
            }
        }
        let count = row.entries.iter().filter(|entry| is_target(entry)).count();
        if count > TO_MAX {
            return Err(Error::invalid(format!("an activity goes to at most {TO_MAX} targets, not {count}")));
        }
        if !fresh.is_empty() {
            row.last_gen = generation;
        }
        Ok(Decided { row, fresh, taken })
    }

    /// The jobs of a change, and the batch that makes it.
    fn target_jobs(
        &self,
        id: ActivityId,
        decided: Decided,
        revision: Revision,
        pointers: &[Pointer],
    ) -> (Vec<ActivityJob>, Batch) {
        let home = self.layout().activity(id);
        let mut batch = Batch::new().require(home.clone(), Check::RevisionIs(revision)).put(home, encode(&decided.row));
        let began_us = self.stamp_us();
        let parts = [(false, decided.fresh), (true, decided.taken)];
        let mut jobs = Vec::new();
        for ((remove, entries), pointer) in parts.into_iter().zip(pointers) {
            if entries.is_empty() {
                continue;
            }
            let foreign_id = decided.row.foreign_id.clone();
            let row = JobRow { remove, entries, began_us, foreign_id, ..JobRow::default() };
            batch = batch.put(self.layout().activity_job(id, pointer.number), encode(&row));
            jobs.push(ActivityJob { id, row, pointer: Some(pointer.clone()) });
        }
        let actor = decided.row.actor.strip_prefix("SU:").unwrap_or(&decided.row.actor);
        (jobs, self.audited(batch, &self.layout().home(id), Action::Update, actor, began_us))
    }
}
