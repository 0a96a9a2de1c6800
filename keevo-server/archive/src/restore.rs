//! Restoring: the records of a rebuilt cluster are put into another one, whatever its nodes and shards.
//!
//! ```text
//! begin ─▶ target empty? archive complete? ─▶ note (a row of the meta group)
//! each shard, shard 0 last:  rebuild ─▶ records, their keyspaces translated ─▶ by shard of the target ─▶ Command::Restore
//! finish ─▶ revisions of all shards start above the restored ones
//! ```
//!
//! Shard 0 comes last, since the apps stand in it: no worker of feeds sees half of what it works on. Of the meta keyspace
//! the map and the members stay the target's, and so does its audit log.
//!
//! Invariant: every step can be repeated. A restore that is cut off goes on with the shards that are not done.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use keevo_core::keyspaces::{self, NAME_PREFIX};
use keevo_core::{
    CLASS_HASHED, CLASS_META, CLASS_ORDERED, DataStore, Engine, Error, ErrorKind, Hlc, Key, Keyspace, KeyspaceId,
    MemoryStore, Restore, RestoreFence, Result, ShardId, StoredRecord,
};
use keevo_raft::ClusterEngine;

use crate::manifest::Manifest;
use crate::reader::Archive;
use crate::rebuild::{Rebuilt, Row, Until, rebuild};
use crate::storage::Storage;

/// Bytes of records that are read at once, and put into a shard at once.
const PAGE_BYTES: usize = 1 << 20;
/// Records that are put into a shard at once.
const PAGE_ROWS: usize = 2_000;
/// How often rows are sent again while the target has no room for them.
const PATIENCE: u32 = 60;
/// The partitions of the meta keyspace that stay the target's.
const KEPT: [&[u8]; 3] = [b"cluster", b"keyspaces", b"audit"];

/// Where a restore comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where the backup lies.
    pub backups: Arc<dyn Storage>,
    /// The archive of the cluster that was backed up.
    pub archive: Archive,
    /// The backup.
    pub manifest: Manifest,
}

/// How far the restore of a shard is.
#[derive(Debug, Default)]
pub struct RestoreCounts {
    /// Records put in place.
    pub records: AtomicU64,
    /// Bytes of them.
    pub bytes: AtomicU64,
    /// Entries of the archive that were applied.
    pub entries: AtomicU64,
}

/// What became of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoredShard {
    /// Its clock at the end: nothing later is in it.
    pub clock: Hlc,
    /// The clock of the last archived entry that was read.
    pub archived_to: Hlc,
    /// Its last revision.
    pub revision: u64,
}

impl Source {
    /// Opens a backup. `NotFound`, `Corrupt`, `NewerFormat`.
    pub async fn open(backups: Arc<dyn Storage>, archive: Archive, backup: &str) -> Result<Self> {
        let manifest = Manifest::read(backups.as_ref(), archive.cluster(), backup).await?;
        Ok(Self { backups, archive, manifest })
    }

    /// Refuses a moment before the backup: `Invalid`.
    pub fn check_until(&self, until: Until) -> Result<()> {
        match until {
            Until::Clock(hlc) if hlc < self.manifest.hlc() => Err(Error::invalid(format!(
                "backup {} holds changes up to {} ms since 1970, so it cannot be restored to {} ms: take an earlier one",
                self.manifest.id,
                self.manifest.hlc().ms(),
                hlc.ms()
            ))),
            _ => Ok(()),
        }
    }

