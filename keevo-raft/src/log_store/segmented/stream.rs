//! The end of the log: records are added here, in the order of the calls, and nowhere else.
//!
//! ```text
//!  closed segments, oldest first              the open one
//!  ┌────────┐ ┌────────┐ ┌────────┐          ┌───────┬──────────┬─────────┬───────┐
//!  │ dead   │ │ few    │ │ live   │    ...   │ marks │ durable  │ written │ zeros │
//!  └────────┘ └────────┘ └────────┘          └───────┴──────────┴─────────┴───────┘
//!   released   moved to                       all votes and     ▲ `durable` ▲ `end`
//!              the end                        marks as of its beginning
//! ```
//!
//! Each segment begins with all marks, so that the ones before it are needed for their live entries alone.
//!
//! Invariant: a segment is begun only when all before it is durable, and let go only when the removal, or the copy, of
//! its last entry is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use keevo_core::{Error, ErrorKind, Result};

use super::folder::{Folder, SegmentFile};
use super::index::{Index, Place};
use super::manifest::Manifest;
use super::record::{self, Header, Kind, Position};
use super::sealing::EntrySeals;
use super::space::{Patience, io_error, is_full};
use crate::log_store::GroupId;
use crate::log_store::op::LogOp;
use crate::log_store::writer::lock;
use crate::wire;

mod cleaning;

/// What a segment begins with.
const MAGIC: [u8; 8] = *b"keevolog";
const VERSION: u32 = 1;
/// Bytes of a segment's header: magic, version, number, checksum.
pub(super) const SEGMENT_HEADER_BYTES: usize = 24;
/// A file grows by this much at once: each growth costs the file system an entry in its own journal.
const GROWTH_BYTES: u64 = 1 << 20;
const PAGE_BYTES: u64 = 4 << 10;
const ZEROS: [u8; 4 << 10] = [0; 4 << 10];
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// The file of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:020}.log")
}

/// The header of a segment.
pub(super) fn segment_header(number: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    let fields = MAGIC.into_iter().chain(VERSION.to_be_bytes()).chain(number.to_be_bytes());
    for (slot, byte) in header.iter_mut().zip(fields) {
        *slot = byte;
    }
    let (body, crc) = header.split_at_mut(SEGMENT_HEADER_BYTES - 4);
    crc.copy_from_slice(&crc32fast::hash(body).to_be_bytes());
    header
}

/// The end of the log.
#[derive(Debug)]
pub(super) struct Stream {
    folder: Arc<dyn Folder>,
    segment_bytes: u32,
    patience: Arc<Patience>,
    seals: EntrySeals,
    /// Segments with entries that were not sealed with the newest key when the log was opened.
    stale: BTreeSet<u64>,
    /// Whether such entries may still be the only ones of their index.
    is_stale: bool,
    /// The files of segments up to this one are not written again: they may hold entries in the open.
    removed_upto: u64,
    /// The segments before the open one, and their bytes in use.
    pub(super) closed: BTreeMap<u64, u32>,
    number: u64,
    file: Arc<dyn SegmentFile>,
    /// Bytes of the open segment that its header and the marks take.
    base: u32,
    end: u32,
    durable: u32,
    /// What the last record of kind `Synced` said.
    marked: u32,
    file_bytes: u64,
    /// Records after `end`.
    buffer: Vec<u8>,
    free: Vec<String>,
    /// The segment whose entries are copied to the end, and those that are still to be.
    moving: u64,
    moves: VecDeque<(GroupId, u64)>,
    /// Copies that are not written out yet: until then their entries are read where they lay.
    moved: Vec<(GroupId, u64, Place)>,
    /// Bytes of the last batch.
    batch_bytes: usize,
    /// Whether a call failed half-way. Then what the files hold is not known.
    is_broken: bool,
    /// Bytes written since the store was opened.
    pub(super) written: u64,
}

