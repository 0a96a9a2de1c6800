//! Adding activities, one or many.
//!
//! Order of writes: pointers into the outbox; then, per activity, its row and its job in one batch of its home
//! partition: from there on it exists; then its direct rows, then its followers' rows.
//!
//! Invariant: an add that was answered is durable, readable in the feeds that hold it directly, and reaches
//! every follower, at the latest through the worker.

use std::collections::BTreeSet;

use futures::StreamExt;
use keevo_core::{Batch, Check, Consistency, Engine, Error, ErrorKind, Record, Result, Revision, Scan};

use bytes::Bytes;

use crate::activity::{ADD_TO_MANY_MAX, Activity, ENTRIES_MAX, NewActivity};
use crate::audit::Action;
use crate::deliver::ActivityJob;
use crate::feed_id::FeedId;
use crate::feeds::{ATTEMPTS, Feeds, contended, is_certain, unfinished};
use crate::ids::ActivityId;
use crate::keys::JOB;
use crate::metrics::add;
use crate::outbox::{JobAt, Pointer};
use crate::rows::{ActivityRow, EntryRow, JobRow, decode, encode};
use crate::time::ActivityTime;

/// How many activities are driven as one group.
const ADD_CHUNK: usize = 512;
/// How many pending jobs of an activity a repeated add looks at.
const PENDING_JOBS: usize = 32;

/// An activity that passed all checks, with its id.
struct Draft {
    /// The feeds that are to hold it, each with the feed whose `to` brings it; empty = it was added to that feed itself.
    wanted: Vec<(FeedId, String)>,
    /// Whether their followers get nothing of it.
    quiet: bool,
    id: ActivityId,
    custom: Bytes,
    new: NewActivity,
}

/// An activity as it was written, and its job if it reached new feeds.
struct Committed {
    activity: Activity,
    job: Option<ActivityJob>,
}

impl<E: Engine> Feeds<E> {
    /// Adds an activity to `feed`, its `to` targets, and their followers. Adding the same activity again
    /// overwrites its fields and adds the feeds that it did not have.
    ///
    /// `Invalid` or `BatchTooLarge` for one beyond the limits; `OutcomeUnknown` when it may have been added.
    pub async fn add_activity(&self, feed: &FeedId, new: NewActivity) -> Result<Activity> {
        let added = self.add_many(vec![(feed.clone(), new)]).await?;
        added.into_iter().next().ok_or_else(|| contended("the activity"))
    }

    /// Adds activities to one feed, and returns them in the order given.
    pub async fn add_activities(&self, feed: &FeedId, new: Vec<NewActivity>) -> Result<Vec<Activity>> {
        self.add_many(new.into_iter().map(|new| (feed.clone(), new)).collect()).await
    }

    /// Adds activities to feeds of any number, grouped and with bounded concurrency: the way to load many.
    /// One that breaks a limit refuses them all; a failure midway leaves some of them added.
    pub async fn add_many(&self, new: Vec<(FeedId, NewActivity)>) -> Result<Vec<Activity>> {
        let drafts: Vec<Draft> = new.into_iter().map(|(feed, new)| self.draft(&feed, new)).collect::<Result<_>>()?;
        let mut added = Vec::with_capacity(drafts.len());
        let mut rest = drafts.into_iter().peekable();
        while rest.peek().is_some() {
            let chunk: Vec<Draft> = rest.by_ref().take(ADD_CHUNK).collect();
            added.extend(Box::pin(self.add_chunk(chunk)).await?);
        }
        Ok(added)
    }

    /// Adds an activity to up to 5,000 feeds, and to none of their followers; who follows one of them later gets it
    /// with the other activities that are copied then. `Invalid` for more feeds, or with `to` targets.
    pub async fn add_to_many(&self, new: NewActivity, feeds: Vec<FeedId>) -> Result<Activity> {
        if feeds.is_empty() || feeds.len() > ADD_TO_MANY_MAX {
            return Err(Error::invalid(format!("an activity is added to 1 to {ADD_TO_MANY_MAX} feeds at once")));
        }
        if !new.to.is_empty() {
            return Err(Error::invalid("an activity that is added to many feeds has no `to` targets"));
        }
        let first = feeds.first().cloned().ok_or_else(|| contended("the activity"))?;
        let wanted = feeds.into_iter().map(|feed| (feed, String::new())).collect();
        let draft = Draft { wanted, quiet: true, ..self.draft(&first, new)? };
        let added = Box::pin(self.add_chunk(vec![draft])).await?;
        added.into_iter().next().ok_or_else(|| contended("the activity"))
    }

    fn draft(&self, feed: &FeedId, mut new: NewActivity) -> Result<Draft> {
        let custom = new.check(self.options().activity_bytes_max)?;
        let time = match new.time {
            Some(time) => time,
            None => ActivityTime::from_micros(i64::try_from(self.stamp_us()).unwrap_or(i64::MAX))?,
        };
        new.time = Some(time);
        let id = ActivityId::compute(self.app(), time, new.identity());
        let targets = new.to.iter().filter(|target| *target != feed);
        let targets = targets.map(|target| (target.clone(), feed.to_string()));
        let wanted = std::iter::once((feed.clone(), String::new())).chain(targets).collect();
        Ok(Draft { wanted, quiet: false, id, custom, new })
    }

