//! Verification of aggregated and notification feeds: their page says what their rows, marks and activities say.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keevo_core::{Consistency, Engine, Result, prefix_end};

use super::VerifyReport;
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::groups::{AGGREGATED_ROWS_MAX, AggregatedPage, GroupId, GroupKind, gathered};
use crate::ids::ActivityId;
use crate::keys::{self, MARK, MERGE, TIMELINE};
use crate::read::{PAGE_LIMIT_MAX, PageRequest};
use crate::rows::{MarkRow, TimelineRow, decode};

/// A group as its rows say.
#[derive(Debug, Default)]
struct Recount {
    activities: BTreeSet<ActivityId>,
    /// The newest arrival of one of its rows, by revision.
    arrived: u64,
}

impl<E: Engine> Feeds<E> {
    /// Compares the groups of a feed that gathers its activities with a recount. Feeds with more groups than fit on a page
    /// are compared as far as the page goes.
    pub(super) async fn verify_groups(&self, feed: &FeedId, report: &mut VerifyReport) -> Result<()> {
        let kind = self.groups().kind(feed.slug());
        if kind == GroupKind::Flat {
            return Ok(());
        }
        let page = self.aggregated_page(feed, PageRequest::first(PAGE_LIMIT_MAX).into()).await?;
        let recount = self.regroup(feed).await?;
        let mut differ = |what: String| report.groups.push((feed.clone(), what));
        for group in &page.groups {
            let counted = recount.get(&group.id).map_or(0, |found| found.activities.len());
            if counted != group.activity_count {
                differ(format!("group {} shows {} activities and has {counted}", group.id, group.activity_count));
            }
            if group
                .activities
                .iter()
                .any(|one| recount.get(&group.id).is_none_or(|it| !it.activities.contains(&one.id)))
            {
                differ(format!("group {} shows an activity that is none of its own", group.id));
            }
        }
        if page.next.is_some() {
            return Ok(());
        }
        let shown: BTreeSet<GroupId> = page.groups.iter().map(|group| group.id).collect();
        for (id, _) in recount.iter().filter(|(id, found)| !found.activities.is_empty() && !shown.contains(id)) {
            differ(format!("group {id} is not shown"));
        }
        if kind == GroupKind::Notification {
            for what in self.recount_marks(feed, &page, &recount).await? {
                differ(what);
            }
        }
        Ok(())
    }

    /// The groups of a feed, from its newest rows and their activities.
    async fn regroup(&self, feed: &FeedId) -> Result<BTreeMap<GroupId, Recount>> {
        let groups = self.groups();
        let template = groups.template(feed.slug()).cloned().unwrap_or_default();
        let most = groups.timeline_max(feed.slug()).unwrap_or(AGGREGATED_ROWS_MAX);
        let mut rows = Vec::new();
        for (sort, record) in self.all(self.layout().feed(feed), TIMELINE).await? {
            if sort >= prefix_end(MERGE) && rows.len() < most {
                rows.push((keys::parse_timeline(&sort)?, decode::<TimelineRow>(&record)?, record.revision.0));
            }
        }
        let activities = self.rows(rows.iter().map(|(key, ..)| key.id), Consistency::Linearizable).await?;
        let mut recount: BTreeMap<GroupId, Recount> = BTreeMap::new();
        for (key, row, revision) in rows {
            let activity = activities.get(&key.id).and_then(Option::as_ref);
            let text = match (row == TimelineRow::default(), activity) {
                (true, Some(activity)) => gathered(&template, feed.slug(), key.id, activity)?.group,
                _ => row.group,
            };
            let group = recount.entry(GroupId::of(&text)).or_default();
            group.arrived = group.arrived.max(revision);
            let source = key.source.as_ref().unwrap_or(feed);
            if activity.is_some_and(|activity| activity.is_placed(source, key.generation)) {
                group.activities.insert(key.id);
            }
        }
        Ok(recount)
    }

    /// What a page says wrongly of what is seen and read.
    async fn recount_marks(
        &self,
        feed: &FeedId,
        page: &AggregatedPage,
        recount: &BTreeMap<GroupId, Recount>,
    ) -> Result<Vec<String>> {
        let mut marks: BTreeMap<Bytes, MarkRow> = BTreeMap::new();
        for (sort, record) in self.all(self.layout().feed(feed), MARK).await? {
            marks.insert(sort, decode(&record)?);
        }
        let all = marks.get(MARK).copied().unwrap_or_default();
        let (mut unseen, mut unread, mut found) = (0, 0, Vec::new());
        for (id, group) in recount.iter().filter(|(_, group)| !group.activities.is_empty()) {
            let own = marks.get(&keys::join(MARK, id.as_bytes())).copied().unwrap_or_default();
            let is_seen = group.arrived <= all.seen.max(own.seen);
            let is_read = group.arrived <= all.read.max(own.read);
            unseen += usize::from(!is_seen);
            unread += usize::from(!is_read);
            let shown = page.groups.iter().find(|shown| shown.id == *id);
            if shown.is_some_and(|shown| (shown.is_seen, shown.is_read) != (is_seen, is_read)) {
                found.push(format!("group {id} is wrongly shown as seen or read, or as not"));
            }
        }
        if (unseen, unread) != (page.unseen, page.unread) {
            let (seen, read) = (page.unseen, page.unread);
            found.push(format!("{seen} groups are said to be unseen and {read} unread; {unseen} and {unread} are"));
        }
        Ok(found)
    }
}
