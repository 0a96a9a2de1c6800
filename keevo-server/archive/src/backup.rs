//! Making a backup: each shard from one read view, as chunks that are written only where nothing has them yet.
//!
//! ```text
//! view ─▶ rows in key order ─▶ chunks ─▶ there already? ─▶ no: sealed and written     (four at once)
//!                                └────── their names ──▶ shard file ─▶ (all shards) ─▶ manifest
//! ```
//!
//! What the newest backup names of the shard is known again by how its object ends, and is not even packed.
//!
//! Invariant: a name is written after what it names. A backup that is cut off goes on where it was: shards that have their
//! file are done, chunks that are there are not written again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use keevo_core::{ClusterId, Direction, Error, ErrorKind, Result, ShardId, StoreView, system};
use keevo_raft::ShardCopy;
use tokio::sync::mpsc;

use crate::chunk::{Chunk, ChunkId, Cutter};
use crate::manifest::{ChunkRef, Manifest, Packed, ShardFile};
use crate::names;
use crate::sealed::{self, Kind};
use crate::storage::Storage;

/// How many chunks of a shard are written at once.
const UPLOADS: usize = 4;
/// What an object ends with.
const CRC_BYTES: u64 = 4;

/// How the objects of an earlier backup end.
type Known = BTreeMap<ChunkId, Packed>;

/// How far the backup of a shard is.
#[derive(Debug, Default)]
pub struct BackupCounts {
    /// Records read.
    pub records: AtomicU64,
    /// Bytes of chunks.
    pub bytes: AtomicU64,
    /// Chunks.
    pub chunks: AtomicU64,
    /// Chunks that were not there yet.
    pub new_chunks: AtomicU64,
    /// Bytes that were written for them.
    pub new_bytes: AtomicU64,
}

/// What a chunk is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    System,
    Records,
}

/// Backs a shard up, as of `copy`; if the backup has it already, that one is given instead. `Conflict` where the backup is
/// finished.
pub async fn back_up_shard(
    storage: Arc<dyn Storage>,
    cluster: ClusterId,
    backup: &str,
    copy: ShardCopy,
    counts: Arc<BackupCounts>,
) -> Result<ShardFile> {
    names::check_backup_id(backup)?;
    if storage.size(&names::manifest(cluster, backup)).await?.is_some() {
        let message = format!("backup {backup} is finished, and nothing is added to it: give the new one another id");
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    if let Some(file) = ShardFile::read(storage.as_ref(), cluster, backup, copy.shard).await? {
        return Ok(file);
    }
    let known = Arc::new(known(storage.as_ref(), cluster, copy.shard).await);
    let mut file = ShardFile {
        shard: copy.shard,
        range: copy.range.clone(),
        term: copy.term,
        index: copy.index,
        hlc: copy.state.hlc,
        system: Vec::new(),
        records: Vec::new(),
    };
    let (chunks_tx, chunks_rx) = mpsc::channel(UPLOADS);
    let reading = tokio::task::spawn_blocking(move || read(&copy, &chunks_tx));
    let chunks = futures::stream::unfold(chunks_rx, |mut rx| async move { rx.recv().await.map(|chunk| (chunk, rx)) });
    let uploads = chunks.map(|(part, chunk)| {
        let (storage, known, counts) = (Arc::clone(&storage), Arc::clone(&known), Arc::clone(&counts));
        async move { write_chunk((storage.as_ref(), cluster), chunk, &known, &counts).await.map(|chunk| (part, chunk)) }
    });
    let written: Vec<(Part, ChunkRef)> = uploads.buffered(UPLOADS).try_collect().await?;
    reading.await.map_err(|error| Error::new(ErrorKind::Io, "the shard was not read").with_source(error))??;
    for (part, chunk) in written {
        match part {
            Part::System => file.system.push(chunk),
            Part::Records => file.records.push(chunk),
        }
    }
    let name = names::shard_file(cluster, backup, file.shard);
    if storage.put_new(&name, sealed::seal(Kind::Shard, &file.encode())?).await? {
        return Ok(file);
    }
    // Somebody else has backed it up meanwhile, as of another moment: what is there counts.
    let there = ShardFile::read(storage.as_ref(), cluster, backup, file.shard).await?;
    there.ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("'{name}' was there and is gone")))
}

