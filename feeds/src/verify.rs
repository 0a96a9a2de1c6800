//! Verification: recomputes a timeline from follows and activities, and compares it with what readers see.
//!
//! A feed must show what it holds itself and, of each feed it follows, all that the follow copied or that was
//! posted since; and nothing else. Exact when the outbox is empty and nobody writes. Posts that were dated
//! further back than the copy reaches are demanded only if they began after the follower was listed, and by more than
//! clocks may be apart: who posted and who followed may have been two nodes. What is added to many feeds, and to none of
//! their followers, is demanded only if it began before by as much. Of sources that are merged the same is demanded as of
//! others. The lists of follows and their counters, groups and what is seen of them, and
//! the tallies, lists and target feeds of reactions are recomputed too.

mod bounded;
mod groups;
mod lists;
mod reactions;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use keevo_core::{Consistency, Engine, Record, Result};

use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::keys::{self, EDGE, OWN, TIMELINE};
use crate::merge::{Phase, Walk};
use crate::read::{PageRequest, parse_rows};
use crate::rows::{CopyRow, EdgeRow, FollowerRow, OwnRow, decode};

pub use bounded::VERIFY_ROWS_MAX;

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
    /// Feeds whose pages do not show each activity once and in order.
    pub misread: Vec<FeedId>,
    /// Followers without a mark of a source that they are to merge: (follower, source).
    pub unmarked: Vec<(FeedId, FeedId)>,
    /// Aggregated and notification feeds whose page differs from their rows, and how.
    pub groups: Vec<(FeedId, String)>,
    /// Reactions looked at: those on the activities that the feeds hold themselves.
    pub reactions: usize,
    /// What is said wrongly of reactions.
    pub tallies: Vec<String>,
    /// Timeline rows that readers do not see because their activity was removed; harmless leftovers.
    pub stale_rows: usize,
}

impl VerifyReport {
    /// Whether nothing differs.
    pub fn is_clean(&self) -> bool {
        self.differences().next().is_none()
    }

    /// Every difference, in a sentence.
    pub fn differences(&self) -> impl Iterator<Item = String> + '_ {
        let missing = self.missing.iter().map(|(feed, id)| format!("{feed} lacks the activity {id}"));
        let unexpected =
            self.unexpected.iter().map(|(feed, id)| format!("{feed} shows the activity {id} without a reason"));
        let unlisted = self.unlisted.iter().map(|(feed, target)| format!("{target} does not list its follower {feed}"));
        let orphans =
            self.orphans.iter().map(|(feed, target)| format!("{target} lists {feed}, which does not follow it"));
        let miscounted =
            self.miscounted.iter().map(|feed| format!("{feed} has counters or dates that are not its follows'"));
        let misread = self.misread.iter().map(|feed| format!("the pages of {feed} are not what its rows say"));
        let unmarked = self.unmarked.iter().map(|(feed, source)| format!("{feed} does not merge {source}"));
        let groups = self.groups.iter().map(|(feed, what)| format!("{feed}: {what}"));
        let lists = unlisted.chain(orphans).chain(miscounted);
        let read = misread.chain(unmarked).chain(groups);
        missing.chain(unexpected).chain(lists).chain(read).chain(self.tallies.iter().cloned())
    }

    /// What two reports say together.
    fn plus(mut self, other: Self) -> Self {
        self.feeds += other.feeds;
        self.shown += other.shown;
        self.reactions += other.reactions;
        self.stale_rows += other.stale_rows;
        self.missing.extend(other.missing);
        self.unexpected.extend(other.unexpected);
        self.unlisted.extend(other.unlisted);
        self.orphans.extend(other.orphans);
        self.miscounted.extend(other.miscounted);
        self.misread.extend(other.misread);
        self.unmarked.extend(other.unmarked);
        self.groups.extend(other.groups);
        self.tallies.extend(other.tallies);
        self
    }
}

/// The rows of a feed: (activity, source, generation).
type TimelineRows = Vec<keys::TimelineKey>;

