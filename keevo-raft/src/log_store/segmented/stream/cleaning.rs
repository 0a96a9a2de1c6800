//! What becomes of old segments: those without a live entry are let go, oldest first; and where too much of the log is
//! dead, what lives in the oldest one is copied to the end, so that it dies.
//!
//! A little is copied with each batch. All live bytes are copied once at most while as many dead ones go, so that cleaning
//! writes no more than the calls did.
//!
//! Invariant: the copy of an entry enters the log where the entry is live, so that whoever reads the log in order finds
//! it, whether the first one is still there or not.

use std::sync::{Arc, Mutex};

use keevo_core::Result;

use super::{BUFFER_BYTES_KEPT, Stream, segment_name};
use crate::log_store::GroupId;
use crate::log_store::segmented::folder::SegmentFile;
use crate::log_store::segmented::index::{Index, Place};
use crate::log_store::segmented::manifest::Manifest;
use crate::log_store::segmented::record::{Header, Kind};
use crate::log_store::segmented::space::{io_error, is_full};
use crate::log_store::writer::lock;

/// Segments kept to be written again.
const FREE_MAX: usize = 2;
/// The least that a batch moves while there is something to move.
const MOVED_BYTES_MIN: usize = 16 << 10;
/// How much a batch moves for each byte of its own.
const MOVED_PER_BYTE: usize = 4;
/// Closed segments from which on they are merged if they are mostly short ones.
const SHORT_SEGMENTS_MAX: usize = 64;

impl Stream {
    /// Lets go of the oldest segments without a live entry. Only after a sync, which made durable why they have none.
    pub(in crate::log_store::segmented) fn release(&mut self, index: &Mutex<Index>) -> Result<()> {
        let gone: Vec<u64> = {
            let index = lock(index);
            self.closed.keys().copied().take_while(|number| index.live_bytes(*number) == 0).collect()
        };
        if gone.is_empty() {
            return Ok(());
        }
        let closed = self.closed.iter().filter(|(number, _)| !gone.contains(number));
        let manifest =
            Manifest { closed: closed.map(|(number, bytes)| (*number, *bytes)).collect(), open: self.number };
        match manifest.save(self.folder.as_ref()) {
            // There will be space another time, and nothing depends on this one.
            Err(error) if is_full(&error) => return Ok(()),
            other => other.map_err(|error| io_error("write its manifest", error))?,
        }
        self.closed = manifest.closed;
        for number in gone {
            let file = lock(index).files.remove(&number);
            // A read may go on in it: then its bytes must not change.
            let is_read = file.as_ref().is_none_or(|file| Arc::strong_count(file) > 1);
            let size = file.and_then(|file| file.size().ok()).unwrap_or(0);
            let is_whole = size >= u64::from(self.segment_bytes) && size <= u64::from(self.segment_bytes) * 2;
            self.let_go(number, !is_read && is_whole && self.free.len() < FREE_MAX);
        }
        Ok(())
    }

    /// Keeps a segment's file to be written again, or removes it. What fails is found when the store is opened again.
    fn let_go(&mut self, number: u64, is_kept: bool) {
        let name = segment_name(number);
        let free = format!("{number:020}.free");
        let done = if is_kept { self.folder.rename(&name, &free) } else { self.folder.remove(&name) };
        match done {
            Ok(()) if is_kept => self.free.push(free),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, segment = number, "an old segment of the log could not be removed"),
        }
    }

    /// Removes the files that were kept to be written again.
    pub(in crate::log_store::segmented) fn drop_free(&mut self) -> Result<()> {
        for name in self.free.drain(..) {
            self.folder.remove(&name).map_err(|error| io_error("remove a segment", error))?;
        }
        Ok(())
    }

    /// Copies some live entries of the oldest segment to the end, if too much of the log is dead.
    pub(in crate::log_store::segmented) fn move_some(&mut self, index: &Mutex<Index>) -> Result<()> {
        if self.moves.is_empty() {
            let Some((oldest, _)) = self.closed.first_key_value() else { return Ok(()) };
            let index = lock(index);
            if index.live_bytes(*oldest) == 0 || !self.is_wasteful(&index) {
                return Ok(());
            }
            (self.moving, self.moves) = (*oldest, index.entries_in(*oldest));
        }
        self.move_entries(index, (self.buffer.len() * MOVED_PER_BYTE).max(MOVED_BYTES_MIN))
    }

    /// Copies all live entries of closed segments to the end.
    pub(in crate::log_store::segmented) fn move_all(&mut self, index: &Mutex<Index>) -> Result<()> {
        let closed: Vec<u64> = self.closed.keys().copied().collect();
        for number in closed {
            (self.moving, self.moves) = (number, lock(index).entries_in(number));
            while !self.moves.is_empty() {
                self.move_entries(index, BUFFER_BYTES_KEPT)?;
                self.write_out()?;
            }
        }
        Ok(())
    }

    fn is_wasteful(&self, index: &Index) -> bool {
        let used = self.closed.values().map(|bytes| u64::from(*bytes)).sum::<u64>() + u64::from(self.end);
        let live = index.live_bytes_all();
        let segment = u64::from(self.segment_bytes);
        let count = u64::try_from(self.closed.len()).unwrap_or(u64::MAX);
        let are_short = self.closed.len() > SHORT_SEGMENTS_MAX && used < count.saturating_mul(segment) / 2;
        used.saturating_sub(live) > live.max(segment * 2) || are_short
    }

    fn move_entries(&mut self, index: &Mutex<Index>, bytes_max: usize) -> Result<()> {
        let mut moved = 0_usize;
        while moved < bytes_max
            && let Some((group, at)) = self.moves.pop_front()
        {
            let (place, file) = {
                let index = lock(index);
                let Some(place) = index.place(group, at).filter(|place| place.segment == self.moving) else { continue };
                let Some(file) = index.files.get(&place.segment) else { continue };
                (place, Arc::clone(file))
            };
            moved += usize::try_from(place.bytes).unwrap_or(usize::MAX);
            self.move_entry((group, at), place, file.as_ref(), index)?;
        }
        Ok(())
    }

    /// Copies one record as it is: damage in its body stays, and is found by whoever reads it.
    fn move_entry(
        &mut self,
        (group, at): (GroupId, u64),
        place: Place,
        file: &dyn SegmentFile,
        index: &Mutex<Index>,
    ) -> Result<()> {
        let start = self.buffer.len();
        self.buffer.resize(start + usize::try_from(place.bytes).unwrap_or(0), 0);
        let record = self.buffer.get_mut(start..).unwrap_or_default();
        file.read_at(record, u64::from(place.offset)).map_err(|error| io_error("read a segment", error))?;
        if let Some(header) = Header::read(record, place.position())? {
            let to = self.settle(start, &header, index)?;
            lock(index).moved(group, at, to);
            return Ok(());
        }
        self.buffer.truncate(start);
        let why = format!("entry {at} of group {group} fails its checksum");
        tracing::error!(group, index = at, "the log of a group is damaged: {why}");
        self.record((Kind::Damaged, group, 0), |buffer| buffer.extend_from_slice(why.as_bytes()), index)?;
        lock(index).damage(group, why);
        Ok(())
    }
}
