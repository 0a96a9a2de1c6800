//! Retention: old backups go, and with them what no other backup needs.
//!
//! ```text
//! backups, oldest first ─▶ all but the newest N go ─▶ their shard files, then their manifests
//! backups that were not finished and are older than all that stay ─▶ go, if N finished ones stay
//! what the others name, finished or not ─▶ kept;  every other chunk goes
//! of each shard, segments of the archive that end before the oldest backup that is kept ─▶ go, if it is asked for
//! ```
//!
//! Invariant: nothing is removed that a backup which stays names. What names chunks is read first, and whatever of it cannot be
//! read ends the whole; nobody makes a backup meanwhile, which the caller sees to ([`crate::backup::finish`] looks
//! whether all of its chunks are there). One that was cut off goes on when it is run again.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use keevo_core::{ClusterId, Error, Hlc, Result, ShardId};

use crate::chunk::ChunkId;
use crate::manifest::{Manifest, ShardFile};
use crate::names;
use crate::reader::Archive;
use crate::restore::Fence;
use crate::storage::{Object, Storage};

/// How many objects are removed at once, and after how many it is asked whether to go on.
const DELETES: usize = 8;
const BATCH: usize = 256;

/// What goes and what stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How many of the newest backups stay, at least one.
    pub keep: usize,
    /// Whether the archive before the oldest of them goes too.
    pub log: bool,
    /// Whether nothing is removed, and only said what would be.
    pub dry_run: bool,
}

/// How much has gone, or would go.
#[derive(Debug, Default)]
pub struct PruneCounts {
    /// Chunks that were looked at.
    pub looked: AtomicU64,
    /// Chunks removed.
    pub chunks: AtomicU64,
    /// Segments of the archive removed.
    pub segments: AtomicU64,
    /// Bytes of all objects removed.
    pub bytes: AtomicU64,
}

/// The backups that have gone and those that stay, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Removed.
    pub removed: Vec<String>,
    /// Kept.
    pub kept: Vec<String>,
}

/// One pruning of the backups of a cluster.
struct Pruning<'a> {
    backups: &'a dyn Storage,
    cluster: ClusterId,
    dry_run: bool,
    counts: &'a PruneCounts,
    fence: &'a Fence,
}

/// Removes old backups; `fence` is asked before each step. `Invalid` if none would stay; errors of what cannot be read, before anything
/// has gone.
pub async fn prune(
    backups: &dyn Storage,
    archive: (&dyn Storage, &Archive),
    retention: Retention,
    counts: &PruneCounts,
    fence: &Fence,
) -> Result<Pruned> {
    if retention.keep == 0 {
        return Err(Error::invalid("at least one backup stays: remove the storage itself if none shall"));
    }
    let cluster = archive.1.cluster();
    let mut all = Manifest::list(backups, cluster).await?;
    let kept = all.split_off(all.len().saturating_sub(retention.keep));
    // Of as many newer ones as shall stay, an unfinished one would have gone if it had been finished.
    let oldest = kept.iter().map(Manifest::hlc).min().filter(|_| kept.len() == retention.keep);
    let mut named = HashSet::new();
    note_finished(backups, &kept, &mut named).await?;
    let abandoned = note_unfinished(backups, cluster, (&kept, &all), oldest, &mut named).await?;
    let pruning = Pruning { backups, cluster, dry_run: retention.dry_run, counts, fence };
    // The chunks of a backup that has lost its manifest would look like those of one that is not finished.
    for manifest in &all {
        let folder = format!("{}/{}", names::backups(cluster), manifest.id);
        let (manifests, files): (Vec<_>, Vec<_>) = backups
            .list(&folder, None)
            .await?
            .into_iter()
            .partition(|object| object.name == names::manifest(cluster, &manifest.id));
        pruning.delete(backups, &files, None).await?;
        pruning.delete(backups, &manifests, None).await?;
    }
    for (_, files) in &abandoned {
        pruning.delete(backups, files, None).await?;
    }
    pruning.chunks(&named).await?;
    if retention.log && !kept.is_empty() {
        pruning.segments(archive, &kept).await?;
    }
    let ids = |manifests: &[Manifest]| manifests.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    let mut removed = ids(&all);
    removed.extend(abandoned.into_iter().map(|(id, _)| id));
    Ok(Pruned { removed, kept: ids(&kept) })
}

fn note(file: &ShardFile, named: &mut HashSet<ChunkId>) {
    named.extend(file.system.iter().chain(&file.records).map(|chunk| chunk.id));
}