/// Reads the rows of a shard and cuts them. Blocks.
fn read(copy: &ShardCopy, chunks_tx: &mpsc::Sender<(Part, Chunk)>) -> Result<()> {
    let view = copy.view.as_ref();
    let mut system = Cutter::default();
    for tag in [system::STATE, system::SESSIONS, system::RESTORES] {
        let range = (system::row_key(copy.shard, tag), system::row_key(copy.shard, tag + 1));
        scan(view, &range, &mut system, &mut |chunk| send(chunks_tx, Part::System, chunk))?;
    }
    system.finish().map_or(Ok(()), |chunk| send(chunks_tx, Part::System, chunk))?;
    let mut records = Cutter::default();
    scan(view, &copy.range, &mut records, &mut |chunk| send(chunks_tx, Part::Records, chunk))?;
    records.finish().map_or(Ok(()), |chunk| send(chunks_tx, Part::Records, chunk))
}

fn scan(
    view: &dyn StoreView,
    (lower, upper): &(Bytes, Bytes),
    cutter: &mut Cutter,
    send: &mut dyn FnMut(Chunk) -> Result<()>,
) -> Result<()> {
    view.scan(lower, upper, Direction::Forward, &mut |key, value| {
        if let Some(chunk) = cutter.push(key, value) {
            send(chunk)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn send(chunks_tx: &mpsc::Sender<(Part, Chunk)>, part: Part, chunk: Chunk) -> Result<()> {
    let gone = |_| Error::new(ErrorKind::Unavailable, "the backup of the shard has ended");
    chunks_tx.blocking_send((part, chunk)).map_err(gone)
}

/// How the chunks of a shard end in the newest finished backup that has it; nothing where none can be read, which costs time alone.
async fn known(storage: &dyn Storage, cluster: ClusterId, shard: ShardId) -> Known {
    let found = async {
        for manifest in Manifest::list(storage, cluster).await?.iter().rev() {
            if let Some(summary) = manifest.shards.iter().find(|one| one.shard == shard) {
                return manifest.shard_file(storage, summary).await.map(Some);
            }
        }
        Ok(None)
    };
    let file: Option<ShardFile> = found.await.unwrap_or_else(|error: Error| {
        tracing::warn!(%shard, %error, "the last backup cannot be read: all chunks are packed anew");
        None
    });
    let chunks = file.into_iter().flat_map(|file| file.system.into_iter().chain(file.records));
    chunks.filter_map(|chunk| chunk.packed.map(|packed| (chunk.id, packed))).collect()
}

async fn write_chunk(
    (storage, cluster): (&dyn Storage, ClusterId),
    chunk: Chunk,
    known: &Known,
    counts: &BackupCounts,
) -> Result<ChunkRef> {
    let id = ChunkId::of(&chunk.contents);
    let (name, rows) = (names::chunk(cluster, &id), chunk.rows);
    let bytes = u64::try_from(chunk.contents.len()).unwrap_or(u64::MAX);
    let known = known.get(&id).copied();
    let is_known = match known {
        Some(packed) => ends_so(storage, &name, packed).await.unwrap_or(false),
        None => false,
    };
    let packed = match known.filter(|_| is_known) {
        Some(packed) => packed,
        None => pack(storage, (&name, id), chunk, counts).await?,
    };
    counts.chunks.fetch_add(1, Ordering::Relaxed);
    counts.bytes.fetch_add(bytes, Ordering::Relaxed);
    counts.records.fetch_add(rows, Ordering::Relaxed);
    Ok(ChunkRef { id, rows, bytes, packed: Some(packed) })
}

/// Packs a chunk, and writes it where it is not there whole.
async fn pack(
    storage: &dyn Storage,
    (name, id): (&str, ChunkId),
    chunk: Chunk,
    counts: &BackupCounts,
) -> Result<Packed> {
    let object = tokio::task::spawn_blocking(move || sealed::seal(Kind::Chunk, &chunk.contents))
        .await
        .map_err(|error| Error::new(ErrorKind::Io, "the chunk was not packed").with_source(error))??;
    let packed = Packed::of(&object);
    let is_new = match look(storage, name, id, packed).await? {
        Found::Whole(there) => return Ok(there),
        Found::Nothing => storage.put_new(name, object).await?,
        Found::Damaged => {
            tracing::error!(name, "a chunk of earlier backups is damaged; it is written anew");
            storage.replace(name, object).await?;
            true
        }
    };
    if is_new {
        counts.new_chunks.fetch_add(1, Ordering::Relaxed);
        counts.new_bytes.fetch_add(packed.bytes, Ordering::Relaxed);
    }
    Ok(packed)
}

/// Whether an object is as long as it should be, and has its checksum at the end; `false` too where there is none.
async fn ends_so(storage: &dyn Storage, name: &str, packed: Packed) -> Result<bool> {
    // One byte more than there should be.
    let end = packed.bytes.saturating_sub(CRC_BYTES)..packed.bytes.saturating_add(1);
    let tail = storage.get_range(name, end).await?;
    Ok(tail.is_some_and(|tail| *tail == packed.crc.to_be_bytes()))
}

/// What lies under the name of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The chunk, whole as far as its length and its checksum tell; and how it ends.
    Whole(Packed),
    Nothing,
    /// Something else: no further backup may name it.
    Damaged,
}

/// Looks at what lies under the name of a chunk. What may be whole under another key is an error, and stays.
async fn look(storage: &dyn Storage, name: &str, id: ChunkId, packed: Packed) -> Result<Found> {
    // What is too short for it may be an error.
    if ends_so(storage, name, packed).await.unwrap_or(false) {
        return Ok(Found::Whole(packed));
    }
    let contents = match storage.get(name).await {
        Ok(Some(object)) => sealed::open(Kind::Chunk, &object).map(|contents| (Packed::of(&object), contents)),
        Ok(None) => return Ok(Found::Nothing),
        Err(error) => {
            if error.kind() == ErrorKind::Corrupt && storage.may_need_another_key(name).await? {
                let message = format!(
                    "{}. If archive_key_file is the right one, remove that object, and the next backup writes it anew",
                    error.message()
                );
                return Err(Error::corrupt(message));
            }
            Err(error)
        }
    };
    match contents {
        // Another version of zstd packs otherwise.
        Ok((there, contents)) if ChunkId::of(&contents) == id => Ok(Found::Whole(there)),
        Err(error) if error.kind() != ErrorKind::Corrupt => Err(error),
        _ => Ok(Found::Damaged),
    }
}

/// Finishes a backup of these shards, all of which it must have: `NotFound` names the first one that it lacks, or a chunk that is
/// gone. Repeatable.
pub async fn finish(
    storage: &dyn Storage,
    cluster: ClusterId,
    backup: &str,
    shards: &[ShardId],
    made_ms: u64,
) -> Result<Manifest> {
    names::check_backup_id(backup)?;
    let mut manifest = Manifest {
        cluster,
        id: backup.to_owned(),
        made_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        shards: Vec::new(),
    };
    let mut named = BTreeSet::new();
    for &shard in shards {
        let file = ShardFile::read(storage, cluster, backup, shard).await?.ok_or_else(|| {
            let message =
                format!("backup {backup} lacks shard {shard}: create it again with the same id, to finish it");
            Error::new(ErrorKind::NotFound, message)
        })?;
        named.extend(file.system.iter().chain(&file.records).map(|chunk| chunk.id));
        manifest.shards.push(file.summary());
    }
    check_chunks(storage, cluster, named).await?;
    manifest.shards.sort_by_key(|shard| shard.shard);
    let sealed = sealed::seal(Kind::Manifest, &manifest.encode())?;
    if storage.put_new(&names::manifest(cluster, backup), sealed).await? {
        return Ok(manifest);
    }
    Manifest::read(storage, cluster, backup).await
}

/// Refuses a backup of which a chunk is gone, as a pruning removes one that no file named yet: `NotFound`.
async fn check_chunks(storage: &dyn Storage, cluster: ClusterId, mut named: BTreeSet<ChunkId>) -> Result<()> {
    for folder in storage.folders(&names::chunks(cluster)).await? {
        for object in storage.list(&folder, None).await? {
            if let Some(id) = names::chunk_of(&object.name) {
                named.remove(&id);
            }
        }
    }
    match named.first() {
        None => Ok(()),
        Some(id) => {
            let name = names::chunk(cluster, id);
            let message = format!("'{name}' is gone: give the backup another id, and make it anew");
            Err(Error::new(ErrorKind::NotFound, message))
        }
    }
}

#[cfg(test)]
mod tests;
