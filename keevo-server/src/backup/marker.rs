//! The restore that is under way in this cluster: a row of the meta group.
//!
//! Invariant: the row changes by compare-and-set, and stands in a partition that no restore writes to.

use bytes::Bytes;
use keevo_archive::manifest::Manifest;
use keevo_archive::rebuild::Until;
use keevo_core::keyspaces::MetaStore;
use keevo_core::{Batch, Check, Error, ErrorKind, Hlc, Key, Keyspace, Result, Revision, ShardId};
use keevo_proto::admin::v1 as pb;
use keevo_raft::ClusterEngine;
use serde::{Deserialize, Serialize};

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
    /// The cluster that was backed up, 32 digits.
    pub(super) cluster: String,
    /// The backup.
    pub(super) backup: String,
    pub(super) moment: Moment,
    /// The shards of the backup that are restored.
    pub(super) done: Vec<u64>,
    /// The highest revision of them.
    pub(super) revision: u64,
    pub(super) finished: bool,
}

impl Marker {
    pub(super) fn new(manifest: &Manifest, moment: Moment) -> Self {
        let (cluster, backup) = (manifest.cluster.to_string(), manifest.id.clone());
        Self { cluster, backup, moment, done: Vec::new(), revision: 0, finished: false }
    }

    pub(super) fn is_of(&self, manifest: &Manifest, moment: Moment) -> bool {
        self.cluster == manifest.cluster.to_string() && self.backup == manifest.id && self.moment == moment
    }

    pub(super) fn cluster_bytes(&self) -> Result<Bytes> {
        let id = keevo_archive::names::cluster_of(&self.cluster);
        let id = id.ok_or_else(|| Error::corrupt("the row of the restore names no cluster"))?;
        Ok(Bytes::copy_from_slice(&id.0.to_be_bytes()))
    }

    fn encode(&self) -> Result<Bytes> {
        let bad = |error| Error::invalid("the row of the restore cannot be written").with_source(error);
        serde_json::to_vec(self).map(Bytes::from).map_err(bad)
    }
}

fn key() -> Key {
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

/// Begins a restore, where none is under way.
pub(super) async fn begin(engine: &ClusterEngine, marker: &Marker) -> Result<()> {
    let check = match read(engine).await? {
        Some((known, _)) if !known.finished => {
            let message = format!("a restore of backup {} has just begun", known.backup);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Some((_, revision)) => Check::RevisionIs(revision),
        None => Check::Absent,
    };
    let batch = Batch::new().put(key(), marker.encode()?).require(key(), check);
    engine.meta().write(batch).await.map(drop)
}

/// Notes that a shard is restored.
pub(super) async fn done(engine: &ClusterEngine, shard: ShardId, revision: u64) -> Result<()> {
    change(engine, |marker| {
        if !marker.done.contains(&shard.0) {
            marker.done.push(shard.0);
        }
        marker.revision = marker.revision.max(revision);
    })
    .await
}

/// Notes that all is restored.
pub(super) async fn finish(engine: &ClusterEngine) -> Result<()> {
    change(engine, |marker| marker.finished = true).await
}

async fn change(engine: &ClusterEngine, change: impl Fn(&mut Marker)) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let (mut marker, revision) = under_way(engine).await?;
        change(&mut marker);
        let batch = Batch::new().put(key(), marker.encode()?).require(key(), Check::RevisionIs(revision));
        match engine.meta().write(batch).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            written => return written.map(drop),
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "the row of the restore is changed by too many"))
}
