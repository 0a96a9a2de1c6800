//! Files, and what was made of them the last time that they were good.
//!
//! Invariant: [`Reloading::current`] is what the last good files said. Files that are bad, half written or gone change
//! nothing but the count of failures; they are tried again as soon as they change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use keevo_core::Result;

use crate::material::unusable;

/// The largest file that is read: a CA bundle has a few hundred KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// How [`Reloading`] makes anew what it holds: from the files' contents, in the order of the files.
type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T> + Send + Sync>;

/// See the module.
pub(crate) struct Reloading<T> {
    files: Vec<PathBuf>,
    make: Make<T>,
    current: RwLock<Arc<T>>,
    /// What the files held when they were last tried, good or bad, as a hash: keys are not kept twice.
    tried: Mutex<u64>,
    reloads: AtomicU64,
    failures: AtomicU64,
    stale: AtomicBool,
}

impl<T> Reloading<T> {
    /// Reads the files for the first time. `Config` if they are bad.
    pub(crate) fn open(files: Vec<PathBuf>, make: Make<T>) -> Result<Self> {
        let contents = read(&files)?;
        let made = make(&contents)?;
        Ok(Self {
            tried: Mutex::new(hash(&contents)),
            files,
            make,
            current: RwLock::new(Arc::new(made)),
            reloads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            stale: AtomicBool::new(false),
        })
    }

    /// What the last good files said.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often changed files were taken, how often they were bad, and whether the files are bad now.
    pub(crate) fn counts(&self) -> (u64, u64, bool) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.reloads), read(&self.failures), self.stale.load(Ordering::Relaxed))
    }

    /// Looks at the files, and takes what they say if they have changed and are good. Reads files, so it may block.
    pub(crate) fn check(&self) {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = read(&self.files);
        let now = contents.as_ref().map_or(0, |contents| hash(contents));
        if *tried == now {
            return;
        }
        *tried = now;
        match contents.and_then(|contents| (self.make)(&contents)) {
            Ok(made) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
                self.reloads.fetch_add(1, Ordering::Relaxed);
                self.stale.store(false, Ordering::Relaxed);
                tracing::info!(files = ?self.files, "TLS files have changed and are used from now on");
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.stale.store(true, Ordering::Relaxed);
                tracing::error!(%error, "TLS files have changed, but cannot be used; those from before stay in use");
            }
        }
    }
}

fn read(files: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let one = |path: &PathBuf| {
        let size = std::fs::metadata(path).map(|metadata| metadata.len());
        let bytes = size.and_then(|size| {
            let too_large = || std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than 4 MiB");
            if size > FILE_BYTES_MAX { Err(too_large()) } else { std::fs::read(path) }
        });
        bytes.map_err(|error| unusable(path, "cannot be read", error))
    };
    files.iter().map(one).collect()
}

fn hash(contents: &[Vec<u8>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    // 0 stands for files that cannot be read.
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::Error;

    #[test]
    fn bad_files_change_nothing_and_good_ones_are_taken() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        let make: Make<String> = Box::new(|contents| match String::from_utf8(contents.concat()) {
            Ok(text) if text.starts_with("good") => Ok(text),
            _ => Err(Error::invalid("bad")),
        });
        write("bad");
        assert!(Reloading::open(vec![path.clone()], Box::new(|_| Err::<(), _>(Error::invalid("bad")))).is_err());
        write("good 1");
        let files = Reloading::open(vec![path.clone()], make).expect("good");
        files.check();
        assert_eq!((files.current().as_str(), files.counts()), ("good 1", (0, 0, false)), "nothing has changed");
        write("bad");
        files.check();
        files.check();
        assert_eq!((files.current().as_str(), files.counts()), ("good 1", (0, 1, true)), "one failure a change");
        std::fs::remove_file(&path).expect("removed");
        files.check();
        files.check();
        assert_eq!((files.current().as_str(), files.counts()), ("good 1", (0, 2, true)));
        write("good 2");
        files.check();
        assert_eq!((files.current().as_str(), files.counts()), ("good 2", (1, 2, false)));
    }
}
