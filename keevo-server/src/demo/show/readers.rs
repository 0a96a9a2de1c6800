//! What the package with the longest timeline reads: days, notifications, and what matters most.

use keevo_core::Result;
use keevo_demo::{Loader, Plan, feed_name};
use keevo_feeds::{ActivityGroup, AggregatedRequest, FeedId, PageRequest, RankedRequest};

use super::{PAGE, Screen, start_of};

/// A page of its aggregated feed.
pub(in crate::demo) async fn aggregated(screen: Screen, loader: &Loader, plan: &Plan<'_>) -> Result<()> {
    let Some(package) = plan.longest_timeline() else { return Ok(()) };
    let feed = FeedId::new("aggregated", &feed_name(&package.name))?;
    screen.title(&format!("{feed}: the same by day"))?;
    let request = AggregatedRequest::from(PageRequest::first(PAGE));
    for group in loader.feeds.aggregated_page(&feed, request).await?.groups {
        screen.say(&day(&group))?;
    }
    Ok(())
}

/// Its notification feed before and after it has looked at all of it and read the newest day. All other readers read
/// theirs as well.
pub(in crate::demo) async fn notifications(screen: Screen, loader: &Loader, plan: &Plan<'_>) -> Result<()> {
    let Some(package) = plan.longest_timeline() else { return Ok(()) };
    let feed = FeedId::new("notification", &feed_name(&package.name))?;
    screen.title(&format!("{feed}: what is new"))?;
    let request = AggregatedRequest::from(PageRequest::first(2));
    for when in ["before", "after all were seen and the newest was read"] {
        let page = loader.feeds.aggregated_page(&feed, request.clone()).await?;
        screen.say(&format!("{when}: {} days unseen, {} unread", page.unseen, page.unread))?;
        for group in &page.groups {
            screen.say(&format!("  {}{}", day(group), if group.is_read { "  (read)" } else { "" }))?;
        }
        if when == "before" {
            loader.read_notifications(plan).await?;
        }
    }
    Ok(())
}

/// Its timeline, ranked.
pub(in crate::demo) async fn ranked(screen: Screen, loader: &Loader, plan: &Plan<'_>) -> Result<()> {
    let Some(package) = plan.longest_timeline() else { return Ok(()) };
    let feed = FeedId::new("timeline", &feed_name(&package.name))?;
    screen.title(&format!("{feed}: ranked by dependents and age"))?;
    let request = RankedRequest { limit: PAGE, ..RankedRequest::default() };
    for ranked in loader.feeds.ranked_page(&feed, &plan.ranking()?, &request).await?.activities {
        let (activity, score) = (ranked.activity, ranked.score);
        let followers = activity.custom.get("followers").and_then(serde_json::Value::as_u64).unwrap_or_default();
        screen.say(&format!("{score:.3}  {}  {}, on which {followers} depend", activity.time, activity.object))?;
    }
    Ok(())
}

/// A day in one line.
fn day(group: &ActivityGroup) -> String {
    let objects: Vec<&str> = group.activities.iter().take(3).map(|activity| activity.object.as_str()).collect();
    let (activities, actors) = (group.activity_count, group.actor_count);
    format!("{}: {activities} by {actors}, {}", group.group, start_of(&objects.join(", "), 70))
}
