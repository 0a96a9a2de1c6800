//! The restore that is under way in this cluster: a row of the meta group.
//!
//! Invariant: the row changes by compare-and-set, and stands in a partition that no restore writes to.

use std::collections::BTreeMap;

use bytes::Bytes;
use keevo_archive::manifest::Manifest;
use keevo_archive::rebuild::Until;
use keevo_core::keyspaces::MetaStore;
use keevo_core::{Batch, Check, Error, ErrorKind, Hlc, Key, Keyspace, RestoreFence, Result, Revision, ShardId};
use keevo_proto::admin::v1 as pb;
use keevo_raft::ClusterEngine;
use serde::{Deserialize, Serialize};

use super::pruning::{self, Book};

/// How often a change of the row is tried again when another came first.
const ATTEMPTS: usize = 32;

/// The moment that a restore leads to; the last bits of a clock are of the same millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Moment {
    Backup,
    UntilMs(u64),
}

impl Moment {
    pub(super) fn of_request(moment: Option<pb::RestoreMoment>) -> Result<Self> {
        use pb::restore_moment::Moment as Wanted;
        match moment.and_then(|moment| moment.moment) {
            Some(Wanted::Backup(true)) => Ok(Self::Backup),
            Some(Wanted::UntilMs(until_ms)) => Ok(Self::UntilMs(until_ms)),
            Some(Wanted::Backup(false)) | None => Err(Error::invalid("the request names no moment")),
        }
    }

    pub(super) fn until(self) -> Until {
        match self {
            Self::Backup => Until::Backup,
            Self::UntilMs(ms) if ms > u64::MAX >> 16 => Until::Clock(Hlc(u64::MAX)),
            Self::UntilMs(ms) => Until::Clock(Hlc(Hlc::from_ms(ms).0 | 0xffff)),
        }
    }
}

/// What is known of the restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// Counts the restores into this cluster.
    #[serde(default)]
    number: u64,
    /// The cluster that was backed up, 32 digits.
    pub(super) cluster: String,
    /// The backup.
    pub(super) backup: String,
    pub(super) moment: Moment,
    /// The shards of the backup that are restored.
    pub(super) done: Vec<u64>,
    /// The highest revision of them.
    pub(super) revision: u64,
    /// How often each shard of the backup was taken up: who took it before the last time has lost it.
    #[serde(default)]
    taken: BTreeMap<u64, u64>,
    pub(super) finished: bool,
}

impl Marker {
    pub(super) fn new(manifest: &Manifest, moment: Moment) -> Self {
        let (cluster, backup) = (manifest.cluster.to_string(), manifest.id.clone());
        let (number, taken) = (0, BTreeMap::new());
        Self { number, cluster, backup, moment, done: Vec::new(), revision: 0, taken, finished: false }
    }

    pub(super) fn is_of(&self, manifest: &Manifest, moment: Moment) -> bool {
        self.cluster == manifest.cluster.to_string() && self.backup == manifest.id && self.moment == moment
    }

    pub(super) fn cluster_bytes(&self) -> Result<Bytes> {
        let id = keevo_archive::names::cluster_of(&self.cluster);
        let id = id.ok_or_else(|| Error::corrupt("the row of the restore names no cluster"))?;
        Ok(Bytes::copy_from_slice(&id.0.to_be_bytes()))
    }

    /// How often a shard was taken up.
    fn number(&self, shard: ShardId) -> u64 {
        self.taken.get(&shard.0).copied().unwrap_or_default()
    }

    /// What the rows of a shard go with, as taken up the `take`th time.
    pub(super) fn fence(&self, shard: ShardId, take: u64) -> RestoreFence {
        RestoreFence { restore: self.number, source: shard.0, take }
    }

    /// What ends it in a shard: the number of the next one.
    pub(super) fn end(&self) -> RestoreFence {
        RestoreFence { restore: self.number.saturating_add(1), source: 0, take: 0 }
    }

    fn check(&self, shard: ShardId, number: u64) -> Result<()> {
        if self.number(shard) == number {
            return Ok(());
        }
        let message = format!("the restore of shard {shard} was taken up through another node, and goes on there");
        Err(Error::new(ErrorKind::Conflict, message))
    }

    fn encode(&self) -> Result<Bytes> {
        let bad = |error| Error::invalid("the row of the restore cannot be written").with_source(error);
        serde_json::to_vec(self).map(Bytes::from).map_err(bad)
    }
}

pub(super) fn key() -> Key {
    Keyspace::META.key("cluster", "restore")
}

