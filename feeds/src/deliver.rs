//! Driving an activity's outbox job: place it, page through the followers, fan out, save progress.
//!
//! Every step may be repeated: its keys follow from the activity and its generation. A put is guarded by the
//! epoch of the follow edge; a removal leaves a tombstone. So a step that comes late does no harm, and readers
//! look at the activity itself besides: a row whose placement is gone is not shown.
//!
//! Which followers a put reaches. The epoch is read with the page, so it does not tell a follow that was there when
//! the activity came from one made since. The rule: a follow whose edge is dated more than `clock_skew_ms_max`
//! after the job's own rows were in place is left out. Such a follow was made after that, so its copy read those
//! rows and took as many as it was told to; what it did not take (or an unfollow before it took out) must not come
//! through a late page. A follow that is dated earlier may have read before the rows were there, and is reached.
//! The time is that of the placing that the driver knows of: its own, or the one saved with the job's progress.
//! A driver that dies before it saves leaves a job that is placed again, and then counts as placed only then.
//!
//! A feed that is merged by its readers is written to those followers alone that gather their activities. Whether it is
//! so is read after the placing (`merge.rs` says why); removals go to every follower all the same.
//!
//! It goes in steps, a page of followers each or less, which `pace.rs` spreads over time: whoever reads meanwhile passes.
//! Followers in shards that do not answer are left out, and walked to once more when the others are served (`apart.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use keevo_core::{Batch, Check, Consistency, Engine, Error, ErrorKind, FanOut, FanOutAction, Result, Revision, Target};
use tokio::time::Instant;

use crate::apart::{bit, slot_of};
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, retry};
use crate::followers::{Follower, FollowerPage, Position};
use crate::ids::ActivityId;
use crate::keys::{self, EDGE};
use crate::lanes::Lane;
use crate::merge::{Phase, SourceRow};
use crate::metrics::add;
use crate::outbox::{Done, Pointer};
use crate::pace::{Pace, STEP_MAX};
use crate::rows::{ActivityRow, EntryRow, JobRow, decode, encode};

/// The most followers of one page.
const PAGE: usize = STEP_MAX;

/// An outbox job of an activity.
#[derive(Debug)]
pub(crate) struct ActivityJob {
    pub(crate) id: ActivityId,
    pub(crate) row: JobRow,
    /// What leads to it in the outbox; `None` for a job that another call owns, and that is only helped on.
    pub(crate) pointer: Option<Pointer>,
}

/// How far a job came.
#[derive(Debug, Default)]
struct Reach {
    /// To its end.
    finished: bool,
    /// Feeds with so many followers that the way to reach them may have to change.
    many: Vec<FeedId>,
}

/// First pages of followers, read once for many jobs.
type FirstPages = BTreeMap<FeedId, Arc<FollowerPage>>;

impl<E: Engine> Feeds<E> {
    /// Drives new jobs as far as a caller waits for: all direct rows, and the first followers of each.
    /// An error means that a direct row is missing; what concerns followers is left to the worker.
    pub(crate) async fn drive_first(&self, mut jobs: Vec<ActivityJob>) -> Result<()> {
        if let Err(error) = self.place(&mut jobs).await {
            jobs.into_iter().filter_map(|job| job.pointer).for_each(|pointer| self.leave(pointer));
            return Err(error);
        }
        let budget = self.options().inline_targets_max;
        let first = self.first_pages(&jobs, budget).await;
        let drive = |job| self.drive_or_leave(job, &first, budget);
        futures::stream::iter(jobs.into_iter().map(drive))
            .buffer_unordered(self.options().concurrency)
            .collect::<Vec<()>>()
            .await;
        Ok(())
    }

    async fn drive_or_leave(&self, mut job: ActivityJob, first: &FirstPages, budget: usize) {
        let driven = self.fan_out_job(&mut job, None, first, budget).await;
        let Some(pointer) = job.pointer.clone() else { return };
        match driven {
            Ok(Reach { finished: true, many }) => {
                self.consider_merging(many).await;
                return self.finish([self.done(job.id, pointer)]).await;
            }
            Ok(_) => {
                if let Err(error) = self.save_progress(&mut job, &pointer).await {
                    tracing::debug!(%error, "the progress of an outbox job was not saved");
                }
            }
            Err(error) => {
                tracing::warn!(%error, activity = %job.id, "the fan-out of an activity is left to the worker");
            }
        }
        self.leave(pointer);
    }

