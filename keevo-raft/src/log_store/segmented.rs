//! The log store on disk: one stream of records for all groups of a node, in segments.
//!
//! ```text
//! FOLDER/MANIFEST                     which segments there are, and where each ends
//! FOLDER/00000000000000000012.log     a segment: a header, all marks as of its beginning, then records
//! FOLDER/00000000000000000009.free    one that is not needed any more, kept to be written again
//! ```
//!
//! Entries, votes, marks and removals are records of the one stream, so that their order needs no other care, and one
//! `fdatasync` makes those of all groups durable. What each group has, and where, is in memory; entries are read from
//! their place.
//!
//! Invariant: records lie in the order of the queue, and the disk holds a prefix of them.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use keevo_core::key_file::KeyRing;
use keevo_core::{Error, Result};

use super::op::LogOp;
use super::pipeline::{Limits, Pipeline};
use super::writer::{Backend, Loaded, lock};
use super::{GroupId, LogStore};
use crate::types::Entry;
use crate::wire;

mod folder;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod index;
mod manifest;
pub(super) mod medium;
mod memory_folder;
mod record;
mod recover;
mod sealing;
mod space;
mod stream;
#[cfg(test)]
mod tests;

use folder::{DiskFolder, Folder};
use index::{Index, Place};
use record::{HEADER_BYTES, Header, Kind};
use sealing::EntrySeals;
use space::{Patience, io_error};
use stream::Stream;

/// A segment holds a header and some records at least, and offsets in it have 32 bits.
const SEGMENT_BYTES_MIN: u64 = 1 << 10;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Entries that lie this near to each other are read together.
const SPAN_BYTES: u32 = 256 << 10;

/// How much memory and disk a log store takes.
#[derive(Debug, Clone)]
pub struct SegmentedLogOptions {
    /// Bytes of new entries kept in memory, over all groups. Default 64 MiB.
    pub cache_bytes_max: usize,
    /// Bytes of calls that wait for the writer; beyond it callers wait. Default 64 MiB.
    pub queue_bytes_max: usize,
    /// Calls written together. Default 4,096.
    pub batch_ops_max: usize,
    /// How long a sync waits for one more call where the one before served several. Default 50 µs.
    pub linger_max: Duration,
    /// Bytes of a segment, from 1 KiB to 1 GiB. The log takes about twice its live entries and two segments more.
    /// Default 64 MiB.
    pub segment_bytes: u64,
    /// The keys that entries are sealed with from now on; `None` = they are written as they are. Default none.
    pub keys: Option<Arc<KeyRing>>,
}

impl Default for SegmentedLogOptions {
    fn default() -> Self {
        Self {
            cache_bytes_max: 64 << 20,
            queue_bytes_max: 64 << 20,
            batch_ops_max: 4096,
            linger_max: Duration::from_micros(50),
            segment_bytes: 64 << 20,
            keys: None,
        }
    }
}

/// Opens the log store in the folder `path`, which is created if it is new. Dropping the last handle
/// writes what is queued and closes the folder.
///
/// While the disk is full, writes wait for space and reads go on. A failed sync stops the store for good.
///
/// Errors: `Unavailable` when it is open already; `NewerFormat` when a newer version wrote it; `Config` when a key is
/// missing that entries are sealed with; `Corrupt`;
/// `ResourceExhausted` when the disk is full; `Io`. A group with damaged records does not fail the call: the group's own
/// calls do.
pub fn open_segmented_log_store(path: impl AsRef<Path>, options: &SegmentedLogOptions) -> Result<Arc<dyn LogStore>> {
    open_in(Arc::new(DiskFolder::open(path.as_ref())?), options)
}

fn open_in(folder: Arc<dyn Folder>, options: &SegmentedLogOptions) -> Result<Arc<dyn LogStore>> {
    let seals = EntrySeals::new(options.keys.as_ref())?;
    let backend = SegmentedBackend::open(folder, options.segment_bytes, seals)?;
    let limits = Limits {
        queue_bytes: options.queue_bytes_max,
        cache_bytes: options.cache_bytes_max,
        batch_ops: options.batch_ops_max,
        linger: options.linger_max,
    };
    Ok(Arc::new(Pipeline::start(backend, limits)?))
}

struct SegmentedBackend {
    index: Mutex<Index>,
    stream: Mutex<Stream>,
    patience: Arc<Patience>,
    loaded: Mutex<Loaded>,
    seals: EntrySeals,
}

impl fmt::Debug for SegmentedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentedBackend").finish_non_exhaustive()
    }
}

