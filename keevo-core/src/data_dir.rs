//! Data folders: who a folder belongs to, and that only one opener has it.
//!
//! ```text
//! FOLDER/lock       held while the folder is open
//! FOLDER/identity   format, cluster, pair, role, node, and a CRC over them; text, written once
//! ```
//!
//! Invariant: nothing else in a folder is read before its identity was read and verified, under the lock.
//! While a folder is being made, its identity lies there as `identity.tmp`; so one with files and neither of
//! the two has lost its identity, and is never taken for a new one.

mod identity;

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::store::files::io_error;

pub use identity::{Identity, Role};
use identity::{parse, render};

const IDENTITY: &str = "identity";
const IDENTITY_TEMPORARY: &str = "identity.tmp";
const LOCK: &str = "lock";
/// An identity file is a few lines; anything longer is something else.
const IDENTITY_BYTES_MAX: u64 = 4_096;

/// An open data folder. The lock goes when it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    _lock: File,
}

impl DataDir {
    /// Opens a folder and reads whom it belongs to; `None` if it is new: absent or empty.
    ///
    /// Errors: `Unavailable` when it is open already, here or in another process; `WrongCluster` when it has
    /// another role, or files without an identity; `NewerFormat`; `Corrupt`; `Io`.
    pub fn open(path: impl AsRef<Path>, role: Role) -> Result<Option<Self>> {
        let path = path.as_ref();
        if !path.exists() {
            return Ok(None);
        }
        let lock = lock(path)?;
        let Some(identity) = read(path)? else { return Ok(None) };
        if identity.role != role {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!("{} is a folder of role '{}', not '{role}'", path.display(), identity.role),
            ));
        }
        Ok(Some(Self { path: path.to_owned(), identity, _lock: lock }))
    }

    /// Makes a new folder of this identity; one that has files already is a `WrongCluster`.
    pub fn create(path: impl AsRef<Path>, identity: Identity) -> Result<Self> {
        Self::create_with(path, identity, |_| Ok(())).map(|(created, ())| created)
    }

    /// Makes a new folder that holds what `prepare` makes in it. The identity is in place after that only: if
    /// the power fails earlier, the folder still counts as new, and `prepare` finds what it left.
    pub fn create_with<T>(
        path: impl AsRef<Path>,
        identity: Identity,
        prepare: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<(Self, T)> {
        let path = path.as_ref();
        std::fs::create_dir_all(path).map_err(|source| io_error("make the data folder", path, source))?;
        let lock = lock(path)?;
        if read(path)?.is_some() {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!("{} belongs to a node already, so it can't become a new one", path.display()),
            ));
        }
        announce(path, &identity)?;
        let prepared = prepare(path)?;
        put_in_place(path)?;
        Ok((Self { path: path.to_owned(), identity, _lock: lock }, prepared))
    }

    /// Opens a folder, or makes it with the identity that `new` gives.
    pub fn open_or_create(path: impl AsRef<Path>, role: Role, new: impl FnOnce() -> Identity) -> Result<Self> {
        match Self::open(path.as_ref(), role)? {
            Some(found) => Ok(found),
            None => Self::create(path, new()),
        }
    }

    /// Opens the data and the log folder of a node; `None` if both are new. One without the other, or two
    /// that were not made together, is a `WrongCluster`: a log without its data, or the reverse, would make
    /// the node forget what it has voted for or acknowledged.
    pub fn open_pair(data: impl AsRef<Path>, log: impl AsRef<Path>) -> Result<Option<(Self, Self)>> {
        let (data, log) = (data.as_ref(), log.as_ref());
        let missing = |missing: &Path, present: &Path| {
            Error::new(
                ErrorKind::WrongCluster,
                format!(
                    "{} holds a node's state, but its counterpart {} is empty or absent",
                    present.display(),
                    missing.display()
                ),
            )
        };
        match (Self::open(data, Role::Data)?, Self::open(log, Role::Log)?) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(missing(log, data)),
            (None, Some(_)) => Err(missing(data, log)),
            (Some(data), Some(log)) => {
                let expected = Identity { role: Role::Log, ..data.identity };
                log.require(&expected)?;
                Ok(Some((data, log)))
            }
        }
    }

    /// Refuses a folder of another identity, and says what differs.
    pub fn require(&self, expected: &Identity) -> Result<()> {
        let found = &self.identity;
        let differs = |what: &str, found: &dyn fmt::Display, expected: &dyn fmt::Display| {
            Err(Error::new(
                ErrorKind::WrongCluster,
                format!("{} belongs to {what} {found}, not {expected}", self.path.display()),
            ))
        };
        if found.cluster != expected.cluster {
            return differs("cluster", &found.cluster, &expected.cluster);
        }
        if found.node != expected.node {
            return differs("node", &found.node, &expected.node);
        }
        if found.role != expected.role {
            return differs("role", &found.role, &expected.role);
        }
        if found.pair != expected.pair {
            return differs(
                "the pair of stores",
                &format_args!("{:032x}", found.pair),
                &format_args!("{:032x}", expected.pair),
            );
        }
        Ok(())
    }

    /// Where the RocksDB store `name` lies in the folder. `Corrupt` if it is not there: a new one in its place would
    /// have forgotten everything.
    pub fn found_store(&self, name: &str) -> Result<PathBuf> {
        let store = self.path.join(name);
        if store.join("CURRENT").exists() {
            return Ok(store);
        }
        Err(Error::corrupt(format!("{} has lost its store {name}", self.path.display())))
    }

    /// Whom the folder belongs to.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn lock(path: &Path) -> Result<File> {
    let file = path.join(LOCK);
    let failed = |source| io_error("lock the data folder with", &file, source);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "{} is open already; only one process, one engine in it, may have it open: stop it or take another folder",
                path.display()
            ),
        )),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The identity of a folder, `None` if the folder is empty but for what an unfinished start leaves.