    fn done(&self, id: ActivityId, pointer: Pointer) -> Done {
        let job = self.layout().activity_job(id, pointer.number);
        Done { pointer, job: Some(job) }
    }

    /// The first page of followers of each feed that several jobs share.
    async fn first_pages(&self, jobs: &[ActivityJob], limit: usize) -> FirstPages {
        let mut uses: BTreeMap<FeedId, usize> = BTreeMap::new();
        for feed in jobs.iter().flat_map(|job| &job.row.entries).filter_map(|entry| entry.feed_id().ok()) {
            *uses.entry(feed).or_default() += 1;
        }
        let read = |feed: FeedId| async move {
            let page = self.follower_page(&feed, &Position::default(), limit.clamp(1, PAGE)).await.ok()?;
            Some((feed, Arc::new(page)))
        };
        futures::stream::iter(uses.into_iter().filter(|(_, uses)| *uses > 1).map(|(feed, _)| read(feed)))
            .buffer_unordered(self.options().concurrency)
            .filter_map(futures::future::ready)
            .collect()
            .await
    }

    /// Fans a placed job out to its followers, from where it stands, until `budget` targets were reached.
    async fn fan_out_job(
        &self,
        job: &mut ActivityJob,
        lane: Option<Lane>,
        first: &FirstPages,
        budget: usize,
    ) -> Result<Reach> {
        let mut reach = Reach { finished: true, many: Vec::new() };
        if job.row.quiet && !job.row.remove {
            return Ok(reach);
        }
        let mut spent = 0;
        let mut pace = Pace::new(&self.inner.step, lane, self.options().job_targets_per_s_max);
        let mut walk: Option<FeedWalk> = None;
        while let Some(entry) = usize::try_from(job.row.entry).ok().and_then(|at| job.row.entries.get(at)).cloned() {
            if spent >= budget {
                // A walk that takes so long has many followers.
                reach.many.extend(walk.and_then(|walk| self.has_many(job, walk, u64::MAX)));
                return Ok(Reach { finished: false, ..reach });
            }
            let feed = entry.feed_id()?;
            let at = position(&job.row);
            let limit = (budget - spent).clamp(1, pace.targets());
            let mut page = match first.get(&feed).filter(|_| at == Position::default()) {
                Some(page) => Arc::clone(page),
                None => Arc::new(self.answering_page(&feed, &at, limit, job.row.is_again()).await?),
            };
            if page.left_out {
                job.row.missed_lists |= bit(at.bucket);
            }
            let begun = match walk.take() {
                Some(walk) => walk,
                None => self.begin_walk(feed.clone(), &at, &page).await?,
            };
            // Who does not know yet which feeds gather writes to all followers: a row that is merged too shows once.
            let written = page.left_out || job.row.remove || !self.knows_groups();
            if !written && begun.source.leaves_out(job.id, job.row.began_us) {
                page = Arc::new(self.gathered_page(&feed, &at, limit).await?);
            }
            spent += page.followers.len();
            let begun = FeedWalk { seen: begun.seen.saturating_add(length(&page.followers)), ..begun };
            let applied = self.fan_out_page(job, &entry, &feed, &page.followers, &mut pace).await?;
            self.count_entries(lane, applied);
            let next = page.next.clone();
            if next.is_none() {
                job.row.entry += 1;
                let seen = begun.seen;
                reach.many.extend(self.has_many(job, begun, seen));
            } else {
                walk = Some(begun);
            }
            let next = next.unwrap_or_default();
            job.row.bucket = u32::from(next.bucket);
            job.row.after = next.after;
        }
        reach.finished = !job.row.walk_again();
        Ok(reach)
    }

    /// Starts, or goes on with, the walk over a feed's followers at the page that was read there.
    async fn begin_walk(&self, feed: FeedId, at: &Position, page: &FollowerPage) -> Result<FeedWalk> {
        if *at == Position::default() {
            return Ok(FeedWalk { feed, source: page.source.clone(), seen: 0 });
        }
        let source = self.source(&feed).await?;
        // How many were seen before is not known: they are counted anew.
        Ok(FeedWalk { feed, source, seen: u64::MAX })
    }

