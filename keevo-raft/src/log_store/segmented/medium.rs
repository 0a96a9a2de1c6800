//! The log of segments on a simulated disk: what a [`MemoryDisk`](crate::log_store::MemoryDisk) may lie on.
//!
//! Its own code writes, rolls, cleans and recovers; only the folder is in memory, and a power cut takes from it what a disk
//! may lose.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use keevo_core::{Result, SeededRandom};

use super::SegmentedBackend;
use super::memory_folder::MemoryFolder;
use super::sealing::EntrySeals;
use crate::log_store::GroupId;
use crate::log_store::group::LoadedGroup;
use crate::log_store::op::LogOp;
use crate::log_store::writer::{Backend, lock};
use crate::types::Entry;

/// A log of segments in memory, which outlives its power cuts.
#[derive(Debug)]
pub(in crate::log_store) struct Medium {
    segment_bytes: u64,
    random: SeededRandom,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    folder: Arc<MemoryFolder>,
    /// The log while it is open.
    backend: Option<SegmentedBackend>,
}

/// What the log holds after a power cut.
#[derive(Debug, Default)]
pub(in crate::log_store) struct Found {
    pub(in crate::log_store) stamp: Option<Bytes>,
    pub(in crate::log_store) groups: Vec<(GroupId, LoadedGroup, Vec<Entry>)>,
}

impl Medium {
    /// An empty log, whose power cuts `seed` decides.
    pub(in crate::log_store) fn new(seed: u64, segment_bytes: u64) -> Self {
        Self { segment_bytes, random: SeededRandom::new(seed), state: Mutex::default() }
    }

    /// Cuts the power, opens the log on what is left and reads all of it. `Corrupt` when it is damaged.
    pub(in crate::log_store) fn cut(&self) -> Result<Found> {
        let mut state = lock(&self.state);
        state.folder = Arc::new(state.folder.crash(&self.random));
        state.backend = None;
        let backend =
            SegmentedBackend::open(Arc::new(Arc::clone(&state.folder)), self.segment_bytes, EntrySeals::default())?;
        let loaded = backend.load()?;
        let mut found = Found { stamp: loaded.stamp, groups: Vec::new() };
        for (id, group) in loaded.groups {
            let group = group?;
            let entries = backend.read(id, indexes(&group), usize::MAX)?;
            found.groups.push((id, group, entries));
        }
        state.backend = Some(backend);
        Ok(found)
    }

    /// Writes operations; with `sync` they, and all before them, are durable on return.
    pub(in crate::log_store) fn write(&self, ops: &[LogOp], sync: bool) -> Result<()> {
        let state = lock(&self.state);
        let Some(backend) = &state.backend else { return Ok(()) };
        backend.write(ops, sync)?;
        backend.tidy()
    }
}

/// The indexes of a group's entries.
fn indexes(group: &LoadedGroup) -> Range<u64> {
    group.entries.as_ref().map_or(0..0, |(first, last)| *first..last.index.saturating_add(1))
}
