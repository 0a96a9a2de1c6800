//! Driving the jobs of follow edges: list or unlist the follower, copy or withdraw.
//!
//! Invariant: every batch in the follower's partition that changes what is shown requires the job at the revision the
//! driver knows, and a copy the edge at its epoch. So of two drivers one is fenced off, and nothing is written for
//! an edge that has changed.
//!
//! A copy may put a row over the tombstone of a removal that overtook it. So the own rows are looked at once more
//! after the copies: what is gone by then is taken out again; what is there is removed later, and that removal finds
//! the follower listed. A crash between the two leaves a row that no reader shows.

mod job;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use keevo_core::{
    Batch, Check, Consistency, Engine, Error, ErrorKind, FanOut, FanOutAction, Key, Record, Result, Revision, Scan,
    Target,
};

use crate::feed_id::FeedId;
use crate::feeds::{Feeds, is_passing, retry};
use crate::ids::ActivityId;
use crate::keys::{self, JOB, OWN};
use crate::merge::{MergeRow, SourceRow};
use crate::metrics::add;
use crate::rows::{CopyRow, EdgeJobRow, EdgeRow, FollowerRow, decode, encode};

pub(crate) use job::EdgeJob;

/// The most rows copied or withdrawn by one batch.
const ROWS_CHUNK: usize = 2_000;
/// What a job takes of a batch besides its rows: two conditions, its copy, its mark and its end.
const JOB_WEIGHT: usize = 5;
/// The most rows that an unfollow withdraws before it is answered.
const INLINE_PAGES: usize = 10;
/// How many jobs of a feed one look finds.
pub(crate) const JOBS_PAGE: usize = 256;

/// The newest own rows of a feed, and whether that is all of them.
#[derive(Debug, Default)]
struct Newest {
    rows: Vec<(ActivityId, u64)>,
    all: bool,
}

/// What follows copy that are driven together.
struct Copies<'a> {
    newest: &'a BTreeMap<FeedId, Newest>,
    /// The targets that are merged, or were once.
    sources: &'a BTreeMap<FeedId, SourceRow>,
    /// From when on all of them were listed, but for those that were before.
    listed_us: u64,
}

impl Copies<'_> {
    /// What a job copies, and whether that is all there is.
    fn rows_of(&self, job: &EdgeJob) -> (&[(ActivityId, u64)], bool) {
        let Some(newest) = self.newest.get(&job.target) else { return (&[], false) };
        let limit = usize::try_from(job.row.copy_limit).unwrap_or_default();
        let rows = newest.rows.get(..limit.min(newest.rows.len())).unwrap_or_default();
        (rows, newest.all && newest.rows.len() <= limit)
    }
}

impl<E: Engine> Feeds<E> {
    pub(crate) fn edge_job_key(&self, job: &EdgeJob) -> Key {
        self.layout().edge_job(&job.follower, &job.target)
    }

    /// Brings follows whose edges and jobs are written to their end.
    pub(crate) async fn run_follows(&self, mut jobs: Vec<EdgeJob>) -> Result<()> {
        self.find_listed(&mut jobs).await?;
        self.enlist(jobs.iter().map(EdgeJob::enlist).collect()).await?;
        let listed_us = self.stamp_us();
        // Behind the listing: who is not marked is listed when a source that is written reads its followers.
        let sources = self.ever_merged(jobs.iter().map(|job| &job.target).collect::<BTreeSet<_>>()).await?;
        let newest = self.newest_of_targets(&jobs).await?;
        let copying: Vec<(FeedId, FeedId)> = jobs
            .iter()
            .filter(|job| newest.get(&job.target).is_some_and(|newest| !newest.rows.is_empty()))
            .map(|job| (job.follower.clone(), job.target.clone()))
            .collect();
        let mut by_follower: BTreeMap<FeedId, Vec<EdgeJob>> = BTreeMap::new();
        for job in jobs {
            by_follower.entry(job.follower.clone()).or_default().push(job);
        }
        futures::stream::iter(by_follower.into_values().map(Ok::<_, Error>))
            .try_for_each_concurrent(self.options().concurrency, |jobs| {
                let copies = Copies { newest: &newest, sources: &sources, listed_us };
                async move { self.copy_jobs(jobs, &copies).await }
            })
            .await?;
        self.take_back(&copying, newest).await
    }

