//! Writing to followers what was merged until then: when the source is written again, and when a follow ends whose
//! history stays.

use bytes::Bytes;
use keevo_core::{Batch, Check, Consistency, Engine, FanOutAction, Key, Record, Result, Target};

use super::switch::Held;
use super::walk::Source;
use super::{MergeRow, SourceRow, own_since};
use crate::change::unchanged;
use crate::edge_job::EdgeJob;
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::followers::Follower;
use crate::groups::GroupKind;
use crate::ids::ActivityId;
use crate::keys::{self, EDGE, OWN};
use crate::metrics::add;
use crate::rows::{CopyRow, OwnRow, decode};

/// How many own rows of a source one step reads.
const ROWS: usize = 1_000;

/// How many rounds of merging an unfollow is prepared to be overtaken by: more would take as many switches over all
/// followers within one call.
const ROUNDS_TO_COME: usize = 4;

/// What a follow that ends had of its source when it was looked at.
#[derive(Debug)]
pub(crate) struct History {
    /// If it stays: what has yet to be written, and under which mark; `None` when all of it is.
    pub(crate) kept: Option<MergeRow>,
    /// The marks, which go with the follow.
    pub(crate) marks: Vec<Key>,
    /// What must hold so that all this is still so.
    pub(crate) demands: Vec<(Key, Check)>,
}

/// Own rows of a source, and where they go on.
pub(crate) struct OwnPage {
    pub(crate) rows: Vec<(ActivityId, u64, OwnRow)>,
    pub(crate) last: Option<Bytes>,
    pub(crate) more: bool,
}

impl<E: Engine> Feeds<E> {
    /// Gives followers what they lack of a source, and takes the marks away of those that have copied. False when
    /// another driver has the switch now.
    ///
    /// A source may have more rows than can be given within the time of a claim, so the claim is renewed between them.
    pub(super) async fn unmark_page(&self, feed: &FeedId, held: &mut Held, page: &[Follower]) -> Result<bool> {
        let layout = self.layout();
        let copied = |one: &Follower| layout.named(one.target.partition.clone(), keys::COPIED, feed);
        let copies = self.engine().multi_get(page.iter().map(copied).collect(), Consistency::Linearizable).await?;
        let (mut followers, mut flat) = (Vec::new(), Vec::new());
        let (groups, feeds) = (self.groups(), layout.feeds());
        for (one, copy) in page.iter().zip(&copies) {
            let Some(copy) = copy else { continue };
            followers.push(one.target.clone());
            let slug = keys::slug_of(&feeds, &one.target.partition).unwrap_or_default();
            if groups.kind(slug) == GroupKind::Flat {
                flat.push((one.target.clone(), decode::<CopyRow>(copy)?));
            }
        }
        let mut after = None;
        while !flat.is_empty() {
            let own = self.own_page(feed, after.as_ref(), held.row.since_us, ROWS).await?;
            for (id, generation, one) in &own.rows {
                if !self.renew_claim(feed, held).await? {
                    return Ok(false);
                }
                self.give(feed, *id, *generation, *one, &flat).await?;
            }
            after = own.last;
            if !own.more {
                break;
            }
        }
        self.unmark(feed, &held.row, followers).await.map(|()| true)
    }

    /// Writes one own row of a source to those followers that show it.
    async fn give(
        &self,
        feed: &FeedId,
        id: ActivityId,
        generation: u64,
        row: OwnRow,
        followers: &[(Target, CopyRow)],
    ) -> Result<()> {
        let slack_us = self.skew_us();
        let shows = followers.iter().filter(|(_, copy)| copy.admits(id, row, slack_us));
        let targets: Vec<Target> = shows.map(|(target, _)| target.clone()).collect();
        add(&self.counters().entries_fanned_out, targets.len());
        let guard = Some(keys::join(EDGE, feed.as_str().as_bytes()));
        let action = FanOutAction::Put { value: Bytes::new(), ttl_ms: None };
        self.to_each(keys::timeline(id, Some(feed), generation), action, guard, targets).await
    }