    /// Rebuilds one of its shards in an empty store.
    pub async fn rebuild(&self, shard: ShardId, until: Until, store: DataStore) -> Result<Rebuilt> {
        let summary = self.manifest.shards.iter().find(|summary| summary.shard == shard).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("backup {} has no shard {shard}", self.manifest.id))
        })?;
        let file = self.manifest.shard_file(self.backups.as_ref(), summary).await?;
        rebuild(self.backups.as_ref(), &self.archive, &file, until, store).await
    }

    /// The clock of the last archived entry after the backup of a shard, and how many segments there are, as far as a restore
    /// to `until` reads them; what is missing in between is `NotFound`.
    pub async fn reach(&self, shard: ShardId, until: Until) -> Result<(Hlc, u64)> {
        let Until::Clock(until) = until else { return Ok(Default::default()) };
        let summary = self.manifest.shards.iter().find(|summary| summary.shard == shard);
        let (mut next, mut clock) = summary.map_or_else(Default::default, |one| (one.index.saturating_add(1), one.hlc));
        let mut segments = 0;
        for object in self.archive.segments(shard, None).await? {
            let head = self.archive.head(&object.name).await?;
            if head.last < next {
                continue;
            }
            if clock > until {
                break;
            }
            if head.first > next {
                let message = format!(
                    "the archive of shard {shard} lacks its entries from {next} to {}: '{}' begins after them",
                    head.first - 1,
                    object.name
                );
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            next = head.last.saturating_add(1);
            clock = clock.max(head.hlc_max);
            segments += 1;
        }
        Ok((clock, segments))
    }

    /// The keyspaces of the cluster that was backed up: those that it had at the end, since none is renamed or goes.
    pub async fn keyspaces(&self, until: Until) -> Result<BTreeMap<KeyspaceId, (String, Keyspace)>> {
        let end = match until {
            Until::Backup => Until::Backup,
            Until::Clock(_) => Until::Clock(Hlc(u64::MAX)),
        };
        let meta = match self.rebuild(ShardId::META, end, MemoryStore::new().into()).await {
            // What is missing or damaged after that moment keeps nobody from it.
            Err(error) if end != until && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                tracing::warn!(%error, "keyspaces are read up to the moment alone: the archive after it cannot be");
                self.rebuild(ShardId::META, until, MemoryStore::new().into()).await?
            }
            rebuilt => rebuilt?,
        };
        let mut found = BTreeMap::new();
        let mut from = None;
        loop {
            let (records, next) = meta.records(from.as_ref(), PAGE_BYTES)?;
            for (key, record) in records {
                if let Some((name, keyspace)) = keyspace_row(&key, &record)? {
                    found.insert(keyspace.id, (name, keyspace));
                }
            }
            from = next;
            if from.is_none() {
                return Ok(found);
            }
        }
    }
}

/// The keyspace that a row of the meta keyspace names, if it is such a row.
fn keyspace_row(key: &Bytes, stored: &StoredRecord) -> Result<Option<(String, Keyspace)>> {
    let key = Key::decode(key, |_| None)?;
    if key.partition != keyspaces::name_key("a").partition {
        return Ok(None);
    }
    let Some(name) = key.sort.strip_prefix(NAME_PREFIX) else { return Ok(None) };
    let keyspace = keyspaces::decode_keyspace(&stored.record.value)?;
    Ok(Some((String::from_utf8_lossy(name).into_owned(), keyspace)))
}

/// Says whether a restore, or a pruning, may go on; an error ends it.
pub type Fence = Arc<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// Puts shards of a backup into a cluster.
pub struct Restorer {
    source: Source,
    until: Until,
    engine: ClusterEngine,
    keyspaces: BTreeMap<KeyspaceId, (String, Keyspace)>,
    /// The target's keyspaces, by the source's ids.
    translated: BTreeMap<KeyspaceId, Keyspace>,
    fence: Option<Fence>,
    number: Option<RestoreFence>,
}

impl fmt::Debug for Restorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restorer").field("source", &self.source).field("until", &self.until).finish_non_exhaustive()
    }
}

impl Restorer {
    /// Reads which keyspaces there are.
    pub async fn new(source: Source, until: Until, engine: ClusterEngine) -> Result<Self> {
        source.check_until(until)?;
        let keyspaces = source.keyspaces(until).await?;
        Ok(Self { source, until, engine, keyspaces, translated: BTreeMap::new(), fence: None, number: None })
    }

    /// Asks `fence` before each page of records, so that one that another has taken over from stops soon.
    #[must_use]
    pub fn fenced(self, fence: Fence) -> Self {
        Self { fence: Some(fence), ..self }
    }

    /// Sends `number` with all rows, so that a shard which has heard of a later one refuses them: `Conflict`. Without one nothing
    /// is checked there; a cluster below [`keevo_core::Levels::FENCED_RESTORE`] takes none.
    #[must_use]
    pub fn numbered(self, number: Option<RestoreFence>) -> Self {
        Self { number, ..self }
    }

    /// Rebuilds a shard in the empty store `store`, and puts its records into the cluster.
    pub async fn shard(&mut self, shard: ShardId, store: DataStore, counts: &RestoreCounts) -> Result<RestoredShard> {
        let rebuilt = self.source.rebuild(shard, self.until, store).await?;
        counts.entries.fetch_add(rebuilt.entries, Ordering::Relaxed);
        let base = rebuilt.state.revision.0;
        let mut from = None;
        loop {
            let (records, next) = rebuilt.records(from.as_ref(), PAGE_BYTES)?;
            self.put(base, records, counts).await?;
            from = next;
            if from.is_none() {
                break;
            }
        }
        Ok(RestoredShard { clock: rebuilt.state.hlc, archived_to: rebuilt.archived_to, revision: base })
    }

