//! A folder in memory that loses at a crash what a disk may lose.
//!
//! A write that was not synced may reach the disk or not, sector by sector; changes of names that were not synced reach
//! it in their order, or the later ones don't.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use keevo_core::{Random, SeededRandom};

use super::folder::{Folder, SegmentFile};
use crate::log_store::writer::lock;

const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct MemoryFolder {
    pub(super) names: Mutex<Names>,
    pub(super) faults: Arc<Faults>,
}

#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) current: BTreeMap<String, Arc<MemoryFile>>,
    pub(super) durable: BTreeMap<String, Arc<MemoryFile>>,
    pub(super) unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Made(String, Arc<MemoryFile>),
    Renamed(String, String),
    Removed(String),
}

#[derive(Debug, Default)]
pub(super) struct MemoryFile {
    pub(super) content: Mutex<Content>,
    pub(super) faults: Arc<Faults>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Content {
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) unsynced: Vec<(usize, Vec<u8>)>,
}

/// What goes wrong, as tests say.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Calls left until one fails; 0 = none fails.
    pub(super) fails_after: AtomicU64,
    pub(super) is_full: AtomicBool,
    /// Writes left until the disk is full; 0 = it doesn't become so.
    pub(super) full_after: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Faults {
    fn check(&self) -> io::Result<()> {
        let left = self.fails_after.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left == Ok(1) { Err(io::Error::other("the disk failed")) } else { Ok(()) }
    }

    fn check_space(&self) -> io::Result<()> {
        self.check()?;
        let left = self.full_after.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left == Ok(1) {
            self.is_full.store(true, Ordering::SeqCst);
        }
        if self.is_full.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// Puts `written` at `offset`, behind zeros if the bytes end before.
fn write(bytes: &mut Vec<u8>, written: &[u8], offset: usize) {
    let end = offset.saturating_add(written.len());
    bytes.resize(bytes.len().max(end), 0);
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(written);
    }
}

fn apply(names: &mut BTreeMap<String, Arc<MemoryFile>>, change: &Change) {
    match change {
        Change::Made(name, file) => drop(names.insert(name.clone(), Arc::clone(file))),
        Change::Renamed(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Change::Removed(name) => drop(names.remove(name)),
    }
}

impl MemoryFolder {
    /// What a power cut at this moment leaves; `random` decides.
    pub(super) fn crash(&self, random: &SeededRandom) -> Self {
        let names = lock(&self.names);
        let mut left = names.durable.clone();
        let changes = u64::try_from(names.unsynced.len()).unwrap_or(u64::MAX).saturating_add(1);
        let reached = usize::try_from(random.next_u64() % changes).unwrap_or(0);
        for change in names.unsynced.iter().take(reached) {
            apply(&mut left, change);
        }
        let faults = Arc::new(Faults::default());
        let files = left.into_iter().map(|(name, file)| {
            let content = lock(&file.content).crash(random);
            (name, Arc::new(MemoryFile { content: Mutex::new(content), faults: Arc::clone(&faults) }))
        });
        let current: BTreeMap<_, _> = files.collect();
        let durable = current.clone();
        Self { names: Mutex::new(Names { current, durable, unsynced: Vec::new() }), faults }
    }

    fn change(&self, change: Change) {
        let mut names = lock(&self.names);
        apply(&mut names.current, &change);
        names.unsynced.push(change);
    }
}

impl Content {
    fn crash(&self, random: &SeededRandom) -> Self {
        let mut bytes = self.durable.clone();
        // All of it, nothing, or some sectors.
        let (all, none) = (random.next_u64().is_multiple_of(5), random.next_u64().is_multiple_of(5));
        for (offset, written) in &self.unsynced {
            let mut at = *offset;
            let mut rest = written.as_slice();
            while !rest.is_empty() {
                let room = SECTOR_BYTES - at % SECTOR_BYTES;
                let (sector, after) = rest.split_at(room.min(rest.len()));
                if all || !none && random.next_u64().is_multiple_of(2) {
                    write(&mut bytes, sector, at);
                }
                at += sector.len();
                rest = after;
            }
        }
        Self { current: bytes.clone(), durable: bytes, unsynced: Vec::new() }
    }
}

impl Folder for Arc<MemoryFolder> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.faults.check()?;
        Ok(lock(&self.names).current.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.faults.check()?;
        let names = lock(&self.names);
        let file = names.current.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(lock(&file.content).current.clone())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        if let Some(file) = lock(&self.names).current.get(name) {
            return Ok(Arc::new(Handle(Arc::clone(file))));
        }
        self.faults.check_space()?;
        let file = Arc::new(MemoryFile { content: Mutex::default(), faults: Arc::clone(&self.faults) });
        self.change(Change::Made(name.to_owned(), Arc::clone(&file)));
        Ok(Arc::new(Handle(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.check()?;
        self.change(Change::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.check()?;
        self.change(Change::Removed(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.check()?;
        let mut names = lock(&self.names);
        names.durable = names.current.clone();
        names.unsynced.clear();
        Ok(())
    }
}

/// An open file; who has it is counted apart from the folder.
#[derive(Debug)]
struct Handle(Arc<MemoryFile>);

impl SegmentFile for Handle {
    fn size(&self) -> io::Result<u64> {
        Ok(u64::try_from(lock(&self.0.content).current.len()).unwrap_or(u64::MAX))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.faults.check_space()?;
        let mut content = lock(&self.0.content);
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        write(&mut content.current, bytes, offset);
        content.unsynced.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let content = lock(&self.0.content);
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let found = content.current.get(offset..offset.saturating_add(bytes.len()));
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.faults.check()?;
        let mut content = lock(&self.0.content);
        let Content { durable, unsynced, .. } = &mut *content;
        for (offset, written) in unsynced.drain(..) {
            write(durable, &written, offset);
        }
        Ok(())
    }
}
