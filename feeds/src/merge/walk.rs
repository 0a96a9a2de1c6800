//! The rows of a feed in their order: its own timeline rows, and those of the merged sources that it follows.
//!
//! All are named by the timeline key that a fan-out would have written, so their order, and which of two rows of an
//! activity comes first, is the same whether a source is merged or not.
//!
//! A heap holds the next key of each. What is read of a source ends at the last key that can still be on the page, as
//! far as the feed's own rows and the sources before it tell. So one that has nothing new gives an empty scan, and one
//! whose rows are all older than what the follower copied is not read at all. Reads go out some at a time, and what they
//! hold is bounded by the number of sources, which is bounded itself.
//!
//! Invariant: marks are read before rows, and rows before sources: a source that is being written again meanwhile is
//! seen in one of the two.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use keevo_core::{Consistency, Engine, Error, ErrorKind, Result, Scan, ScanRange, prefix_end};

use super::{MergeRow, mark_in, own_since};
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::keys::{self, MERGE, OWN, TIMELINE};
use crate::read::PAGE_LIMIT_MAX;
use crate::rows::{CopyRow, OwnRow, decode};

/// The most merged sources that one feed may follow: each costs its readers a look, so a feed that follows more is not
/// read, and says so.
pub const MERGED_SOURCES_MAX: usize = 4_096;
/// How many marks one step reads, where there are many.
const MARKS_PAGE: usize = 1_000;
/// How many sources are read at once.
const SOURCES_AT_ONCE: usize = 32;
/// About how many rows of all sources are held at once, ...
const SOURCE_ROWS: usize = 16_384;
/// ... and how many of one it makes no sense to go below.
const SOURCE_ROWS_MIN: usize = 32;

/// What one source, or the feed itself, has yet to give.
#[derive(Debug)]
struct Cursor {
    /// `None` = the feed's own rows.
    source: Option<Source>,
    /// Timeline keys that were read, newest first.
    rows: VecDeque<Bytes>,
    /// Where to read on, and where to stop: keys of timeline rows, or of the source's own rows. `None` at the end.
    next: Option<Bytes>,
    end: Bytes,
}

/// A merged source, as one follower sees it.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) feed: FeedId,
    pub(super) copy: CopyRow,
    /// What began later is no part of it, in microseconds; 0 = no bound.
    pub(super) until_us: u64,
    /// Dated before, everything was written, in microseconds.
    pub(super) from_us: u64,
}

impl Source {
    /// Whether the follower shows an own row of the source.
    pub(super) fn admits(&self, id: crate::ids::ActivityId, row: OwnRow, slack_us: u64) -> bool {
        (self.until_us == 0 || row.began_us <= self.until_us) && self.copy.admits(id, row, slack_us)
    }
}

/// The next key of a cursor, or where it must be read on.
type Next = Reverse<(Bytes, bool, usize)>;

/// A walk over the rows of a feed, newest first.
pub(crate) struct Walk<'a, E> {
    feeds: &'a Feeds<E>,
    feed: &'a FeedId,
    consistency: Consistency,
    cursors: Vec<Cursor>,
    heap: BinaryHeap<Next>,
    last: Bytes,
    /// The most rows that are read of a source at once.
    source_rows: usize,
}

impl<'a, E: Engine> Walk<'a, E> {
    /// A walk over the keys from `start` on and before `end`, of which about `wanted` will be asked for.
    /// `BatchTooLarge`: the feed follows more than [`MERGED_SOURCES_MAX`] merged sources.
    pub(crate) async fn open(
        feeds: &'a Feeds<E>,
        feed: &'a FeedId,
        (start, end): (Bytes, Bytes),
        consistency: Consistency,
        wanted: usize,
    ) -> Result<Self> {
        let (cursors, heap, last) = (Vec::new(), BinaryHeap::new(), Bytes::new());
        let mut walk = Self { feeds, feed, consistency, cursors, heap, last, source_rows: SOURCE_ROWS };
        let mut marks = Vec::new();
        let mut own = Cursor { source: None, rows: VecDeque::new(), next: Some(start.clone()), end: end.clone() };
        if start.as_ref() == TIMELINE {
            // From the very start of a timeline, marks and rows come from one scan, unless there are many marks.
            walk.read_own(&mut own, wanted, Some(&mut marks)).await?;
            if own.rows.is_empty()
                && let Some(next) = own.next.take()
            {
                walk.read_marks(next, &mut marks).await?;
                own.next = Some(prefix_end(MERGE));
            }
        } else {
            walk.read_marks(Bytes::from_static(MERGE), &mut marks).await?;
        }
        while own.rows.is_empty() && own.next.is_some() {
            walk.read_own(&mut own, wanted, None).await?;
        }
        let sources = walk.sources(marks).await?;
        walk.source_rows = (SOURCE_ROWS / sources.len().max(1)).max(SOURCE_ROWS_MIN);
        let bound = own.bound();
        let mut best: BinaryHeap<Bytes> = own.rows.iter().take(wanted).cloned().collect();
        walk.add(own);
        let mut cursors: Vec<Cursor> =
            sources.into_iter().filter_map(|source| Cursor::of(source, &start, &end)).collect();
        while !cursors.is_empty() {
            let now: Vec<Cursor> = cursors.drain(..cursors.len().min(SOURCES_AT_ONCE)).collect();
            let last = if best.len() >= wanted { best.peek().map(past) } else { None };
            let last = bound.iter().chain(last.iter()).min();
            for cursor in walk.read_sources(now, last, wanted).await? {
                for key in &cursor.rows {
                    best.push(key.clone());
                    if best.len() > wanted {
                        best.pop();
                    }
                }
                walk.add(cursor);
            }
        }
        Ok(walk)
    }