/// The last restore into this cluster, if there was one.
pub(super) async fn read(engine: &ClusterEngine) -> Result<Option<(Marker, Revision)>> {
    let Some(record) = engine.meta().get(key()).await? else { return Ok(None) };
    let marker = serde_json::from_slice(&record.value)
        .map_err(|error| Error::corrupt("the row of the restore does not decode").with_source(error))?;
    Ok(Some((marker, record.revision)))
}

/// The restore that is under way: `Conflict` when there is none.
pub(super) async fn under_way(engine: &ClusterEngine) -> Result<(Marker, Revision)> {
    let none = || Error::new(ErrorKind::Conflict, "no restore is under way in this cluster: begin it first");
    read(engine).await?.filter(|(marker, _)| !marker.finished).ok_or_else(none)
}

/// Begins a restore, where none is under way, and no old backups are being removed.
pub(super) async fn begin(book: &Book, marker: &Marker) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let known = read(&book.engine).await?;
        let number = known.as_ref().map_or(0, |(known, _)| known.number).saturating_add(1);
        let marker = Marker { number, ..marker.clone() };
        let check = match known {
            Some((known, _)) if !known.finished => {
                let message = format!("a restore of backup {} has just begun", known.backup);
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            Some((_, revision)) => Check::RevisionIs(revision),
            None => Check::Absent,
        };
        let no_pruning = book.refuse().await?;
        let batch = Batch::new().put(key(), marker.encode()?).require(key(), check);
        match book.engine.meta().write(batch.require(pruning::key(), no_pruning)).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            written => return written.map(drop),
        }
    }
    Err(too_many())
}

fn too_many() -> Error {
    Error::new(ErrorKind::Unavailable, "the row of the restore is changed by too many")
}

/// Takes a shard up, from whoever was at it; gives the restore, and the number to be checked by.
pub(super) async fn take(engine: &ClusterEngine, shard: ShardId) -> Result<(Marker, u64)> {
    let marker = change(engine, |marker| {
        let taken = marker.taken.entry(shard.0).or_default();
        *taken = taken.saturating_add(1);
        Ok(())
    })
    .await?;
    let number = marker.number(shard);
    Ok((marker, number))
}

/// Says whether a shard may be gone on with: `Conflict` when somebody else has taken it, or the restore has ended.
pub(super) async fn check(engine: &ClusterEngine, shard: ShardId, number: u64) -> Result<()> {
    under_way(engine).await?.0.check(shard, number)
}

/// Notes that a shard is restored, by who has it.
pub(super) async fn done(engine: &ClusterEngine, shard: ShardId, number: u64, revision: u64) -> Result<()> {
    let noted = change(engine, |marker| {
        marker.check(shard, number)?;
        if !marker.done.contains(&shard.0) {
            marker.done.push(shard.0);
        }
        marker.revision = marker.revision.max(revision);
        Ok(())
    });
    noted.await.map(drop)
}

/// Notes that all is restored.
pub(super) async fn finish(engine: &ClusterEngine) -> Result<()> {
    let finished = change(engine, |marker| {
        marker.finished = true;
        Ok(())
    });
    finished.await.map(drop)
}

async fn change(engine: &ClusterEngine, change: impl Fn(&mut Marker) -> Result<()>) -> Result<Marker> {
    for _ in 0..ATTEMPTS {
        let (mut marker, revision) = under_way(engine).await?;
        change(&mut marker)?;
        let batch = Batch::new().put(key(), marker.encode()?).require(key(), Check::RevisionIs(revision));
        match engine.meta().write(batch).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            written => return written.map(|_written| marker),
        }
    }
    Err(too_many())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_lost_a_shard_is_told_and_older_rows_are_read() {
        let old = r#"{"cluster":"c1","backup":"monday","moment":"Backup","done":[2],"revision":9,"finished":false}"#;
        let mut marker: Marker = serde_json::from_str(old).expect("a row of before");
        assert_eq!((marker.number(ShardId(1)), marker.done.as_slice()), (0, &[2][..]));
        marker.taken.insert(1, 2);
        assert!(marker.check(ShardId(1), 2).is_ok() && marker.check(ShardId(3), 0).is_ok());
        assert_eq!(marker.check(ShardId(1), 1).expect_err("taken").kind(), ErrorKind::Conflict);
        assert_eq!(marker.fence(ShardId(1), 2), RestoreFence { restore: 0, source: 1, take: 2 });
        assert_eq!(marker.end().restore, 1, "that of the next one");
        let again: Marker = serde_json::from_slice(&marker.encode().expect("a row")).expect("a row");
        assert_eq!(again, marker);
    }
}
