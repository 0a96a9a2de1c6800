//! What tests ask of a folder in memory besides: faults, kills, and damage.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::super::memory_folder::{Change, Content, Faults, MemoryFile, MemoryFolder, Names};
use super::*;

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
    pub(super) fn crash_by(&self, seed: u64) -> Self {
        self.crash(&keevo_core::SeededRandom::new(seed))
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
}
