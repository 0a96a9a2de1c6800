//! Where a log of segments lies: the few things that it asks of a folder and of the files in it.
//!
//! Invariant: nothing here is durable before the call that says so: the bytes of a file are after
//! [`SegmentFile::sync`], its name is after [`Folder::sync`].

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind as Io};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keevo_core::{Error, ErrorKind, Result};

const LOCK: &str = "LOCK";

/// A folder of files without folders in it.
pub(super) trait Folder: Debug + Send + Sync + 'static {
    /// The names of the files, in order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// All bytes of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Opens a file to be read and written, and makes it if it is not there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;

    /// Gives a file another name, in place of the file of that name if there is one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable: new ones, changed ones, and that some are gone.
    fn sync(&self) -> io::Result<()>;
}

/// A file in a [`Folder`].
pub(super) trait SegmentFile: Debug + Send + Sync {
    /// Its size.
    fn size(&self) -> io::Result<u64>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills `bytes` with what lies at `offset`; fails if the file ends before.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable, and the size too.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the file system, locked while this lives.
#[derive(Debug)]
pub(super) struct DiskFolder {
    path: PathBuf,
    itself: File,
    _lock: File,
}

impl DiskFolder {
    /// Opens the folder and makes it if it is not there. `Unavailable` if it is open already; `Io`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |what: &str| {
            let message = format!("the log store could not {what} {}", path.display());
            move |source: io::Error| Error::new(ErrorKind::Io, message).with_source(source)
        };
        std::fs::create_dir_all(path).map_err(failed("make its folder"))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(failed("lock"))?;
        let itself = File::open(path).map_err(failed("open"))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("sync the folder of"))?;
        }
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), itself, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("the log store in {} is open already, here or in another process", path.display()),
            )),
            Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
        }
    }
}

impl Folder for DiskFolder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for file in std::fs::read_dir(&self.path)? {
            // A name that is no text is no name of ours.
            names.extend(file?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.path.join(name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == Io::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.itself.sync_all()
    }
}

impl SegmentFile for File {
    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|meta| meta.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