fn read(path: &Path) -> Result<Option<Identity>> {
    let file = path.join(IDENTITY);
    match std::fs::metadata(&file) {
        Ok(found) if found.len() > IDENTITY_BYTES_MAX => {
            return Err(Error::corrupt(format!("the identity file {} is too long", file.display())));
        }
        Ok(_) => {}
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return refuse_strangers(path).map(|()| None),
        Err(source) => return Err(io_error("read the identity file", &file, source)),
    }
    let bytes = std::fs::read(&file).map_err(|source| io_error("read the identity file", &file, source))?;
    let damaged = |what: &str| Error::corrupt(format!("the identity file {} {what}", file.display()));
    let text = String::from_utf8(bytes).map_err(|source| damaged("is not text").with_source(source))?;
    parse(&text, &damaged).map(Some)
}

fn refuse_strangers(path: &Path) -> Result<()> {
    if path.join(IDENTITY_TEMPORARY).exists() {
        return Ok(());
    }
    let failed = |source| io_error("list the data folder", path, source);
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != LOCK {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!(
                    "{} has files but no identity file, so it is not a data folder of Keevo or not a whole one",
                    path.display()
                ),
            ));
        }
    }
    Ok(())
}

/// Writes the identity under its temporary name, which marks a folder that is being made.
fn announce(path: &Path, identity: &Identity) -> Result<()> {
    let temporary = path.join(IDENTITY_TEMPORARY);
    let failed = |source| io_error("write the identity file", &temporary, source);
    let mut out = File::create(&temporary).map_err(failed)?;
    out.write_all(render(identity).as_bytes()).map_err(failed)?;
    out.sync_all().map_err(failed)?;
    sync_folder(path)
}

/// Gives the identity its name, so that after a power cut the folder is made or still new.
fn put_in_place(path: &Path) -> Result<()> {
    let file = path.join(IDENTITY);
    std::fs::rename(path.join(IDENTITY_TEMPORARY), &file)
        .map_err(|source| io_error("put the identity file in place as", &file, source))?;
    sync_folder(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|source| io_error("sync the folder", path, source))
}

/// The text of an identity, as its file holds it.
#[cfg(feature = "fuzzing")]
pub(crate) fn identity_text(identity: &Identity) -> String {
    render(identity)
}

/// Whether these bytes are an identity file.
#[cfg(feature = "fuzzing")]
pub(crate) fn is_identity(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| parse(text, &|what: &str| Error::corrupt(what)).is_ok())
}

#[cfg(test)]
mod tests;