    /// The feed of a walk if `seen` followers may be too many, or too few, for the way it reaches them.
    fn has_many(&self, job: &ActivityJob, walk: FeedWalk, seen: u64) -> Option<FeedId> {
        let above = self.groups().merge_above(walk.feed.slug());
        let may_change = match walk.source.phase() {
            Phase::Written => above.is_some_and(|above| seen > above),
            Phase::Merged => true,
            Phase::Marking | Phase::Unmarking => false,
        };
        (may_change && !job.row.remove).then_some(walk.feed)
    }

    /// Counts what a driver in `lane`, or a caller, has written.
    fn count_entries(&self, lane: Option<Lane>, applied: usize) {
        add(&self.counters().entries_fanned_out, applied);
        match lane {
            Some(Lane::Prompt) => add(&self.counters().entries_prompt, applied),
            Some(Lane::Bulk) => add(&self.counters().entries_bulk, applied),
            None => {}
        }
    }

    /// Fans a job out to some followers, at its pace; how many rows that changed. Those in shards that do not answer are left
    /// out, which the job notes.
    async fn fan_out_page(
        &self,
        job: &mut ActivityJob,
        entry: &EntryRow,
        feed: &FeedId,
        page: &[Follower],
        pace: &mut Pace<'_>,
    ) -> Result<usize> {
        let mut applied = 0;
        let mut puts: BTreeMap<Bytes, Vec<Target>> = BTreeMap::new();
        let (is_again, only, only_lists) = (job.row.is_again(), job.row.only, job.row.only_lists);
        let is_missed =
            |one: &Follower| (only & bit(slot_of(&one.target.partition))) != 0 || (only_lists & bit(one.bucket)) != 0;
        let is_meant = |one: &&Follower| !is_again || is_missed(one);
        let page: Vec<&Follower> = page.iter().filter(is_meant).collect();
        if job.row.remove {
            let unguarded = |one: &&Follower| Target { partition: one.target.partition.clone(), guard: None };
            puts.insert(Bytes::new(), page.iter().map(unguarded).collect());
        } else {
            let last_us = self.last_follow_us(&job.row);
            let reached = page.iter().filter(|one| one.created_us <= last_us).map(|one| one.target.clone());
            puts = self.by_value(job.id, reached.collect()).await?;
        }
        add(&self.counters().entries_skipped, page.len() - puts.values().map(Vec::len).sum::<usize>());
        for (value, targets) in puts.into_iter().filter(|(_, targets)| !targets.is_empty()) {
            let (action, guard_sort) = if job.row.remove {
                (FanOutAction::Remove { tombstone_ttl_ms: self.options().tombstone_ttl_ms }, None)
            } else {
                let guard = keys::join(EDGE, feed.as_str().as_bytes());
                (FanOutAction::Put { value, ttl_ms: None }, Some(guard))
            };
            let sort = keys::timeline(job.id, Some(feed), entry.generation);
            let whole = FanOut { keyspace: self.layout().keyspace, sort, action, guard_sort, targets: Vec::new() };
            let mut left = targets;
            while !left.is_empty() {
                let later = left.split_off(pace.targets().min(left.len()));
                let count = left.len();
                let began = pace.turn().await;
                let sent = self.send_step(FanOut { targets: left, ..whole.clone() }, is_again).await?;
                pace.ended(count, began, Instant::now());
                applied += usize::try_from(sent.applied).unwrap_or(usize::MAX);
                add(&self.counters().entries_skipped, usize::try_from(sent.skipped).unwrap_or(usize::MAX));
                job.row.missed |= sent.missed;
                left = later;
            }
        }
        Ok(applied)
    }

    /// Followers by what an activity's row holds in their feeds: nothing in flat ones, else what gathers it there.
    async fn by_value(&self, id: ActivityId, targets: Vec<Target>) -> Result<BTreeMap<Bytes, Vec<Target>>> {
        let (groups, feeds) = (self.groups(), self.layout().feeds());
        let mut by_slug: BTreeMap<String, Vec<Target>> = BTreeMap::new();
        let mut flat = Vec::with_capacity(targets.len());
        for target in targets {
            let slug = keys::slug_of(&feeds, &target.partition).filter(|slug| groups.template(slug).is_some());
            match slug.map(str::to_owned) {
                Some(slug) => by_slug.entry(slug).or_default().push(target),
                None => flat.push(target),
            }
        }
        let mut by_value = BTreeMap::from([(Bytes::new(), flat)]);
        for (slug, targets) in by_slug {
            let value = self.row_values(&slug, &[id]).await?.remove(&id).unwrap_or_default();
            by_value.entry(value).or_default().extend(targets);
        }
        Ok(by_value)
    }

