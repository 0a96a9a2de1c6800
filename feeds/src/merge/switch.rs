//! Switching a source over: from writing to merging, and back.
//!
//! A switch is decided after a post, when the followers have been counted. It begins with one write to the source's row,
//! which is also its job; a worker walks all followers, and a last write ends it. Each write demands the row as it was
//! read, so of two drivers one is fenced off, and what both did to followers is the same.

use futures::StreamExt;
use keevo_core::{
    Batch, Check, Consistency, Engine, ErrorKind, FanOut, FanOutAction, Record, Result, Revision, Target,
};

use super::{MergeRow, Phase, SourceRow};
use crate::change::unchanged;
use crate::deliver::Driven;
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, is_certain, retry};
use crate::followers::{Follower, Position};
use crate::keys::{self, EDGE};
use crate::metrics::add;
use crate::outbox::{Done, JobAt, Pointer};
use crate::rows::{decode, encode};

/// The most followers that get marks at once.
const MARK_PAGE: usize = 4_096;
/// The most followers that are unmarked at once: each gets all that it lacks.
const UNMARK_PAGE: usize = 512;

/// A source's row as it was read.
pub(super) struct Held {
    pub(super) row: SourceRow,
    revision: Revision,
}

impl<E: Engine> Feeds<E> {
    /// Counts the followers of feeds that a post reached, and begins to switch those over that should be. A failure
    /// leaves it to the next post.
    pub(crate) async fn consider_merging(&self, feeds: Vec<FeedId>) {
        let consider = |feed: FeedId| async move {
            if let Err(error) = self.consider(&feed).await {
                tracing::debug!(%error, %feed, "whether a feed is merged by its readers is looked at later");
            }
        };
        futures::stream::iter(feeds.into_iter().map(consider)).buffer_unordered(8).collect::<Vec<()>>().await;
    }

    async fn consider(&self, feed: &FeedId) -> Result<()> {
        if !self.knows_groups() {
            return Ok(());
        }
        let above = self.groups().merge_above(feed.slug());
        let record = self.engine().get(self.source_key(feed), Consistency::Linearizable).await?;
        let row: SourceRow = record.as_ref().map(decode).transpose()?.unwrap_or_default();
        let count = self.follow_stats(feed, &[], &[]).await?.followers;
        let next = match row.phase() {
            Phase::Written if above.is_some_and(|above| count > above) => {
                SourceRow { round: row.round + 1, since_us: self.stamp_us(), ..row.turned(Phase::Marking) }
            }
            Phase::Merged if above.is_none_or(|above| count < above / 2) => row.turned(Phase::Unmarking),
            _ => return Ok(()),
        };
        self.begin(feed, record.as_ref(), &next).await
    }

