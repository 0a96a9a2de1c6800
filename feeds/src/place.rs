//! Placing: the rows by which a feed holds an activity directly.
//!
//! A placement is three rows of the feed's partition, written and deleted together: its own row (what follows
//! copy, and unfollows withdraw), its timeline row, and the index row of the foreign id.
//!
//! Invariants: all feeds of a job have their rows before the first page of their followers is read, so a follow
//! that this page misses finds the own row when it copies. A placement that was taken out leaves a mark, so
//! that a late attempt to put it in does nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::TryStreamExt;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Result};

use crate::deliver::ActivityJob;
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, retry};
use crate::ids::ActivityId;
use crate::keys;
use crate::rows::{OwnRow, encode};

/// The most placements written by one batch.
const PLACE_CHUNK: usize = 400;

/// One placement to put in or take out.
#[derive(Debug, Clone)]
struct Placement {
    id: ActivityId,
    generation: u64,
    foreign_id: String,
    began_us: u64,
    quiet: bool,
    remove: bool,
    /// What its timeline row holds.
    value: Bytes,
}

impl<E: Engine> Feeds<E> {
    /// Puts in, or takes out, the direct rows of all jobs that have not done so, grouped by feed.
    pub(crate) async fn place(&self, jobs: &mut [ActivityJob]) -> Result<()> {
        let mut groups: BTreeMap<FeedId, Vec<Placement>> = BTreeMap::new();
        for job in jobs.iter().filter(|job| !job.row.placed) {
            for entry in &job.row.entries {
                groups.entry(entry.feed_id()?).or_default().push(Placement {
                    id: job.id,
                    generation: entry.generation,
                    foreign_id: job.row.foreign_id.clone(),
                    began_us: job.row.began_us,
                    quiet: job.row.quiet,
                    remove: job.row.remove,
                    value: Bytes::new(),
                });
            }
        }
        futures::try_join!(self.place_groups(groups), self.list_by_actor(jobs))?;
        let placed_us = self.stamp_us();
        for job in jobs.iter_mut().filter(|job| !job.row.placed) {
            (job.row.placed, job.row.placed_us) = (true, placed_us);
        }
        Ok(())
    }

    async fn place_groups(&self, groups: BTreeMap<FeedId, Vec<Placement>>) -> Result<()> {
        futures::stream::iter(groups.into_iter().map(Ok::<_, Error>))
            .try_for_each_concurrent(self.options().concurrency, |(feed, mut placements)| async move {
                let put: Vec<ActivityId> = placements.iter().filter(|one| !one.remove).map(|one| one.id).collect();
                let values = self.row_values(feed.slug(), &put).await?;
                for one in &mut placements {
                    one.value = values.get(&one.id).cloned().unwrap_or_default();
                }
                for chunk in placements.chunks(PLACE_CHUNK) {
                    self.place_chunk(&feed, chunk).await?;
                }
                Ok(())
            })
            .await
    }

    async fn place_chunk(&self, feed: &FeedId, chunk: &[Placement]) -> Result<()> {
        let write = |batch: Batch| async move { retry(|| self.engine().write(batch.clone())).await };
        match write(self.place_batch(feed, chunk)).await {
            Err(error) if error.kind() == ErrorKind::Conflict && chunk.len() > 1 => {}
            Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
            // One placement conflicts with its own removal only: there is nothing to do.
            _ => return Ok(()),
        }
        for one in chunk {
            match write(self.place_batch(feed, std::slice::from_ref(one))).await {
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn place_batch(&self, feed: &FeedId, chunk: &[Placement]) -> Batch {
        let partition = self.layout().feed(feed);
        let key = |sort| self.layout().key(partition.clone(), sort);
        let mut batch = Batch::new();
        for one in chunk {
            let own = key(keys::own(one.id, one.generation));
            let dead = key(keys::own_dead(one.id, one.generation));
            let row = key(keys::timeline(one.id, None, one.generation));
            let index =
                (!one.foreign_id.is_empty()).then(|| key(keys::foreign(&one.foreign_id, one.id, one.generation)));
            if one.remove {
                batch = batch.delete(own).delete(row).put_ttl(dead, "", self.options().tombstone_ttl_ms);
                batch = index.into_iter().fold(batch, Batch::delete);
            } else {
                let value = encode(&OwnRow { began_us: one.began_us, quiet: one.quiet });
                batch = batch.require(dead, Check::Absent).put(own, value).put(row, one.value.clone());
                batch = index.into_iter().fold(batch, |batch, index| batch.put(index, ""));
            }
        }
        batch
    }
}