    /// Finds out from when on the followers of jobs that were read from the store are listed, where they are: a driver
    /// that died may have left that long ago, and what came since is the follower's.
    async fn find_listed(&self, jobs: &mut [EdgeJob]) -> Result<()> {
        let mut stored: Vec<&mut EdgeJob> = jobs.iter_mut().filter(|job| job.stored).collect();
        for chunk in stored.chunks_mut(keevo_core::limits::MULTI_GET_KEYS_MAX) {
            let key = |job: &EdgeJob| {
                let bucket = u8::try_from(job.row.bucket).unwrap_or_default();
                self.layout().follower(&job.target, bucket, &job.follower)
            };
            let wanted = chunk.iter().map(|job| key(job)).collect();
            let found = self.engine().multi_get(wanted, Consistency::Linearizable).await?;
            for (job, record) in chunk.iter_mut().zip(&found) {
                let row: FollowerRow = record.as_ref().map(decode).transpose()?.unwrap_or_default();
                let is_listed = row.epoch == job.epoch.0 && !row.gone && row.listed_us > 0;
                job.listed_us = is_listed.then_some(row.listed_us);
            }
        }
        Ok(())
    }

    /// Takes out the copies, by (follower, target), of what was removed while it was copied.
    async fn take_back(&self, copying: &[(FeedId, FeedId)], newest: BTreeMap<FeedId, Newest>) -> Result<()> {
        let looked: Vec<(FeedId, Vec<Bytes>)> = futures::stream::iter(newest)
            .map(|(target, newest)| async move { self.gone_since(&target, &newest).await.map(|gone| (target, gone)) })
            .buffer_unordered(self.options().concurrency)
            .try_collect()
            .await?;
        for (target, gone) in looked {
            let copied = copying.iter().filter(|(_, source)| *source == target);
            let reached =
                |(follower, _): &(FeedId, FeedId)| Target { partition: self.layout().feed(follower), guard: None };
            let targets: Vec<Target> = copied.map(reached).collect();
            for sort in gone {
                // As the removal itself does, so that no late page of a fan-out finds the place free.
                let action = FanOutAction::Remove { tombstone_ttl_ms: self.options().tombstone_ttl_ms };
                let keyspace = self.layout().keyspace;
                let fan_out = FanOut { keyspace, sort, action, guard_sort: None, targets: targets.clone() };
                retry(|| self.engine().fan_out(fan_out.clone())).await?;
            }
        }
        Ok(())
    }

    /// The timeline rows for those of a target's own rows that are there no more.
    async fn gone_since(&self, target: &FeedId, newest: &Newest) -> Result<Vec<Bytes>> {
        if newest.rows.is_empty() {
            return Ok(Vec::new());
        }
        let partition = self.layout().feed(target);
        let own =
            |(id, generation): &(ActivityId, u64)| self.layout().key(partition.clone(), keys::own(*id, *generation));
        let wanted = newest.rows.iter().map(own).collect();
        let found = self.engine().multi_get(wanted, Consistency::Linearizable).await?;
        let gone = newest.rows.iter().zip(&found).filter(|(_, record)| record.is_none());
        Ok(gone.map(|((id, generation), _)| keys::timeline(*id, Some(target), *generation)).collect())
    }

    /// The newest own rows of each target, as many as some job wants. Read after all followers are listed.
    async fn newest_of_targets(&self, jobs: &[EdgeJob]) -> Result<BTreeMap<FeedId, Newest>> {
        let mut wanted: BTreeMap<FeedId, usize> = BTreeMap::new();
        for job in jobs {
            let limit = usize::try_from(job.row.copy_limit).unwrap_or_default();
            let most = wanted.entry(job.target.clone()).or_default();
            *most = (*most).max(limit);
        }
        futures::stream::iter(wanted)
            .map(|(feed, limit)| async move { self.newest_own(&feed, limit).await.map(|newest| (feed, newest)) })
            .buffer_unordered(self.options().concurrency)
            .try_collect()
            .await
    }

    async fn newest_own(&self, feed: &FeedId, limit: usize) -> Result<Newest> {
        let mut newest = Newest::default();
        if limit == 0 {
            return Ok(newest);
        }
        let mut token = None;
        loop {
            let room = limit - newest.rows.len();
            let scan = self.layout().scan(self.layout().feed(feed), OWN, Bytes::from_static(OWN), room);
            let page = self.engine().scan(scan.after(token)).await?;
            for (key, _) in &page.records {
                newest.rows.push(keys::parse_own(&key.sort)?);
            }
            token = page.next;
            newest.all = token.is_none();
            if newest.all || newest.rows.len() >= limit {
                return Ok(newest);
            }
        }
    }

