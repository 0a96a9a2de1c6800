//! Where a sink is in the changes of each shard.

use std::collections::BTreeMap;

use keevo_core::{ClusterId, Cursor, Revision, ShardId};
use serde::{Deserialize, Serialize};

/// A place in the changes of one shard: everything up to it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The shard.
    pub shard: u64,
    /// The revision of the last change.
    pub revision: u64,
    /// Its position within that write.
    pub offset: u32,
}

impl Place {
    /// Before the first change of a shard.
    pub fn beginning(shard: u64) -> Self {
        Self { shard, revision: 0, offset: u32::MAX }
    }

    /// The cursor to go on after.
    pub fn cursor(self, cluster: ClusterId) -> Cursor {
        Cursor { cluster, shard: ShardId(self.shard), revision: Revision(self.revision), offset: self.offset }
    }
}

impl From<Cursor> for Place {
    fn from(cursor: Cursor) -> Self {
        Self { shard: cursor.shard.0, revision: cursor.revision.0, offset: cursor.offset }
    }
}

/// The places of a sink, one a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Place>", into = "Vec<Place>")]
pub(crate) struct Places(BTreeMap<u64, Place>);

impl From<Vec<Place>> for Places {
    fn from(places: Vec<Place>) -> Self {
        Self(places.into_iter().map(|place| (place.shard, place)).collect())
    }
}

impl From<Places> for Vec<Place> {
    fn from(places: Places) -> Self {
        places.0.into_values().collect()
    }
}

impl Places {
    /// Goes on to a place, never back.
    pub(crate) fn advance(&mut self, place: Place) {
        let known = self.0.entry(place.shard).or_insert(place);
        *known = (*known).max(place);
    }

    /// Goes to a place, wherever it is.
    pub(crate) fn set(&mut self, place: Place) {
        self.0.insert(place.shard, place);
    }

    pub(crate) fn of(&self, shard: u64) -> Option<Place> {
        self.0.get(&shard).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Place> {
        self.0.values().copied()
    }
}
