//! The disk under a node's folders: how much of it is free, and what is set aside on it.
//!
//! Free space comes in through [`Disk`], so that a simulator and tests can set it; [`FolderDisk`] asks the system.
//! What is set aside is the *ballast*: space that nobody uses, given back when the disk is full, so that votes,
//! purges and flushes have room while space is being made.

mod guard;

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

pub use guard::{DiskGuard, DiskLimits, DiskStatus};

use crate::error::{Error, ErrorKind, Result};
use crate::store::files::io_error;

const ZEROS: &[u8] = &[0; 1 << 16];

/// A disk, as far as its fullness goes.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Bytes that this process may still write. `Io` when the system does not say.
    fn free_bytes(&self) -> Result<u64>;

    /// Sets `bytes` aside as ballast, in place of what was set aside before. Repeatable. `ResourceExhausted` when
    /// there is not so much, and then nothing is set aside; `Io`.
    fn set_aside(&self, bytes: u64) -> Result<()>;

    /// Gives the ballast back. Needs no space. Repeatable.
    fn give_back(&self) -> Result<()>;

    /// Bytes that are set aside now.
    fn aside_bytes(&self) -> u64;
}

/// The disk that folders lie on; where they lie on several, the fullest one counts.
#[derive(Debug)]
pub struct FolderDisk {
    folders: Vec<PathBuf>,
    ballast: PathBuf,
}

impl FolderDisk {
    /// The disk of `folders`, which must exist, with its ballast in the file `ballast`.
    pub fn new(folders: Vec<PathBuf>, ballast: PathBuf) -> Self {
        Self { folders, ballast }
    }

    fn allocate(&self, bytes: u64) -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.ballast)?;
        file.set_len(bytes)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            // Not every file system can: then the bytes are written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_zeros(&mut file, bytes)?,
            Err(error) => return Err(error.into()),
        }
        file.sync_all()
    }
}

fn write_zeros(file: &mut File, bytes: u64) -> std::io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let chunk = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        let chunk = ZEROS.get(..chunk).unwrap_or_default();
        file.write_all(chunk)?;
        left -= u64::try_from(chunk.len()).unwrap_or(left);
    }
    Ok(())
}

impl Disk for FolderDisk {
    fn free_bytes(&self) -> Result<u64> {
        let mut least = u64::MAX;
        for folder in &self.folders {
            let found = statvfs(folder).map_err(|errno| {
                let message = format!("the free space under {} cannot be read", folder.display());
                Error::new(ErrorKind::Io, message).with_source(std::io::Error::from(errno))
            })?;
            least = least.min(found.f_bavail.saturating_mul(found.f_frsize));
        }
        Ok(least)
    }

    fn set_aside(&self, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return self.give_back();
        }
        self.allocate(bytes).map_err(|source| {
            // Half a ballast is none: what it took is of more use elsewhere.
            if let Err(error) = self.give_back() {
                tracing::warn!(%error, "an unfinished ballast file stays");
            }
            io_error("set space aside in", &self.ballast, source)
        })
    }

    fn give_back(&self) -> Result<()> {
        match std::fs::remove_file(&self.ballast) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error("give back the space in", &self.ballast, source))
            }
            _ => Ok(()),
        }
    }

    fn aside_bytes(&self) -> u64 {
        std::fs::metadata(&self.ballast).map_or(0, |found| found.len())
    }
}

/// A disk whose free space is what it is told: for simulators and tests.
#[derive(Debug)]
pub struct ManualDisk {
    /// Free bytes if nothing were set aside.
    free: AtomicU64,
    aside: AtomicU64,
}

impl ManualDisk {
    /// A disk with so many bytes free.
    pub fn new(free_bytes: u64) -> Self {
        Self { free: AtomicU64::new(free_bytes), aside: AtomicU64::new(0) }
    }

    /// Sets how much would be free if nothing were set aside.
    pub fn set_free_bytes(&self, free_bytes: u64) {
        self.free.store(free_bytes, Ordering::SeqCst);
    }
}

impl Default for ManualDisk {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Disk for ManualDisk {
    fn free_bytes(&self) -> Result<u64> {
        Ok(self.free.load(Ordering::SeqCst).saturating_sub(self.aside_bytes()))
    }

    fn set_aside(&self, bytes: u64) -> Result<()> {
        self.give_back()?;
        if bytes > self.free.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::ResourceExhausted, format!("{bytes} bytes cannot be set aside")));
        }
        self.aside.store(bytes, Ordering::SeqCst);
        Ok(())
    }

    fn give_back(&self) -> Result<()> {
        self.aside.store(0, Ordering::SeqCst);
        Ok(())
    }

    fn aside_bytes(&self) -> u64 {
        self.aside.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_ballast_takes_its_space_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FolderDisk::new(vec![dir.path().to_owned()], dir.path().join("ballast"));
        assert!(disk.free_bytes().unwrap() > 0);
        assert_eq!(disk.aside_bytes(), 0);
        disk.set_aside(3 << 20).unwrap();
        disk.set_aside(3 << 20).unwrap();
        assert_eq!(disk.aside_bytes(), 3 << 20);
        let blocks = std::fs::metadata(dir.path().join("ballast")).unwrap().blocks();
        assert!(blocks * 512 >= 3 << 20, "the file is sparse: {blocks} blocks");
        disk.set_aside(1 << 20).unwrap();
        assert_eq!(disk.aside_bytes(), 1 << 20);
        disk.give_back().unwrap();
        disk.give_back().unwrap();
        assert_eq!(disk.aside_bytes(), 0);
    }

    #[test]
    fn a_ballast_that_does_not_fit_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FolderDisk::new(vec![dir.path().to_owned()], dir.path().join("ballast"));
        let error = disk.set_aside(1 << 60).expect_err("no file is so large");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert_eq!(disk.aside_bytes(), 0);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error() {
        let disk = FolderDisk::new(vec![PathBuf::from("does-not-exist")], PathBuf::from("ballast"));
        assert_eq!(disk.free_bytes().expect_err("no such folder").kind(), ErrorKind::Io);
    }

    #[test]
    fn zeros_are_written_to_the_last_byte() {
        let mut file = tempfile::tempfile().unwrap();
        write_zeros(&mut file, 200_001).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 200_001);
    }
}
