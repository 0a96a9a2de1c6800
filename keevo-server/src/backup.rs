//! Backups of the cluster and restores into it, as one node carries them out.
//!
//! Invariant: whoever calls drives the steps; each of them can be repeated. What a restore has done is a row of the meta
//! group, so that it goes on through any node.

mod erasing;
mod marker;
mod pruning;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::BoxStream;
use keevo_archive::backup::{self, BackupCounts};
use keevo_archive::manifest::Manifest;
use keevo_archive::prune::{PruneCounts, Pruned, Retention, prune};
use keevo_archive::rebuild::Until;
use keevo_archive::restore::{Fence, RestoreCounts, Restorer, Source};
use keevo_archive::verify::{VerifyCounts, verify};
use keevo_archive::{Archive, Storage};
use keevo_core::key_file::KeyRing;
use keevo_core::{
    Clock, ClusterId, Error, ErrorKind, Hlc, Levels, RestoreFence, Result, RocksOptions, RocksStore, ShardId,
    SystemClock,
};
use keevo_proto::admin::v1 as pb;
use keevo_raft::{ClusterEngine, Node};

use crate::archive::open_storage;
use crate::config::Config;
use marker::{Marker, Moment};
use pruning::Book;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(300);
/// The cache of a shard that is being rebuilt.
const REBUILD_CACHE_BYTES: usize = 64 << 20;
/// How long an engine call of a restore may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Makes and restores backups through one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Backups {
    node: Node,
    engine: ClusterEngine,
    /// Where backups are kept, and where the archive of the log is.
    places: Option<Places>,
    /// A folder for shards that are being rebuilt.
    work: PathBuf,
    /// What the values of such shards are sealed with.
    keys: Option<Arc<KeyRing>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone)]
struct Places {
    backups: Arc<dyn Storage>,
    archive: Arc<dyn Storage>,
}

impl Places {
    /// Removes old backups, alone.
    async fn prune(
        self,
        archive: Archive,
        retention: Retention,
        counts: Arc<PruneCounts>,
        fence: Fence,
    ) -> Result<Pruned> {
        let stores = (self.archive.as_ref(), &archive);
        prune(self.backups.as_ref(), stores, retention, &counts, &fence).await
    }
}

impl Backups {
    /// Opens the storage of the configuration, and reads the keys of what lies on this node meanwhile. `Config` where there
    /// can be none at its address, or the keys cannot be read.
    pub fn open(config: &Config, node: &Node) -> Result<Self> {
        let open = |url: &String| open_storage(&config.archive, url);
        let backups = config.archive.backup_url.as_ref().map(open).transpose()?;
        let archive = config.archive.url.as_ref().map(open).transpose()?;
        let places =
            backups.map(|backups| Places { archive: archive.unwrap_or_else(|| Arc::clone(&backups)), backups });
        let engine = node.engine().with_deadline(DEADLINE);
        let (work, keys) = (config.data_dir.join("restoring"), config.storage.keys()?);
        Ok(Self { node: node.clone(), engine, places, work, keys, clock: Arc::new(SystemClock::new()) })
    }

    /// Where the log is archived, if it is.
    pub(crate) fn archive(&self) -> Option<Arc<dyn Storage>> {
        self.places.as_ref().map(|places| Arc::clone(&places.archive))
    }

    fn places(&self) -> Result<&Places> {
        let advice = "this node has no place for backups: set backup_url or archive_url on all nodes";
        self.places.as_ref().ok_or_else(|| Error::invalid(advice))
    }

    fn book(&self) -> Book {
        Book { engine: self.engine.clone(), clock: Arc::clone(&self.clock) }
    }

    fn cluster(&self) -> Result<ClusterId> {
        let none = || Error::new(ErrorKind::Unavailable, "this node is in no cluster yet");
        self.node.cluster().ok_or_else(none)
    }