    /// The next keys, up to `limit`; none at the end.
    pub(crate) async fn next(&mut self, limit: usize) -> Result<Vec<Bytes>> {
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(Reverse((key, reads_on, at))) = self.heap.pop() else { break };
            if reads_on {
                self.read_on(at, limit).await?;
                continue;
            }
            if let Some(cursor) = self.cursors.get_mut(at) {
                cursor.rows.pop_front();
            }
            self.push(at);
            if key != self.last {
                self.last = key.clone();
                found.push(key);
            }
        }
        Ok(found)
    }

    fn add(&mut self, cursor: Cursor) {
        self.cursors.push(cursor);
        self.push(self.cursors.len() - 1);
    }

    fn push(&mut self, at: usize) {
        let Some(cursor) = self.cursors.get(at) else { return };
        let row = cursor.rows.front().map(|key| (key.clone(), false));
        if let Some((key, reads_on)) = row.or_else(|| Some((cursor.next_place()?, true))) {
            self.heap.push(Reverse((key, reads_on, at)));
        }
    }

    /// Reads the cursor on that is next, together with all others that are at such a place.
    async fn read_on(&mut self, at: usize, limit: usize) -> Result<()> {
        let mut places = vec![at];
        while let Some(Reverse((_, true, _))) = self.heap.peek() {
            places.extend(self.heap.pop().map(|Reverse((.., at))| at));
        }
        let mut sources = Vec::new();
        let mut bound = None;
        for at in &places {
            let Some(cursor) = self.cursors.get_mut(*at) else { continue };
            let taken = Cursor { source: None, rows: VecDeque::new(), next: None, end: Bytes::new() };
            let mut cursor = std::mem::replace(cursor, taken);
            if cursor.source.is_some() {
                sources.push((*at, cursor));
                continue;
            }
            self.read_own(&mut cursor, limit, None).await?;
            bound = cursor.bound();
            self.put_back(*at, cursor);
        }
        let (at, cursors): (Vec<usize>, Vec<Cursor>) = sources.into_iter().unzip();
        for (at, cursor) in at.into_iter().zip(self.read_sources(cursors, bound.as_ref(), limit).await?) {
            self.put_back(at, cursor);
        }
        Ok(())
    }

    fn put_back(&mut self, at: usize, cursor: Cursor) {
        if let Some(place) = self.cursors.get_mut(at) {
            *place = cursor;
        }
        self.push(at);
    }

    fn scan(&self, partition: Bytes, start: Bytes, end: Bytes, limit: usize) -> Scan {
        let keyspace = self.feeds.layout().keyspace;
        let range = ScanRange::Partition { keyspace, partition, start, end };
        let limit = limit.clamp(1, PAGE_LIMIT_MAX);
        Scan { range, consistency: self.consistency, ..Scan::partition(keyspace, Bytes::new(), limit) }
    }

    /// Reads the feed's own rows on, and the marks that lie before them.
    async fn read_own(
        &self,
        cursor: &mut Cursor,
        limit: usize,
        marks: Option<&mut Vec<(FeedId, MergeRow)>>,
    ) -> Result<()> {
        let Some(start) = cursor.next.take() else { return Ok(()) };
        let scan = self.scan(self.feeds.layout().feed(self.feed), start, cursor.end.clone(), limit);
        let page = self.feeds.scan_on(scan).await?;
        let mut marks = marks;
        for (key, record) in &page.records {
            match (mark_in(key, record)?, &mut marks) {
                (Some(mark), Some(marks)) => marks.push(mark),
                (Some(_), None) => {}
                (None, _) => cursor.rows.push_back(key.sort.clone()),
            }
        }
        cursor.next = page.next.and_then(|_| page.records.last()).map(|(key, _)| keys::right_after(&key.sort));
        Ok(())
    }

    /// Reads the marks of the feed on from the key `start`.
    async fn read_marks(&self, start: Bytes, marks: &mut Vec<(FeedId, MergeRow)>) -> Result<()> {
        let mut scan = self.scan(self.feeds.layout().feed(self.feed), start, prefix_end(MERGE), MARKS_PAGE);
        loop {
            let page = self.feeds.engine().scan(scan.clone()).await?;
            for (key, record) in &page.records {
                marks.extend(mark_in(key, record)?);
            }
            if marks.len() > MERGED_SOURCES_MAX {
                return Err(too_many_sources(self.feed));
            }
            scan.after = page.next;
            if scan.after.is_none() {
                return Ok(());
            }
        }
    }

    /// What the marks mean for this follower: each source once. Without a follow that has copied they mean nothing.
    async fn sources(&self, marks: Vec<(FeedId, MergeRow)>) -> Result<Vec<Source>> {
        let slack_us = self.feeds.skew_us();
        let mut since: BTreeMap<FeedId, u64> = BTreeMap::new();
        let mut sources = Vec::new();
        for (feed, mark) in marks {
            if let Some(copy) = mark.copy {
                let from_us = copy.merged_from_us(mark.since_us, slack_us);
                sources.push(Source { feed, copy, until_us: mark.until_us, from_us });
            } else {
                let oldest = since.entry(feed).or_insert(u64::MAX);
                *oldest = mark.since_us.min(*oldest);
            }
        }
        let followed: Vec<(FeedId, u64)> = since.into_iter().collect();
        for chunk in followed.chunks(keevo_core::limits::MULTI_GET_KEYS_MAX) {
            let keys = chunk.iter().map(|(source, _)| self.feeds.layout().copied(self.feed, source)).collect();
            let copies = self.feeds.engine().multi_get(keys, self.consistency).await?;
            for ((source, since_us), copy) in chunk.iter().zip(copies) {
                let Some(copy) = copy.as_ref().map(decode::<CopyRow>).transpose()? else { continue };
                let from_us = copy.merged_from_us(*since_us, slack_us);
                sources.push(Source { feed: source.clone(), copy, until_us: 0, from_us });
            }
        }
        Ok(sources)
    }

    /// Reads sources on, up to the timeline key `bound` where there is one.
    async fn read_sources(&self, cursors: Vec<Cursor>, bound: Option<&Bytes>, limit: usize) -> Result<Vec<Cursor>> {
        let read = |mut cursor: Cursor| async move {
            self.read_source(&mut cursor, bound, limit).await?;
            Ok(cursor)
        };
        let cursors: Vec<_> = cursors.into_iter().map(read).collect();
        futures::stream::iter(cursors).buffered(SOURCES_AT_ONCE).try_collect().await
    }

    async fn read_source(&self, cursor: &mut Cursor, bound: Option<&Bytes>, limit: usize) -> Result<()> {
        let (Some(source), Some(start)) = (&cursor.source, cursor.next.clone()) else { return Ok(()) };
        let stop = bound.map(as_own).filter(|bound| *bound < cursor.end).unwrap_or_else(|| cursor.end.clone());
        if start >= stop {
            return Ok(());
        }
        let limit = limit.min(self.source_rows);
        let scan = self.scan(self.feeds.layout().feed(&source.feed), start, stop.clone(), limit);
        let page = self.feeds.scan_on(scan).await?;
        let slack_us = self.feeds.skew_us();
        for (key, record) in &page.records {
            let (id, generation) = keys::parse_own(&key.sort)?;
            if source.admits(id, decode(record)?, slack_us) {
                cursor.rows.push_back(keys::timeline(id, Some(&source.feed), generation));
            }
        }
        let read_to = page.next.and_then(|_| page.records.last()).map(|(key, _)| keys::right_after(&key.sort));
        cursor.next = read_to.or_else(|| (stop < cursor.end).then_some(stop));
        Ok(())
    }
}

