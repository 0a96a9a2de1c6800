//! Following and unfollowing: the writes that take effect.
//!
//! An edge lies in the follower's partition; its revision is its epoch, which guards every fan-out to the
//! follower. Follow: pointer → edge and its job in one batch → the follower is listed with the target →
//! the newest activities are copied. Unfollow: pointer → edge deleted and a job written in one batch → the
//! follower is taken off the list → what came from the target is taken out.
//!
//! Invariants: an edge has at most one job, and a new follow or unfollow of it first brings that one to its end,
//! so no step of an old operation meets a new edge. A post either finds the follower listed, or was placed
//! before the copy read the target's own rows: nothing is lost between them.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use keevo_core::{Batch, Check, Consistency, Engine, Error, ErrorKind, Result};

use crate::edge_job::EdgeJob;
use crate::feed_id::FeedId;
use crate::feeds::{ATTEMPTS, Feeds, contended, is_certain, unfinished};
use crate::keys::{self, COUNT};
use crate::merge::History;
use crate::metrics::add;
use crate::outbox::{JobAt, Pointer};
use crate::rows::{EdgeJobRow, EdgeRow, decode, encode};

/// How many of the target's newest activities a follow copies unless told otherwise.
pub const COPY_LIMIT_DEFAULT: u32 = 100;
/// The most that it copies.
pub const COPY_LIMIT_MAX: u32 = 1_000;
/// How many follows are driven as one group.
const FOLLOW_CHUNK: usize = 1_024;
/// The most edges written by one batch.
const EDGE_CHUNK: usize = 400;

/// A follow to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFollow {
    /// The feed that receives.
    pub follower: FeedId,
    /// The feed that is followed.
    pub target: FeedId,
    /// How many of the target's newest activities to copy, 0 to 1,000; `None` = 100.
    pub copy_limit: Option<u32>,
}

/// A follow to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfollow {
    /// The feed that receives.
    pub follower: FeedId,
    /// The feed that is followed.
    pub target: FeedId,
    /// Whether what was received stays.
    pub keep_history: bool,
}

/// What became of some edges of one follower.
struct WrittenEdges {
    /// `None` when there were none to write.
    follower: Option<FeedId>,
    jobs: Vec<EdgeJob>,
    /// Why the others were not written.
    failure: Option<Error>,
}

impl<E: Engine> Feeds<E> {
    /// Makes `follower` receive what `target` holds directly from now on, and copies the newest `copy_limit`
    /// activities. Following again copies again. `Invalid` for a follow of itself or a limit over 1,000.
    pub async fn follow(&self, follower: &FeedId, target: &FeedId, copy_limit: Option<u32>) -> Result<()> {
        self.follow_many(vec![NewFollow { follower: follower.clone(), target: target.clone(), copy_limit }]).await
    }

    /// Makes many follows, grouped and with bounded concurrency. One that is invalid refuses them all; a failure
    /// midway leaves some of them made. Of two with the same ends the later counts.
    pub async fn follow_many(&self, follows: Vec<NewFollow>) -> Result<()> {
        for one in &follows {
            if one.follower == one.target {
                return Err(Error::invalid(format!("the feed {} cannot follow itself", one.follower)));
            }
            self.check_followable(&one.target)?;
            if one.copy_limit.is_some_and(|limit| limit > COPY_LIMIT_MAX) {
                return Err(Error::invalid(format!("a follow copies at most {COPY_LIMIT_MAX} activities")));
            }
        }
        let mut rest = follows.into_iter().peekable();
        while rest.peek().is_some() {
            let chunk: Vec<NewFollow> = rest.by_ref().take(FOLLOW_CHUNK).collect();
            Box::pin(self.follow_chunk(chunk)).await?;
        }
        Ok(())
    }

    async fn follow_chunk(&self, follows: Vec<NewFollow>) -> Result<()> {
        let mut ends: BTreeSet<(FeedId, FeedId)> = BTreeSet::new();
        let mut follows: Vec<NewFollow> =
            follows.into_iter().rev().filter(|one| ends.insert((one.follower.clone(), one.target.clone()))).collect();
        follows.reverse();
        let edges: Vec<_> = follows.iter().map(|one| (one.follower.clone(), one.target.clone())).collect();
        let places = self.choose_places(&edges).await?;
        let mut by_follower: BTreeMap<FeedId, Vec<EdgeJob>> = BTreeMap::new();
        for (one, place) in follows.into_iter().zip(places) {
            let row = EdgeJobRow {
                bucket: u32::from(place.bucket),
                written_round: place.written_round,
                created_us: self.stamp_us(),
                copy_limit: one.copy_limit.unwrap_or(COPY_LIMIT_DEFAULT),
                fresh: true,
                ..EdgeJobRow::default()
            };
            let job = EdgeJob::new(one.follower.clone(), one.target, row);
            by_follower.entry(one.follower).or_default().push(job);
        }
        let pointers = self.point_at(by_follower.keys().cloned().map(JobAt::Edges)).await?;
        let groups: Vec<Vec<EdgeJob>> = by_follower
            .into_values()
            .flat_map(|jobs| jobs.chunks(EDGE_CHUNK).map(<[_]>::to_vec).collect::<Vec<_>>())
            .collect();
        let written: Vec<WrittenEdges> = futures::stream::iter(groups.into_iter().map(|group| self.write_edges(group)))
            .buffer_unordered(self.options().concurrency)
            .collect()
            .await;
        self.run_written(pointers, written).await
    }