impl SegmentedBackend {
    fn open(folder: Arc<dyn Folder>, segment_bytes: u64, seals: EntrySeals) -> Result<Self> {
        let segment_bytes = segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let segment_bytes = u32::try_from(segment_bytes).unwrap_or(u32::MAX);
        let recovered = recover::recover(&folder, &seals)?;
        // Nobody could end a wait of the opening.
        let impatience = Arc::new(Patience::default());
        impatience.end();
        let mut stream = Stream::begin(folder, segment_bytes, recovered.closed, &recovered.index, impatience)?;
        stream.release(&recovered.index)?;
        stream.set_seals(seals.clone(), recovered.stale);
        let patience = Arc::new(Patience::default());
        stream.set_patience(Arc::clone(&patience));
        let (index, loaded) = (recovered.index, Mutex::new(recovered.loaded));
        Ok(Self { index, stream: Mutex::new(stream), patience, loaded, seals })
    }
}

impl Drop for SegmentedBackend {
    fn drop(&mut self) {
        self.patience.end();
        if let Err(error) = lock(&self.stream).guarded(Stream::finish) {
            tracing::warn!(%error, "the log store was closed without its last mark");
        }
    }
}

impl Backend for SegmentedBackend {
    fn load(&self) -> Result<Loaded> {
        Ok(std::mem::take(&mut *lock(&self.loaded)))
    }

    fn write(&self, ops: &[LogOp], sync: bool) -> Result<u64> {
        lock(&self.stream).guarded(|stream| stream.write(ops, sync, &self.index))
    }

    fn tidy(&self) -> Result<()> {
        lock(&self.stream).guarded(|stream| stream.clean(&self.index))
    }

    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut total = 0_usize;
        let mut next = range.start;
        while next < range.end {
            let (places, file) = {
                let index = lock(&self.index);
                let left = u32::try_from(bytes_max.saturating_sub(total)).unwrap_or(SPAN_BYTES).min(SPAN_BYTES);
                let places = index.span(group, next..range.end, left)?;
                let first = places.first().and_then(|place| index.files.get(&place.segment));
                let file = first.map(Arc::clone);
                (places, file.ok_or_else(|| Error::corrupt("the log store has lost a segment that it needs"))?)
            };
            let (Some(first), Some(last)) = (places.first(), places.last()) else { break };
            let length = last.offset - first.offset + last.bytes;
            let mut span = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_at(&mut span, u64::from(first.offset)).map_err(|error| io_error("read a segment", error))?;
            let span = Bytes::from(span);
            for place in &places {
                let start = usize::try_from(place.offset - first.offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(usize::try_from(place.bytes).unwrap_or(usize::MAX)).min(span.len());
                let entry = decode_entry(&span.slice(start.min(end)..end), *place, (group, next), &self.seals)?;
                total = total.saturating_add(wire::entry_bytes(&entry));
                if total > bytes_max && !entries.is_empty() {
                    return Ok(entries);
                }
                entries.push(entry);
                next += 1;
            }
        }
        Ok(entries)
    }

    /// Copies what lives out of the segments that hold it among purged entries, and gives them back. One at a time: votes
    /// and appends come between.
    fn reclaim(&self, free_bytes: u64) -> Result<()> {
        let closed: Vec<u64> = lock(&self.stream).guarded(|stream| {
            stream.drop_free()?;
            if stream.is_worth_copying(&lock(&self.index), free_bytes) {
                stream.roll(&self.index)?;
                return Ok(stream.closed.keys().copied().collect());
            }
            Ok(Vec::new())
        })?;
        for number in closed {
            lock(&self.stream).guarded(|stream| stream.move_all(number, &self.index))?;
        }
        lock(&self.stream).guarded(Stream::drop_free)
    }

    fn close(&self) {
        self.patience.end();
    }

    fn oldest_key(&self) -> u32 {
        self.seals.oldest()
    }
}

/// The entry of a record that lies at `place`.
fn decode_entry(bytes: &Bytes, place: Place, (group, index): (GroupId, u64), seals: &EntrySeals) -> Result<Entry> {
    let damaged = || Error::corrupt(format!("entry {index} of group {group} fails its checksum in the log store"));
    let header = Header::read(bytes, place.position())?.ok_or_else(damaged)?;
    let is_entry = matches!(header.kind, Kind::Entry | Kind::SealedEntry);
    let is_it = is_entry && (header.group, header.index) == (group, index) && header.record_bytes() == bytes.len();
    let body = bytes.slice(HEADER_BYTES..);
    if !is_it || !header.is_body_sound(&body) {
        return Err(damaged());
    }
    record::decode_entry(&seals.open(&header, body)?, group, index)
}