    /// Backs up a shard that this node leads.
    pub(crate) async fn back_up_shard(
        &self,
        request: pb::BackUpShardRequest,
    ) -> Result<BoxStream<'static, Result<pb::BackUpProgress>>> {
        let (storage, cluster) = (Arc::clone(&self.places()?.backups), self.cluster()?);
        keevo_archive::names::check_backup_id(&request.backup)?;
        let book = self.book();
        book.note(&request.backup).await?;
        let copy = self.node.copy_shard(ShardId(request.shard)).await?;
        let counts = Arc::new(BackupCounts::default());
        let counted = Arc::clone(&counts);
        let id = request.backup.clone();
        let renew: Fence = Arc::new(move || {
            let (book, id) = (book.clone(), id.clone());
            async move { book.note(&id).await }.boxed()
        });
        let work = async move {
            let made = backup::back_up_shard(storage, cluster, &request.backup, copy, counted);
            pruning::renewed(made, &renew).await.map(drop)
        };
        let told = move |finished| pb::BackUpProgress {
            records: counts.records.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            chunks: counts.chunks.load(Ordering::Relaxed),
            new_chunks: counts.new_chunks.load(Ordering::Relaxed),
            new_bytes: counts.new_bytes.load(Ordering::Relaxed),
            finished,
        };
        Ok(told_of(work, move |done| told(done.is_some())))
    }

    pub(crate) async fn finish_backup(&self, request: pb::FinishBackupRequest) -> Result<pb::FinishBackupResponse> {
        let (places, cluster) = (self.places()?, self.cluster()?);
        keevo_archive::names::check_backup_id(&request.backup)?;
        let book = self.book();
        book.note(&request.backup).await?;
        let shards: Vec<ShardId> = self.node.serving_map()?.shards.iter().map(|shard| shard.id).collect();
        let made_ms = self.clock.now_ms();
        let made = backup::finish(places.backups.as_ref(), cluster, &request.backup, &shards, made_ms).await;
        if let Err(error) = book.forget(&request.backup).await {
            tracing::warn!(%error, "old backups cannot be removed for the next 10 minutes");
        }
        let manifest = made?;
        Ok(pb::FinishBackupResponse { backup: Some(info(&manifest)) })
    }

    pub(crate) async fn list(&self, request: pb::ListBackupsRequest) -> Result<pb::ListBackupsResponse> {
        let storage = self.places()?.backups.as_ref();
        let clusters = match cluster_of(&request.cluster_id)? {
            Some(cluster) => vec![cluster],
            None => Archive::clusters(storage).await?,
        };
        let mut backups = Vec::new();
        for cluster in clusters {
            backups.extend(Manifest::list(storage, cluster).await?.iter().map(info));
        }
        Ok(pb::ListBackupsResponse { backups })
    }

    /// The backup that is meant, and the archive of its cluster.
    async fn source(&self, backup: Option<pb::BackupRef>) -> Result<Source> {
        let places = self.places()?;
        let backup = backup.ok_or_else(|| Error::invalid("the request names no backup"))?;
        let cluster = match cluster_of(&backup.cluster_id)? {
            Some(cluster) => cluster,
            None => self.cluster_with(&backup.id).await?,
        };
        let archive = Archive::new(Arc::clone(&places.archive), cluster);
        Source::open(Arc::clone(&places.backups), archive, &backup.id).await
    }

    /// The only cluster that has a backup of this id.
    async fn cluster_with(&self, id: &str) -> Result<ClusterId> {
        let storage = self.places()?.backups.as_ref();
        keevo_archive::names::check_backup_id(id)?;
        let mut found = Vec::new();
        for cluster in Archive::clusters(storage).await? {
            if storage.size(&keevo_archive::names::manifest(cluster, id)).await?.is_some() {
                found.push(cluster);
            }
        }
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(Error::new(ErrorKind::NotFound, format!("there is no finished backup {id}"))),
            several => {
                let ids: Vec<String> = several.iter().map(ToString::to_string).collect();
                let message = format!("several clusters have a backup {id}: name the cluster, of {}", ids.join(", "));
                Err(Error::new(ErrorKind::Conflict, message))
            }
        }
    }

    pub(crate) async fn verify(
        &self,
        request: pb::VerifyBackupRequest,
    ) -> Result<BoxStream<'static, Result<pb::VerifyBackupProgress>>> {
        let places = self.places()?.clone();
        let backup = request.backup.ok_or_else(|| Error::invalid("the request names no backup"))?;
        let cluster = match cluster_of(&backup.cluster_id)? {
            Some(cluster) => cluster,
            None => self.cluster_with(&backup.id).await?,
        };
        let archive = Archive::new(places.archive, cluster);
        let counts = Arc::new(VerifyCounts::default());
        let counted = Arc::clone(&counts);
        let work = async move { verify(places.backups, archive, &backup.id, &counted).await };
        Ok(told_of(work, move |done: Option<&Vec<String>>| pb::VerifyBackupProgress {
            objects: counts.objects.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            total_bytes: counts.total_bytes.load(Ordering::Relaxed),
            records: counts.records.load(Ordering::Relaxed),
            entries: counts.entries.load(Ordering::Relaxed),
            damages: done.cloned().unwrap_or_default(),
            finished: done.is_some(),
        }))
    }

    pub(crate) fn prune(
        &self,
        request: pb::PruneBackupsRequest,
    ) -> Result<BoxStream<'static, Result<pb::PruneProgress>>> {
        let (places, cluster, book) = (self.places()?.clone(), self.cluster()?, self.book());
        let keep = usize::try_from(request.keep).unwrap_or(usize::MAX);
        let retention = Retention { keep, log: request.log, dry_run: request.dry_run };
        let counts = Arc::new(PruneCounts::default());
        let counted = Arc::clone(&counts);
        let archive = Archive::new(Arc::clone(&places.archive), cluster);
        let work = pruning::alone(book, cluster, retention.dry_run, move |fence| {
            places.prune(archive, retention, counted, fence)
        });
        Ok(told_of(work, move |done: Option<&Pruned>| {
            let Pruned { removed, kept } = done.cloned().unwrap_or_default();
            pb::PruneProgress {
                looked: counts.looked.load(Ordering::Relaxed),
                chunks: counts.chunks.load(Ordering::Relaxed),
                segments: counts.segments.load(Ordering::Relaxed),
                bytes: counts.bytes.load(Ordering::Relaxed),
                removed,
                kept,
                finished: done.is_some(),
            }
        }))
    }

    pub(crate) async fn begin_restore(&self, request: pb::BeginRestoreRequest) -> Result<pb::BeginRestoreResponse> {
        let moment = Moment::of_request(request.moment)?;
        let source = self.source(request.backup).await?;
        source.check_until(moment.until())?;
        let manifest = &source.manifest;
        let known = marker::read(&self.engine).await?.filter(|(marker, _)| !marker.finished);
        let goes_on = known.as_ref().is_some_and(|(marker, _)| marker.is_of(manifest, moment));
        let mut plans = Vec::new();
        for summary in &manifest.shards {
            let (archived_to, segments) = match moment.until() {
                Until::Backup => (summary.hlc, 0),
                until @ Until::Clock(_) => source.reach(summary.shard, until).await?,
            };
            let done = known.as_ref().filter(|_| goes_on);
            plans.push(pb::RestorePlan {
                shard: summary.shard.0,
                records: summary.records,
                segments,
                archived_to_ms: archived_to.ms(),
                done: done.is_some_and(|(marker, _)| marker.done.contains(&summary.shard.0)),
            });
        }
        // Shard 0 last.
        plans.sort_by_key(|plan| (plan.shard == ShardId::META.0, plan.shard));
        let records_here = self.records_here().await?;
        if let Some((marker, _)) = known.as_ref().filter(|_| !goes_on) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "a restore of backup {} has begun in this cluster: finish it, or restore into another",
                    marker.backup
                ),
            ));
        }
        if records_here > 0 && !goes_on && !request.over_records {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "this cluster is not empty: it holds {records_here} records. Restore into an empty one, or say that those \
                     of the backup shall replace them"
                ),
            ));
        }
        if !request.dry_run && !goes_on {
            marker::begin(&self.book(), &Marker::new(manifest, moment)).await?;
        }
        Ok(pb::BeginRestoreResponse { backup: Some(info(manifest)), shards: plans, records_here })
    }

    /// The live records of all shards but the meta group.
    async fn records_here(&self) -> Result<u64> {
        let mut records = 0;
        for shard in self.node.serving_map()?.shards.iter().filter(|shard| shard.id != ShardId::META) {
            records += self.engine.checksum(shard.id).await?.2;
        }
        Ok(records)
    }

    pub(crate) async fn restore_shard(
        &self,
        request: pb::RestoreShardRequest,
    ) -> Result<BoxStream<'static, Result<pb::RestoreProgress>>> {
        let shard = ShardId(request.shard);
        self.book().refuse().await?;
        // Whoever was at this shard before stops at its next step.
        let (marker, fence) = marker::take(&self.engine, shard).await?;
        let backup = pb::BackupRef { cluster_id: marker.cluster_bytes()?, id: marker.backup.clone() };
        let source = self.source(Some(backup)).await?;
        let backups = self.clone();
        let counts = Arc::new(RestoreCounts::default());
        let counted = Arc::clone(&counts);
        let work = async move {
            if marker.done.contains(&shard.0) {
                return Ok(());
            }
            std::fs::create_dir_all(&backups.work).map_err(|error| no_folder(&error))?;
            let folder = tempfile::tempdir_in(&backups.work).map_err(|error| no_folder(&error))?;
            let options = RocksOptions {
                block_cache_bytes: REBUILD_CACHE_BYTES,
                write_buffer_bytes: REBUILD_CACHE_BYTES / 2,
                keys: backups.keys.as_ref().map(Arc::clone),
                ..RocksOptions::without_wal()
            };
            let store = RocksStore::open(folder.path().join("shard"), options)?;
            let engine = backups.engine.clone();
            let fenced = move || {
                let engine = engine.clone();
                async move { marker::check(&engine, shard, fence).await }.boxed()
            };
            let restorer = Restorer::new(source, marker.moment.until(), backups.engine.clone()).await?;
            let number = backups.fenced_by(marker.fence(shard, fence))?;
            let restored =
                restorer.fenced(Arc::new(fenced)).numbered(number).shard(shard, store.into(), &counted).await?;
            marker::done(&backups.engine, shard, fence, restored.revision).await
        };
        Ok(told_of(work, move |done| pb::RestoreProgress {
            records: counts.records.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            entries: counts.entries.load(Ordering::Relaxed),
            finished: done.is_some(),
        }))
    }

    /// What rows of a restore go with, in a cluster that knows it.
    fn fenced_by(&self, fence: RestoreFence) -> Result<Option<RestoreFence>> {
        let knows = self.node.serving_map()?.level >= Levels::FENCED_RESTORE;
        Ok(knows.then_some(fence))
    }

    pub(crate) async fn finish_restore(&self) -> Result<pb::FinishRestoreResponse> {
        let (marker, _) = marker::under_way(&self.engine).await?;
        let backup = pb::BackupRef { cluster_id: marker.cluster_bytes()?, id: marker.backup.clone() };
        let source = self.source(Some(backup)).await?;
        if let Some(left) = source.manifest.shards.iter().find(|one| !marker.done.contains(&one.shard.0)) {
            let message =
                format!("shard {} is not restored yet: run the restore again, and it goes on there", left.shard);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let restorer = Restorer::new(source, marker.moment.until(), self.engine.clone()).await?;
        // Nothing of the restore is taken behind this.
        restorer.numbered(self.fenced_by(marker.end())?).raise(marker.revision).await?;
        marker::finish(&self.engine).await?;
        Ok(pb::FinishRestoreResponse { backup: marker.backup, records_here: self.records_here().await? })
    }
}