    /// Copies for the jobs of one follower and ends them, in as few batches as their sizes allow.
    async fn copy_jobs(&self, jobs: Vec<EdgeJob>, copies: &Copies<'_>) -> Result<()> {
        let slug = jobs.first().map(|job| job.follower.slug()).unwrap_or_default();
        let copied: Vec<ActivityId> = jobs.iter().flat_map(|job| copies.rows_of(job).0).map(|(id, _)| *id).collect();
        let values = self.row_values(slug, &copied).await?;
        let mut rest = jobs.as_slice();
        while !rest.is_empty() {
            let mut weight = 0;
            let fits = |job: &&EdgeJob| {
                weight += JOB_WEIGHT + copies.rows_of(job).0.len();
                weight <= ROWS_CHUNK
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (group, later) = rest.split_at(count);
            rest = later;
            if !self.copy_batch(group, copies, &values).await? && group.len() > 1 {
                for job in group {
                    // One that conflicts alone was ended by another driver.
                    self.copy_batch(std::slice::from_ref(job), copies, &values).await?;
                }
            }
        }
        Ok(())
    }

    /// One batch of copies; false when a fence did not hold.
    async fn copy_batch(
        &self,
        group: &[EdgeJob],
        copies: &Copies<'_>,
        values: &BTreeMap<ActivityId, Bytes>,
    ) -> Result<bool> {
        let copied = |job: &EdgeJob| self.layout().copied(&job.follower, &job.target);
        let wanted: Vec<Key> = group.iter().filter(|job| job.adds_to_copy()).map(copied).collect();
        let mut before = if wanted.is_empty() {
            Vec::new().into_iter()
        } else {
            self.engine().multi_get(wanted, Consistency::Linearizable).await?.into_iter()
        };
        let mut batch = Batch::new();
        let mut count = 0;
        for job in group {
            let (rows, everything) = copies.rows_of(job);
            let edge = self.layout().edge(&job.follower, &job.target);
            let partition = edge.partition.clone();
            batch = batch.require(edge, Check::RevisionIs(job.epoch));
            batch = batch.require(self.edge_job_key(job), Check::RevisionIs(job.revision));
            for (id, generation) in rows {
                let row = keys::timeline(*id, Some(&job.target), *generation);
                let value = values.get(id).cloned().unwrap_or_default();
                batch = batch.put(self.layout().key(partition.clone(), row), value);
            }
            count += rows.len();
            if job.writes_copy() {
                let before = if job.adds_to_copy() { before.next().flatten() } else { None };
                let listed_us = job.listed_us.unwrap_or(copies.listed_us);
                let row = copied_so_far(before.as_ref(), rows, everything, listed_us)?;
                batch = batch.put(copied(job), encode(&row));
            }
            if let Some(source) = copies.sources.get(&job.target).filter(|source| job.needs_mark(source)) {
                let mark = MergeRow { since_us: source.since_us, ..MergeRow::default() };
                let key = self.layout().key(partition, keys::mark(&job.target, source.round));
                batch = batch.put(key, encode(&mark));
            }
            batch = batch.delete(self.edge_job_key(job));
        }
        if self.write_fenced(batch).await?.is_none() {
            return Ok(false);
        }
        add(&self.counters().entries_copied, count);
        Ok(true)
    }

    /// Brings an unfollow to its end: true, or false when `inline` and there is more to withdraw than a caller
    /// should wait for.
    pub(crate) async fn run_unfollow(&self, mut job: EdgeJob, inline: bool) -> Result<bool> {
        self.enlist(vec![job.enlist()]).await?;
        let partition = self.layout().feed(&job.follower);
        let source = self.layout().feed(&job.target);
        let mut pages = 0;
        loop {
            let mut last = true;
            let mut batch = Batch::new().require(self.edge_job_key(&job), Check::RevisionIs(job.revision));
            if let Some(kept) = job.row.kept.clone() {
                (batch, last) = self.keep_page(&mut job, &kept, batch, ROWS_CHUNK).await?;
            } else if !job.row.keep_history {
                let start =
                    if job.row.after.is_empty() { Bytes::from_static(OWN) } else { keys::right_after(&job.row.after) };
                let page = self.scan_on(self.layout().scan(source.clone(), OWN, start, ROWS_CHUNK)).await?;
                last = page.next.is_none();
                for (key, _) in &page.records {
                    let (id, generation) = keys::parse_own(&key.sort)?;
                    let row = keys::timeline(id, Some(&job.target), generation);
                    batch = batch.delete(self.layout().key(partition.clone(), row));
                    job.row.after = key.sort.clone();
                }
                add(&self.counters().entries_withdrawn, page.records.len());
            }
            let key = self.edge_job_key(&job);
            batch = if last { batch.delete(key) } else { batch.put(key, encode(&job.row)) };
            let Some(revision) = self.write_fenced(batch).await? else {
                // Another driver, or an earlier send of this batch, has moved the job on: look whether it ended.
                let left = self.engine().get(self.edge_job_key(&job), Consistency::Linearizable).await?;
                return Ok(left.is_none());
            };
            job.revision = revision;
            pages += 1;
            if last || (inline && pages >= INLINE_PAGES) {
                return Ok(last);
            }
        }
    }

    /// Writes a batch that fences itself; `None` when the fence did not hold. A repeat after an unknown outcome
    /// may meet its own write as a fence.
    async fn write_fenced(&self, batch: Batch) -> Result<Option<Revision>> {
        for _ in 0..3 {
            match self.engine().write(batch.clone()).await {
                Ok(written) => return Ok(Some(written.revision)),
                Err(error) if error.kind() == ErrorKind::Conflict => return Ok(None),
                Err(error) if is_passing(error.kind()) => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the follower's partition does not take a write"))
    }

    /// Drives the jobs of a feed's edges, a page of them. Returns how many there were.
    pub(crate) async fn drive_edges(&self, follower: &FeedId) -> Result<usize> {
        let scan = Scan::prefix(self.layout().keyspace, self.layout().feed(follower), JOB, JOBS_PAGE);
        let page = self.scan_on(scan).await?;
        let mut follows = Vec::new();
        for (key, record) in &page.records {
            let target = keys::parse_named(&key.sort, JOB)?;
            let Some(job) = self.edge_job_of(follower, target, record).await? else { continue };
            if job.row.unfollow {
                self.run_unfollow(job, false).await?;
            } else {
                follows.push(job);
            }
        }
        self.run_follows(follows).await?;
        Ok(page.records.len())
    }

    /// Brings the job of one edge to its end, if it has one.
    pub(crate) async fn finish_edge_job(&self, follower: &FeedId, target: &FeedId) -> Result<()> {
        let key = self.layout().edge_job(follower, target);
        let Some(record) = self.engine().get(key, Consistency::Linearizable).await? else { return Ok(()) };
        let Some(job) = self.edge_job_of(follower, target.clone(), &record).await? else { return Ok(()) };
        if job.row.unfollow {
            Box::pin(self.run_unfollow(job, false)).await.map(|_| ())
        } else {
            Box::pin(self.run_follows(vec![job])).await
        }
    }

    /// The job in `record`; `None` when it ended since it was read.
    async fn edge_job_of(&self, follower: &FeedId, target: FeedId, record: &Record) -> Result<Option<EdgeJob>> {
        let mut row: EdgeJobRow = decode(record)?;
        let mut epoch = Revision(row.epoch);
        if !row.unfollow {
            let edge = self.layout().edge(follower, &target);
            let Some(edge) = self.engine().get(edge, Consistency::Linearizable).await? else { return Ok(None) };
            // The edge may be a newer one by now: what is listed is what it says.
            let now: EdgeRow = decode(&edge)?;
            (row.bucket, row.created_us, epoch) = (now.bucket, now.created_us, edge.revision);
        }
        let job = EdgeJob { stored: true, ..EdgeJob::new(follower.clone(), target, row) };
        Ok(Some(job.written(epoch, record.revision)))
    }
}

/// What an edge has copied, with what it had before.
fn copied_so_far(
    before: Option<&Record>,
    rows: &[(ActivityId, u64)],
    everything: bool,
    listed_us: u64,
) -> Result<CopyRow> {
    let oldest = rows.last().map(|(id, _)| Bytes::copy_from_slice(&keys::newest_first(*id))).unwrap_or_default();
    let now = CopyRow { everything, oldest, listed_us };
    let Some(before) = before.map(decode::<CopyRow>).transpose()? else { return Ok(now) };
    Ok(CopyRow {
        everything: before.everything || now.everything,
        // Inverted keys: the larger is the older, and none is the smallest.
        oldest: before.oldest.max(now.oldest),
        listed_us: before.listed_us.min(now.listed_us),
    })
}
