//! Readers: the packages that watch the most, and what their aggregated, notification and ranked feeds show.
//!
//! | feed | shows |
//! | --- | --- |
//! | `aggregated:‹package›` | the changes of what it depends on, gathered by day |
//! | `notification:‹package›` | the same, with what is seen and read |
//! | `timeline:‹package›`, ranked | the changes by how many packages depend on them, and by age |
//!
//! Invariant: as everywhere in a plan, no engine is asked: days and scores are computed from the input here.

use std::collections::{BTreeMap, BTreeSet};

use keevo_core::{Error, Result};
use keevo_feeds::{ActivityId, FeedId, Ranking};
use serde_json::json;

use super::{Plan, VERB, feed_name};
use crate::changelog::Change;
use crate::packages::Package;

/// How many packages have an aggregated and a notification feed.
const READERS: usize = 40;
/// After how many days a change counts half of what it did.
const HALF_AFTER_DAYS: u32 = 730;
const DAY_S: f64 = 86_400.0;

/// What a gathered feed shows of one day.
#[derive(Debug)]
pub struct DayPlan<'a> {
    /// The text that gathers it: the verb and the day.
    pub group: String,
    /// The changes of that day, newest first.
    pub changes: Vec<(ActivityId, &'a Change)>,
}

impl DayPlan<'_> {
    /// How many different people made its changes.
    pub fn maintainers(&self) -> usize {
        self.changes.iter().map(|(_, change)| change.maintainer.as_str()).collect::<BTreeSet<_>>().len()
    }
}

impl<'a> Plan<'a> {
    /// The packages with the longest timelines, longest first.
    pub fn readers(&self) -> &[&'a Package] {
        &self.readers
    }

    /// How many packages depend on one.
    pub(crate) fn followers(&self, package: &str) -> u64 {
        self.followers.get(package).copied().unwrap_or_default()
    }

    /// How many feeds follow a package's own: the timelines of what depends on it, and two feeds of each reader.
    pub(crate) fn following_feeds(&self, package: &str) -> u64 {
        let readers = self.readers.iter().filter(|reader| reader.depends.iter().any(|name| name == package)).count();
        self.followers(package) + 2 * u64::try_from(readers).unwrap_or(u64::MAX)
    }

    /// The days of a package's gathered feeds, newest first.
    pub fn days(&self, package: &Package) -> Result<Vec<DayPlan<'a>>> {
        let mut days: Vec<DayPlan<'_>> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (id, change) in self.timeline(package)? {
            let time = jiff::Timestamp::from_second(change.time)
                .map_err(|error| Error::invalid("a change has no time of this calendar").with_source(error))?;
            let group = format!("{VERB}_{}", time.to_zoned(jiff::tz::TimeZone::UTC).date());
            let place = *places.entry(group.clone()).or_insert(days.len());
            match days.get_mut(place) {
                Some(day) => day.changes.push((id, change)),
                None => days.push(DayPlan { group, changes: vec![(id, change)] }),
            }
        }
        Ok(days)
    }

    /// The ranking of the demo: what more packages depend on counts more, and what is older less.
    pub fn ranking(&self) -> Result<Ranking> {
        let fresh = json!({
            "base": "decay_gauss", "scale": format!("{HALF_AFTER_DAYS}d"), "decay": "0.5", "origin": self.newest(),
        });
        Ranking::from_json(&json!({
            "score": "log(1 + followers) * fresh(time)", "defaults": {"followers": 0}, "functions": {"fresh": fresh},
        }))
    }

    /// The score that a change has in it.
    pub(crate) fn score(&self, change: &Change) -> f64 {
        let halves = (exact(self.newest()) - exact(change.time)) / (f64::from(HALF_AFTER_DAYS) * DAY_S);
        (1.0 + exact(i64::try_from(self.followers(&change.package)).unwrap_or(i64::MAX))).log10()
            * 0.5_f64.powf(halves * halves)
    }

    /// When the newest change was made.
    fn newest(&self) -> i64 {
        self.dataset.changes.iter().map(|change| change.time).max().unwrap_or_default()
    }
}

/// The feed that gathers by day what a package depends on.
pub(crate) fn aggregated_feed(package: &str) -> Result<FeedId> {
    FeedId::new("aggregated", &feed_name(package))
}

/// The same with what is seen and read.
pub(crate) fn notification_feed(package: &str) -> Result<FeedId> {
    FeedId::new("notification", &feed_name(package))
}

/// The packages with the most entries in their timelines; those without any are none.
pub(super) fn most_watching(packages: &[Package], entries: impl Fn(&Package) -> usize) -> Vec<&Package> {
    let mut readers: Vec<(usize, &Package)> = packages.iter().map(|package| (entries(package), package)).collect();
    readers.retain(|(count, _)| *count > 0);
    readers.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));
    readers.into_iter().take(READERS).map(|(_, package)| package).collect()
}

#[allow(clippy::cast_precision_loss, reason = "seconds and counts have far fewer than 53 bits")]
fn exact(number: i64) -> f64 {
    number as f64
}
