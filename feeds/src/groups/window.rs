//! The newest timeline rows of a feed, gathered into groups.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keevo_core::{Consistency, Engine, Error, Result};

use super::{GroupId, gathered};
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::keys::{self, TIMELINE, TimelineKey};
use crate::rows::{TimelineRow, decode};

/// How many of its newest activities an aggregated or notification feed gathers.
pub const AGGREGATED_ROWS_MAX: usize = 10_000;
/// How many rows one step reads.
const PAGE: usize = 2_000;

/// A group: what its rows say, newest first.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) id: GroupId,
    pub(super) text: String,
    /// Its activities, each once, with all rows that brought them.
    pub(super) activities: Vec<(ActivityId, Vec<TimelineKey>)>,
    pub(super) actors: BTreeSet<u64>,
    /// The newest arrival of one of its rows.
    pub(super) arrived: u64,
}

/// The groups of a feed, that with the newest activity first.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) groups: Vec<Gathered>,
    /// The newest arrival of any row.
    pub(super) arrived: u64,
}

impl<E: Engine> Feeds<E> {
    /// Gathers the newest rows of a feed.
    pub(super) async fn window(&self, feed: &FeedId, consistency: Consistency) -> Result<Window> {
        let (mut window, mut at) = (Window::default(), BTreeMap::new());
        let most = self.groups().timeline_max(feed.slug()).unwrap_or(AGGREGATED_ROWS_MAX);
        let (mut token, mut left) = (None, most);
        loop {
            let scan = self.layout().scan(self.layout().feed(feed), TIMELINE, rows_start(), PAGE.min(left));
            let scan = keevo_core::Scan { consistency, ..scan.after(token) };
            let page = self.engine().scan(scan).await?;
            left -= page.records.len().min(left);
            let mut rows = Vec::with_capacity(page.records.len());
            for (key, record) in &page.records {
                rows.push((keys::parse_timeline(&key.sort)?, decode::<TimelineRow>(record)?, record.revision.0));
            }
            self.render_missing(feed, &mut rows, consistency).await?;
            for (key, row, revision) in rows {
                window.add(&mut at, key, row, revision)?;
            }
            token = page.next;
            if token.is_none() || left == 0 {
                return Ok(window);
            }
        }
    }

    /// Fills in rows that came while the feed was flat.
    async fn render_missing(
        &self,
        feed: &FeedId,
        rows: &mut [(TimelineKey, TimelineRow, u64)],
        consistency: Consistency,
    ) -> Result<()> {
        let missing: Vec<ActivityId> =
            rows.iter().filter(|(_, row, _)| *row == TimelineRow::default()).map(|(key, ..)| key.id).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let groups = self.groups();
        let template = groups.template(feed.slug()).cloned().unwrap_or_default();
        let found = self.rows(missing, consistency).await?;
        for (key, row, _) in rows.iter_mut().filter(|(_, row, _)| *row == TimelineRow::default()) {
            if let Some(activity) = found.get(&key.id).and_then(Option::as_ref) {
                *row = gathered(&template, feed.slug(), key.id, activity)?;
            }
        }
        Ok(())
    }
}

/// Where timeline rows begin, behind the marks of merged sources: a feed that gathers is written what these post.
fn rows_start() -> Bytes {
    keevo_core::prefix_end(keys::MERGE)
}

impl Window {
    fn add(
        &mut self,
        at: &mut BTreeMap<GroupId, usize>,
        key: TimelineKey,
        row: TimelineRow,
        revision: u64,
    ) -> Result<()> {
        let id = GroupId::of(&row.group);
        let place = *at.entry(id).or_insert_with(|| {
            self.groups.push(Gathered {
                id,
                text: row.group,
                activities: Vec::new(),
                actors: BTreeSet::new(),
                arrived: 0,
            });
            self.groups.len() - 1
        });
        let group = self.groups.get_mut(place).ok_or_else(|| Error::corrupt("a group has no place"))?;
        group.actors.insert(row.actor);
        group.arrived = group.arrived.max(revision);
        self.arrived = self.arrived.max(revision);
        match group.activities.last_mut() {
            Some((last, through)) if *last == key.id => through.push(key),
            _ => group.activities.push((key.id, vec![key])),
        }
        Ok(())
    }
}
