//! Merged sources: feeds with so many followers that readers fetch their activities, instead of each getting a row.
//!
//! A source says in the first partition of its followers how it reaches them. A follower of one that is merged has a
//! *merge mark* for it, beside its timeline rows. A mark only means "look at the source too": what a reader finds there
//! is what a fan-out would have written, by the same rule, and an activity that came both ways is shown once. So a mark
//! too many costs a read and changes nothing; what must never be is an activity that was not written to a follower
//! without a mark.
//!
//! ```text
//!            count > above                       all marked
//! written ───────────────────▶ marking ───────────────────────────▶ merged
//!    ▲      every follower gets a mark;                                │ count < above / 2, or never any more
//!    │      posts are still written                                    ▼
//!    └──────────────────────────────────────────────────────────── unmarking
//!      all unmarked      page by page: followers get what they lack, then lose the mark; posts are written again
//! ```
//!
//! # Why nothing is lost
//!
//! * A post places its own row, then reads how the source reaches its followers. One that reads *merged* has its row
//!   in place before *unmarking* begins, so what is written then includes it.
//! * A follow lists the follower, then reads the source's row. If it read it before *marking*, the walk meets the
//!   follower; from then on it writes the mark itself. From *unmarking* on posts are written to the follower, but what
//!   came between its listing and the row was not, a copy takes no more than it was told to, and the walk may have passed
//!   by before it had copied: it writes the mark then too, unless the source was written, in the same round, before it was
//!   listed.
//! * A follower is unmarked only if its follow has said what it copied, and is still the one that did; one that has not
//!   keeps its mark.
//! * An unfollow demands the marks that it read: none is made or taken away until the edge is cut, and then none is any
//!   more, since each step of a switch asks for the edge.
//! * Aggregated and notification feeds always get the write: what arrives in them is counted as seen and unseen.
//!
//! Invariant: whether an activity is written to flat followers follows from the source's row and the activity alone.

mod backfill;
mod rows;
mod switch;
mod walk;

use std::collections::BTreeMap;

use bytes::Bytes;
use keevo_core::{Consistency, Engine, Key, Record, Result, Revision};

use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::keys;
use crate::rows::{CopyRow, OwnRow, decode};
use crate::time::ActivityTime;

pub(crate) use backfill::History;
pub(crate) use rows::{MergeRow, Phase, SourceRow};
pub use walk::MERGED_SOURCES_MAX;
pub(crate) use walk::Walk;

/// An activity that is dated further before its post began is written to every follower, in microseconds. So readers
/// need not look far back in what a source held before they followed it.
const BACKDATED_US: u64 = 3_600_000_000;
/// The most marks of one source that a follower is looked through for.
const MARKS_MAX: usize = 64;

/// A mark as it was read.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) key: Key,
    pub(crate) revision: Revision,
    pub(crate) row: MergeRow,
}

impl SourceRow {
    /// Whether flat followers are not written an activity that a post brings, which began at `began_us`.
    pub(crate) fn leaves_out(&self, id: ActivityId, began_us: u64) -> bool {
        let dated_us = u64::try_from(id.time().micros()).unwrap_or_default();
        self.phase() == Phase::Merged && dated_us >= self.since_us && dated_us >= began_us.saturating_sub(BACKDATED_US)
    }
}

impl CopyRow {
    /// Whether a follow that copied so shows an own row of its target. `slack_us` widens what counts as posted since.
    pub(crate) fn admits(&self, id: ActivityId, row: OwnRow, slack_us: u64) -> bool {
        let within = !self.oldest.is_empty() && keys::newest_first(id).as_slice() <= self.oldest.as_ref();
        let since = row.began_us.saturating_add(slack_us) > self.listed_us;
        if row.quiet {
            (self.everything || within) && row.began_us <= self.listed_us
        } else {
            self.everything || within || since
        }
    }

