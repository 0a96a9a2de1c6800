//! The keys of a file that may change while it is used.
//!
//! Invariant: a file that cannot be read, or holds no keys, changes nothing: the last good ones stay in use.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::{KeyFile, SecretKey};
use crate::error::{Error, ErrorKind, Result};

/// The longest key file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// When a file was written, and how long it is.
type Stamp = (SystemTime, u64);

/// The keys of a file, which is looked at again whenever it has changed. Two of the same file are equal.
#[derive(Debug)]
pub struct KeyRing {
    setting: &'static str,
    path: PathBuf,
    read: Mutex<(Option<Stamp>, KeyFile)>,
}

impl PartialEq for KeyRing {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for KeyRing {}

impl KeyRing {
    /// The keys of the file that `setting` names. `Config` where it has none.
    pub fn open(setting: &'static str, path: &Path) -> Result<Self> {
        let wrong = |why: String| {
            let message = format!("{setting} {} cannot be used: {why}", path.display());
            Error::new(ErrorKind::Config, message)
        };
        let stamp = stamp(path).map_err(|error| wrong(error.to_string()))?;
        let file = read(path).map_err(|error| wrong(error.message().to_owned()))?;
        Ok(Self { setting, path: path.to_owned(), read: Mutex::new((Some(stamp), file)) })
    }

    /// The setting and the file, as errors name them.
    pub fn name(&self) -> String {
        format!("{} {}", self.setting, self.path.display())
    }

    /// The key that encrypts, and its id.
    pub fn newest(&self) -> (u32, SecretKey) {
        self.with(|file| {
            let (id, key) = file.newest();
            (id, key.clone())
        })
    }

    /// The key of an id, if the file has it.
    pub fn find(&self, id: u32) -> Option<SecretKey> {
        self.with(|file| file.get(id).cloned())
    }

    /// The key of an id. `Unavailable` where the file lacks it, since a node may get a new key later than its peers.
    pub fn get(&self, id: u32) -> Result<SecretKey> {
        let lacks = || {
            let message = format!("it is encrypted with key {id}, which {} lacks: add it there", self.path.display());
            Error::new(ErrorKind::Unavailable, message)
        };
        self.find(id).ok_or_else(lacks)
    }

    fn with<T>(&self, look: impl FnOnce(&KeyFile) -> T) -> T {
        let mut kept = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path).ok();
        if now != kept.0 {
            kept.0 = now;
            match read(&self.path) {
                Ok(file) => kept.1 = file,
                Err(error) => {
                    let file = self.path.display();
                    tracing::error!(%file, %error, "the key file cannot be read; the keys that were read last stay in use");
                }
            }
        }
        look(&kept.1)
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let told = std::fs::metadata(path)?;
    Ok((told.modified()?, told.len()))
}

fn read(path: &Path) -> Result<KeyFile> {
    let unreadable = |error: std::io::Error| Error::new(ErrorKind::Config, error.to_string());
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(Error::new(ErrorKind::Config, "it is too long for a key file"));
    }
    KeyFile::parse(&std::fs::read_to_string(path).map_err(unreadable)?)
}
