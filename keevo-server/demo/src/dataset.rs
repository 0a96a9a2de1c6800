//! The data set: packages, changes, mails, and the folder it is read from.
//!
//! ```text
//! packages.txt        the output of `apt-cache dumpavail`
//! changelogs/‹package›.gz
//! mails/‹group›/‹id›.json
//! ```
//!
//! Invariant: what is missing in a folder is empty, never made up; what is there and unreadable is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use keevo_core::{Error, ErrorKind, Result};

use crate::changelog::{self, Change};
use crate::mails::{self, Mail};
use crate::packages::{self, Package};

/// How many of the newest entries of each changelog are loaded. Each goes to every follower of its package, up to
/// 22,000 of them, so this bounds the work: all entries of all changelogs would make tens of millions of rows.
pub const CHANGES_PER_PACKAGE: usize = 3;

/// Packages, changes and mails.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dataset {
    /// The packages, by name.
    pub packages: Vec<Package>,
    /// The changes; of packages that are there.
    pub changes: Vec<Change>,
    /// The mails, by list and time.
    pub mails: Vec<Mail>,
}

impl Dataset {
    /// Reads a folder. `NotFound` where it holds none of the three; `Io` and `Corrupt` for what cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let index = folder.join("packages.txt");
        let packages =
            if index.exists() { packages::parse(&String::from_utf8_lossy(&read(&index)?)) } else { Vec::new() };
        let known: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        let mut changes = Vec::new();
        for path in files(&folder.join("changelogs"))? {
            let Some(package) =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".gz"))
            else {
                continue;
            };
            if known.contains(package) {
                let text = gunzip(&path, &read(&path)?)?;
                changes.extend(changelog::parse(package, &String::from_utf8_lossy(&text), CHANGES_PER_PACKAGE));
            }
        }
        let mut raw = Vec::new();
        for group in files(&folder.join("mails"))? {
            for path in files(&group)?.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "json")) {
                let mail = serde_json::from_slice(&read(&path)?).map_err(|error| {
                    Error::corrupt(format!("{} is no mail of the corpus", path.display())).with_source(error)
                })?;
                raw.push(mail);
            }
        }
        let dataset = Self { packages, changes, mails: mails::parse_all(&raw) };
        if dataset.packages.is_empty() && dataset.mails.is_empty() {
            let message = format!("{} holds neither packages nor mails", folder.display());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(dataset)
    }

    /// The same with what is missing taken from `other`: the graph with its changes, and the mails.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        if self.packages.is_empty() || self.changes.is_empty() {
            self.packages = other.packages;
            self.changes = other.changes;
        }
        if self.mails.is_empty() {
            self.mails = other.mails;
        }
        self
    }

    /// How many follows the packages make.
    pub fn follows(&self) -> usize {
        self.packages.iter().map(|package| package.depends.len()).sum()
    }

    /// The packages that most depend on, with the number of those, most first.
    pub fn most_followed(&self, limit: usize) -> Vec<(&str, u64)> {
        let counts: BTreeMap<&str, u64> = packages::follower_counts(&self.packages);
        let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        counts.truncate(limit);
        counts
    }
}

/// What lies in a folder, by name; nothing where there is no such folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| io(folder, error))?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| io(path, error))
}

/// Unpacks gzip.
pub(crate) fn gunzip(path: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .read_to_end(&mut text)
        .map_err(|error| Error::corrupt(format!("{} is no gzip", path.display())).with_source(error))?;
    Ok(text)
}

/// An error of the file system at a path.
pub(crate) fn io(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be read or written", path.display())).with_source(error)
}