    /// Whether a follow that copied so must show an own row of its target: clocks may be `skew_us` apart, so what may have
    /// begun on either side of the listing is demanded only if both ask for it.
    pub(crate) fn demands(&self, id: ActivityId, row: OwnRow, skew_us: u64) -> bool {
        let listed = [self.listed_us.saturating_sub(skew_us), self.listed_us.saturating_add(skew_us)];
        listed.into_iter().all(|listed_us| Self { listed_us, ..self.clone() }.admits(id, row, 0))
    }

    /// From which date on a source that is merged since `since_us` may hold what was not written to the follower.
    pub(crate) fn merged_from_us(&self, since_us: u64, slack_us: u64) -> u64 {
        if self.everything {
            return since_us;
        }
        let listed_us = self.listed_us.saturating_sub(BACKDATED_US).saturating_sub(slack_us);
        let oldest = self.oldest.as_ref().try_into().ok().map(|key: [u8; 16]| key.map(|byte| !byte));
        let oldest = oldest.and_then(|key| ActivityId::from_order_key(key).ok());
        let oldest_us = oldest.map_or(u64::MAX, |id| u64::try_from(id.time().micros()).unwrap_or_default());
        since_us.max(listed_us.min(oldest_us))
    }
}

/// The end of the own rows that are dated at `us` or later.
pub(crate) fn own_since(us: u64) -> Bytes {
    let time = i64::try_from(us).ok().and_then(|us| ActivityTime::from_micros(us).ok());
    let ticks = time.map_or(0, ActivityTime::ticks);
    keevo_core::prefix_end(&keys::join(keys::OWN, &(!ticks).to_be_bytes()))
}

/// The mark in a row of a feed's partition, and the source that it is of; `None` for another row.
pub(crate) fn mark_in(key: &Key, record: &Record) -> Result<Option<(FeedId, MergeRow)>> {
    let Some(source) = keys::parse_mark(&key.sort)? else { return Ok(None) };
    Ok(Some((source, decode(record)?)))
}

impl<E: Engine> Feeds<E> {
    /// How far clocks may be apart, in microseconds.
    pub(crate) fn skew_us(&self) -> u64 {
        self.options().clock_skew_ms_max.saturating_mul(1_000)
    }

    pub(crate) fn source_key(&self, feed: &FeedId) -> Key {
        self.layout().key(self.layout().followers(feed, 0), keys::SOURCE)
    }

    /// How a feed reaches its followers.
    pub(crate) async fn source(&self, feed: &FeedId) -> Result<SourceRow> {
        let record = self.engine().get(self.source_key(feed), Consistency::Linearizable).await?;
        Ok(record.as_ref().map(decode).transpose()?.unwrap_or_default())
    }

    /// Those of `feeds` that are merged, or were once.
    pub(crate) async fn ever_merged<'a>(
        &self,
        feeds: impl IntoIterator<Item = &'a FeedId>,
    ) -> Result<BTreeMap<FeedId, SourceRow>> {
        let feeds: Vec<&FeedId> = feeds.into_iter().collect();
        let mut found = BTreeMap::new();
        for chunk in feeds.chunks(keevo_core::limits::MULTI_GET_KEYS_MAX) {
            let keys = chunk.iter().map(|feed| self.source_key(feed)).collect();
            let records = self.engine().multi_get(keys, Consistency::Linearizable).await?;
            for (feed, record) in chunk.iter().zip(&records) {
                if let Some(record) = record {
                    found.insert((*feed).clone(), decode(record)?);
                }
            }
        }
        Ok(found)
    }

    /// The marks that `follower` has of `source`.
    pub(crate) async fn marks_of(&self, follower: &FeedId, source: &FeedId) -> Result<Vec<Mark>> {
        let prefix = keys::marks_of(source);
        let scan = self.layout().scan(self.layout().feed(follower), &prefix, prefix.clone(), MARKS_MAX);
        let page = self.scan_on(scan).await?;
        let mark = |(key, record): (Key, Record)| Ok(Mark { row: decode(&record)?, revision: record.revision, key });
        page.records.into_iter().map(mark).collect()
    }
}
