//! Reading: pages of a feed, and activities by id.
//!
//! Invariant: a timeline row is shown only if the activity says that the row's source holds it with the row's
//! generation. So a removal is seen at once, whatever the fan-out has yet to clean, and nothing comes back.
//! An activity that arrived through several sources is shown once, from the feed itself if it holds it. Of sources that
//! are merged the rows are read here, in the order in which they would lie in the timeline.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use keevo_core::limits::MULTI_GET_KEYS_MAX;
use keevo_core::{Consistency, Engine, Error, Key, Result, prefix_end};

use crate::activity::Activity;
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::keys::{self, TIMELINE, TimelineKey};
use crate::merge::Walk;
use crate::rows::{ActivityRow, decode};

/// The most activities on one page.
pub const PAGE_LIMIT_MAX: usize = 1_000;
/// The largest offset: page by id beyond it.
pub const OFFSET_MAX: usize = 10_000;

/// Which part of a feed to read: activities or, in a feed that gathers them, groups. All conditions hold together.
#[derive(Debug, Clone)]
pub struct PageRequest<Id = ActivityId> {
    /// The most to return, 1 to 1,000.
    pub limit: usize,
    /// How many to leave out first, up to 10,000. Paging by id is stable under inserts; this is not.
    pub offset: usize,
    /// Only what comes after this one in the feed: older.
    pub id_lt: Option<Id>,
    /// As `id_lt`, and this one itself.
    pub id_lte: Option<Id>,
    /// Only what comes before this one in the feed: newer.
    pub id_gt: Option<Id>,
    /// As `id_gt`, and this one itself.
    pub id_gte: Option<Id>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

impl<Id> Default for PageRequest<Id> {
    fn default() -> Self {
        Self {
            limit: 25,
            offset: 0,
            id_lt: None,
            id_lte: None,
            id_gt: None,
            id_gte: None,
            consistency: Consistency::default(),
        }
    }
}

impl<Id> PageRequest<Id> {
    /// The first page, of up to `limit`.
    pub fn first(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// The page after `last`, of up to `limit`.
    pub fn after(last: Id, limit: usize) -> Self {
        Self { id_lt: Some(last), ..Self::first(limit) }
    }

    /// Refuses a limit or an offset that is out of bounds.
    pub(crate) fn check(&self) -> Result<()> {
        if self.limit == 0 || self.limit > PAGE_LIMIT_MAX {
            return Err(Error::invalid(format!("a page's limit is 1 to {PAGE_LIMIT_MAX}, not {}", self.limit)));
        }
        if self.offset > OFFSET_MAX {
            return Err(Error::invalid(format!("an offset is at most {OFFSET_MAX}; page by id beyond it")));
        }
        Ok(())
    }
}

impl PageRequest {
    /// The range of timeline sort keys: newest first, so the upper bounds on ids give its start.
    fn range(&self) -> Result<(Bytes, Bytes)> {
        self.check()?;
        let at = |id: ActivityId| keys::join(TIMELINE, &keys::newest_first(id));
        let past = |id: ActivityId| prefix_end(&at(id));
        let start = [self.id_lt.map(past), self.id_lte.map(at)].into_iter().flatten().max();
        let end = [self.id_gt.map(at), self.id_gte.map(past)].into_iter().flatten().min();
        Ok((start.unwrap_or_else(|| Bytes::from_static(TIMELINE)), end.unwrap_or_else(|| prefix_end(TIMELINE))))
    }
}

/// A page of a feed.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedPage {
    /// The activities, newest first.
    pub activities: Vec<Activity>,
    /// Pass it as `id_lt` to read on; `None` at the end of what was asked for.
    pub next: Option<ActivityId>,
}

/// Activities read for one page, each once.
type Rows = BTreeMap<ActivityId, Option<ActivityRow>>;

impl<E: Engine> Feeds<E> {
    /// A page of `feed`: by time, newest first, then by id.
    pub async fn page(&self, feed: &FeedId, request: PageRequest) -> Result<FeedPage> {
        let (start, end) = request.range()?;
        let mut page = FeedPage { activities: Vec::new(), next: None };
        if start >= end {
            return Ok(page);
        }
        let mut skip = request.offset;
        // One more than asked for tells whether there is a next page.
        let wanted = request.limit + 1;
        let mut room = self.room_from(feed, &start, request.consistency).await?;
        let mut walk = Walk::open(self, feed, (start, end), request.consistency, wanted + skip).await?;
        let mut shown: Option<ActivityId> = None;
        loop {
            let limit = (wanted - page.activities.len() + skip).min(PAGE_LIMIT_MAX);
            let keys = parse_rows(&walk.next(limit).await?)?;
            let is_last = keys.is_empty();
            let rows = self.rows(keys.iter().map(|key| key.id), request.consistency).await?;
            let show = |key: TimelineKey| {
                let row = live(&rows, feed, &key).filter(|_| shown != Some(key.id));
                let Some(row) = row else { return Ok(ControlFlow::Continue(())) };
                shown = Some(key.id);
                if let Some(room) = &mut room {
                    let Some(left) = room.checked_sub(1) else { return Ok(ControlFlow::Break(())) };
                    *room = left;
                }
                if skip > 0 {
                    skip -= 1;
                    return Ok(ControlFlow::Continue(()));
                }
                page.activities.push(Activity::from_row(key.id, row, key.source)?);
                let full = page.activities.len() == wanted;
                Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            };
            if until_break(keys, show)? || is_last {
                break;
            }
        }
        if page.activities.len() == wanted {
            page.activities.truncate(request.limit);
            page.next = page.activities.last().map(|last| last.id);
        }
        Ok(page)
    }