/// Notes the chunks that are named by the backups which stay.
async fn note_finished(backups: &dyn Storage, kept: &[Manifest], named: &mut HashSet<ChunkId>) -> Result<()> {
    for manifest in kept {
        for summary in &manifest.shards {
            note(&manifest.shard_file(backups, summary).await?, named);
        }
    }
    Ok(())
}

/// Notes the chunks of backups that are not finished; gives those that are older than `oldest`, each with its files, whose chunks
/// are not noted.
async fn note_unfinished(
    backups: &dyn Storage,
    cluster: ClusterId,
    (kept, removed): (&[Manifest], &[Manifest]),
    oldest: Option<Hlc>,
    named: &mut HashSet<ChunkId>,
) -> Result<Vec<(String, Vec<Object>)>> {
    let mut abandoned = Vec::new();
    let finished: HashSet<&str> = kept.iter().chain(removed).map(|manifest| manifest.id.as_str()).collect();
    for folder in backups.folders(&names::backups(cluster)).await? {
        let id = folder.rsplit('/').next().unwrap_or_default();
        if finished.contains(id) {
            continue;
        }
        let (mut objects, mut files) = (Vec::new(), Vec::new());
        for object in backups.list(&folder, None).await? {
            if let Some(shard) = names::shard_of_file(&object.name)
                && let Some(file) = ShardFile::read(backups, cluster, id, shard).await?
            {
                files.push(file);
                objects.push(object);
            }
        }
        let last = files.iter().map(|file| file.hlc).max();
        if last.zip(oldest).is_some_and(|(last, oldest)| last < oldest) {
            abandoned.push((id.to_owned(), objects));
        } else {
            for file in &files {
                note(file, named);
            }
        }
    }
    Ok(abandoned)
}

/// Of each shard the index that the oldest of these backups has it at: what follows is needed.
pub(crate) fn needed(kept: &[Manifest]) -> BTreeMap<ShardId, u64> {
    let mut oldest: BTreeMap<ShardId, u64> = BTreeMap::new();
    for summary in kept.iter().flat_map(|manifest| &manifest.shards) {
        let index = oldest.entry(summary.shard).or_insert(summary.index);
        *index = (*index).min(summary.index);
    }
    oldest
}

/// How many of a shard's segments are not needed by a backup that has it at an index.
pub(crate) fn before(segments: &[Object], index: u64) -> usize {
    let next = index.saturating_add(1);
    let needed = segments.iter().rposition(|one| names::first_of(&one.name).is_ok_and(|first| first <= next));
    needed.unwrap_or_default()
}

impl Pruning<'_> {
    async fn chunks(&self, named: &HashSet<ChunkId>) -> Result<()> {
        for folder in self.backups.folders(&names::chunks(self.cluster)).await? {
            let mut unnamed = Vec::new();
            for object in self.backups.list(&folder, None).await? {
                self.counts.looked.fetch_add(1, Ordering::Relaxed);
                // What has another name is nobody's chunk, and is left alone.
                if names::chunk_of(&object.name).is_some_and(|id| !named.contains(&id)) {
                    unnamed.push(object);
                }
            }
            self.delete(self.backups, &unnamed, Some(&self.counts.chunks)).await?;
        }
        Ok(())
    }

    /// Removes what the archive has before the oldest backup that stays: the segment stays in which its shard goes on.
    async fn segments(&self, (storage, archive): (&dyn Storage, &Archive), kept: &[Manifest]) -> Result<()> {
        for (shard, index) in needed(kept) {
            let mut segments = archive.segments(shard, None).await?;
            segments.truncate(before(&segments, index));
            self.delete(storage, &segments, Some(&self.counts.segments)).await?;
        }
        Ok(())
    }

    async fn delete(&self, storage: &dyn Storage, objects: &[Object], count: Option<&AtomicU64>) -> Result<()> {
        for batch in objects.chunks(BATCH) {
            (self.fence)().await?;
            let bytes = batch.iter().map(|object| object.bytes).sum();
            if !self.dry_run {
                let deletes: Vec<BoxFuture<'_, Result<()>>> =
                    batch.iter().map(|object| storage.delete(&object.name)).collect();
                futures::stream::iter(deletes).buffer_unordered(DELETES).try_collect::<()>().await?;
            }
            self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
            if let Some(count) = count {
                count.fetch_add(u64::try_from(batch.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
