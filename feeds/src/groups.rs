//! Feed groups: what a slug's feeds are, and how they gather activities.
//!
//! The text that gathers activities is rendered when an activity reaches a feed, and kept in its timeline row. So a page
//! of groups reads rows only, and a template that is changed applies to what comes later.
//!
//! Invariant: groups are what the timeline rows say, at every read. Nothing is counted apart from them, so nothing drifts.

mod marks;
mod page;
mod template;
mod window;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use keevo_core::{Consistency, Engine, Error, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::ids::{ActivityId, spread, spread_wide};
use crate::rows::{ActivityRow, TimelineRow, encode};

pub use marks::{MARK_GROUPS_MAX, Mark, Marks};
pub use page::{ACTIVITIES_IN_GROUP_MAX, ActivityGroup, AggregatedPage, AggregatedRequest};
pub use template::{TEMPLATE_BYTES_MAX, Template};
pub use window::AGGREGATED_ROWS_MAX;

/// The most activities to which a feed can be limited.
pub const TIMELINE_MAX: usize = 10_000;

/// How the feeds of a group show their activities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// One by one. Only such feeds can be followed.
    #[default]
    Flat,
    /// In groups, by a template.
    Aggregated,
    /// In groups that are seen and read.
    Notification,
}

/// A feed group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupConfig {
    /// How its feeds show their activities.
    pub kind: GroupKind,
    /// What gathers activities, unless they are shown one by one.
    pub aggregation: Template,
    /// Above how many followers a feed is merged by its readers instead of being written to each flat follower; `None`
    /// = never. One that is merged is written again when it has fewer than half as many. Looked at after each post.
    pub merge_above: Option<u64>,
    /// How many of its newest activities a feed shows, up to 10,000; `None` = all.
    pub timeline_max: Option<usize>,
}

impl GroupConfig {
    /// A group whose feeds show their activities one by one.
    pub fn flat() -> Self {
        Self::default()
    }

    /// A group of that kind.
    pub fn new(kind: GroupKind, aggregation: Template) -> Self {
        Self { kind, aggregation, ..Self::default() }
    }
}

/// The feed groups of an app, by slug. Slugs without an entry count as flat.
///
/// ```
/// # use keevo_feeds::{GroupKind, Groups};
/// let groups = Groups::default();
/// assert_eq!(groups.kind("notification"), GroupKind::Notification);
/// assert_eq!(groups.kind("of my own"), GroupKind::Flat);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups(BTreeMap<String, GroupConfig>);

impl Groups {
    /// These groups.
    pub fn new(groups: impl IntoIterator<Item = (String, GroupConfig)>) -> Self {
        Self(groups.into_iter().collect())
    }

    /// How the feeds of a slug show their activities.
    pub fn kind(&self, slug: &str) -> GroupKind {
        self.0.get(slug).map_or(GroupKind::Flat, |group| group.kind)
    }

    /// Above how many followers a feed of a slug is merged by its readers.
    pub(crate) fn merge_above(&self, slug: &str) -> Option<u64> {
        self.0.get(slug).and_then(|group| group.merge_above)
    }

    /// How many of its newest activities a feed of a slug shows.
    pub(crate) fn timeline_max(&self, slug: &str) -> Option<usize> {
        self.0.get(slug).and_then(|group| group.timeline_max).map(|max| max.clamp(1, TIMELINE_MAX))
    }

    /// The slugs whose feeds gather their activities, in the order in which names of such feeds sort.
    pub(crate) fn gathering(&self) -> Vec<&str> {
        let gathers = self.0.iter().filter(|(_, group)| group.kind != GroupKind::Flat);
        let mut slugs: Vec<&str> = gathers.map(|(slug, _)| slug.as_str()).collect();
        slugs.sort_by_key(|slug| format!("{slug}:"));
        slugs
    }

    /// The template of a slug whose feeds gather their activities.
    pub(crate) fn template(&self, slug: &str) -> Option<&Template> {
        self.0.get(slug).filter(|group| group.kind != GroupKind::Flat).map(|group| &group.aggregation)
    }
}