    /// How many activities a feed that is limited to so many newest may show from `start` on; `None` = it is not limited.
    /// Those before are looked at, as what was removed takes no room.
    async fn room_from(&self, feed: &FeedId, start: &Bytes, consistency: Consistency) -> Result<Option<usize>> {
        let Some(max) = self.groups().timeline_max(feed.slug()) else { return Ok(None) };
        let first = Bytes::from_static(TIMELINE);
        let (mut room, mut shown) = (max, None);
        if *start == first {
            return Ok(Some(room));
        }
        let mut walk = Walk::open(self, feed, (first, start.clone()), consistency, max).await?;
        while room > 0 {
            let keys = parse_rows(&walk.next(room.min(PAGE_LIMIT_MAX)).await?)?;
            if keys.is_empty() {
                break;
            }
            let rows = self.rows(keys.iter().map(|key| key.id), consistency).await?;
            for key in keys.iter().filter(|key| live(&rows, feed, key).is_some()) {
                if shown.replace(key.id) != Some(key.id) {
                    room = room.saturating_sub(1);
                }
            }
        }
        Ok(Some(room))
    }

    /// The activities with these ids, in their order; ids that are unknown or removed are left out.
    pub async fn activities(&self, ids: &[ActivityId]) -> Result<Vec<Activity>> {
        let rows = self.rows(ids.iter().copied(), Consistency::Linearizable).await?;
        let found = ids.iter().filter_map(|id| Some((*id, rows.get(id)?.as_ref()?)));
        found.map(|(id, row)| Activity::from_row(id, row, None)).collect()
    }

    /// The foreign ids of those activities that have one. A removed one tells its own for a while too, as long as its
    /// trace stays, so that whoever hears of the removal can name what went.
    pub async fn foreign_ids(&self, ids: &[ActivityId]) -> Result<BTreeMap<ActivityId, String>> {
        let rows = self.rows_or_traces(ids.iter().copied(), Consistency::Linearizable).await?;
        let named = |(id, row): (ActivityId, Option<ActivityRow>)| {
            Some((id, row?.foreign_id)).filter(|(_, name)| !name.is_empty())
        };
        Ok(rows.into_iter().filter_map(named).collect())
    }

    /// The rows of activities; `None` for those that are absent or removed.
    pub(crate) async fn rows(
        &self,
        ids: impl IntoIterator<Item = ActivityId>,
        consistency: Consistency,
    ) -> Result<Rows> {
        let mut rows = self.rows_or_traces(ids, consistency).await?;
        for row in rows.values_mut() {
            *row = row.take().filter(|row| !row.is_removed());
        }
        Ok(rows)
    }

    /// The rows of activities, and what stayed of removed ones.
    async fn rows_or_traces(
        &self,
        ids: impl IntoIterator<Item = ActivityId>,
        consistency: Consistency,
    ) -> Result<Rows> {
        let mut rows: Rows = ids.into_iter().map(|id| (id, None)).collect();
        let wanted: Vec<(ActivityId, Key)> = rows.keys().map(|id| (*id, self.layout().activity(*id))).collect();
        for chunk in wanted.chunks(MULTI_GET_KEYS_MAX) {
            let keys = chunk.iter().map(|(_, key)| key.clone()).collect();
            let records = self.engine().multi_get(keys, consistency).await?;
            for ((id, _), record) in chunk.iter().zip(&records) {
                let row = record.as_ref().map(decode::<ActivityRow>).transpose()?;
                rows.insert(*id, row);
            }
        }
        Ok(rows)
    }
}

pub(crate) fn parse_rows(sorts: &[Bytes]) -> Result<Vec<TimelineKey>> {
    sorts.iter().map(|sort| keys::parse_timeline(sort)).collect()
}

/// The activity of a timeline row, if it says that the row's source holds it so.
fn live<'a>(rows: &'a Rows, feed: &FeedId, key: &TimelineKey) -> Option<&'a ActivityRow> {
    let row = rows.get(&key.id)?.as_ref()?;
    row.is_placed(key.source.as_ref().unwrap_or(feed), key.generation).then_some(row)
}

/// Feeds `keys` to `show` until it breaks; true if it did.
fn until_break(keys: Vec<TimelineKey>, mut show: impl FnMut(TimelineKey) -> Result<ControlFlow<()>>) -> Result<bool> {
    for key in keys {
        if show(key)?.is_break() {
            return Ok(true);
        }
    }
    Ok(false)
}
