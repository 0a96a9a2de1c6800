//! What a store must answer when the data set was loaded into it, computed from the input alone.
//!
//! Invariant: nothing here asks an engine. A timeline is the union of its packages' changes, newest first; a channel
//! numbers the mails that start threads by their time, and each thread its replies.

mod readers;

use std::collections::BTreeMap;

use keevo_chat::{ChannelId, NewMessage};
use keevo_core::{Error, Result};
use keevo_feeds::{ActivityId, ActivityTime, AppId, FeedId, Identity, NewActivity};
use serde_json::{Map, Value};

use crate::changelog::Change;
use crate::dataset::Dataset;
use crate::mails::Mail;
use crate::packages::{Package, follower_counts};
pub use readers::DayPlan;
pub(crate) use readers::{aggregated_feed, notification_feed};

/// The app that the demo's feeds belong to.
pub(crate) const FEEDS_APP: AppId = AppId(1);
/// The app that the demo's channels belong to.
pub(crate) const CHAT_APP: keevo_chat::AppId = keevo_chat::AppId(1);
/// What a changelog entry does.
pub(crate) const VERB: &str = "release";
/// The custom field with the entry's first line.
pub(crate) const LINE: &str = "line";
/// The custom field with how many packages depend on the changed one.
pub(crate) const FOLLOWERS: &str = "followers";

/// The plan of a data set.
#[derive(Debug)]
pub struct Plan<'a> {
    dataset: &'a Dataset,
    changes: BTreeMap<&'a str, Vec<&'a Change>>,
    followers: BTreeMap<&'a str, u64>,
    readers: Vec<&'a Package>,
}

/// A channel as it must be.
#[derive(Debug)]
pub struct ChannelPlan<'a> {
    /// Its name.
    pub id: ChannelId,
    /// The mails that start threads; the first has number 1.
    pub own: Vec<&'a Mail>,
    /// Replies by the id of the mail they reply to; the first has number 1.
    pub replies: BTreeMap<&'a str, Vec<&'a Mail>>,
}

impl<'a> Plan<'a> {
    /// The plan of a data set.
    pub fn new(dataset: &'a Dataset) -> Self {
        let mut changes: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
        for change in &dataset.changes {
            changes.entry(&change.package).or_default().push(change);
        }
        let entries = |name: &String| changes.get(name.as_str()).map_or(0, Vec::len);
        let readers = readers::most_watching(&dataset.packages, |package| package.depends.iter().map(entries).sum());
        Self { dataset, followers: follower_counts(&dataset.packages), readers, changes }
    }

    /// The data set.
    pub fn dataset(&self) -> &'a Dataset {
        self.dataset
    }

    /// What the timeline of a package shows, in its order.
    pub fn timeline(&self, package: &Package) -> Result<Vec<(ActivityId, &'a Change)>> {
        let followed = package.depends.iter().filter_map(|name| self.changes.get(name.as_str()));
        let mut entries: Vec<(ActivityId, &Change)> =
            followed.flatten().map(|change| Ok((activity_id(change)?, *change))).collect::<Result<_>>()?;
        entries.sort_by_key(|(id, _)| std::cmp::Reverse(id.order_key()));
        Ok(entries)
    }

    /// The packages that have changes, by name.
    pub fn changed(&self) -> impl Iterator<Item = &'a str> {
        self.changes.keys().copied()
    }

    /// What a package's own feed shows, in its order.
    pub fn own(&self, package: &str) -> Result<Vec<(ActivityId, &'a Change)>> {
        let changes = self.changes.get(package).into_iter().flatten();
        let mut entries: Vec<(ActivityId, &Change)> =
            changes.map(|change| Ok((activity_id(change)?, *change))).collect::<Result<_>>()?;
        entries.sort_by_key(|(id, _)| std::cmp::Reverse(id.order_key()));
        Ok(entries)
    }

    /// The activity that a change becomes.
    pub(crate) fn activity(&self, change: &Change) -> Result<NewActivity> {
        let object = format!("{} {}", change.package, change.version);
        let new = NewActivity::new(&change.maintainer, VERB, object);
        let mut new = new.identified(foreign_id(change), time_of(change)?);
        new.custom = Map::from_iter([
            (LINE.to_owned(), Value::from(change.line.as_str())),
            (FOLLOWERS.to_owned(), Value::from(self.followers(&change.package))),
        ]);
        Ok(new)
    }

    /// How many entries all feeds have together to which changes are fanned out: timelines, and those of readers.
    pub fn timeline_entries(&self) -> usize {
        let entries = |package: &Package| {
            let of = |name: &String| self.changes.get(name.as_str()).map_or(0, Vec::len);
            package.depends.iter().map(of).sum::<usize>()
        };
        let readers = self.readers.iter().map(|package| 2 * entries(package)).sum::<usize>();
        self.dataset.packages.iter().map(entries).sum::<usize>() + readers
    }

    /// How many follows there are: of timelines, and of the two feeds of each reader.
    pub fn follows(&self) -> usize {
        self.dataset.follows() + self.readers.iter().map(|package| 2 * package.depends.len()).sum::<usize>()
    }

    /// The package whose timeline is the longest.
    pub fn longest_timeline(&self) -> Option<&'a Package> {
        self.readers.first().copied()
    }

    /// The channels, by name.
    pub fn channels(&self) -> Result<Vec<ChannelPlan<'a>>> {
        let mut lists: BTreeMap<&str, ChannelPlan<'a>> = BTreeMap::new();
        for mail in &self.dataset.mails {
            if !lists.contains_key(mail.list.as_str()) {
                let id = ChannelId::new("list", &mail.list)?;
                lists.insert(&mail.list, ChannelPlan { id, own: Vec::new(), replies: BTreeMap::new() });
            }
            let Some(channel) = lists.get_mut(mail.list.as_str()) else { continue };
            match &mail.parent {
                Some(parent) => channel.replies.entry(parent).or_default().push(mail),
                None => channel.own.push(mail),
            }
        }
        Ok(lists.into_values().collect())
    }
}