impl Stream {
    /// Begins the segment after `number`, behind the segments `closed`, the last of which is `number`.
    pub(super) fn begin(
        folder: Arc<dyn Folder>,
        segment_bytes: u32,
        closed: BTreeMap<u64, u32>,
        index: &Mutex<Index>,
        patience: Arc<Patience>,
    ) -> Result<Self> {
        let number = closed.last_key_value().map_or(0, |(number, _)| *number).saturating_add(1);
        let file = folder.open(&segment_name(number)).map_err(|error| io_error("make a segment", error))?;
        let mut stream = Self {
            folder,
            segment_bytes,
            patience,
            seals: EntrySeals::default(),
            stale: BTreeSet::new(),
            is_stale: false,
            removed_upto: 0,
            closed,
            number,
            file,
            base: 0,
            end: 0,
            durable: 0,
            marked: 0,
            file_bytes: 0,
            buffer: Vec::new(),
            free: Vec::new(),
            moving: 0,
            moves: VecDeque::new(),
            moved: Vec::new(),
            batch_bytes: 0,
            is_broken: false,
            written: 0,
        };
        stream.begin_segment(index)?;
        Ok(stream)
    }

    /// From now on writes wait for space with this patience.
    pub(super) fn set_patience(&mut self, patience: Arc<Patience>) {
        self.patience = patience;
    }

    /// From now on entries are sealed with these; those of the segments `stale`, little by little, are sealed anew.
    pub(super) fn set_seals(&mut self, seals: EntrySeals, stale: BTreeSet<u64>) {
        if !stale.is_empty() {
            self.removed_upto = self.number;
        }
        self.is_stale = !stale.is_empty();
        (self.seals, self.stale) = (seals, stale);
    }

