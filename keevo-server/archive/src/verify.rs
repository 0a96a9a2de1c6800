//! Verifying a backup: every byte of all that it names is read, and of the archive from there on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keevo_core::{ErrorKind, Result, ShardId};

use crate::load;
use crate::manifest::{ChunkRef, Manifest, ShardFile};
use crate::reader::Archive;
use crate::storage::Storage;

/// The most damages that are told.
const DAMAGES_MAX: usize = 100;

/// How far a verification is.
#[derive(Debug, Default)]
pub struct VerifyCounts {
    /// Objects read.
    pub objects: AtomicU64,
    /// Their bytes, unpacked.
    pub bytes: AtomicU64,
    /// Bytes of the chunks that there are to read, unpacked; those of the archive are not known before.
    pub total_bytes: AtomicU64,
    /// Records verified.
    pub records: AtomicU64,
    /// Entries of the archive verified.
    pub entries: AtomicU64,
}

/// Reads all of a backup, and the archive of its shards from its indexes on. Gives what is wrong with it, each with the
/// name of the object; nothing if it can be restored. An error of the storage ends it.
pub async fn verify(
    storage: Arc<dyn Storage>,
    archive: Archive,
    backup: &str,
    counts: &VerifyCounts,
) -> Result<Vec<String>> {
    let mut damages = Vec::new();
    let manifest = match Manifest::read(storage.as_ref(), archive.cluster(), backup).await {
        Ok(manifest) => manifest,
        Err(error) => {
            note(&mut damages, Err(error))?;
            return Ok(damages);
        }
    };
    counts.total_bytes.fetch_add(manifest.shards.iter().map(|shard| shard.bytes).sum(), Ordering::Relaxed);
    let mut seen = BTreeSet::new();
    for summary in &manifest.shards {
        if damages.len() >= DAMAGES_MAX {
            break;
        }
        counts.objects.fetch_add(1, Ordering::Relaxed);
        let file = match manifest.shard_file(storage.as_ref(), summary).await {
            Ok(file) => file,
            Err(error) => {
                note(&mut damages, Err(error))?;
                continue;
            }
        };
        verify_chunks(storage.as_ref(), &manifest, &file, (&mut seen, &mut damages), counts).await?;
        let read = verify_log(&archive, summary.shard, summary.index, counts).await;
        note(&mut damages, read)?;
    }
    Ok(damages)
}

async fn verify_chunks(
    storage: &dyn Storage,
    manifest: &Manifest,
    file: &ShardFile,
    (seen, damages): (&mut BTreeSet<crate::chunk::ChunkId>, &mut Vec<String>),
    counts: &VerifyCounts,
) -> Result<()> {
    let system = file.system.iter().map(|chunk| (chunk, false));
    for (chunk, holds_records) in system.chain(file.records.iter().map(|chunk| (chunk, true))) {
        if damages.len() >= DAMAGES_MAX {
            break;
        }
        if !seen.insert(chunk.id) {
            continue;
        }
        let ChunkRef { rows, bytes, .. } = chunk;
        let read = if holds_records {
            load::records(storage, manifest.cluster, chunk).await
        } else {
            load::chunk(storage, manifest.cluster, chunk).await
        };
        counts.objects.fetch_add(1, Ordering::Relaxed);
        counts.bytes.fetch_add(*bytes, Ordering::Relaxed);
        if holds_records {
            counts.records.fetch_add(*rows, Ordering::Relaxed);
        }
        note(damages, read.map(drop))?;
    }
    Ok(())
}

/// Reads the archive of a shard after an index to its end.
async fn verify_log(archive: &Archive, shard: ShardId, index: u64, counts: &VerifyCounts) -> Result<()> {
    let mut log = archive.log_from(shard, index.saturating_add(1)).await?;
    while let Some(entries) = log.next_entries().await? {
        counts.objects.fetch_add(1, Ordering::Relaxed);
        let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        counts.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        counts.entries.fetch_add(u64::try_from(entries.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    Ok(())
}

/// Notes what is wrong; an error that says nothing about the backup comes back.
fn note(damages: &mut Vec<String>, read: Result<()>) -> Result<()> {
    match read {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::NewerFormat) => {
            damages.push(error.message().to_owned());
            Ok(())
        }
        Err(error) => Err(error),
    }
}