    /// Brings follows to their end whose edges are written, as far as they are.
    async fn run_written(&self, mut pointers: Vec<Pointer>, written: Vec<WrittenEdges>) -> Result<()> {
        let renewed = self.renew_pointers(&pointers).await;
        let (mut jobs, mut failure) = (Vec::new(), None);
        for group in written {
            jobs.extend(group.jobs);
            let Some(error) = group.failure else { continue };
            if !is_certain(&error) {
                // A job may yet appear: this follower's pointer waits in the outbox.
                let unsure = group.follower.map(JobAt::Edges);
                pointers.retain(|pointer| unsure.as_ref() != Some(&pointer.at));
            }
            failure = failure.or(Some(error));
        }
        let driven = match renewed {
            Ok(()) => self.run_follows(jobs).await,
            Err(error) => Err(error),
        };
        if let Err(error) = driven {
            for pointer in pointers {
                self.leave(pointer);
            }
            return Err(unfinished("the follow", error));
        }
        self.end(pointers).await;
        failure.map_or(Ok(()), Err)
    }

    /// Writes the edges of one follower with their jobs; in one batch if all are new.
    async fn write_edges(&self, group: Vec<EdgeJob>) -> WrittenEdges {
        let follower = group.first().map(|job| job.follower.clone());
        let mut jobs = Vec::with_capacity(group.len());
        let failure = self.write_edges_to(group, &mut jobs).await.err();
        WrittenEdges { follower, jobs, failure }
    }

