//! Feeds: every timeline, every package's own feed, every follow; what readers see is in `readers`.

use std::collections::BTreeSet;

use keevo_core::{AnyEngine, Result};
use keevo_feeds::{Activity, ActivityId, FeedId, Feeds, ListRequest, PageRequest};

use super::{Mismatches, PAGE, sum};
use crate::bars::Bars;
use crate::changelog::Change;
use crate::load::persist;
use crate::packages::Package;
use crate::plan::{
    FOLLOWERS, LINE, Plan, VERB, aggregated_feed, foreign_id, notification_feed, time_of, timeline_feed, user_feed,
};

/// Reads every timeline; how many entries they have together.
pub(super) async fn timelines(
    feeds: &Feeds<AnyEngine>,
    plan: &Plan<'_>,
    bars: &Bars,
    mismatches: &Mismatches,
) -> Result<usize> {
    let packages = &plan.dataset().packages;
    let bar = bars.bar("verified timelines", packages.len());
    let shown = &bar;
    let read = packages.iter().map(|package| async move {
        let (feed, expected) = (timeline_feed(&package.name)?, plan.timeline(package)?);
        let count = compare(feeds, plan, &feed, &expected, true, mismatches).await?;
        shown.inc(1);
        Ok(count)
    });
    let count = sum(read).await?;
    bar.finish();
    Ok(count)
}

/// Reads the own feed of every package that has changes; how many activities they have together.
pub(super) async fn own_feeds(
    feeds: &Feeds<AnyEngine>,
    plan: &Plan<'_>,
    bars: &Bars,
    mismatches: &Mismatches,
) -> Result<usize> {
    let packages: Vec<&str> = plan.changed().collect();
    let bar = bars.bar("verified activities", packages.len());
    let shown = &bar;
    let read = packages.iter().map(|package| async move {
        let (feed, expected) = (user_feed(package)?, plan.own(package)?);
        let count = compare(feeds, plan, &feed, &expected, false, mismatches).await?;
        shown.inc(1);
        Ok(count)
    });
    let count = sum(read).await?;
    bar.finish();
    Ok(count)
}

/// Reads what every package follows, and how many follow each; how many follows there are.
pub(super) async fn follows(
    feeds: &Feeds<AnyEngine>,
    plan: &Plan<'_>,
    bars: &Bars,
    mismatches: &Mismatches,
) -> Result<usize> {
    let packages = &plan.dataset().packages;
    let followed: BTreeSet<&str> = packages.iter().flat_map(|one| &one.depends).map(String::as_str).collect();
    let readers = plan.readers().iter().flat_map(|package| {
        [aggregated_feed(&package.name), notification_feed(&package.name)].map(|feed| (feed, *package))
    });
    let followers: Vec<(Result<FeedId>, &Package)> =
        packages.iter().map(|package| (timeline_feed(&package.name), package)).chain(readers).collect();
    let bar = bars.bar("verified follows", followers.len() + followed.len());
    let shown = &bar;
    let read = followers.into_iter().map(|(feed, package)| async move {
        let count = compare_follows(feeds, &feed?, package, mismatches).await?;
        shown.inc(1);
        Ok(count)
    });
    let count = sum(read).await?;
    let counted = followed.iter().map(|package| async move {
        let (feed, followers) = (user_feed(package)?, plan.following_feeds(package));
        let stats = persist(|| feeds.follow_stats(&feed, &[], &[])).await?;
        mismatches.unless(stats.followers == followers && stats.following == 0, || {
            format!("{feed} has {} followers and follows {}, not {followers} and 0", stats.followers, stats.following)
        });
        shown.inc(1);
        Ok(0)
    });
    sum(counted).await?;
    bar.finish();
    Ok(count)
}

/// Reads the list of what a feed of a package follows, and compares it with what the package depends on.
async fn compare_follows(
    feeds: &Feeds<AnyEngine>,
    feed: &FeedId,
    package: &Package,
    mismatches: &Mismatches,
) -> Result<usize> {
    let mut stored: Vec<FeedId> = Vec::new();
    let mut request = ListRequest { limit: PAGE, ..ListRequest::default() };
    loop {
        let page = persist(|| feeds.following(feed, request.clone())).await?;
        stored.extend(page.follows.into_iter().map(|follow| follow.target));
        match page.next {
            Some(next) => request.after = Some(next),
            None => break,
        }
    }
    let expected: BTreeSet<FeedId> = package.depends.iter().map(|name| user_feed(name)).collect::<Result<_>>()?;
    let found: BTreeSet<FeedId> = stored.iter().cloned().collect();
    for missing in expected.difference(&found) {
        mismatches.add(format!("{feed} does not follow {missing}"));
    }
    for strange in found.difference(&expected) {
        mismatches.add(format!("{feed} follows {strange}, which nobody asked for"));
    }
    mismatches.unless(stored.len() == found.len(), || format!("{feed} lists a follow twice"));
    Ok(stored.len())
}

/// Reads a feed to its end and compares it with what it must show, in that order; how many entries it has.
async fn compare(
    feeds: &Feeds<AnyEngine>,
    plan: &Plan<'_>,
    feed: &FeedId,
    expected: &[(ActivityId, &Change)],
    followed: bool,
    mismatches: &Mismatches,
) -> Result<usize> {
    let mut request = PageRequest::first(PAGE);
    let mut stored: Vec<Activity> = Vec::new();
    loop {
        let page = persist(|| feeds.page(feed, request.clone())).await?;
        stored.extend(page.activities);
        match page.next {
            Some(last) => request = PageRequest::after(last, PAGE),
            None => break,
        }
    }
    mismatches.unless(stored.len() == expected.len(), || {
        format!("{feed} has {} entries, not {}", stored.len(), expected.len())
    });
    for (place, (activity, (id, change))) in stored.iter().zip(expected).enumerate() {
        if !is_of(plan, activity, *id, change, followed)? {
            let (object, id) = (&activity.object, activity.id);
            mismatches.add(format!("{feed} has at place {place} {object} of {id}, not {}", foreign_id(change)));
            // What follows may just be one place off.
            break;
        }
    }
    Ok(stored.len())
}

/// Whether it is the activity of the change, as it came through a follow or as the feed itself holds it.
pub(super) fn is_of(
    plan: &Plan<'_>,
    activity: &Activity,
    id: ActivityId,
    change: &Change,
    followed: bool,
) -> Result<bool> {
    let followers = activity.custom.get(FOLLOWERS).and_then(serde_json::Value::as_u64);
    let line = activity.custom.get(LINE).and_then(serde_json::Value::as_str);
    let origin = if followed { Some(user_feed(&change.package)?) } else { None };
    Ok(activity.id == id
        && activity.actor == change.maintainer
        && activity.verb == VERB
        && activity.object == format!("{} {}", change.package, change.version)
        && activity.foreign_id == foreign_id(change)
        && activity.time == time_of(change)?
        && activity.origin == origin
        && followers == Some(plan.followers(&change.package))
        && line == Some(change.line.as_str()))
}
