//! Readers: their aggregated and notification feeds day by day, and their timelines ranked.

use keevo_core::{AnyEngine, Result};
use keevo_feeds::{
    ACTIVITIES_IN_GROUP_MAX, ActivityGroup, AggregatedRequest, FeedId, Feeds, PageRequest, RANK_CANDIDATES_MAX,
    RankedRequest,
};

use super::Mismatches;
use super::feeds::is_of;
use crate::load::persist;
use crate::plan::{DayPlan, Plan, aggregated_feed, notification_feed, timeline_feed};

const GROUPS_PER_PAGE: usize = 100;
/// How far a score may be from the plan's: both are computed with the same steps in another order.
const SCORE_ERROR: f64 = 1e-9;

/// What was read from gathered feeds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GatheredCount {
    pub entries: usize,
    pub groups: usize,
}

/// Reads the aggregated and the notification feed of every reader.
pub(super) async fn gathered(
    feeds: &Feeds<AnyEngine>,
    plan: &Plan<'_>,
    mismatches: &Mismatches,
) -> Result<GatheredCount> {
    let mut count = GatheredCount::default();
    for reader in plan.readers() {
        let days = plan.days(reader)?;
        let (aggregated, notification) = (aggregated_feed(&reader.name)?, notification_feed(&reader.name)?);
        for feed in [&aggregated, &notification] {
            let groups = read_groups(feeds, feed).await?;
            compare(plan, feed, &groups, &days, mismatches)?;
            count.groups += groups.len();
            count.entries += groups.iter().map(|group| group.activity_count).sum::<usize>();
        }
        compare_marks(feeds, &notification, days.len(), mismatches).await?;
    }
    Ok(count)
}

/// Reads every reader's timeline ranked; how many entries they have together.
pub(super) async fn ranked(feeds: &Feeds<AnyEngine>, plan: &Plan<'_>, mismatches: &Mismatches) -> Result<usize> {
    let ranking = plan.ranking()?;
    let request = RankedRequest { limit: RANK_CANDIDATES_MAX, ..RankedRequest::default() };
    let mut count = 0;
    for reader in plan.readers() {
        let feed = timeline_feed(&reader.name)?;
        let page = persist(|| feeds.ranked_page(&feed, &ranking, &request)).await?;
        // Its candidates are the newest; their scores alone decide the order.
        let mut expected: Vec<_> = plan.timeline(reader)?.into_iter().take(RANK_CANDIDATES_MAX).collect();
        mismatches.unless(page.activities.len() == expected.len(), || {
            format!("{feed} ranked has {} entries, not {}", page.activities.len(), expected.len())
        });
        let mut last = f64::INFINITY;
        for ranked in &page.activities {
            let place = expected.iter().position(|(id, _)| *id == ranked.activity.id);
            let planned = place.map(|place| plan.score(expected.swap_remove(place).1));
            let right = planned.is_some_and(|planned| (planned - ranked.score).abs() < SCORE_ERROR);
            mismatches.unless(right && ranked.score <= last, || {
                format!("{feed} ranks {} at {} behind {last}, not {planned:?}", ranked.activity.object, ranked.score)
            });
            last = ranked.score;
        }
        count += page.activities.len();
    }
    Ok(count)
}

async fn read_groups(feeds: &Feeds<AnyEngine>, feed: &FeedId) -> Result<Vec<ActivityGroup>> {
    let mut request =
        AggregatedRequest { page: PageRequest::first(GROUPS_PER_PAGE), activities_max: ACTIVITIES_IN_GROUP_MAX };
    let mut groups = Vec::new();
    loop {
        let page = persist(|| feeds.aggregated_page(feed, request.clone())).await?;
        groups.extend(page.groups);
        match page.next {
            Some(next) => request.page.id_lt = Some(next),
            None => return Ok(groups),
        }
    }
}

/// Compares the days of a gathered feed, and in each its changes.
fn compare(
    plan: &Plan<'_>,
    feed: &FeedId,
    groups: &[ActivityGroup],
    days: &[DayPlan<'_>],
    mismatches: &Mismatches,
) -> Result<()> {
    mismatches.unless(groups.len() == days.len(), || format!("{feed} has {} days, not {}", groups.len(), days.len()));
    for (group, day) in groups.iter().zip(days) {
        let mut same = group.group == day.group
            && group.activity_count == day.changes.len()
            && group.actor_count == day.maintainers()
            && group.activities.len() == day.changes.len().min(ACTIVITIES_IN_GROUP_MAX);
        for (activity, (id, change)) in group.activities.iter().zip(&day.changes) {
            same &= is_of(plan, activity, *id, change, true)?;
        }
        if !same {
            let (found, expected) = (group.activity_count, day.changes.len());
            mismatches
                .add(format!("{feed} has {} with {found} changes, not {} with {expected}", group.group, day.group));
            // What follows may just be one place off.
            break;
        }
    }
    Ok(())
}

/// All was seen, and of all days the newest was read.
async fn compare_marks(feeds: &Feeds<AnyEngine>, feed: &FeedId, days: usize, mismatches: &Mismatches) -> Result<()> {
    let request = AggregatedRequest::from(PageRequest::first(2));
    let page = persist(|| feeds.aggregated_page(feed, request.clone())).await?;
    let read: Vec<bool> = page.groups.iter().map(|group| group.is_read).collect();
    let expected: Vec<bool> = [true, false].into_iter().take(days).collect();
    mismatches.unless(page.unseen == 0 && page.unread == days.saturating_sub(1) && read == expected, || {
        format!("{feed} has {} days unseen and {} of {days} unread: {read:?}", page.unseen, page.unread)
    });
    Ok(())
}
