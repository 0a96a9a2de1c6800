//! Where a reader of a change stream is, one place a shard, kept in the keyspace of the verdicts.
//!
//! Invariant: at the first time the places are before the first change of every shard, so that nothing is missed that was
//! written while the reader was still starting. Where those changes are gone, a reader goes on from now, and counts that.

use std::collections::BTreeMap;

use keevo_core::{Batch, ClusterId, CommitEvent, Cursor, Engine, Keyspace, Result, Revision, Scan, ShardId};
use serde::{Deserialize, Serialize};

use crate::verdicts::{Verdicts, decode, encode, pipeline_key};

/// Into how many slices the hash of partitions is cut to meet every shard; each shard must own at least one slice.
const SLICES: usize = 1_024;

/// A place in one shard's changes, as it is stored.
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

/// The places of one reader.
pub(crate) struct Places<E> {
    verdicts: Verdicts<E>,
    name: &'static str,
    at: BTreeMap<u64, Place>,
}

impl<E: Engine> Places<E> {
    /// The places that are saved under `name`; at the first time, the beginning of every shard of `keyspace`.
    pub(crate) async fn load(verdicts: &Verdicts<E>, name: &'static str, keyspace: Keyspace) -> Result<Self> {
        let mut places = Self { verdicts: verdicts.clone(), name, at: BTreeMap::new() };
        if let Some(record) = verdicts.get(pipeline_key(verdicts.keyspace, name)).await? {
            let saved: Vec<Place> = decode(&record.value, "the places in the changes")?;
            places.at = saved.into_iter().map(|place| (place.shard, place)).collect();
            return Ok(places);
        }
        places.find_now(keyspace).await?;
        for place in places.at.values_mut() {
            (place.revision, place.offset) = (0, 0);
        }
        Ok(places)
    }

    /// Saves the places of now in every shard of `keyspace` under `name`.
    pub(crate) async fn skip(verdicts: &Verdicts<E>, name: &'static str, keyspace: Keyspace) -> Result<()> {
        let mut places = Self { verdicts: verdicts.clone(), name, at: BTreeMap::new() };
        places.find_now(keyspace).await?;
        places.save().await
    }

    async fn find_now(&mut self, keyspace: Keyspace) -> Result<()> {
        for partition in probes(keyspace) {
            let page = self.verdicts.engine.scan(Scan::partition(keyspace, partition, 1)).await?;
            let place = Place::from(page.as_of);
            let earliest = self.at.entry(place.shard).or_insert(place);
            if (place.revision, place.offset) < (earliest.revision, earliest.offset) {
                *earliest = place;
            }
        }
        Ok(())
    }

    /// The cursors to go on after.
    pub(crate) fn cursors(&self) -> Vec<Cursor> {
        self.at.values().copied().map(Cursor::from).collect()
    }

    /// These events are dealt with, in their order.
    pub(crate) fn pass(&mut self, events: &[CommitEvent]) {
        for event in events {
            self.at.insert(event.cursor.shard.0, event.cursor.into());
        }
    }

    /// Saves the places.
    pub(crate) async fn save(&self) -> Result<()> {
        let places: Vec<Place> = self.at.values().copied().collect();
        let key = pipeline_key(self.verdicts.keyspace, self.name);
        self.verdicts.repeat(Batch::new().put(key, encode(&places)?)).await
    }
}

/// Names of partitions whose hashes lie in every slice: a scan of each meets every shard.
fn probes(keyspace: Keyspace) -> Vec<Vec<u8>> {
    let mut found: Vec<Option<Vec<u8>>> = vec![None; SLICES];
    let mut left = SLICES;
    for number in 0_u32.. {
        if left == 0 {
            break;
        }
        let name = [b"probe ".as_slice(), &number.to_be_bytes()].concat();
        let encoded = keyspace.key(name.clone(), Vec::new()).encode();
        // The class, then the hash.
        let hash = encoded.get(1..3).and_then(|hash| <[u8; 2]>::try_from(hash).ok()).map(u16::from_be_bytes);
        let slice = hash.map(|hash| usize::from(hash) * SLICES / (usize::from(u16::MAX) + 1));
        if let Some(slot) = slice.and_then(|slice| found.get_mut(slice)).filter(|slot| slot.is_none()) {
            *slot = Some(name);
            left -= 1;
        }
    }
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::{KeyspaceId, KeyspaceKind};

    #[test]
    fn every_slice_has_its_probe() {
        let keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };
        let probes = probes(keyspace);
        assert_eq!(probes.len(), SLICES);
        let mut hashes: Vec<_> =
            probes.iter().map(|name| keyspace.key(name.clone(), Vec::new()).encode().slice(1..3)).collect();
        let sorted = hashes.clone();
        hashes.sort();
        assert_eq!(hashes, sorted, "one a slice, in the order of the slices");
    }
}