    /// The latest date of a follow that a job reaches, in microseconds.
    fn last_follow_us(&self, job: &JobRow) -> u64 {
        if !job.placed || job.placed_us == 0 {
            return u64::MAX;
        }
        job.placed_us.saturating_add(self.options().clock_skew_ms_max.saturating_mul(1_000))
    }

    /// Saves where a job stands and claims it for this instance. False when another driver has finished it.
    async fn save_progress(&self, job: &mut ActivityJob, pointer: &Pointer) -> Result<bool> {
        self.save_if(job, pointer, Check::Exists).await
    }

    /// Claims a job as it was read. False when another driver has claimed or finished it since.
    async fn claim(&self, job: &mut ActivityJob, pointer: &Pointer, read: Revision) -> Result<bool> {
        self.save_if(job, pointer, Check::RevisionIs(read)).await
    }

    async fn save_if(&self, job: &mut ActivityJob, pointer: &Pointer, check: Check) -> Result<bool> {
        job.row.claimed_by = self.inner.instance;
        job.row.claimed_until_ms = self.now_ms() + self.options().claim_ms;
        let key = self.layout().activity_job(job.id, pointer.number);
        let batch = Batch::new().require(key.clone(), check).put(key, encode(&job.row));
        match retry(|| self.engine().write(batch.clone())).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Drives the job behind a pointer on, up to `budget` targets. `None` when there is no job.
    pub(crate) async fn drive_activity(
        &self,
        id: ActivityId,
        pointer: &Pointer,
        budget: usize,
    ) -> Result<Option<Driven>> {
        let wanted = vec![self.layout().activity(id), self.layout().activity_job(id, pointer.number)];
        let read = self.engine().multi_get(wanted, Consistency::Linearizable);
        let mut records = self.ask(&self.layout().home(id), read).await?.into_iter();
        let (activity, job) = (records.next().flatten(), records.next().flatten());
        let Some(record) = job else { return Ok(None) };
        let row: JobRow = decode(&record)?;
        if row.claimed_by != self.inner.instance && row.claimed_until_ms > self.now_ms() {
            return Ok(Some(Driven::Elsewhere));
        }
        if self.is_held_up(&row) {
            return Ok(Some(Driven::Elsewhere));
        }
        let mut job = ActivityJob { id, row, pointer: None };
        if !job.row.remove && job.row.entry == 0 && position(&job.row) == Position::default() {
            // What was removed before anyone got it need not be put in.
            let activity = activity.as_ref().map(decode::<ActivityRow>).transpose()?.unwrap_or_default();
            job.row.entries.retain(|entry| activity.entries.contains(entry));
        }
        let begin = Box::pin(async {
            let claimed = self.claim(&mut job, pointer, record.revision).await?;
            if claimed {
                self.place(std::slice::from_mut(&mut job)).await?;
            }
            Ok::<_, Error>(claimed)
        });
        if !self.begin_drive(pointer.number, begin).await? {
            return Ok(Some(Driven::Elsewhere));
        }
        let reach = self.fan_out_job(&mut job, Some(pointer.lane), &FirstPages::new(), budget).await?;
        self.consider_merging(reach.many).await;
        if reach.finished {
            self.finish([self.done(id, pointer.clone())]).await;
            return Ok(Some(Driven::Finished));
        }
        self.save_progress(&mut job, pointer).await?;
        Ok(Some(Driven::Further))
    }
}

/// A walk over the followers of one feed, as one drive of a job makes it.
#[derive(Debug)]
struct FeedWalk {
    feed: FeedId,
    source: SourceRow,
    /// Followers met.
    seen: u64,
}

fn length(followers: &[Follower]) -> u64 {
    u64::try_from(followers.len()).unwrap_or(u64::MAX)
}

/// How far a worker's attempt at a job came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driven {
    /// To its end.
    Finished,
    /// Some way.
    Further,
    /// Nowhere: another instance is at it, or those whom it has yet to reach do not answer.
    Elsewhere,
}

fn position(row: &JobRow) -> Position {
    Position { bucket: u8::try_from(row.bucket).unwrap_or(u8::MAX), after: row.after.clone() }
}