impl Default for Groups {
    /// `user`, `timeline` and `flat`, which are flat, `aggregated` and `notification`.
    fn default() -> Self {
        let flat = ["user", "timeline", "flat"].map(|slug| (slug.to_owned(), GroupConfig::flat()));
        let gathered = [("aggregated", GroupKind::Aggregated), ("notification", GroupKind::Notification)]
            .map(|(slug, kind)| (slug.to_owned(), GroupConfig::new(kind, Template::default())));
        Self::new(flat.into_iter().chain(gathered))
    }
}

/// Names a group of activities within its feed; follows from the text that gathers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(Uuid);

impl GroupId {
    /// The id of the group that a text gathers.
    pub(crate) fn of(text: &str) -> Self {
        Self(uuid::Builder::from_custom_bytes(spread_wide(text)).into_uuid())
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    pub(crate) fn from_stored(bytes: &[u8]) -> Result<Self> {
        Uuid::from_slice(bytes).map(Self).map_err(|error| Error::corrupt("a mark names no group").with_source(error))
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for GroupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|error| Error::invalid(format!("{text:?} is no group's id")).with_source(error))
    }
}

impl<E: Engine> Feeds<E> {
    /// The feed groups, as this handle and its clones know them.
    pub fn groups(&self) -> Arc<Groups> {
        Arc::clone(&self.inner.groups.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the feed groups, for this handle and its clones. What lies in feeds already keeps the groups it is in.
    pub fn set_groups(&self, groups: Groups) {
        *self.inner.groups.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(groups);
        self.inner.knows_groups.store(true, Ordering::Release);
    }

    /// Whether the groups are those of the app, and not those to begin with.
    pub(crate) fn knows_groups(&self) -> bool {
        self.inner.knows_groups.load(Ordering::Acquire)
    }

    /// What the timeline rows of activities hold in feeds of a slug: nothing where it shows them one by one. Activities
    /// that are gone have none.
    pub(crate) async fn row_values(&self, slug: &str, ids: &[ActivityId]) -> Result<BTreeMap<ActivityId, Bytes>> {
        let groups = self.groups();
        let Some(template) = groups.template(slug) else { return Ok(BTreeMap::new()) };
        let rows = self.rows(ids.iter().copied(), Consistency::Linearizable).await?;
        let found = rows.into_iter().filter_map(|(id, row)| Some((id, row?)));
        found.map(|(id, row)| Ok((id, encode(&gathered(template, slug, id, &row)?)))).collect()
    }

    /// Refuses to follow a feed that gathers its activities.
    pub(crate) fn check_followable(&self, target: &FeedId) -> Result<()> {
        if self.groups().kind(target.slug()) == GroupKind::Flat {
            return Ok(());
        }
        Err(Error::invalid(format!("{target} cannot be followed: only flat feeds can, and its group is not flat")))
    }
}

/// The timeline row of an activity in feeds of a slug.
pub(crate) fn gathered(template: &Template, slug: &str, id: ActivityId, row: &ActivityRow) -> Result<TimelineRow> {
    Ok(TimelineRow { group: template.render(slug, id, row)?, actor: spread(&row.actor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_ids_are_golden_and_read_back() {
        let id = GroupId::of("like_2026-05-01");
        expect_test::expect!["472c9fca-d236-8a5b-99d0-ac0ffd4e7f02"].assert_eq(&id.to_string());
        assert_eq!(id.to_string().parse::<GroupId>().expect("an id"), id);
        assert_ne!(id, GroupId::of("like_2026-05-02"));
        assert!("like".parse::<GroupId>().is_err());
    }

    #[test]
    fn a_feed_is_limited_to_one_activity_at_least_and_ten_thousand_at_most() {
        for (asked, most) in [(None, None), (Some(0), Some(1)), (Some(7), Some(7)), (Some(10_001), Some(10_000))] {
            let group = GroupConfig { timeline_max: asked, ..GroupConfig::flat() };
            let groups = Groups::new([("timeline".to_owned(), group)]);
            assert_eq!(groups.timeline_max("timeline"), most, "{asked:?}");
        }
    }
}
