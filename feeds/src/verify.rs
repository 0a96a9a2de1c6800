//! Verification: recomputes a timeline from follows and activities, and compares it with what readers see.
//!
//! A feed must show what it holds itself and, of each feed it follows, all that the follow copied or that was
//! posted since; and nothing else. Exact when the outbox is empty and nobody writes. Posts that were dated
//! further back than the copy reaches are demanded only if they began after the follower was listed. The lists of
//! follows and their counters are recomputed too.

mod lists;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use keevo_core::{Consistency, Engine, Record, Result};

use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::keys::{self, EDGE, OWN, TIMELINE};
use crate::rows::{CopyRow, EdgeRow, FollowerRow, OwnRow, decode};

/// How many rows one step reads.
const PAGE: usize = 1_000;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Feeds compared.
    pub feeds: usize,
    /// Activities that the feeds show.
    pub shown: usize,
    /// Activities that a feed should show and does not: (feed, activity).
    pub missing: Vec<(FeedId, ActivityId)>,
    /// Activities that a feed shows without a reason: (feed, activity).
    pub unexpected: Vec<(FeedId, ActivityId)>,
    /// Follows whose target does not list the follower: (follower, target).
    pub unlisted: Vec<(FeedId, FeedId)>,
    /// Listed followers whose follow is gone, or another one: (follower, target).
    pub orphans: Vec<(FeedId, FeedId)>,
    /// Feeds of which a counter, or a row by time, of follows or followers says something else than the lists do.
    pub miscounted: Vec<FeedId>,
    /// Timeline rows that readers do not see because their activity was removed; harmless leftovers.
    pub stale_rows: usize,
}

impl VerifyReport {
    /// Whether nothing differs.
    pub fn is_clean(&self) -> bool {
        let lists = self.unlisted.is_empty() && self.orphans.is_empty() && self.miscounted.is_empty();
        self.missing.is_empty() && self.unexpected.is_empty() && lists
    }
}

/// The rows of a feed: (activity, source, generation).
type TimelineRows = Vec<keys::TimelineKey>;

impl<E: Engine> Feeds<E> {
    /// Verifies feeds, some at a time, and adds up what was found.
    pub async fn verify(&self, feeds: impl IntoIterator<Item = FeedId> + Send) -> Result<VerifyReport> {
        let feeds: Vec<FeedId> = feeds.into_iter().collect();
        futures::stream::iter(feeds.into_iter().map(|feed| Box::pin(self.verify_feed(feed))))
            .buffered(8)
            .try_fold(VerifyReport::default(), |mut sum, one| async move {
                sum.feeds += one.feeds;
                sum.shown += one.shown;
                sum.stale_rows += one.stale_rows;
                sum.missing.extend(one.missing);
                sum.unexpected.extend(one.unexpected);
                sum.unlisted.extend(one.unlisted);
                sum.orphans.extend(one.orphans);
                sum.miscounted.extend(one.miscounted);
                Ok(sum)
            })
            .await
    }

    async fn verify_feed(&self, feed: FeedId) -> Result<VerifyReport> {
        let mut report = VerifyReport { feeds: 1, ..VerifyReport::default() };
        let mut shown: BTreeMap<ActivityId, BTreeSet<Option<FeedId>>> = BTreeMap::new();
        for rows in self.timeline_rows(&feed).await?.chunks(PAGE) {
            let activities = self.rows(rows.iter().map(|row| row.id), Consistency::Linearizable).await?;
            for row in rows {
                let activity = activities.get(&row.id).and_then(Option::as_ref);
                let source = row.source.as_ref().unwrap_or(&feed);
                if activity.is_some_and(|activity| activity.is_placed(source, row.generation)) {
                    shown.entry(row.id).or_default().insert(row.source.clone());
                } else {
                    report.stale_rows += 1;
                }
            }
        }
        report.shown = shown.len();
        let mut sources: BTreeSet<Option<FeedId>> = BTreeSet::from([None]);
        for id in self.live_own(&feed, |_, _| true).await? {
            if !shown.get(&id).is_some_and(|sources| sources.contains(&None)) {
                report.missing.push((feed.clone(), id));
            }
        }
        let edges = self.edges(&feed).await?;
        self.verify_lists(&feed, &edges, &mut report).await?;
        for (target, edge) in edges {
            if !self.is_listed(&feed, &target, &edge).await? {
                report.unlisted.push((feed.clone(), target.clone()));
            }
            for id in self.expected_from(&feed, &target).await? {
                if !shown.contains_key(&id) {
                    report.missing.push((feed.clone(), id));
                }
            }
            sources.insert(Some(target));
        }
        for (id, through) in shown {
            for source in through.into_iter().filter(|source| !sources.contains(source)).flatten() {
                let kept = self.layout().kept(&feed, &source);
                if self.engine().get(kept, Consistency::Linearizable).await?.is_none() {
                    report.unexpected.push((feed.clone(), id));
                }
            }
        }
        Ok(report)
    }