    /// The next own rows of a feed after `after` that are dated at `since_us` or later.
    pub(crate) async fn own_page(
        &self,
        feed: &FeedId,
        after: Option<&Bytes>,
        since_us: u64,
        limit: usize,
    ) -> Result<OwnPage> {
        let start = after.map_or_else(|| Bytes::from_static(OWN), |after| keys::right_after(after));
        let mut page = OwnPage { rows: Vec::new(), last: None, more: false };
        let end = own_since(since_us);
        if start >= end {
            return Ok(page);
        }
        let (keyspace, partition) = (self.layout().keyspace, self.layout().feed(feed));
        let range = keevo_core::ScanRange::Partition { keyspace, partition, start, end };
        let scan = keevo_core::Scan { range, ..keevo_core::Scan::partition(keyspace, Bytes::new(), limit) };
        let found = self.scan_on(scan).await?;
        for (key, record) in &found.records {
            let (id, generation) = keys::parse_own(&key.sort)?;
            page.rows.push((id, generation, decode(record)?));
            page.last = Some(key.sort.clone());
        }
        page.more = found.next.is_some();
        Ok(page)
    }

    /// What a follow has of its source. `copied` and `source`, what it copied and the source's row, were read before:
    /// a mark that is made since is of the row's round or a later one.
    pub(crate) async fn history_of(
        &self,
        follower: &FeedId,
        feed: &FeedId,
        copied: Option<Record>,
        source: Option<Record>,
    ) -> Result<History> {
        let row: SourceRow = source.as_ref().map(decode).transpose()?.unwrap_or_default();
        let marks = self.marks_of(follower, feed).await?;
        let partition = self.layout().feed(follower);
        let mark = |round| self.layout().key(partition.clone(), keys::mark(feed, round));
        let mut demands: Vec<(Key, Check)> =
            marks.iter().map(|mark| (mark.key.clone(), Check::RevisionIs(mark.revision))).collect();
        let to_come = (row.round.max(1)..).take(ROUNDS_TO_COME).map(mark);
        let absent = to_come.filter(|key| marks.iter().all(|mark| mark.key != *key));
        demands.extend(absent.map(|key| (key, Check::Absent)));
        demands.push((self.layout().copied(follower, feed), unchanged(copied.as_ref())));
        let is_flat = self.groups().kind(follower.slug()) == GroupKind::Flat;
        let since_us = marks.iter().filter(|mark| mark.row.copy.is_none()).map(|mark| mark.row.since_us).min();
        let copy: Option<CopyRow> = copied.as_ref().map(decode).transpose()?;
        let kept = since_us.zip(copy).filter(|_| is_flat);
        // Posts by nodes whose clocks are ahead, and those that come until the edge is cut, are of this history too.
        let until_us = self.stamp_us().saturating_add(self.skew_us());
        let kept = kept.map(|(since_us, copy)| MergeRow { since_us, until_us, copy: Some(copy) });
        Ok(History { kept, marks: marks.into_iter().map(|mark| mark.key).collect(), demands })
    }

    /// Adds a page of kept history to the batch that moves its job on; the last page of it takes the mark away.
    /// True when it was the last.
    pub(crate) async fn keep_page(
        &self,
        job: &mut EdgeJob,
        kept: &MergeRow,
        mut batch: Batch,
        limit: usize,
    ) -> Result<(Batch, bool)> {
        let partition = self.layout().feed(&job.follower);
        let copy = kept.copy.clone().unwrap_or_default();
        let from_us = copy.merged_from_us(kept.since_us, self.skew_us());
        let source = Source { feed: job.target.clone(), copy, until_us: kept.until_us, from_us };
        let after = Some(&job.row.after).filter(|after| !after.is_empty());
        let page = self.own_page(&job.target, after, source.from_us, limit).await?;
        let shown = page.rows.iter().filter(|(id, _, row)| source.admits(*id, *row, self.skew_us()));
        for (id, generation, _) in shown {
            let row = keys::timeline(*id, Some(&job.target), *generation);
            batch = batch.put(self.layout().key(partition.clone(), row), "");
        }
        add(&self.counters().entries_copied, page.rows.len());
        if page.more {
            job.row.after = page.last.unwrap_or_default();
        } else {
            batch = batch.delete(self.layout().key(partition, keys::mark(&job.target, 0)));
        }
        Ok((batch, !page.more))
    }
}