    async fn add_chunk(&self, drafts: Vec<Draft>) -> Result<Vec<Activity>> {
        let began_us = self.stamp_us();
        let pointers = self.point_at(drafts.iter().map(|draft| JobAt::Activity(draft.id))).await?;
        let commit = |(draft, pointer)| self.commit(draft, pointer, began_us);
        let committed: Vec<Result<Committed>> =
            futures::stream::iter(drafts.into_iter().zip(pointers.clone()).map(commit))
                .buffered(self.options().concurrency)
                .collect()
                .await;
        let renewed = self.renew_pointers(&pointers).await;
        let (mut activities, mut jobs, mut jobless, mut failure) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (one, pointer) in committed.into_iter().zip(pointers) {
            match one {
                Ok(one) => {
                    activities.push(one.activity);
                    match one.job {
                        Some(job) => jobs.push(job),
                        None => jobless.push(pointer),
                    }
                }
                Err(error) => {
                    if is_certain(&error) {
                        jobless.push(pointer);
                    }
                    failure = failure.or(Some(error));
                }
            }
        }
        add(&self.counters().activities_added, activities.len());
        self.end(jobless).await;
        if let Err(error) = renewed {
            jobs.into_iter().filter_map(|job| job.pointer).for_each(|pointer| self.leave(pointer));
            return Err(unfinished("the activity", error));
        }
        self.drive_first(jobs).await.map_err(|error| unfinished("the activity", error))?;
        failure.map_or(Ok(activities), Err)
    }

    /// Writes one activity and its job, merging with what is there.
    async fn commit(&self, draft: Draft, pointer: Pointer, began_us: u64) -> Result<Committed> {
        let home = self.layout().activity(draft.id);
        // Most activities are new: try that first.
        let mut current: Option<(Revision, ActivityRow)> = None;
        for _ in 0..ATTEMPTS {
            let (row, fresh) = self.merge(&draft, current.as_ref().map(|(_, row)| row))?;
            let check = current.as_ref().map_or(Check::Absent, |(revision, _)| Check::RevisionIs(*revision));
            let mut batch = Batch::new().require(home.clone(), check).put(home.clone(), encode(&row));
            let before = current.as_ref().map(|(_, row)| row).filter(|row| !row.is_removed());
            if before.is_some_and(|before| !before.says_the_same(&row)) {
                let by = row.actor_user();
                batch = self.audited(batch, &home.partition, Action::Update, by, self.stamp_us());
            }
            let job = JobRow {
                entries: fresh,
                began_us,
                foreign_id: row.foreign_id.clone(),
                quiet: draft.quiet,
                actor: row.actor_user().to_owned(),
                ..JobRow::default()
            };
            let is_listed = before.is_some_and(|before| before.actor == row.actor);
            let is_job = !job.entries.is_empty() || !(is_listed || job.actor.is_empty());
            if is_job {
                batch = batch.put(self.layout().activity_job(draft.id, pointer.number), encode(&job));
            }
            match self.engine().write(batch).await {
                Ok(_) => {
                    if !is_job {
                        self.drive_pending(draft.id).await.map_err(|error| unfinished("the activity", error))?;
                    }
                    let job = is_job.then_some(ActivityJob { id: draft.id, row: job, pointer: Some(pointer) });
                    return Ok(Committed { activity: Activity::from_row(draft.id, &row, None)?, job });
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
            let record: Option<Record> = self.engine().get(home.clone(), Consistency::Linearizable).await?;
            current = record.map(|record| decode(&record).map(|row| (record.revision, row))).transpose()?;
        }
        Err(contended("the activity"))
    }

    /// The activity's row after the draft, and the entries that are new in it.
    fn merge(&self, draft: &Draft, current: Option<&ActivityRow>) -> Result<(ActivityRow, Vec<EntryRow>)> {
        let live = current.filter(|row| !row.is_removed());
        if live.is_some_and(|row| !row.is_identified_by(draft.new.identity())) {
            let message = format!("another activity of the same time has the id {}", draft.id);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let mut entries = live.map(|row| row.entries.clone()).unwrap_or_default();
        let last_gen = current.map_or(0, |row| row.last_gen);
        let generation = (last_gen + 1).max(self.call_ms());
        let mut there: BTreeSet<(String, String)> =
            entries.iter().map(|entry| (entry.feed.clone(), entry.via.clone())).collect();
        let mut fresh: Vec<EntryRow> = Vec::new();
        for (feed, via) in &draft.wanted {
            if there.insert((feed.to_string(), via.clone())) {
                let entry = EntryRow { feed: feed.to_string(), via: via.clone(), generation };
                entries.push(entry.clone());
                fresh.push(entry);
            }
        }
        if entries.len() > ENTRIES_MAX {
            return Err(Error::invalid(format!("an activity lies in at most {ENTRIES_MAX} feeds directly")));
        }
        let row = ActivityRow {
            time_us: draft.id.time().micros(),
            actor: draft.new.actor.clone(),
            verb: draft.new.verb.clone(),
            object: draft.new.object.clone(),
            target: draft.new.target.clone(),
            foreign_id: draft.new.foreign_id.clone(),
            custom: draft.custom.clone(),
            entries,
            last_gen: if fresh.is_empty() { last_gen } else { generation },
            source_version: current.map_or(0, |row| row.source_version),
            kept: live.is_some_and(|row| row.kept),
        };
        Ok((row, fresh))
    }

    /// Brings jobs of an activity that an earlier call left behind to where a caller may rely on them.
    pub(crate) async fn drive_pending(&self, id: ActivityId) -> Result<()> {
        // Jobs that are finished leave first: driven again they would reach followers who came later.
        self.flush_finished().await;
        let scan = Scan::prefix(self.layout().keyspace, self.layout().home(id), JOB, PENDING_JOBS);
        let page = self.scan_on(scan).await?;
        let mut jobs = Vec::new();
        for (_, record) in &page.records {
            let row: JobRow = decode(record)?;
            if !row.remove && !row.placed {
                jobs.push(ActivityJob { id, row, pointer: None });
            }
        }
        self.drive_first(jobs).await
    }
}
