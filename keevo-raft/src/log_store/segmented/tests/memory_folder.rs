//! A folder in memory that loses at a crash what a disk may lose.
//!
//! A write that was not synced may reach the disk or not, sector by sector; changes of names that were not synced reach
//! it in their order, or the later ones don't.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::folder::{Folder, SegmentFile};
use super::*;

const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct MemoryFolder {
    names: Mutex<Names>,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Names {
    current: BTreeMap<String, Arc<MemoryFile>>,
    durable: BTreeMap<String, Arc<MemoryFile>>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Made(String, Arc<MemoryFile>),
    Renamed(String, String),
    Removed(String),
}

#[derive(Debug, Default)]
struct MemoryFile {
    content: Mutex<Content>,
    faults: Arc<Faults>,
}

#[derive(Debug, Default, Clone)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

/// What goes wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Calls left until one fails; 0 = none fails.
    fails_after: AtomicU64,
    is_full: AtomicBool,
    /// Writes left until the disk is full; 0 = it doesn't become so.
    full_after: AtomicU64,
    refused: AtomicU64,
}

impl Faults {
    /// The call after `calls` others fails, and those after it succeed.
    pub(super) fn fail_after(&self, calls: u64) {
        self.fails_after.store(calls + 1, Ordering::SeqCst);
    }

    /// The disk is full after so many writes, until it is said otherwise.
    pub(super) fn fill_after(&self, writes: u64) {
        self.full_after.store(writes + 1, Ordering::SeqCst);
    }

    /// Whether the disk is full.
    pub(super) fn set_full(&self, is_full: bool) {
        self.full_after.store(0, Ordering::SeqCst);
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    /// How many calls found the disk full.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }

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

fn write(bytes: &mut Vec<u8>, written: &[u8], offset: usize) {
    bytes.resize(bytes.len().max(offset + written.len()), 0);
    bytes[offset..offset + written.len()].copy_from_slice(written);
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
    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What a process that is killed at this moment leaves: all, but what was not synced is still only in the system's
    /// memory.
    pub(super) fn kill(&self) -> Self {
        let names = self.names.lock().unwrap();
        let faults = Arc::new(Faults::default());
        let mut copies: BTreeMap<*const MemoryFile, Arc<MemoryFile>> = BTreeMap::new();
        let mut copy = |file: &Arc<MemoryFile>| {
            let made = || {
                let content = Mutex::new(file.content.lock().unwrap().clone());
                Arc::new(MemoryFile { content, faults: Arc::clone(&faults) })
            };
            Arc::clone(copies.entry(Arc::as_ptr(file)).or_insert_with(made))
        };
        let current = names.current.iter().map(|(name, file)| (name.clone(), copy(file))).collect();
        let durable = names.durable.iter().map(|(name, file)| (name.clone(), copy(file))).collect();
        let unsynced = names.unsynced.iter().map(|change| match change {
            Change::Made(name, file) => Change::Made(name.clone(), copy(file)),
            other => other.clone(),
        });
        let unsynced = unsynced.collect();
        Self { names: Mutex::new(Names { current, durable, unsynced }), faults }
    }

    /// What a power cut at this moment leaves; `seed` decides.
    pub(super) fn crash(&self, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let names = self.names.lock().unwrap();
        let mut left = names.durable.clone();
        let reached = random.random_range(0..=names.unsynced.len());
        for change in &names.unsynced[..reached] {
            apply(&mut left, change);
        }
        let faults = Arc::new(Faults::default());
        let files = left.into_iter().map(|(name, file)| {
            let content = file.content.lock().unwrap().crash(&mut random);
            (name, Arc::new(MemoryFile { content: Mutex::new(content), faults: Arc::clone(&faults) }))
        });
        let current: BTreeMap<_, _> = files.collect();
        let durable = current.clone();
        Self { names: Mutex::new(Names { current, durable, unsynced: Vec::new() }), faults }
    }

    /// The files' names and their bytes.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let names = self.names.lock().unwrap();
        names.current.iter().map(|(name, file)| (name.clone(), file.content.lock().unwrap().current.clone())).collect()
    }

    /// Puts bytes in place of a file's; durable at once.
    pub(super) fn replace(&self, name: &str, bytes: Vec<u8>) {
        let file = Arc::clone(&self.names.lock().unwrap().current[name]);
        *file.content.lock().unwrap() = Content { current: bytes.clone(), durable: bytes, unsynced: Vec::new() };
    }

    /// Loses a file.
    pub(super) fn lose(&self, name: &str) {
        let mut names = self.names.lock().unwrap();
        names.current.remove(name).expect("it was there");
        names.durable.remove(name);
    }

    fn change(&self, change: Change) {
        let mut names = self.names.lock().unwrap();
        apply(&mut names.current, &change);
        names.unsynced.push(change);
    }
}

impl Content {
    fn crash(&self, random: &mut StdRng) -> Self {
        let mut bytes = self.durable.clone();
        let (all, none) = (random.random_bool(0.2), random.random_bool(0.2));
        for (offset, written) in &self.unsynced {
            let mut at = *offset;
            let end = offset + written.len();
            while at < end {
                let next = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                let next = next.min(end);
                if all || !none && random.random_bool(0.5) {
                    write(&mut bytes, &written[at - offset..next - offset], at);
                }
                at = next;
            }
        }
        Self { current: bytes.clone(), durable: bytes, unsynced: Vec::new() }
    }
}

impl Folder for Arc<MemoryFolder> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.faults.check()?;
        Ok(self.names.lock().unwrap().current.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.faults.check()?;
        let names = self.names.lock().unwrap();
        let file = names.current.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(file.content.lock().unwrap().current.clone())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        if let Some(file) = self.names.lock().unwrap().current.get(name) {
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
        let mut names = self.names.lock().unwrap();
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
        Ok(self.0.content.lock().unwrap().current.len() as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.faults.check_space()?;
        let mut content = self.0.content.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        write(&mut content.current, bytes, offset);
        content.unsynced.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.0.content.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let found = content.current.get(offset..offset + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.faults.check()?;
        let mut content = self.0.content.lock().unwrap();
        content.durable = content.current.clone();
        content.unsynced.clear();
        Ok(())
    }
}