impl<'a> ChannelPlan<'a> {
    /// All of its mails in the order they are sent: those that start threads, then the replies.
    pub fn mails(&self) -> impl Iterator<Item = &'a Mail> {
        let replies = self.replies.values().flatten().copied().collect::<Vec<_>>();
        self.own.clone().into_iter().chain(replies)
    }

    /// Everybody who wrote to it, by name.
    pub fn senders(&self) -> std::collections::BTreeSet<&'a str> {
        self.mails().map(|mail| mail.from.as_str()).collect()
    }
}

/// A package's name as part of a feed's name: `.` is written `_d`, `+` is `_p`, `_` is `__`, anything else that feeds
/// refuse its code point between underscores. No two names are written alike.
pub fn feed_name(package: &str) -> String {
    let mut name = String::with_capacity(package.len());
    for c in package.chars() {
        match c {
            '.' => name.push_str("_d"),
            '+' => name.push_str("_p"),
            '_' => name.push_str("__"),
            c if c.is_ascii_alphanumeric() || c == '-' => name.push(c),
            c => name.extend([format!("_x{:x}_", u32::from(c))]),
        }
    }
    name
}

/// The feed that shows what a package depends on.
pub(crate) fn timeline_feed(package: &str) -> Result<FeedId> {
    FeedId::new("timeline", &feed_name(package))
}

/// The feed of a package's own changes.
pub(crate) fn user_feed(package: &str) -> Result<FeedId> {
    FeedId::new("user", &feed_name(package))
}

/// A change's own id.
pub(crate) fn foreign_id(change: &Change) -> String {
    format!("{}:{}", change.package, change.version)
}

/// When a change was made.
pub(crate) fn time_of(change: &Change) -> Result<ActivityTime> {
    ActivityTime::from_micros(change.time.saturating_mul(1_000_000))
}

/// The message that a mail becomes.
pub(crate) fn message(mail: &Mail) -> Result<NewMessage> {
    let created_at_ms = u64::try_from(mail.time.max(0)).unwrap_or_default().saturating_mul(1_000);
    let mut new = NewMessage::new(&mail.from, &mail.text).with_id(&mail.id);
    new.parent_id.clone_from(&mail.parent);
    new.created_at_ms = Some(created_at_ms);
    let subject = Map::from_iter([("subject".to_owned(), Value::from(mail.subject.as_str()))]);
    new.custom = Some(
        serde_json::to_string(&subject)
            .map_err(|error| Error::invalid("a subject cannot be written as JSON").with_source(error))?,
    );
    Ok(new)
}

fn activity_id(change: &Change) -> Result<ActivityId> {
    Ok(ActivityId::compute(FEEDS_APP, time_of(change)?, Identity::ForeignId(&foreign_id(change))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names_become_feed_names_without_clashes() {
        for (package, name) in
            [("libc6", "libc6"), ("g++-12", "g_p_p-12"), ("python3.11", "python3_d11"), ("a_é", "a___xe9_")]
        {
            assert_eq!(feed_name(package), name);
            assert!(timeline_feed(package).is_ok());
        }
    }
}
