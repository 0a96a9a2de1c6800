//! Erasing a user from the archived API log.
//!
//! ```text
//! segments before the oldest backup ─▶ reduced to their API calls ─▶ calls of the user erased ─▶ written in place
//! segments from it on ─▶ looked through alone: a restore needs them as they are
//! ```
//!
//! What a call wrote lies in the commands of the log too, in those of workers as well, as the copies in timelines do. So a
//! segment that no backup needs any more is *reduced*: of each entry stays what it says of API calls, and its command where that
//! is the request of a call of keys and values. Indexes, terms and clocks stay.
//!
//! Invariant: a segment that a backup needs is not changed, and one that is reduced is never applied. Every step can be repeated;
//! what was cut off is done by running it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use keevo_core::call::{CallRequest, EntryNote, Envelope, Note};
use keevo_core::{ClusterId, Command, Entry, Error, ErrorKind, Result};
use keevo_raft::{LoggedEntry, LoggedKind};

use crate::manifest::Manifest;
use crate::prune;
use crate::reader::{Archive, at};
use crate::restore::Fence;
use crate::segment::{self, Segment};
use crate::storage::Storage;

/// Says whether a call is one of the user.
pub type IsOf = Arc<dyn Fn(&Envelope) -> bool + Send + Sync>;

/// How far an erasure is.
#[derive(Debug, Default)]
pub struct EraseCounts {
    /// Segments that were looked through.
    pub segments: AtomicU64,
    /// Segments that were written anew.
    pub rewritten: AtomicU64,
    /// Calls that were erased.
    pub calls: AtomicU64,
    /// Calls of the user in segments that a backup needs.
    pub calls_left: AtomicU64,
}

/// Erases the calls of a user from the archive, where none of the backups `kept` needs the segment; with `dry_run` they are only
/// counted. `fence` is asked before each segment. Errors name the segment.
pub async fn erase(
    (storage, archive): (&dyn Storage, &Archive),
    kept: &[Manifest],
    (is_of, dry_run): (&IsOf, bool),
    counts: &EraseCounts,
    fence: &Fence,
) -> Result<()> {
    let needed = prune::needed(kept);
    for shard in archive.shards().await? {
        let segments = archive.segments(shard, None).await?;
        let free = needed.get(&shard).map_or(0, |index| prune::before(&segments, *index));
        for (number, object) in segments.iter().enumerate() {
            fence().await?;
            let found = archive.read(&object.name).await?;
            let may = number < free || found.head.reduced;
            let (cluster, is_of) = (archive.cluster(), Arc::clone(is_of));
            let reduced = tokio::task::spawn_blocking(move || reduce(cluster, &found, may, &is_of));
            let (calls, bytes) = reduced
                .await
                .map_err(|error| Error::new(ErrorKind::Io, "the segment was not reduced").with_source(error))?
                .map_err(|error| at(&object.name, &error))?;
            counts.segments.fetch_add(1, Ordering::Relaxed);
            if let Some(bytes) = bytes {
                if !dry_run {
                    fence().await?;
                    storage.replace(&object.name, bytes).await?;
                }
                counts.rewritten.fetch_add(1, Ordering::Relaxed);
            }
            let count = if may { &counts.calls } else { &counts.calls_left };
            count.fetch_add(calls, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// How many calls of a segment are the user's, and what it becomes, where that may be and is something else.
fn reduce(cluster: ClusterId, found: &Segment, may: bool, is_of: &IsOf) -> Result<(u64, Option<Bytes>)> {
    let (mut calls, mut entries) = (0, Vec::with_capacity(found.entries.len()));
    for entry in &found.entries {
        let (payload, erased) = reduce_entry(entry, is_of)?;
        calls += u64::from(erased);
        entries.push(LoggedEntry { payload, ..entry.clone() });
    }
    if !may || (found.head.reduced && entries == found.entries) {
        return Ok((calls, None));
    }
    let (_, bytes) = segment::encode_as(cluster, found.head.shard, &entries, true)?;
    Ok((calls, Some(bytes)))
}

/// What becomes of an entry, and whether a call of the user was in it.
fn reduce_entry(entry: &LoggedEntry, is_of: &IsOf) -> Result<(Bytes, bool)> {
    if entry.kind != LoggedKind::Command {
        return Ok((entry.payload.clone(), false));
    }
    let hlc = match Entry::peek_hlc(&entry.payload) {
        Some(hlc) => hlc,
        None => Entry::decode(&entry.payload)?.hlc,
    };
    let empty = Entry { hlc, command: Command::MoveClock }.encode();
    Ok(match EntryNote::of_entry(&entry.payload)? {
        None => (empty, false),
        Some(EntryNote::Outcomes(outcomes)) => (outcomes.append_to(&empty), false),
        Some(EntryNote::Call { envelope, attempt }) if !envelope.erased && is_of(&envelope) => {
            (Note { envelope: envelope.erase().encode(), attempt }.append_to(&empty), true)
        }
        Some(EntryNote::Call { envelope, .. }) if envelope.request == CallRequest::Command => {
            (entry.payload.clone(), false)
        }
        Some(EntryNote::Call { envelope, attempt }) => {
            (Note { envelope: envelope.encode(), attempt }.append_to(&empty), false)
        }
    })
}

#[cfg(test)]
mod tests;
