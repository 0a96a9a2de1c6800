//! The tail of a change stream: texts that came in without a verdict are left to the sweep.
//!
//! Invariant: the saved place in a stream never runs ahead of the rows: it is saved after the texts before it have a
//! verdict or wait for one. What is read again after a crash has its verdict by then, or waits under the same key.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{
    Batch, ClusterId, CommitEvent, Cursor, Engine, ErrorKind, Keyspace, KeyspaceKind, Result, Revision, Scan, ShardId,
    WatchFrom, WatchRange,
};
use serde::{Deserialize, Serialize};

use super::{Pipeline, Source};
use crate::metrics::add;
use crate::text::TextVersion;
use crate::verdicts::{decode, encode, pipeline_key};

/// How many changes are looked at together.
const CHUNK: usize = 512;
/// How long the tail waits after its stream broke.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
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

impl<E: Engine> Pipeline<E> {
    /// Follows a source for ever.
    pub(super) async fn tail(&self, source: &dyn Source) {
        loop {
            if let Err(error) = self.follow(source).await {
                if error.kind() == ErrorKind::CursorCompacted {
                    // Texts that went through a caller have their verdicts all the same.
                    tracing::error!(source = source.name(), %error, "changes were dropped before they were looked at");
                    add(&self.moderator.inner.counters.gaps, 1);
                    if let Err(error) = self.forget_places(source).await {
                        tracing::warn!(%error, "the place in the changes could not be dropped");
                    }
                } else {
                    tracing::debug!(source = source.name(), %error, "the changes broke off");
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Follows a source until its stream breaks.
    async fn follow(&self, source: &dyn Source) -> Result<()> {
        let verdicts = self.moderator.verdicts().await?;
        let keyspace = verdicts.engine.keyspace(source.keyspace(), KeyspaceKind::Hashed).await?;
        let mut places = self.places(source, keyspace).await?;
        let from = places.values().copied().map(Cursor::from).collect();
        let watch = verdicts.engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::After(from)).await?;
        let mut chunks = watch.ready_chunks(CHUNK);
        let clock = &self.moderator.inner.clock;
        let (mut saved_at, mut unsaved) = (clock.monotonic(), false);
        loop {
            let next = tokio::time::timeout(self.options.save_every, chunks.next()).await;
            if let Ok(Some(chunk)) = next {
                let events = chunk.into_iter().collect::<Result<Vec<_>>>();
                let events = match events {
                    Ok(events) => events,
                    Err(error) => {
                        self.save(source, &places).await?;
                        return Err(error);
                    }
                };
                self.take_in(source, &events).await?;
                for event in &events {
                    places.insert(event.cursor.shard.0, event.cursor.into());
                }
                unsaved = true;
            } else if let Ok(None) = next {
                return self.save(source, &places).await;
            }
            if unsaved && clock.monotonic().saturating_sub(saved_at) >= self.options.save_every {
                self.save(source, &places).await?;
                (saved_at, unsaved) = (clock.monotonic(), false);
            }
        }
    }

    /// Leaves the texts of these changes to the sweep, unless they have their verdicts.
    async fn take_in(&self, source: &dyn Source, events: &[CommitEvent]) -> Result<()> {
        let mut versions: BTreeMap<[u8; 16], TextVersion> = BTreeMap::new();
        for event in events {
            match source.text(event) {
                Ok(Some(version)) => drop(versions.insert(version.digest(), version)),
                Ok(None) => {}
                // A row that cannot be read is somebody else's to mend, and holds nothing up here.
                Err(error) => tracing::error!(source = source.name(), %error, "a change cannot be read"),
            }
        }
        let versions: Vec<TextVersion> = versions.into_values().collect();
        let verdicts = self.moderator.verdicts().await?.of_versions(&versions).await?;
        let mut caught = 0;
        for (version, _) in versions.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_none()) {
            self.moderator.verdicts().await?.leave(version).await?;
            caught += 1;
        }
        if caught > 0 {
            add(&self.moderator.inner.counters.caught_up, caught);
            self.moderator.inner.wake.notify_one();
        }
        Ok(())
    }

    /// The saved places; at the first time, those of now in every shard, saved.
    async fn places(&self, source: &dyn Source, keyspace: Keyspace) -> Result<BTreeMap<u64, Place>> {
        let verdicts = self.moderator.verdicts().await?;
        if let Some(record) = verdicts.get(pipeline_key(verdicts.keyspace, source.name())).await? {
            let places: Vec<Place> = decode(&record.value, "the places in the changes")?;
            return Ok(places.into_iter().map(|place| (place.shard, place)).collect());
        }
        let mut places: BTreeMap<u64, Place> = BTreeMap::new();
        for partition in probes(keyspace) {
            let page = verdicts.engine.scan(Scan::partition(keyspace, partition, 1)).await?;
            let place = Place::from(page.as_of);
            let earliest = places.entry(place.shard).or_insert(place);
            if (place.revision, place.offset) < (earliest.revision, earliest.offset) {
                *earliest = place;
            }
        }
        self.save(source, &places).await?;
        Ok(places)
    }

    async fn save(&self, source: &dyn Source, places: &BTreeMap<u64, Place>) -> Result<()> {
        let verdicts = self.moderator.verdicts().await?;
        let places: Vec<Place> = places.values().copied().collect();
        let key = pipeline_key(verdicts.keyspace, source.name());
        verdicts.repeat(Batch::new().put(key, encode(&places)?)).await
    }

    async fn forget_places(&self, source: &dyn Source) -> Result<()> {
        let verdicts = self.moderator.verdicts().await?;
        verdicts.repeat(Batch::new().delete(pipeline_key(verdicts.keyspace, source.name()))).await
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
    use keevo_core::KeyspaceId;

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
