//! A page of an aggregated or notification feed.
//!
//! Order: the group with the newest activity first; within it the newest activity first. Activities are shown only if
//! they say themselves that they lie there, as everywhere, so a removal is seen at once; a count follows when the
//! removal's job has cleaned up, which for up to a thousand followers it has when the call returns.

use std::collections::BTreeMap;

use keevo_core::{Engine, Error, Result};

use super::window::{Gathered, Window};
use super::{GroupId, GroupKind, template};
use crate::activity::Activity;
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::read::PageRequest;
use crate::rows::ActivityRow;
use crate::time::ActivityTime;

/// The most activities of one group on a page.
pub const ACTIVITIES_IN_GROUP_MAX: usize = 100;
/// The most activities that are read for a page at once.
const READ_AT_ONCE: usize = 4_000;

/// Which part of an aggregated feed to read.
#[derive(Debug, Clone)]
pub struct AggregatedRequest {
    /// Which groups.
    pub page: PageRequest<GroupId>,
    /// The most activities shown of a group, 1 to 100.
    pub activities_max: usize,
}

impl Default for AggregatedRequest {
    fn default() -> Self {
        PageRequest::default().into()
    }
}

impl From<PageRequest<GroupId>> for AggregatedRequest {
    /// These groups, with up to 15 activities of each.
    fn from(page: PageRequest<GroupId>) -> Self {
        Self { page, activities_max: 15 }
    }
}

/// Activities that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityGroup {
    /// Names the group within the feed.
    pub id: GroupId,
    /// The text that gathers its activities.
    pub group: String,
    /// The verb of the newest activity.
    pub verb: String,
    /// The newest activities.
    pub activities: Vec<Activity>,
    /// How many activities it has.
    pub activity_count: usize,
    /// How many different actors they have.
    pub actor_count: usize,
    /// The time of the oldest activity.
    pub created_at: ActivityTime,
    /// The time of the newest activity.
    pub updated_at: ActivityTime,
    /// Whether it was marked as seen since its last activity came.
    pub is_seen: bool,
    /// Whether it was marked as read since its last activity came.
    pub is_read: bool,
}

/// A page of groups.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregatedPage {
    /// The groups, that with the newest activity first.
    pub groups: Vec<ActivityGroup>,
    /// Pass it as `id_lt` to read on; `None` at the end of what was asked for.
    pub next: Option<GroupId>,
    /// How many groups of the feed are not seen.
    pub unseen: usize,
    /// How many groups of the feed are not read.
    pub unread: usize,
    /// Up to where the answer has seen arrivals; [`Feeds::mark`] takes it.
    pub seen_to: u64,
}

type Rows = BTreeMap<ActivityId, Option<ActivityRow>>;

impl<E: Engine> Feeds<E> {
    /// A page of an aggregated or notification feed. `Invalid` for a flat one, and for an id in `id_…` of a group that
    /// the feed does not have.
    ///
    /// The feed's newest 10,000 activities are gathered.
    pub async fn aggregated_page(&self, feed: &FeedId, request: AggregatedRequest) -> Result<AggregatedPage> {
        self.check_request(feed, &request)?;
        let asked = &request.page;
        let window = self.window(feed, asked.consistency).await?;
        let marks = self.marks(feed, asked.consistency).await?;
        let (start, end) = range(&window, asked)?;
        let mut page = AggregatedPage { groups: Vec::new(), next: None, unseen: 0, unread: 0, seen_to: window.arrived };
        for group in &window.groups {
            let (seen, read) = marks.of(group);
            page.unseen += usize::from(!seen);
            page.unread += usize::from(!read);
        }
        let mut skip = asked.offset;
        let wanted = asked.limit + 1;
        let mut rest = window.groups.get(start..end).unwrap_or_default();
        while !rest.is_empty() && page.groups.len() < wanted {
            let at_once = (READ_AT_ONCE / request.activities_max).min(wanted - page.groups.len() + skip).max(1);
            let (now, later) = rest.split_at(at_once.min(rest.len()));
            rest = later;
            for (gathered, shown) in now.iter().zip(self.show(feed, now, &request).await?) {
                let (is_seen, is_read) = marks.of(gathered);
                let Some(group) = shown else {
                    // All of it was removed and is not cleaned up yet.
                    page.unseen -= usize::from(!is_seen);
                    page.unread -= usize::from(!is_read);
                    continue;
                };
                if skip > 0 {
                    skip -= 1;
                } else if page.groups.len() < wanted {
                    page.groups.push(ActivityGroup { is_seen, is_read, ..group });
                }
            }
        }
        if page.groups.len() == wanted {
            page.groups.truncate(asked.limit);
            page.next = page.groups.last().map(|last| last.id);
        }
        Ok(page)
    }