fn no_folder(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("a folder for the rebuilt shard cannot be made: {error}"))
}

/// What is told of work until it is done, and then: `tell` gets what came out. Whoever stops listening stops the work.
fn told_of<T: Send + Sync + 'static, P: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
    tell: impl Fn(Option<&T>) -> P + Send + 'static,
) -> BoxStream<'static, Result<P>> {
    let work = Box::pin(work);
    Box::pin(async_stream::stream! {
        let mut work = work;
        loop {
            match tokio::time::timeout(TELL_EVERY, work.as_mut()).await {
                Err(_elapsed) => yield Ok(tell(None)),
                Ok(Ok(done)) => {
                    yield Ok(tell(Some(&done)));
                    break;
                }
                Ok(Err(error)) => {
                    yield Err(error);
                    break;
                }
            }
        }
    })
}

fn cluster_of(bytes: &[u8]) -> Result<Option<ClusterId>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let wrong = |_| Error::invalid("a cluster's id has 16 bytes");
    <[u8; 16]>::try_from(bytes).map(|id| Some(ClusterId(u128::from_be_bytes(id)))).map_err(wrong)
}

fn info(manifest: &Manifest) -> pb::BackupInfo {
    let until_ms = |hlc: Hlc| hlc.ms();
    pb::BackupInfo {
        id: manifest.id.clone(),
        cluster_id: manifest.cluster.0.to_be_bytes().to_vec().into(),
        made_ms: manifest.made_ms,
        version: manifest.version.clone(),
        until_ms: until_ms(manifest.hlc()),
        shards: manifest
            .shards
            .iter()
            .map(|shard| pb::BackedUpShard {
                shard: shard.shard.0,
                index: shard.index,
                until_ms: until_ms(shard.hlc),
                records: shard.records,
                bytes: shard.bytes,
            })
            .collect(),
    }
}
