//! Reactions: likes, comments and whatever else users leave on activities and on each other's reactions.
//!
//! A reaction's home is the partition of its id: it says what is so, and every change is one batch there, with a
//! job. The job brings what follows from it to where it is read: the tally and the index of what it is on (its
//! *subject*: an activity or the parent reaction), the index of its user, and the activity in its target feeds.
//!
//! ```text
//! home x ‹id› ── version, state ──┬──> subject s: tally by kind, newest first by kind and by user
//!                                 ├──> user u: what the user left, newest first
//!                                 └──> activity "reaction:‹id›" in the target feeds
//! ```
//!
//! Invariants: each change raises the version, and the subject and the activity refuse what is of an older one, so a
//! step that comes late or twice changes nothing and counts never drift. A hard deletion closes the subject of the
//! children before it takes them out, so none is added behind it.

mod change;
mod list;
mod rows;
mod subject;
mod sync;
mod tally;
mod targets;

use keevo_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::feed_id::FeedId;
use crate::json::decode_object;
use crate::time::{ActivityTime, time_of_us};

pub use list::{REACTIONS_PAGE_MAX, ReactionPage, ReactionQuery, ReactionsOf};
pub(crate) use rows::{ReactionRow, State};
pub(crate) use subject::{LATEST_KEPT, OWN_KEPT, Subject};
pub(crate) use tally::{KindRow, RefRow, TallyRow};

/// How deep reactions may lie: one on an activity, a child, and a child of that.
pub const REACTION_LEVELS_MAX: u32 = 3;
/// The most target feeds of a reaction.
pub const TARGET_FEEDS_MAX: usize = 20;
/// The most kinds of reactions on one activity or reaction.
pub const KINDS_MAX: usize = 64;

/// What a reaction is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReactTo {
    /// An activity, by the text of its id; it need not exist.
    Activity(String),
    /// Another reaction, which must exist.
    Parent(String),
}

/// A reaction to add.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReaction {
    /// What kind, as "like"; 1 to 255 bytes.
    pub kind: String,
    /// What it is on.
    pub on: ReactTo,
    /// Whose it is.
    pub user_id: String,
    /// The application's own id; `None` = a new UUID.
    pub id: Option<String>,
    /// Any further fields.
    pub data: Map<String, Value>,
    /// Feeds that get an activity of it, up to 20.
    pub target_feeds: Vec<FeedId>,
    /// Further fields of that activity.
    pub target_feeds_extra_data: Map<String, Value>,
}

impl NewReaction {
    /// A reaction without data, under a new id.
    pub fn new(kind: impl Into<String>, on: ReactTo, user_id: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            on,
            user_id: user_id.into(),
            id: None,
            data: Map::new(),
            target_feeds: Vec::new(),
            target_feeds_extra_data: Map::new(),
        }
    }
}

/// What to change in a reaction; `None` = leave as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReactionChange {
    /// The new data, whole.
    pub data: Option<Map<String, Value>>,
    /// The new target feeds; the reaction's activity leaves the others.
    pub target_feeds: Option<Vec<FeedId>>,
    /// The new further fields of that activity.
    pub target_feeds_extra_data: Option<Map<String, Value>>,
}

/// A reaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Reaction {
    /// Its id.
    pub id: String,
    /// What kind.
    pub kind: String,
    /// The activity that it, or the reaction above it, is on.
    pub activity_id: String,
    /// The reaction that it is on; `None` = on the activity itself.
    pub parent: Option<String>,
    /// How deep it lies: 1 = on the activity itself.
    pub level: u32,
    /// Whose it is.
    pub user_id: String,
    /// Any further fields.
    pub data: Map<String, Value>,
    /// Feeds that hold an activity of it.
    pub target_feeds: Vec<FeedId>,
    /// Further fields of that activity.
    pub target_feeds_extra_data: Map<String, Value>,
    /// When it was added.
    pub created_at: ActivityTime,
    /// When it was last changed.
    pub updated_at: ActivityTime,
    /// When it was hidden, if it is.
    pub deleted_at: Option<ActivityTime>,
}

impl Reaction {
    pub(crate) fn from_row(id: &str, row: &ReactionRow) -> Result<Self> {
        let feeds = row.target_feeds.iter().map(|feed| FeedId::from_stored(feed.as_bytes()));
        Ok(Self {
            id: id.to_owned(),
            kind: row.kind.clone(),
            activity_id: row.activity.clone(),
            parent: (!row.parent.is_empty()).then(|| row.parent.clone()),
            level: row.level,
            user_id: row.user.clone(),
            data: decode_object(&row.data)?,
            target_feeds: feeds.collect::<Result<_>>()?,
            target_feeds_extra_data: decode_object(&row.extra)?,
            created_at: time_of_us(row.created_us)?,
            updated_at: time_of_us(row.updated_us)?,
            deleted_at: match row.state() {
                State::Live => None,
                State::Hidden | State::Gone => Some(time_of_us(row.updated_us)?),
            },
        })
    }
}

fn no_reaction(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no reaction {id:?}"))
}
