//! Reading the archived log of a cluster.
//!
//! Invariant: entries come in the order of their indexes, each once, without a gap; what stands in two segments must be
//! equal in both. A gap or a difference is an error that names the segment.

use std::sync::Arc;

use keevo_core::{ClusterId, Error, ErrorKind, Hlc, Result, ShardId};
use keevo_raft::LoggedEntry;

use crate::names;
use crate::segment::{self, HEAD_BYTES, Segment, SegmentHead};
use crate::storage::{Object, Storage};

/// The archived log of one cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive {
    storage: Arc<dyn Storage>,
    cluster: ClusterId,
}

impl Archive {
    /// The archive of a cluster in a storage; there may be nothing in it.
    pub fn new(storage: Arc<dyn Storage>, cluster: ClusterId) -> Self {
        Self { storage, cluster }
    }

    /// The clusters that have something in a storage: an archive or backups.
    pub async fn clusters(storage: &dyn Storage) -> Result<Vec<ClusterId>> {
        let folders = storage.folders("").await?;
        Ok(folders.iter().filter_map(|folder| names::cluster_of(folder)).collect())
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The shards whose logs are archived.
    pub async fn shards(&self) -> Result<Vec<ShardId>> {
        let folders = self.storage.folders(&names::logs(self.cluster)).await?;
        folders.iter().map(|folder| names::shard_of(folder)).collect()
    }

    /// The segments of a shard, by their first index; those that begin after `after` alone, if it is given.
    pub async fn segments(&self, shard: ShardId, after: Option<u64>) -> Result<Vec<Object>> {
        let after = after.map(|first| names::segment(self.cluster, shard, first));
        let mut objects = self.storage.list(&names::log(self.cluster, shard), after.as_deref()).await?;
        objects.retain(|object| names::first_of(&object.name).is_ok());
        Ok(objects)
    }

    /// What a segment says of itself. `NotFound`, `Corrupt`, `NewerFormat`.
    pub async fn head(&self, name: &str) -> Result<SegmentHead> {
        let end = u64::try_from(HEAD_BYTES).unwrap_or(u64::MAX);
        let bytes = self.storage.get_range(name, 0..end).await?.ok_or_else(|| gone(name))?;
        let head = segment::decode_head(&bytes).map_err(|error| at(name, &error))?;
        self.check(name, &head)?;
        Ok(head)
    }

    /// A whole segment, every byte verified. `NotFound`, `Corrupt`, `NewerFormat`.
    pub async fn read(&self, name: &str) -> Result<Segment> {
        let bytes = self.storage.get(name).await?.ok_or_else(|| gone(name))?;
        let segment = segment::decode(&bytes).map_err(|error| at(name, &error))?;
        self.check(name, &segment.head)?;
        Ok(segment)
    }

    /// Refuses a segment that lies under the name of another.
    fn check(&self, name: &str, head: &SegmentHead) -> Result<()> {
        if head.cluster == self.cluster && names::segment(self.cluster, head.shard, head.first) == name {
            return Ok(());
        }
        Err(Error::corrupt(format!("'{name}' holds entries from {} on of shard {}", head.first, head.shard)))
    }

    /// The segments of a shard from the one on that holds entry `from`, to be read one after the other.
    pub async fn log_from(&self, shard: ShardId, from: u64) -> Result<LogReader> {
        let segments = self.segments(shard, None).await?;
        let first = |object: &Object| names::first_of(&object.name).unwrap_or(u64::MAX);
        let begins = segments.iter().rposition(|object| first(object) <= from).unwrap_or(0);
        let rest = segments.into_iter().skip(begins).map(|object| object.name).collect::<Vec<_>>().into_iter();
        Ok(LogReader { archive: self.clone(), shard, rest, next: from, last: None })
    }

    /// The index of the first entry of the first segment of a shard that may hold commands of clock `from` or later;
    /// `None` = there is none. Clocks of a shard may be out of order by as much as its leaders' clocks were apart: begin so
    /// much earlier.
    pub async fn find(&self, shard: ShardId, from: Hlc) -> Result<Option<u64>> {
        self.find_in(shard, &self.firsts(shard).await?, from).await
    }

    /// The first indexes of the segments of a shard, which ascend.
    pub async fn firsts(&self, shard: ShardId) -> Result<Vec<u64>> {
        let segments = self.segments(shard, None).await?;
        segments.iter().map(|object| names::first_of(&object.name)).collect()
    }

    /// As [`Archive::find`], among segments that were listed before: `NotFound` where one of them is gone.
    pub async fn find_in(&self, shard: ShardId, firsts: &[u64], from: Hlc) -> Result<Option<u64>> {
        let (mut low, mut high) = (0, firsts.len());
        while low < high {
            let middle = low.midpoint(high);
            let Some(first) = firsts.get(middle) else { break };
            let head = self.head(&names::segment(self.cluster, shard, *first)).await?;
            if head.hlc_max < from { low = middle + 1 } else { high = middle }
        }
        Ok(firsts.get(low).copied())
    }
}

fn gone(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("'{name}' is gone"))
}

/// The error with the object that it is about.
pub(crate) fn at(name: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("'{name}': {}", error.message()))
}

/// Entries of one shard, segment by segment.
#[derive(Debug)]
pub struct LogReader {
    archive: Archive,
    shard: ShardId,
    rest: std::vec::IntoIter<String>,
    next: u64,
    /// The end of the last segment, in case that the next one overlaps it.
    last: Option<(String, Vec<LoggedEntry>)>,
}

impl LogReader {
    /// The index of the entry that comes next.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// The entries of the next segment that has any; `None` at the end of the archive.
    ///
    /// `NotFound`: the archive begins after the entry that was asked for, or has a gap. `Corrupt`: a segment is damaged, or
    /// differs from the one before it where both hold the same entry.
    pub async fn next_entries(&mut self) -> Result<Option<Vec<LoggedEntry>>> {
        while let Some(name) = self.rest.next() {
            let Segment { head, mut entries } = self.archive.read(&name).await?;
            if head.reduced && head.last >= self.next {
                let message = format!(
                    "'{name}' was reduced to its API calls when a user was erased, so entries {} to {} of shard {} are gone: restore \
                     a later backup",
                    head.first, head.last, self.shard
                );
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            if head.first > self.next {
                let message = format!(
                    "the archive of shard {} lacks its entries from {} to {}: '{name}' begins after them",
                    self.shard,
                    self.next,
                    head.first - 1
                );
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            if let Some((before, overlapped)) = &self.last {
                check_overlap((before, overlapped), (&name, &entries))?;
            }
            self.last = Some((name, entries.clone()));
            entries.retain(|entry| entry.index >= self.next);
            if let Some(last) = entries.last() {
                self.next = last.index.saturating_add(1);
                return Ok(Some(entries));
            }
        }
        Ok(None)
    }
}

fn check_overlap(before: (&str, &[LoggedEntry]), after: (&str, &[LoggedEntry])) -> Result<()> {
    let Some(first) = after.1.first() else { return Ok(()) };
    let overlapped = before.1.iter().filter(|entry| entry.index >= first.index);
    match overlapped.zip(after.1).find(|(one, other)| one != other) {
        None => Ok(()),
        Some((entry, _)) => Err(Error::corrupt(format!(
            "'{}' and '{}' hold different entries of index {}: two clusters have archived under one id",
            before.0, after.0, entry.index
        ))),
    }
}