    /// What `feed` must have through its follow of `target`.
    async fn expected_from(&self, feed: &FeedId, target: &FeedId) -> Result<Vec<ActivityId>> {
        let copied = self.layout().copied(feed, target);
        let copied = self.engine().get(copied, Consistency::Linearizable).await?;
        let copied: CopyRow = copied.as_ref().map(decode).transpose()?.unwrap_or_default();
        self.live_own(target, |id, row| {
            let within = !copied.oldest.is_empty() && keys::newest_first(id).as_slice() <= copied.oldest.as_ref();
            let since = row.began_us > copied.listed_us;
            if row.quiet { (copied.everything || within) && !since } else { copied.everything || within || since }
        })
        .await
    }

    async fn is_listed(&self, follower: &FeedId, target: &FeedId, edge: &Record) -> Result<bool> {
        let bucket = u8::try_from(decode::<EdgeRow>(edge)?.bucket).unwrap_or_default();
        let key = self.layout().follower(target, bucket, follower);
        let Some(record) = self.engine().get(key, Consistency::Linearizable).await? else { return Ok(false) };
        let row: FollowerRow = decode(&record)?;
        Ok(!row.gone && row.epoch == edge.revision.0)
    }

    async fn timeline_rows(&self, feed: &FeedId) -> Result<TimelineRows> {
        let records = self.all(self.layout().feed(feed), TIMELINE).await?;
        records.iter().map(|(sort, _)| keys::parse_timeline(sort)).collect()
    }

    async fn edges(&self, feed: &FeedId) -> Result<Vec<(FeedId, Record)>> {
        let records = self.all(self.layout().feed(feed), EDGE).await?;
        records.into_iter().map(|(sort, record)| Ok((keys::parse_named(&sort, EDGE)?, record))).collect()
    }

    /// The activities that `feed` holds directly, as its own rows and the activities say, and that `wanted` takes.
    async fn live_own(
        &self,
        feed: &FeedId,
        wanted: impl Fn(ActivityId, OwnRow) -> bool + Send,
    ) -> Result<Vec<ActivityId>> {
        let mut rows = Vec::new();
        for (sort, record) in self.all(self.layout().feed(feed), OWN).await? {
            let (id, generation) = keys::parse_own(&sort)?;
            if wanted(id, decode(&record)?) {
                rows.push((id, generation));
            }
        }
        let mut live = Vec::new();
        for chunk in rows.chunks(PAGE) {
            let activities = self.rows(chunk.iter().map(|(id, _)| *id), Consistency::Linearizable).await?;
            let is_live = |(id, generation): &&(ActivityId, u64)| {
                activities.get(id).and_then(Option::as_ref).is_some_and(|row| row.is_placed(feed, *generation))
            };
            live.extend(chunk.iter().filter(is_live).map(|(id, _)| *id));
        }
        Ok(live)
    }

    /// All records of a partition whose sort keys start with `prefix`.
    async fn all(&self, partition: Bytes, prefix: &'static [u8]) -> Result<Vec<(Bytes, Record)>> {
        let mut records = Vec::new();
        let mut token = None;
        loop {
            let scan = self.layout().scan(partition.clone(), prefix, Bytes::from_static(prefix), PAGE);
            let page = self.engine().scan(scan.after(token)).await?;
            records.extend(page.records.into_iter().map(|(key, record)| (key.sort, record)));
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(records),
            }
        }
    }
}