impl<E: Engine> Feeds<E> {
    /// Verifies feeds, some at a time, and adds up what was found. Reads all that they and what they follow hold; see
    /// [`Self::verify_within`].
    pub async fn verify(&self, feeds: impl IntoIterator<Item = FeedId> + Send) -> Result<VerifyReport> {
        let feeds: Vec<FeedId> = feeds.into_iter().collect();
        futures::stream::iter(feeds.into_iter().map(|feed| Box::pin(self.verify_feed(feed))))
            .buffered(8)
            .try_fold(VerifyReport::default(), |sum, one| async move { Ok(sum.plus(one)) })
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
        self.verify_pages(&feed, &shown, &mut report).await?;
        self.verify_groups(&feed, &mut report).await?;
        let mut sources: BTreeSet<Option<FeedId>> = BTreeSet::from([None]);
        let oldest = self.oldest_kept(&feed, &shown);
        let is_missing = |id: &ActivityId| oldest.is_none_or(|oldest| id.order_key() >= oldest);
        for id in self.live_own(&feed, |_, _| true).await? {
            if !shown.get(&id).is_some_and(|sources| sources.contains(&None)) && is_missing(&id) {
                report.missing.push((feed.clone(), id));
            }
            self.verify_reactions(id, &mut report).await?;
        }
        let edges = self.edges(&feed).await?;
        self.verify_lists(&feed, &edges, &mut report).await?;
        self.verify_marks(&feed, &edges, &mut report).await?;
        for (target, edge) in edges {
            if !self.is_listed(&feed, &target, &edge).await? {
                report.unlisted.push((feed.clone(), target.clone()));
            }
            for id in self.expected_from(&feed, &target).await? {
                if !shown.contains_key(&id) && is_missing(&id) {
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

    /// The oldest activity of a feed that is limited to its newest ones and is full, by its order key.
    fn oldest_kept(&self, feed: &FeedId, shown: &BTreeMap<ActivityId, BTreeSet<Option<FeedId>>>) -> Option<[u8; 16]> {
        let max = self.groups().timeline_max(feed.slug())?;
        let mut keys: Vec<[u8; 16]> = shown.keys().map(|id| id.order_key()).collect();
        keys.sort_unstable();
        keys.into_iter().rev().nth(max - 1)
    }

    /// Reads a flat feed as its readers do, and compares that with its rows.
    async fn verify_pages(
        &self,
        feed: &FeedId,
        shown: &BTreeMap<ActivityId, BTreeSet<Option<FeedId>>>,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let mut expected: Vec<ActivityId> = shown.keys().copied().collect();
        expected.sort_by_key(|id| std::cmp::Reverse(id.order_key()));
        expected.truncate(self.groups().timeline_max(feed.slug()).unwrap_or(usize::MAX));
        let (mut read, mut request) = (Vec::new(), PageRequest::first(PAGE));
        loop {
            let page = self.page(feed, request).await?;
            read.extend(page.activities.iter().map(|one| one.id));
            match page.next {
                Some(last) => request = PageRequest::after(last, PAGE),
                None => break,
            }
        }
        if read != expected {
            report.misread.push(feed.clone());
        }
        Ok(())
    }

    /// Reports sources that are merged of which `feed` has no mark, though it has copied.
    async fn verify_marks(&self, feed: &FeedId, edges: &[(FeedId, Record)], report: &mut VerifyReport) -> Result<()> {
        for (source, row) in self.ever_merged(edges.iter().map(|(target, _)| target)).await? {
            let copied = self.layout().copied(feed, &source);
            let has_copied = self.engine().get(copied, Consistency::Linearizable).await?.is_some();
            let is_marked = !has_copied || !self.marks_of(feed, &source).await?.is_empty();
            if row.phase() == Phase::Merged && !is_marked {
                report.unmarked.push((feed.clone(), source));
            }
        }
        Ok(())
    }

    /// What `feed` must have through its follow of `target`.
    async fn expected_from(&self, feed: &FeedId, target: &FeedId) -> Result<Vec<ActivityId>> {
        let copied = self.layout().copied(feed, target);
        let copied = self.engine().get(copied, Consistency::Linearizable).await?;
        let copied: CopyRow = copied.as_ref().map(decode).transpose()?.unwrap_or_default();
        self.live_own(target, |id, row| copied.demands(id, row, self.skew_us())).await
    }

    async fn is_listed(&self, follower: &FeedId, target: &FeedId, edge: &Record) -> Result<bool> {
        let bucket = u8::try_from(decode::<EdgeRow>(edge)?.bucket).unwrap_or_default();
        let key = self.layout().follower(target, bucket, follower);
        let Some(record) = self.engine().get(key, Consistency::Linearizable).await? else { return Ok(false) };
        let row: FollowerRow = decode(&record)?;
        Ok(!row.gone && row.epoch == edge.revision.0)
    }

    async fn timeline_rows(&self, feed: &FeedId) -> Result<TimelineRows> {
        let all = (Bytes::from_static(TIMELINE), keevo_core::prefix_end(TIMELINE));
        let mut walk = Walk::open(self, feed, all, Consistency::Linearizable, PAGE).await?;
        let mut found = TimelineRows::new();
        loop {
            let rows = parse_rows(&walk.next(PAGE).await?)?;
            if rows.is_empty() {
                return Ok(found);
            }
            found.extend(rows);
        }
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
    pub(crate) async fn all(&self, partition: Bytes, prefix: &'static [u8]) -> Result<Vec<(Bytes, Record)>> {
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