impl Cursor {
    /// A source within a page's bounds; `None` for one that can give nothing there.
    fn of(source: Source, start: &Bytes, end: &Bytes) -> Option<Self> {
        let (start, end) = (as_own(start), as_own(end).min(own_since(source.from_us)));
        (start < end).then(|| Self { source: Some(source), rows: VecDeque::new(), next: Some(start), end })
    }

    /// Where it reads on, as a timeline key before which it has nothing more.
    fn next_place(&self) -> Option<Bytes> {
        let next = self.next.clone()?;
        if self.source.is_none() {
            return Some(next);
        }
        let place = next.get(OWN.len()..).unwrap_or_default();
        Some(keys::join(TIMELINE, place.get(..place.len().min(16)).unwrap_or_default()))
    }

    /// Behind the last activity that was read, unless that is all.
    fn bound(&self) -> Option<Bytes> {
        self.next.as_ref().and_then(|_| self.rows.back()).map(past)
    }
}

fn too_many_sources(feed: &FeedId) -> Error {
    let message = format!(
        "the feed {feed} follows more than {MERGED_SOURCES_MAX} feeds whose activities are fetched when it is read: end some of \
         its follows, or raise read_merge_above of their groups"
    );
    Error::new(ErrorKind::BatchTooLarge, message)
}

/// The timeline key behind all rows of a row's activity.
fn past(row: &Bytes) -> Bytes {
    prefix_end(row.get(..TIMELINE.len() + 16).unwrap_or(row))
}

/// Where the own rows of a source begin that belong at a bound between the rows of two activities.
fn as_own(bound: &Bytes) -> Bytes {
    bound.strip_prefix(TIMELINE).map_or_else(|| prefix_end(OWN), |rest| keys::join(OWN, rest))
}