    async fn write_edges_to(&self, group: Vec<EdgeJob>, jobs: &mut Vec<EdgeJob>) -> Result<()> {
        let batch = group.iter().fold(Batch::new(), |batch, job| self.new_edge(batch, job));
        match self.engine().write(self.count_edges(batch, &group, 1)).await {
            Ok(written) => {
                add(&self.counters().follows, group.len());
                jobs.extend(group.into_iter().map(|job| job.written(written.revision, written.revision)));
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                for job in group {
                    jobs.push(self.write_edge(job).await?);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes one edge and its job, or only a job where the edge exists.
    async fn write_edge(&self, mut job: EdgeJob) -> Result<EdgeJob> {
        let (edge_key, job_key) = (self.layout().edge(&job.follower, &job.target), self.edge_job_key(&job));
        for _ in 0..ATTEMPTS {
            let wanted = vec![edge_key.clone(), job_key.clone()];
            let mut records = self.engine().multi_get(wanted, Consistency::Linearizable).await?.into_iter();
            let (edge, pending) = (records.next().flatten(), records.next().flatten());
            if pending.is_some() {
                self.finish_edge_job(&job.follower, &job.target).await?;
                continue;
            }
            job.row.fresh = edge.is_none();
            let written = if let Some(edge) = &edge {
                let row: EdgeRow = decode(edge)?;
                (job.row.bucket, job.row.created_us) = (row.bucket, row.created_us);
                let batch = Batch::new()
                    .require(edge_key.clone(), Check::RevisionIs(edge.revision))
                    .require(job_key.clone(), Check::Absent)
                    .put(job_key.clone(), encode(&job.row));
                self.engine().write(batch).await
            } else {
                let batch = self.new_edge(Batch::new(), &job);
                self.engine().write(self.count_edges(batch, std::slice::from_ref(&job), 1)).await
            };
            match written {
                Ok(written) => {
                    add(&self.counters().follows, usize::from(edge.is_none()));
                    return Ok(job.written(edge.map_or(written.revision, |edge| edge.revision), written.revision));
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the follow"))
    }

    fn new_edge(&self, batch: Batch, job: &EdgeJob) -> Batch {
        let edge = self.layout().edge(&job.follower, &job.target);
        let by_time = self.layout().key(edge.partition.clone(), keys::by_time(job.row.created_us, &job.target));
        let row = EdgeRow { created_us: job.row.created_us, bucket: job.row.bucket };
        batch
            .require(edge.clone(), Check::Absent)
            .require(self.edge_job_key(job), Check::Absent)
            .put(edge, encode(&row))
            .put(by_time, "")
            .put(self.edge_job_key(job), encode(&job.row))
    }

    /// Adds the change of the follower's counters to a batch of its edges.
    fn count_edges(&self, batch: Batch, group: &[EdgeJob], each: i64) -> Batch {
        let Some(first) = group.first() else { return batch };
        let partition = self.layout().feed(&first.follower);
        let mut deltas: BTreeMap<bytes::Bytes, i64> = BTreeMap::new();
        for job in group {
            *deltas.entry(bytes::Bytes::from_static(COUNT)).or_default() += each;
            *deltas.entry(keys::count_slug(job.target.slug())).or_default() += each;
        }
        deltas
            .into_iter()
            .fold(batch, |batch, (sort, delta)| batch.merge(self.layout().key(partition.clone(), sort), delta))
    }

    /// Ends a follow. Unless `keep_history`, what came through it leaves the follower's timeline.
    /// True when there was one; ending one that is not is no error.
    pub async fn unfollow(&self, follower: &FeedId, target: &FeedId, keep_history: bool) -> Result<bool> {
        let unfollow = Unfollow { follower: follower.clone(), target: target.clone(), keep_history };
        self.unfollow_many(vec![unfollow]).await.map(|count| count > 0)
    }

    /// Ends many follows with bounded concurrency. Returns how many there were.
    pub async fn unfollow_many(&self, unfollows: Vec<Unfollow>) -> Result<usize> {
        let done: Vec<Result<bool>> = futures::stream::iter(unfollows.into_iter().map(|one| self.unfollow_one(one)))
            .buffer_unordered(self.options().concurrency)
            .collect()
            .await;
        done.into_iter().try_fold(0, |count, one| one.map(|removed| count + usize::from(removed)))
    }

    async fn unfollow_one(&self, one: Unfollow) -> Result<bool> {
        let mut unused = None;
        let ended = self.end_follow(one, &mut unused).await;
        // A pointer that is still here leads to no job, unless the write of one had no clear end.
        if ended.as_ref().err().is_none_or(is_certain) {
            self.end(unused).await;
        }
        ended
    }

    /// Ends one follow; `unused` holds the pointer until its job is written.
    async fn end_follow(&self, one: Unfollow, unused: &mut Option<Pointer>) -> Result<bool> {
        let Unfollow { follower, target, keep_history } = one;
        let edge_key = self.layout().edge(&follower, &target);
        for _ in 0..ATTEMPTS {
            let (job_key, copied) =
                (self.layout().edge_job(&follower, &target), self.layout().copied(&follower, &target));
            let wanted = vec![edge_key.clone(), job_key, copied, self.source_key(&target)];
            let mut records = self.engine().multi_get(wanted, Consistency::Linearizable).await?.into_iter();
            let mut next = || records.next().flatten();
            let (edge, pending, copied, source) = (next(), next(), next(), next());
            if pending.is_some() {
                self.finish_edge_job(&follower, &target).await?;
                continue;
            }
            let Some(edge) = edge else { return Ok(false) };
            let history = self.history_of(&follower, &target, copied, source).await?;
            let row: EdgeRow = decode(&edge)?;
            let row = EdgeJobRow {
                unfollow: true,
                kept: history.kept.clone().filter(|_| keep_history),
                epoch: edge.revision.0,
                bucket: row.bucket,
                created_us: row.created_us,
                keep_history,
                ..EdgeJobRow::default()
            };
            let job = EdgeJob::new(follower.clone(), target.clone(), row);
            if unused.is_none() {
                *unused = self.point_at([JobAt::Edges(follower.clone())]).await?.pop();
            }
            let written = match self.engine().write(self.cut_edge(&job, history)).await {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::Conflict => continue,
                Err(error) => return Err(error),
            };
            let pointers: Vec<Pointer> = unused.take().into_iter().collect();
            add(&self.counters().unfollows, 1);
            let driven = match self.renew_pointers(&pointers).await {
                Ok(()) => self.run_unfollow(job.written(edge.revision, written.revision), true).await,
                Err(error) => Err(error),
            };
            if let Ok(true) = driven {
                self.end(pointers).await;
            } else {
                for pointer in pointers {
                    self.leave(pointer);
                }
            }
            return driven.map(|_| true).map_err(|error| unfinished("the unfollow", error));
        }
        Err(contended("the follow"))
    }

    /// The batch by which an unfollow takes effect, if what it goes by is still so; the marks go with the edge.
    fn cut_edge(&self, job: &EdgeJob, history: History) -> Batch {
        let edge = self.layout().edge(&job.follower, &job.target);
        let kept = self.layout().kept(&job.follower, &job.target);
        let by_time = self.layout().key(edge.partition.clone(), keys::by_time(job.row.created_us, &job.target));
        let batch = Batch::new()
            .require(edge.clone(), Check::RevisionIs(keevo_core::Revision(job.row.epoch)))
            .require(self.edge_job_key(job), Check::Absent)
            .delete(edge)
            .delete(by_time)
            .delete(self.layout().copied(&job.follower, &job.target))
            .put(self.edge_job_key(job), encode(&job.row));
        let batch = history.demands.into_iter().fold(batch, |batch, (key, check)| batch.require(key, check));
        let batch = history.marks.into_iter().fold(batch, Batch::delete);
        let batch = match &job.row.kept {
            Some(row) => {
                let mark = keys::mark(&job.target, 0);
                batch.put(self.layout().key(self.layout().feed(&job.follower), mark), encode(row))
            }
            None => batch,
        };
        let batch = if job.row.keep_history { batch.put(kept, "") } else { batch.delete(kept) };
        self.count_edges(batch, std::slice::from_ref(job), -1)
    }
}