    /// Makes revisions of every shard start above `revision`.
    pub async fn raise(&self, revision: u64) -> Result<()> {
        for shard in &self.engine.node().serving_map()?.shards {
            self.send(shard.id, Restore { base: revision, rows: Vec::new(), fence: self.number }).await?;
        }
        Ok(())
    }

    async fn put(&mut self, base: u64, records: Vec<Row>, counts: &RestoreCounts) -> Result<()> {
        if let Some(fence) = &self.fence {
            fence().await?;
        }
        let mut parts: BTreeMap<ShardId, Vec<(Bytes, Bytes)>> = BTreeMap::new();
        let map = self.engine.node().serving_map()?;
        for (key, record) in records {
            let Some(key) = self.translate(key, &record).await? else { continue };
            let stored = record.encode(&key);
            let bytes = u64::try_from(key.len() + stored.len()).unwrap_or(u64::MAX);
            parts.entry(map.locate(&key)?.id).or_default().push((key, stored));
            counts.records.fetch_add(1, Ordering::Relaxed);
            counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let fence = self.number;
        let sends = parts.into_iter().flat_map(|(shard, rows)| {
            let pages: Vec<_> = rows.chunks(PAGE_ROWS).map(<[_]>::to_vec).collect();
            pages.into_iter().map(move |rows| (shard, Restore { base, rows, fence }))
        });
        futures::future::try_join_all(sends.map(|(shard, restore)| self.send(shard, restore))).await.map(drop)
    }

    /// The key in the target; `None` for what stays the target's own.
    async fn translate(&mut self, key: Bytes, record: &StoredRecord) -> Result<Option<Bytes>> {
        let id_at = match key.first() {
            Some(&CLASS_META) => {
                if let Some((name, keyspace)) = keyspace_row(&key, record)? {
                    self.target_keyspace(keyspace.id, &name, keyspace).await?;
                }
                let kept = KEPT.contains(&Key::decode(&key, |_| None)?.partition.as_ref());
                return Ok((!kept).then_some(key));
            }
            Some(&CLASS_HASHED) => 3,
            Some(&CLASS_ORDERED) => 1,
            _ => return Err(Error::corrupt("a restored key is of no known class")),
        };
        let id = key.get(id_at..id_at + 4).and_then(|id| <[u8; 4]>::try_from(id).ok()).map(u32::from_be_bytes);
        let id = KeyspaceId(id.ok_or_else(|| Error::corrupt("a restored key is cut short"))?);
        let target = if let Some(target) = self.translated.get(&id) {
            *target
        } else {
            let (name, keyspace) = self.keyspaces.get(&id).cloned().ok_or_else(|| {
                Error::corrupt(format!("the backup has records of keyspace {id}, which it does not name"))
            })?;
            self.target_keyspace(id, &name, keyspace).await?
        };
        if target.id == id {
            return Ok(Some(key));
        }
        let mut translated = BytesMut::with_capacity(key.len());
        translated.put_slice(key.get(..id_at).unwrap_or_default());
        translated.put_u32(target.id.0);
        translated.put_slice(key.get(id_at + 4..).unwrap_or_default());
        Ok(Some(translated.freeze()))
    }

    async fn target_keyspace(&mut self, id: KeyspaceId, name: &str, keyspace: Keyspace) -> Result<Keyspace> {
        let target = self.engine.keyspace(name, keyspace.kind).await?;
        self.translated.insert(id, target);
        Ok(target)
    }

    /// Puts rows into a shard, with patience while it has no room for them.
    async fn send(&self, shard: ShardId, restore: Restore) -> Result<()> {
        let mut tries = 0;
        loop {
            if tries > 0
                && let Some(fence) = &self.fence
            {
                fence().await?;
            }
            match self.engine.restore(shard, restore.clone()).await {
                // Repeating it does no harm.
                Err(error)
                    if tries < PATIENCE
                        && matches!(
                            error.kind(),
                            ErrorKind::ResourceExhausted | ErrorKind::OutcomeUnknown | ErrorKind::NoQuorum
                        ) =>
                {
                    tries += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                done => return done,
            }
        }
    }
}