    async fn begin(&self, feed: &FeedId, current: Option<&Record>, next: &SourceRow) -> Result<()> {
        let pointers = self.point_at([JobAt::Source(feed.clone())]).await?;
        let key = self.source_key(feed);
        let batch = Batch::new().require(key.clone(), unchanged(current)).put(key, encode(next));
        match self.engine().write(batch).await {
            Ok(_) => {
                for pointer in pointers {
                    self.leave(pointer);
                }
                Ok(())
            }
            Err(error) if is_certain(&error) => {
                self.end(pointers).await;
                if error.kind() == ErrorKind::Conflict { Ok(()) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Drives a switch on, up to about `budget` followers. `None` when there is none.
    pub(crate) async fn drive_source(&self, feed: &FeedId, pointer: &Pointer, budget: usize) -> Result<Option<Driven>> {
        let Some(record) = self.engine().get(self.source_key(feed), Consistency::Linearizable).await? else {
            return Ok(None);
        };
        let row: SourceRow = decode(&record)?;
        if !matches!(row.phase(), Phase::Marking | Phase::Unmarking) {
            return Ok(None);
        }
        if row.claimed_by != self.inner.instance && row.claimed_until_ms > self.now_ms() {
            return Ok(Some(Driven::Elsewhere));
        }
        let mut held = Held { row, revision: record.revision };
        if !self.save_source(feed, &mut held).await? {
            return Ok(Some(Driven::Elsewhere));
        }
        let mut spent = 0;
        while spent < budget {
            let at =
                Position { bucket: u8::try_from(held.row.bucket).unwrap_or(u8::MAX), after: held.row.after.clone() };
            let marks = held.row.phase() == Phase::Marking;
            let page = self.follower_page(feed, &at, if marks { MARK_PAGE } else { UNMARK_PAGE }).await?;
            spent += page.followers.len().max(1);
            if marks {
                self.mark_page(feed, &held.row, &page.followers).await?;
            } else if !self.unmark_page(feed, &mut held, &page.followers).await? {
                return Ok(Some(Driven::Elsewhere));
            }
            let Some(next) = page.next else { return self.end_switch(feed, held, pointer).await.map(Some) };
            (held.row.bucket, held.row.after) = (u32::from(next.bucket), next.after);
            // After each page, so that no other driver begins anew where this one has been for long.
            if !self.save_source(feed, &mut held).await? {
                return Ok(Some(Driven::Elsewhere));
            }
        }
        Ok(Some(Driven::Further))
    }

    async fn end_switch(&self, feed: &FeedId, mut held: Held, pointer: &Pointer) -> Result<Driven> {
        let merged = held.row.phase() == Phase::Marking;
        held.row = held.row.turned(if merged { Phase::Merged } else { Phase::Written });
        if !self.write_source(feed, &mut held).await? {
            return Ok(Driven::Elsewhere);
        }
        add(if merged { &self.counters().sources_merged } else { &self.counters().sources_unmerged }, 1);
        self.finish([Done { pointer: pointer.clone(), job: None }]).await;
        Ok(Driven::Finished)
    }

    /// Claims a switch once more when a third of the claim's time is over. False when another driver has it.
    pub(super) async fn renew_claim(&self, feed: &FeedId, held: &mut Held) -> Result<bool> {
        let claim_ms = self.options().claim_ms;
        if held.row.claimed_until_ms > self.now_ms() + claim_ms - claim_ms / 3 {
            return Ok(true);
        }
        self.save_source(feed, held).await
    }

    /// Saves how far a switch came and claims it. False when another driver has it.
    async fn save_source(&self, feed: &FeedId, held: &mut Held) -> Result<bool> {
        held.row.claimed_by = self.inner.instance;
        held.row.claimed_until_ms = self.now_ms() + self.options().claim_ms;
        self.write_source(feed, held).await
    }

    /// Not repeated after an unknown outcome: the next drive finds the row as it is.
    async fn write_source(&self, feed: &FeedId, held: &mut Held) -> Result<bool> {
        let key = self.source_key(feed);
        let batch = Batch::new().require(key.clone(), Check::RevisionIs(held.revision)).put(key, encode(&held.row));
        match self.engine().write(batch).await {
            Ok(written) => {
                held.revision = written.revision;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Marks followers, those whose follow is still the one that is listed.
    async fn mark_page(&self, feed: &FeedId, row: &SourceRow, page: &[Follower]) -> Result<()> {
        let value = encode(&MergeRow { since_us: row.since_us, ..MergeRow::default() });
        let guard = Some(keys::join(EDGE, feed.as_str().as_bytes()));
        let targets = page.iter().map(|one| one.target.clone()).collect();
        self.to_each(keys::mark(feed, row.round), FanOutAction::Put { value, ttl_ms: None }, guard, targets).await
    }

    /// Takes the marks of some followers away, of those whose follow is still the one that is listed.
    pub(super) async fn unmark(&self, feed: &FeedId, row: &SourceRow, followers: Vec<Target>) -> Result<()> {
        let action = FanOutAction::Remove { tombstone_ttl_ms: self.options().tombstone_ttl_ms };
        let guard = Some(keys::join(EDGE, feed.as_str().as_bytes()));
        self.to_each(keys::mark(feed, row.round), action, guard, followers).await
    }

    /// One fan-out, if there are any targets.
    pub(super) async fn to_each(
        &self,
        sort: bytes::Bytes,
        action: FanOutAction,
        guard_sort: Option<bytes::Bytes>,
        targets: Vec<Target>,
    ) -> Result<()> {
        if targets.is_empty() {
            return Ok(());
        }
        let fan_out = FanOut { keyspace: self.layout().keyspace, sort, action, guard_sort, targets };
        retry(|| self.engine().fan_out(fan_out.clone())).await.map(drop)
    }
}
