//! Changes of feeds, read from the engine's changes: what whoever watches the keyspace of feeds looks for.
//!
//! Invariant: a change is told from the key alone, so a watcher that drops the feeds it does not care for reads nothing.

use keevo_core::{Change, CommitEvent};

use crate::feed_id::FeedId;
use crate::ids::{ActivityId, AppId};
use crate::keys::{self, TIMELINE};

/// An activity that came into a feed, or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedChange {
    /// The app.
    pub app: AppId,
    /// The feed.
    pub feed: FeedId,
    /// The activity.
    pub activity: ActivityId,
    /// Whether it came.
    pub added: bool,
}

impl FeedChange {
    /// The change of a feed that a commit in the keyspace of feeds is, or `None`: most commits are bookkeeping.
    /// An activity that reaches a feed in two ways comes twice.
    pub fn of(event: &CommitEvent) -> Option<Self> {
        let sort = event.key.sort.as_ref();
        if !sort.starts_with(TIMELINE) {
            return None;
        }
        let added = match event.change {
            Change::Put { .. } => true,
            Change::Delete => false,
            Change::DeleteRange { .. } => return None,
        };
        let (app, feed) = keys::parse_feed(&event.key.partition)?;
        let row = keys::parse_timeline(sort).ok()?;
        Some(Self { app, feed, activity: row.id, added })
    }
}
