//! What the index remembers with each commit: how far it has come in each shard.
//!
//! Invariant: it is written in one step with the messages that it speaks of, and carries a checksum: a place that was
//! altered would have messages left out in silence.

use std::collections::BTreeMap;

use keevo_core::{ClusterId, Cursor, Revision, ShardId};
use serde::{Deserialize, Serialize};

use crate::schema::{FORMAT, hash};

/// A place in one shard's changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    cluster: u128,
    shard: u64,
    revision: u64,
    offset: u32,
}

impl From<Cursor> for Place {
    fn from(cursor: Cursor) -> Self {
        let Cursor { cluster, shard, revision, offset } = cursor;
        Self { cluster: cluster.0, shard: shard.0, revision: revision.0, offset }
    }
}

impl From<Place> for Cursor {
    fn from(place: Place) -> Self {
        let Place { cluster, shard, revision, offset } = place;
        Self { cluster: ClusterId(cluster), shard: ShardId(shard), revision: Revision(revision), offset }
    }
}

/// The places of all shards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    /// One a shard. None = nothing was taken in yet.
    pub(crate) places: BTreeMap<u64, Cursor>,
    /// Whether the messages from before the places are not all taken in: the node stopped while it read them.
    pub(crate) partial: bool,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    format: u32,
    places: Vec<Place>,
    partial: bool,
    checksum: u64,
}

impl Payload {
    fn sum(&self) -> u64 {
        let Self { format, places, partial, .. } = self;
        hash(format!("{format} {partial} {places:?}").as_bytes())
    }
}

impl Saved {
    /// As it is stored.
    pub(crate) fn to_payload(&self) -> String {
        let places = self.places.values().copied().map(Place::from).collect();
        let mut payload = Payload { format: FORMAT, places, partial: self.partial, checksum: 0 };
        payload.checksum = payload.sum();
        serde_json::to_string(&payload).unwrap_or_default()
    }

    /// Reads what was stored; an error says in words why it is of no use.
    pub(crate) fn from_payload(payload: &str) -> Result<Self, String> {
        let payload: Payload =
            serde_json::from_str(payload).map_err(|error| format!("its place is unreadable: {error}"))?;
        if payload.format != FORMAT {
            return Err(format!("it has format {}, and this version writes {FORMAT}", payload.format));
        }
        if payload.checksum != payload.sum() {
            return Err("its place has a wrong checksum".to_owned());
        }
        let places = payload.places.into_iter().map(|place| (place.shard, place.into())).collect();
        Ok(Self { places, partial: payload.partial })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_an_altered_one_is_refused() {
        let cursor = Cursor { cluster: ClusterId(u128::MAX), shard: ShardId(3), revision: Revision(4_711), offset: 5 };
        let saved = Saved { places: BTreeMap::from([(3, cursor)]), partial: false };
        let payload = saved.to_payload();
        assert_eq!(Saved::from_payload(&payload), Ok(saved));
        for bad in [payload.replace("4711", "4712"), payload.replace("false", "true"), "{}".into(), String::new()] {
            Saved::from_payload(&bad).expect_err(&bad);
        }
        let newer = payload.replace("\"format\":1", "\"format\":2");
        assert!(Saved::from_payload(&newer).expect_err("refused").contains("format 2"));
    }
}
