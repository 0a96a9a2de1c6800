//! Verification of the lists of follows: edges and followers name each other, and rows by time and counters say the
//! same as they do.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keevo_core::limits::MULTI_GET_KEYS_MAX;
use keevo_core::{Consistency, Engine, Record, Result};

use super::VerifyReport;
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::keys::{self, BY_TIME, COUNT, COUNT_SLUG, FOLLOWER, FOLLOWER_BUCKETS, SOURCE, WIDE};
use crate::rows::{EdgeRow, FollowerRow, decode};

/// The follows that one partition lists: (date in microseconds, other feed).
type Follows = BTreeSet<(u64, FeedId)>;

impl<E: Engine> Feeds<E> {
    /// Compares the lists of a feed, of what it follows and of its followers.
    pub(super) async fn verify_lists(
        &self,
        feed: &FeedId,
        edges: &[(FeedId, Record)],
        report: &mut VerifyReport,
    ) -> Result<()> {
        let mut follows = Follows::new();
        for (target, edge) in edges {
            follows.insert((decode::<EdgeRow>(edge)?.created_us, target.clone()));
        }
        let mut agrees = self.agrees(self.layout().feed(feed), &follows).await?;
        let buckets = if self.is_wide(feed).await? { FOLLOWER_BUCKETS } else { 1 };
        for bucket in 0..buckets {
            let partition = self.layout().followers(feed, bucket);
            let (mut listed, mut epochs) = (Follows::new(), Vec::new());
            for (sort, record) in self.all(partition.clone(), FOLLOWER).await? {
                let row: FollowerRow = if sort == WIDE || sort == SOURCE { continue } else { decode(&record)? };
                if !row.gone {
                    let follower = keys::parse_named(&sort, FOLLOWER)?;
                    listed.insert((row.created_us, follower.clone()));
                    epochs.push((follower, row.epoch));
                }
            }
            agrees &= self.agrees(partition, &listed).await?;
            self.find_orphans(feed, &epochs, report).await?;
        }
        if !agrees {
            report.miscounted.push(feed.clone());
        }
        Ok(())
    }

    /// Whether a partition's rows by time and its counters say the same as `follows`.
    async fn agrees(&self, partition: Bytes, follows: &Follows) -> Result<bool> {
        let by_time = self.all(partition.clone(), BY_TIME).await?;
        let by_time: Follows = by_time.iter().map(|(sort, _)| keys::parse_by_time(sort)).collect::<Result<_>>()?;
        let mut counts: BTreeMap<Bytes, i64> = BTreeMap::new();
        for (_, other) in follows {
            *counts.entry(Bytes::from_static(COUNT)).or_default() += 1;
            *counts.entry(keys::count_slug(other.slug())).or_default() += 1;
        }
        let counts: BTreeMap<Bytes, Bytes> =
            counts.into_iter().map(|(sort, count)| (sort, Bytes::copy_from_slice(&count.to_be_bytes()))).collect();
        let mut counted: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        for prefix in [COUNT, COUNT_SLUG] {
            let records = self.all(partition.clone(), prefix).await?;
            counted.extend(records.into_iter().map(|(sort, record)| (sort, record.value)));
        }
        counted.retain(|_, count| count.as_ref() != 0_i64.to_be_bytes());
        Ok(by_time == *follows && counted == counts)
    }

    /// Reports the listed followers of `target` whose edge is gone, or another one.
    async fn find_orphans(&self, target: &FeedId, listed: &[(FeedId, u64)], report: &mut VerifyReport) -> Result<()> {
        for chunk in listed.chunks(MULTI_GET_KEYS_MAX) {
            let edges = chunk.iter().map(|(follower, _)| self.layout().edge(follower, target)).collect();
            let edges = self.engine().multi_get(edges, Consistency::Linearizable).await?;
            for ((follower, epoch), edge) in chunk.iter().zip(edges) {
                if edge.is_none_or(|edge| edge.revision.0 != *epoch) {
                    report.orphans.push((follower.clone(), target.clone()));
                }
            }
        }
        Ok(())
    }
}