    /// Does something to the log, unless something failed before. What failed half-way must not be followed by a success:
    /// a call would be confirmed that nobody finds again.
    pub(super) fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.is_broken {
            return Err(Error::new(ErrorKind::Io, "the log store failed to write before"));
        }
        let result = act(self);
        self.is_broken = result.is_err();
        result
    }

    /// Writes operations together and in order; with `sync` they, and all before them, are durable on return.
    pub(super) fn write(&mut self, ops: &[LogOp], sync: bool, index: &Mutex<Index>) -> Result<u64> {
        let before = self.written;
        if ops.iter().any(|op| !matches!(op, LogOp::Sync)) {
            self.mark_durable()?;
            for op in ops {
                self.add(op, index)?;
            }
            self.write_out()?;
            self.batch_bytes = usize::try_from(self.written - before).unwrap_or(usize::MAX);
        }
        if sync {
            self.sync()?;
        }
        Ok(self.written - before)
    }

    /// Closes the log so that what it holds is known to be durable.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.write_out()?;
        self.sync()?;
        if self.durable > self.marked {
            self.add_mark(self.durable)?;
        }
        self.write_out()?;
        self.sync()
    }

    /// Adds what an operation says.
    fn add(&mut self, op: &LogOp, index: &Mutex<Index>) -> Result<()> {
        match op {
            LogOp::Append { group, entries } => {
                let key = self.seals.newest()?;
                for entry in entries {
                    let at = entry.log_id.index;
                    let body = |body: &mut Vec<u8>| wire::encode_entry_into(entry, body);
                    let place = match &key {
                        Some(key) => {
                            let mut open = Vec::new();
                            body(&mut open);
                            let sealed = self.seals.seal(key, *group, at, &open)?;
                            let body = |body: &mut Vec<u8>| body.extend_from_slice(&sealed);
                            self.record((Kind::SealedEntry, *group, at), body, index)?
                        }
                        None => self.record((Kind::Entry, *group, at), body, index)?,
                    };
                    lock(index).add(*group, at, place);
                }
                return Ok(());
            }
            LogOp::Vote { group, vote } => {
                let body = wire::encode_vote(vote);
                self.record((Kind::Vote, *group, 0), |buffer| buffer.extend_from_slice(&body), index)?;
            }
            LogOp::Committed { group, committed } => {
                let body = committed.map(|id| wire::encode_log_id(&id)).unwrap_or_default();
                self.record((Kind::Committed, *group, 0), |buffer| buffer.extend_from_slice(&body), index)?;
            }
            LogOp::Truncate { group, from } => {
                self.record((Kind::Truncate, *group, *from), |_| {}, index)?;
            }
            LogOp::Purge { group, upto, .. } => {
                let body = wire::encode_log_id(upto);
                self.record((Kind::Purge, *group, upto.index), |buffer| buffer.extend_from_slice(&body), index)?;
            }
            LogOp::Destroy { group } => {
                self.record((Kind::Destroy, *group, 0), |_| {}, index)?;
            }
            LogOp::Stamp(stamp) => {
                self.record((Kind::Stamp, 0, 0), |buffer| buffer.extend_from_slice(stamp), index)?;
            }
            LogOp::Sync => return Ok(()),
        }
        note(&mut lock(index), op);
        Ok(())
    }

    /// Adds a record; in the next segment if this one is full.
    fn record(
        &mut self,
        what: (Kind, GroupId, u64),
        body: impl FnOnce(&mut Vec<u8>),
        index: &Mutex<Index>,
    ) -> Result<Place> {
        let start = self.buffer.len();
        let header = record::append(&mut self.buffer, what, body)?;
        self.settle(start, &header, index)
    }

    /// Gives the record that begins at `start` of the buffer its place.
    fn settle(&mut self, start: usize, header: &Header, index: &Mutex<Index>) -> Result<Place> {
        let mut start = start;
        // A mark of what is durable may stand before it.
        let first = usize::try_from(self.base).unwrap_or(usize::MAX).saturating_add(record::HEADER_BYTES);
        let is_first = usize::try_from(self.end_after(start)?).is_ok_and(|offset| offset <= first);
        if self.end_after(self.buffer.len())? > self.bytes_max() && !is_first {
            let record = self.buffer.split_off(start);
            self.roll(index)?;
            start = self.buffer.len();
            self.buffer.extend_from_slice(&record);
        }
        self.end_after(self.buffer.len())?;
        self.seal(start, header)
    }

    fn seal(&mut self, start: usize, header: &Header) -> Result<Place> {
        let at = Position { segment: self.number, offset: self.end_after(start)? };
        if let Some(record) = self.buffer.get_mut(start..) {
            record::seal(record, header, at);
        }
        let bytes = u32::try_from(header.record_bytes()).map_err(|error| too_long().with_source(error))?;
        Ok(Place { segment: at.segment, offset: at.offset, bytes })
    }

    /// Where the open segment ends with `bytes` more.
    fn end_after(&self, bytes: usize) -> Result<u32> {
        u32::try_from(bytes).ok().and_then(|bytes| self.end.checked_add(bytes)).ok_or_else(too_long)
    }

    /// Bytes of a segment: as configured, but for more than the marks of all groups.
    fn bytes_max(&self) -> u32 {
        self.segment_bytes.max(self.base.saturating_mul(4))
    }

    /// Notes in the log how far it is durable, so that damage before that point is never taken for a torn end.
    fn mark_durable(&mut self) -> Result<()> {
        let has_room = self.end_after(self.buffer.len() + record::HEADER_BYTES)? <= self.bytes_max();
        if self.durable > self.marked && has_room {
            self.add_mark(self.durable)?;
        }
        Ok(())
    }

    fn add_mark(&mut self, durable: u32) -> Result<()> {
        let start = self.buffer.len();
        let header = record::append(&mut self.buffer, (Kind::Synced, 0, u64::from(durable)), |_| {})?;
        self.seal(start, &header)?;
        self.marked = durable;
        Ok(())
    }

    /// Writes the buffer out.
    fn write_out(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let length = self.buffer.len();
        let end = self.end_after(length)?;
        let (file, buffer, offset) = (&self.file, &self.buffer, u64::from(self.end));
        let mut is_short = false;
        self.patience.retry("write", || match file.write_at(buffer, offset) {
            // What was set aside goes first.
            Err(error) if is_full(&error) => {
                is_short = true;
                self.free.iter().try_for_each(|name| self.folder.remove(name))?;
                file.write_at(buffer, offset)
            }
            other => other,
        })?;
        if is_short {
            self.free.clear();
        }
        self.written += u64::try_from(length).unwrap_or(u64::MAX);
        self.end = end;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        if u64::from(end) > self.file_bytes { self.grow() } else { Ok(()) }
    }

    /// Makes the file longer than it has to be, so that the next syncs find their blocks there. Without space it is as
    /// long as its records.
    fn grow(&mut self) -> Result<()> {
        let end = u64::from(self.end);
        let grown = end.next_multiple_of(GROWTH_BYTES).min(u64::from(self.segment_bytes)).max(end);
        let mut at = end;
        while at < grown {
            // A page at a time: Linux keeps what is written at once as one piece, and later counts all of it as written
            // for each record in it.
            let piece = usize::try_from((grown - at).min(PAGE_BYTES - at % PAGE_BYTES)).unwrap_or(0);
            match self.file.write_at(ZEROS.get(..piece).unwrap_or_default(), at) {
                Err(error) if is_full(&error) => break,
                other => other.map_err(|error| io_error("write", error))?,
            }
            at += u64::try_from(piece).unwrap_or(PAGE_BYTES);
        }
        self.file_bytes = at;
        Ok(())
    }

    /// Makes durable what was written. After a failure the store must not be used: the system may have dropped what it
    /// could not write, and would say that all is well the next time.
    fn sync(&mut self) -> Result<()> {
        if self.durable < self.end {
            self.file.sync().map_err(|error| io_error("sync", error))?;
            self.durable = self.end;
        }
        Ok(())
    }

    /// Closes the open segment and begins the next one.
    pub(super) fn roll(&mut self, index: &Mutex<Index>) -> Result<()> {
        self.write_out()?;
        self.sync()?;
        let number = self.number.checked_add(1).ok_or_else(too_long)?;
        let name = segment_name(number);
        let folder = &self.folder;
        if let Some(free) = self.free.pop() {
            self.patience.retry("take a segment again", || folder.rename(&free, &name))?;
        }
        let file = self.patience.retry("make a segment", || folder.open(&name))?;
        self.closed.insert(self.number, self.end);
        (self.number, self.file) = (number, file);
        self.begin_segment(index)
    }

    fn begin_segment(&mut self, index: &Mutex<Index>) -> Result<()> {
        (self.end, self.durable, self.marked) = (0, 0, 0);
        self.file_bytes = self.file.size().map_err(|error| io_error("tell the size of a segment", error))?;
        self.buffer.extend_from_slice(&segment_header(self.number));
        self.add_marks(&lock(index))?;
        // The manifest names the segment only when this is durable. From then on the marks may be the only ones.
        self.add_mark(self.end_after(self.buffer.len())?)?;
        self.write_out()?;
        self.sync()?;
        self.base = self.end;
        self.save_manifest()?;
        lock(index).files.insert(self.number, Arc::clone(&self.file));
        Ok(())
    }

    /// Adds all marks as they are.
    fn add_marks(&mut self, index: &Index) -> Result<()> {
        let mut mark = |what: (Kind, GroupId, u64), body: &[u8]| {
            let start = self.buffer.len();
            let header = record::append(&mut self.buffer, what, |buffer| buffer.extend_from_slice(body))?;
            self.seal(start, &header).map(drop)
        };
        if let Some(stamp) = &index.stamp {
            mark((Kind::Stamp, 0, 0), stamp)?;
        }
        for (id, group) in &index.groups {
            if let Some(why) = &group.damage {
                mark((Kind::Damaged, *id, 0), why.as_bytes())?;
            }
            if let Some(purged) = &group.purged {
                mark((Kind::Purge, *id, purged.index), &wire::encode_log_id(purged))?;
            }
            if let Some(vote) = &group.vote {
                mark((Kind::Vote, *id, 0), &wire::encode_vote(vote))?;
            }
            if let Some(committed) = &group.committed {
                mark((Kind::Committed, *id, 0), &wire::encode_log_id(committed))?;
            }
        }
        Ok(())
    }

    fn save_manifest(&self) -> Result<()> {
        let manifest = Manifest { closed: self.closed.clone(), open: self.number };
        self.patience.retry("write its manifest", || manifest.save(self.folder.as_ref()))
    }
}

fn too_long() -> Error {
    Error::invalid("a segment of the log would have 4 GiB or more")
}

/// Applies an operation other than an append to the index.
fn note(index: &mut Index, op: &LogOp) {
    match op {
        LogOp::Vote { group, vote } => index.group(*group).vote = Some(*vote),
        LogOp::Committed { group, committed } => index.group(*group).committed = *committed,
        LogOp::Truncate { group, from } => index.truncate(*group, *from),
        LogOp::Purge { group, upto, .. } => index.purge(*group, *upto),
        LogOp::Destroy { group } => index.destroy(*group),
        LogOp::Stamp(stamp) => index.stamp = Some(stamp.clone()),
        LogOp::Append { .. } | LogOp::Sync => {}
    }
}