    fn check_request(&self, feed: &FeedId, request: &AggregatedRequest) -> Result<()> {
        if self.groups().kind(feed.slug()) == GroupKind::Flat {
            return Err(Error::invalid(format!("the feed {feed} is flat: it has no groups")));
        }
        request.page.check()?;
        if request.activities_max == 0 || request.activities_max > ACTIVITIES_IN_GROUP_MAX {
            return Err(Error::invalid(format!("of a group 1 to {ACTIVITIES_IN_GROUP_MAX} activities are shown")));
        }
        Ok(())
    }

    /// The groups with their newest activities; `None` for one that has none left.
    async fn show(
        &self,
        feed: &FeedId,
        groups: &[Gathered],
        request: &AggregatedRequest,
    ) -> Result<Vec<Option<ActivityGroup>>> {
        // The newest of each, and one more to tell how old the group is.
        let mut newest: Vec<ActivityId> = Vec::new();
        for group in groups {
            let mut ids = group.activities.iter().map(|(id, _)| *id);
            newest.extend(ids.by_ref().take(request.activities_max));
            newest.extend(ids.next_back());
        }
        let mut rows = self.rows(newest, request.page.consistency).await?;
        let mut shown = Vec::with_capacity(groups.len());
        for group in groups {
            let mut picked = pick(feed, group, &rows, request.activities_max)?;
            if picked.activities.len() < request.activities_max && picked.unread > 0 {
                // Some of the newest are removed: look at all of the group.
                let all: Vec<ActivityId> = group.activities.iter().map(|(id, _)| *id).collect();
                rows.extend(self.rows(all, request.page.consistency).await?);
                picked = pick(feed, group, &rows, request.activities_max)?;
            }
            shown.push(picked.into_group(feed, group));
        }
        Ok(shown)
    }
}

/// What could be picked of a group from the activities that were read.
struct Picked {
    activities: Vec<Activity>,
    /// Activities known to be gone.
    gone: usize,
    /// Activities that were not read.
    unread: usize,
    oldest: Option<ActivityTime>,
}

impl Picked {
    fn into_group(self, feed: &FeedId, group: &Gathered) -> Option<ActivityGroup> {
        let newest = self.activities.first()?;
        let activity_count = group.activities.len() - self.gone;
        Some(ActivityGroup {
            id: group.id,
            group: template::shown(&group.text, feed),
            verb: newest.verb.clone(),
            activity_count,
            actor_count: group.actors.len().min(activity_count),
            created_at: self.oldest.unwrap_or(newest.time),
            updated_at: newest.time,
            is_seen: false,
            is_read: false,
            activities: self.activities,
        })
    }
}

fn pick(feed: &FeedId, group: &Gathered, rows: &Rows, most: usize) -> Result<Picked> {
    let mut picked = Picked { activities: Vec::new(), gone: 0, unread: 0, oldest: None };
    for (id, through) in &group.activities {
        let Some(read) = rows.get(id) else {
            picked.unread += 1;
            continue;
        };
        let placed = through.iter().find_map(|key| {
            let row = read.as_ref()?;
            row.is_placed(key.source.as_ref().unwrap_or(feed), key.generation).then_some((row, key))
        });
        let Some((row, key)) = placed else {
            picked.gone += 1;
            continue;
        };
        picked.oldest = Some(id.time());
        if picked.activities.len() < most {
            picked.activities.push(Activity::from_row(*id, row, key.source.clone())?);
        }
    }
    Ok(picked)
}

/// The groups asked for, as a range of the window's.
fn range(window: &Window, request: &PageRequest<GroupId>) -> Result<(usize, usize)> {
    let at = |id: GroupId| {
        let found = window.groups.iter().position(|group| group.id == id);
        found.ok_or_else(|| Error::invalid(format!("the feed has no group {id}: begin again with its first page")))
    };
    let mut start = 0;
    let mut end = window.groups.len();
    if let Some(id) = request.id_lt {
        start = start.max(at(id)? + 1);
    }
    if let Some(id) = request.id_lte {
        start = start.max(at(id)?);
    }
    if let Some(id) = request.id_gt {
        end = end.min(at(id)?);
    }
    if let Some(id) = request.id_gte {
        end = end.min(at(id)? + 1);
    }
    Ok((start, end.max(start)))
}
