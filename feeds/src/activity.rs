//! Activities as callers see them, and their limits.

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::feed_id::FeedId;
use crate::ids::{ActivityId, Identity};
use crate::json::{decode_object, encode_object};
use crate::rows::{ActivityRow, EntryRow};
use crate::time::ActivityTime;

/// The longest verb, in bytes.
pub const VERB_BYTES_MAX: usize = 255;
/// The longest foreign id, in bytes.
pub const FOREIGN_ID_BYTES_MAX: usize = 1_024;
/// The most `to` targets of one add.
pub const TO_MAX: usize = 100;
/// The most feeds of one [`Feeds::add_to_many`](crate::Feeds::add_to_many).
pub const ADD_TO_MANY_MAX: usize = 5_000;
/// The most feeds that may hold one activity directly.
pub(crate) const ENTRIES_MAX: usize = 6_000;

/// An activity to add.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewActivity {
    /// Who; not empty.
    pub actor: String,
    /// Did what; 1 to 255 bytes.
    pub verb: String,
    /// To what; not empty.
    pub object: String,
    /// For whom; empty = absent.
    pub target: String,
    /// The application's own id; empty = absent. With the time it is the activity's identity.
    pub foreign_id: String,
    /// When; `None` = now.
    pub time: Option<ActivityTime>,
    /// Feeds that get it too, up to 100; their followers as well.
    pub to: Vec<FeedId>,
    /// Any further fields.
    pub custom: Map<String, Value>,
}

impl NewActivity {
    /// An activity that says `actor` did `verb` to `object`, now.
    pub fn new(actor: impl Into<String>, verb: impl Into<String>, object: impl Into<String>) -> Self {
        Self { actor: actor.into(), verb: verb.into(), object: object.into(), ..Self::default() }
    }

    /// The same with an identity: the application's id and the time.
    #[must_use]
    pub fn identified(mut self, foreign_id: impl Into<String>, time: ActivityTime) -> Self {
        self.foreign_id = foreign_id.into();
        self.time = Some(time);
        self
    }

    /// The same to further feeds.
    #[must_use]
    pub fn to(mut self, feeds: impl IntoIterator<Item = FeedId>) -> Self {
        self.to.extend(feeds);
        self
    }

    /// What, next to the time, makes it the same activity as another.
    pub fn identity(&self) -> Identity<'_> {
        identity(&self.foreign_id, &self.actor, &self.verb, &self.object, &self.target)
    }

    /// Checks the limits and returns the stored form of the custom fields.
    pub(crate) fn check(&self, bytes_max: usize) -> Result<Bytes> {
        for (name, text) in [("actor", &self.actor), ("verb", &self.verb), ("object", &self.object)] {
            if text.is_empty() {
                return Err(Error::invalid(format!("the activity has no {name}")));
            }
        }
        if self.verb.len() > VERB_BYTES_MAX {
            return Err(Error::invalid(format!("a verb has up to {VERB_BYTES_MAX} bytes, not {}", self.verb.len())));
        }
        if self.foreign_id.len() > FOREIGN_ID_BYTES_MAX {
            return Err(Error::invalid(format!("a foreign id has up to {FOREIGN_ID_BYTES_MAX} bytes")));
        }
        if self.to.len() > TO_MAX {
            return Err(Error::invalid(format!("an activity goes to at most {TO_MAX} targets, not {}", self.to.len())));
        }
        let custom = encode_object(&self.custom)?;
        let texts = [&self.actor, &self.verb, &self.object, &self.target, &self.foreign_id];
        let bytes = custom.len() + texts.iter().map(|text| text.len()).sum::<usize>();
        if bytes > bytes_max {
            let message = format!("the activity has {bytes} bytes, more than {bytes_max}");
            return Err(Error::new(ErrorKind::BatchTooLarge, message));
        }
        Ok(custom)
    }
}

/// A stored activity, as read from a feed or by its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    /// Its id.
    pub id: ActivityId,
    /// Who.
    pub actor: String,
    /// Did what.
    pub verb: String,
    /// To what.
    pub object: String,
    /// For whom; empty = absent.
    pub target: String,
    /// The application's own id; empty = absent.
    pub foreign_id: String,
    /// When.
    pub time: ActivityTime,
    /// The feed it was received from through a follow; `None` when the feed holds it itself.
    pub origin: Option<FeedId>,
    /// The targets that have it, in the order they were given.
    pub to: Vec<FeedId>,
    /// Any further fields.
    pub custom: Map<String, Value>,
}

impl Activity {
    pub(crate) fn from_row(id: ActivityId, row: &ActivityRow, origin: Option<FeedId>) -> Result<Self> {
        let mut to: Vec<FeedId> = Vec::new();
        for entry in row.entries.iter().filter(|entry| !entry.via.is_empty()) {
            let feed = FeedId::from_stored(entry.feed.as_bytes())?;
            if !to.contains(&feed) {
                to.push(feed);
            }
        }
        Ok(Self {
            id,
            actor: row.actor.clone(),
            verb: row.verb.clone(),
            object: row.object.clone(),
            target: row.target.clone(),
            foreign_id: row.foreign_id.clone(),
            time: id.time(),
            origin,
            to,
            custom: decode_object(&row.custom)?,
        })
    }
}

impl ActivityRow {
    /// Whether it was removed from everywhere.
    pub(crate) fn is_removed(&self) -> bool {
        self.entries.is_empty() && !self.kept
    }

    /// Whether the fields that callers give are alike.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let fields = |row: &Self| {
            [row.actor.clone(), row.verb.clone(), row.object.clone(), row.target.clone(), row.foreign_id.clone()]
        };
        self.custom == other.custom && fields(self) == fields(other)
    }

    /// The user that is its actor; empty where the actor is no reference to one.
    pub(crate) fn actor_user(&self) -> &str {
        crate::privacy::user_of(&self.actor)
    }

    /// What stays of it for a while when it is removed: what later steps are judged by, and its caller's name for it.
    pub(crate) fn emptied(&self) -> Self {
        Self {
            last_gen: self.last_gen,
            source_version: self.source_version,
            foreign_id: self.foreign_id.clone(),
            ..Self::default()
        }
    }

    /// Whether `feed` holds it directly with that generation: a timeline row that says so is shown.
    pub(crate) fn is_placed(&self, feed: &FeedId, generation: u64) -> bool {
        self.entries.iter().any(|entry| entry.generation == generation && entry.feed == feed.as_str())
    }

    /// Whether this is the activity with that identity, and no other with the same hash.
    pub(crate) fn is_identified_by(&self, other: Identity<'_>) -> bool {
        identity(&self.foreign_id, &self.actor, &self.verb, &self.object, &self.target) == other
    }
}

impl EntryRow {
    pub(crate) fn feed_id(&self) -> Result<FeedId> {
        FeedId::from_stored(self.feed.as_bytes())
    }
}

fn identity<'a>(foreign_id: &'a str, actor: &'a str, verb: &'a str, object: &'a str, target: &'a str) -> Identity<'a> {
    if foreign_id.is_empty() {
        Identity::Content { actor, verb, object, target }
    } else {
        Identity::ForeignId(foreign_id)
    }
}
