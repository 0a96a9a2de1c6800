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

use super::{GROWTH_BYTES, Stream, segment_name};
use crate::log_store::GroupId;
use crate::log_store::segmented::folder::SegmentFile;
use crate::log_store::segmented::index::{Index, Place};
use crate::log_store::segmented::manifest::Manifest;
use crate::log_store::segmented::record::{HEADER_BYTES, Header, Kind};
use crate::log_store::segmented::space::{io_error, is_full};
use crate::log_store::writer::lock;

/// Segments kept to be written again.
const FREE_MAX: usize = 2;
/// The least that a batch moves while there is something to move.
const MOVED_BYTES_MIN: usize = 16 << 10;
/// The most.
const MOVED_BYTES_MAX: usize = 4 << 20;
/// How much a batch moves for each byte of its own.
const MOVED_PER_BYTE: usize = 4;
/// Closed segments from which on they are merged if they are mostly short ones.
const SHORT_SEGMENTS_MAX: usize = 64;

impl Stream {
    /// Cleans a little: what no caller should wait for.
    pub(in crate::log_store::segmented) fn clean(&mut self, index: &Mutex<Index>) -> Result<()> {
        self.release(index)?;
        self.move_some(index)?;
        self.write_moved(index)
    }

    /// Lets go of the oldest segments without a live entry, if it is durable why they have none.
    pub(in crate::log_store::segmented) fn release(&mut self, index: &Mutex<Index>) -> Result<()> {
        if self.durable < self.end {
            return Ok(());
        }
        if self.is_stale && self.stale.is_empty() && self.moves.is_empty() {
            self.is_stale = false;
            self.seals.all_anew();
        }
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
            let is_fit = !is_read && is_whole && number > self.removed_upto;
            self.let_go(number, is_fit && self.free.len() < FREE_MAX);
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
        while let Some(name) = self.free.last() {
            self.folder.remove(name).map_err(|error| io_error("remove a segment", error))?;
            self.free.pop();
        }
        Ok(())
    }

    /// Copies some live entries of the oldest segment to the end, if too much of the log is dead; else some that are to be
    /// sealed anew.
    fn move_some(&mut self, index: &Mutex<Index>) -> Result<()> {
        if self.moves.is_empty() {
            let index = lock(index);
            let oldest = self.closed.first_key_value().map(|(number, _)| *number);
            let wasteful = oldest.filter(|oldest| index.live_bytes(*oldest) > 0 && self.is_wasteful(&index));
            let Some(number) = wasteful.or_else(|| self.stale.pop_first()) else { return Ok(()) };
            (self.moving, self.moves) = (number, index.entries_in(number));
        }
        let bytes = self.batch_bytes.saturating_mul(MOVED_PER_BYTE);
        self.move_entries(index, bytes.clamp(MOVED_BYTES_MIN, MOVED_BYTES_MAX))
    }

    /// Bytes that are not needed, but for the marks at the beginning of each segment.
    pub(in crate::log_store::segmented) fn dead_bytes(&self, index: &Index) -> u64 {
        let used = self.closed.values().map(|bytes| u64::from(*bytes)).sum::<u64>() + u64::from(self.end);
        let count = u64::try_from(self.closed.len()).unwrap_or(u64::MAX).saturating_add(1);
        used.saturating_sub(index.live_bytes_all()).saturating_sub(count.saturating_mul(u64::from(self.base)))
    }

    /// Whether a copy of all that lives fits `free_bytes` well, and gives back more than it takes.
    pub(in crate::log_store::segmented) fn is_worth_copying(&self, index: &Index, free_bytes: u64) -> bool {
        let live = index.live_bytes_all();
        let taken = live.saturating_add(u64::from(self.base)).saturating_add(2 * GROWTH_BYTES);
        taken <= free_bytes / 2 && self.dead_bytes(index) > live.max(GROWTH_BYTES)
    }

    /// Copies all live entries of a closed segment to the end, durably, and lets go of what that frees.
    pub(in crate::log_store::segmented) fn move_all(&mut self, number: u64, index: &Mutex<Index>) -> Result<()> {
        (self.moving, self.moves) = (number, lock(index).entries_in(number));
        while !self.moves.is_empty() {
            self.move_entries(index, MOVED_BYTES_MAX)?;
            self.write_moved(index)?;
        }
        self.sync()?;
        self.release(index)
    }

    /// Writes copies out, and has their entries read there from now on.
    fn write_moved(&mut self, index: &Mutex<Index>) -> Result<()> {
        self.write_out()?;
        let mut index = lock(index);
        for (group, at, to) in self.moved.drain(..) {
            index.moved(group, at, to);
        }
        Ok(())
    }

    fn is_wasteful(&self, index: &Index) -> bool {
        let segment = u64::from(self.segment_bytes);
        let used = self.closed.values().map(|bytes| u64::from(*bytes)).sum::<u64>();
        let count = u64::try_from(self.closed.len()).unwrap_or(u64::MAX);
        let are_short = self.closed.len() > SHORT_SEGMENTS_MAX && used < count.saturating_mul(segment) / 2;
        self.dead_bytes(index) > index.live_bytes_all().max(segment * 2) || are_short
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

    /// Copies one record, sealed with the newest key. Of one that is damaged goes an empty one, which is as damaged to
    /// whoever reads it, and never taken for a record that a crash has torn.
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
        let header = Header::read(record, place.position())?;
        let body = record.get(HEADER_BYTES..).unwrap_or_default();
        let to = if let Some(header) = header.filter(|header| header.is_body_sound(body)) {
            match self.seals.anew(&header, body)? {
                Some(sealed) => {
                    self.buffer.truncate(start);
                    let body = |buffer: &mut Vec<u8>| buffer.extend_from_slice(&sealed);
                    self.record((Kind::SealedEntry, group, at), body, index)?
                }
                None => self.settle(start, &header, index)?,
            }
        } else {
            tracing::error!(group, index = at, "an entry of the log fails its checksum");
            self.buffer.truncate(start);
            self.record((Kind::Entry, group, at), |_| {}, index)?
        };
        self.moved.push((group, at, to));
        Ok(())
    }
}
