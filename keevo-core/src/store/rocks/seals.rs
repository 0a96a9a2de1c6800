//! Values are sealed at the store's border: what RocksDB is given, and so all that lies in its files, is sealed; keys are not,
//! and neither are the system rows, which hold no user's values, but for the answers that sessions keep.
//!
//! ```text
//! KEEVO-KEYS   beside RocksDB's files: the keys that values in them may be sealed with. A key is written down there
//!              before its first use, so that a store whose key is missing does not open
//!                keevo keys 1
//!                0 00000000        there may be values that are not sealed
//!                2 5be1c0a7        number and check of a key
//!                crc 1a2b3c4d
//! ```
//!
//! A compaction of the whole store seals anew what is not sealed with the newest key, and then strikes out the other keys.
//! That is done by writes of the same value under the same key, between two looks of which no other write comes in.
//!
//! Invariant: no value is written that is sealed with a key that the file does not name.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::key::CLASS_SYSTEM;
use crate::record::StoredRecord;
use crate::seal::{KeyUse, SealKey, SealedHead, Sealer};
use crate::store::files::io_error;
use crate::store::{Column, Visit};
use crate::system::SESSIONS;

const FILE: &str = "KEEVO-KEYS";
/// Where the tag of a system row stands in its key.
const TAG_AT: usize = 9;
const FORMAT: &str = "keevo keys 1";

/// What seals and opens the values of a store.
#[derive(Debug)]
pub(super) struct Seals {
    sealer: Arc<Sealer>,
    folder: PathBuf,
    /// Held by writers while they seal and write, and alone by what seals anew.
    gate: RwLock<()>,
    ledger: Mutex<Ledger>,
}

#[derive(Debug)]
struct Ledger {
    /// As the file has them.
    named: BTreeSet<KeyUse>,
    /// Those that came with snapshots since the store was opened: they are not struck out, since such files may still come.
    admitted: BTreeSet<KeyUse>,
    /// The compaction of the whole store that is under way: the key that was the newest when it began, and its next part.
    pass: Option<(KeyUse, u8)>,
}

/// The right to write what is sealed with the newest key.
pub(super) struct Writing<'a> {
    seals: &'a Seals,
    key: Arc<SealKey>,
    _gate: RwLockReadGuard<'a, ()>,
}

/// Refuses a store in `folder` whose values are sealed with keys that `sealer` lacks: `Config`.
pub(super) fn check_keys(sealer: Option<&Sealer>, folder: &Path) -> Result<()> {
    let named = read(folder)?.unwrap_or_default();
    named.into_iter().try_for_each(|used| check(sealer, used, folder))
}

fn check(sealer: Option<&Sealer>, used: KeyUse, folder: &Path) -> Result<()> {
    if used == KeyUse::NONE {
        return Ok(());
    }
    let place = folder.display();
    let Some(sealer) = sealer else {
        let id = used.id;
        let message = format!(
            "values in {place} are sealed with key {id}: set data_key_file, or RocksOptions::keys, to the file that has it"
        );
        return Err(Error::new(ErrorKind::Config, message));
    };
    let named = |error: Error| Error::new(error.kind(), format!("{place}: {}", error.message()));
    sealer.key(used).map(drop).map_err(named)
}

/// Refuses keys where there is no file of keys: `Config`.
pub(super) fn refuse_sealed(keys: &[KeyUse], folder: &Path) -> Result<()> {
    keys.iter().try_for_each(|used| check(None, *used, folder))
}

impl Seals {
    /// The seals of the store in `folder`, which holds values already where `is_new` is not set.
    pub(super) fn open(sealer: Arc<Sealer>, folder: &Path, is_new: bool) -> Result<Self> {
        let named = match read(folder)? {
            Some(named) => named,
            None if is_new => BTreeSet::new(),
            None => [KeyUse::NONE].into(),
        };
        let ledger = Ledger { named, admitted: BTreeSet::new(), pass: None };
        let seals = Self { sealer, folder: folder.to_owned(), gate: RwLock::default(), ledger: Mutex::new(ledger) };
        let newest = seals.sealer.newest()?.used();
        seals.name(&mut seals.lock(), [newest])?;
        let keys: Vec<u32> = seals.named().iter().map(|used| used.id).collect();
        tracing::info!(?keys, store = %folder.display(), "values are sealed with these keys, or, where there is a 0, not at all");
        Ok(seals)
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that values may be sealed with these keys too.
    fn name(&self, ledger: &mut Ledger, keys: impl IntoIterator<Item = KeyUse>) -> Result<()> {
        let mut named = ledger.named.clone();
        named.extend(keys);
        self.replace(ledger, named)
    }

    fn replace(&self, ledger: &mut Ledger, named: BTreeSet<KeyUse>) -> Result<()> {
        if named != ledger.named {
            write(&self.folder, &named)?;
            ledger.named = named;
        }
        Ok(())
    }

    /// The keys that values may be sealed with; [`KeyUse::NONE`] for those that may not be sealed.
    pub(super) fn named(&self) -> Vec<KeyUse> {
        self.lock().named.iter().copied().collect()
    }

    /// Writes a copy of the list of keys into a copy of the store, with those that were `named` before it was made: a key may
    /// have been struck out meanwhile.
    pub(super) fn copy_to(&self, folder: &Path, named: Vec<KeyUse>) -> Result<()> {
        let mut all = self.lock().named.clone();
        all.extend(named);
        write(folder, &all)
    }

    /// Takes keys of a snapshot that is to be installed: refuses those that are not there, with `Config`. None at all come from
    /// a node that has no keys, so its values are not sealed.
    pub(super) fn admit(&self, keys: &[KeyUse]) -> Result<()> {
        let keys = if keys.is_empty() { &[KeyUse::NONE] } else { keys };
        keys.iter().try_for_each(|used| check(Some(self.sealer.as_ref()), *used, &self.folder))?;
        let mut ledger = self.lock();
        ledger.admitted.extend(keys);
        self.name(&mut ledger, keys.iter().copied())
    }

    /// What may be written from now on until this is dropped is sealed with the key that is the newest now.
    pub(super) fn writing(&self) -> Result<Writing<'_>> {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let key = self.sealer.newest()?;
        let mut ledger = self.lock();
        // An older file was put back while a compaction is under way: it may not strike out what seals again.
        if ledger.pass.is_some_and(|(began, _)| key.used().id < began.id) {
            ledger.pass = None;
        }
        if !ledger.named.contains(&key.used()) {
            tracing::info!(key = key.used().id, store = %self.folder.display(), "values are sealed with a new key");
            self.name(&mut ledger, [key.used()])?;
        }
        drop(ledger);
        Ok(Writing { seals: self, key, _gate: gate })
    }

    /// Keeps all writers out.
    pub(super) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stored form of a value.
    pub(super) fn seal<'a>(
        &self,
        with: &SealKey,
        column: Column,
        key: &[u8],
        value: &'a [u8],
    ) -> Result<Cow<'a, [u8]>> {
        if is_clear(column, key) {
            return Ok(Cow::Borrowed(value));
        }
        let is_record = column == Column::Data && key.first() != Some(&CLASS_SYSTEM);
        let expires_at_ms = if is_record { StoredRecord::peek_expiry(value) } else { None };
        let mut sealed = Vec::new();
        self.sealer.seal(with, &[&[tag(column)], key], expires_at_ms, value, &mut sealed)?;
        Ok(Cow::Owned(sealed))
    }

    /// The value of what is stored under a key.
    pub(super) fn open_value<'a>(&self, column: Column, key: &[u8], stored: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        open_value(&self.sealer, column, key, stored)
    }

    /// Whether a row is to be sealed again, since it is not sealed with the newest key.
    pub(super) fn is_stale(column: Column, key: &[u8], stored: &[u8], newest: KeyUse) -> bool {
        let head = SealedHead::read(stored);
        !is_clear(column, key) && head.is_ok_and(|head| head.is_none_or(|head| head.key != newest))
    }

    /// The newest key.
    pub(super) fn newest(&self) -> Result<Arc<SealKey>> {
        self.sealer.newest()
    }

    /// Whether rows may be stale.
    pub(super) fn may_be_stale(&self, newest: KeyUse) -> bool {
        self.lock().named.iter().any(|used| *used != newest)
    }

    /// Begins part `part` of a pass over the whole store.
    pub(super) fn begin_part(&self, part: u8) -> Result<()> {
        let newest = self.sealer.newest()?.used();
        // Whoever sealed with an older key has written.
        drop(self.alone());
        let mut ledger = self.lock();
        self.name(&mut ledger, [newest])?;
        ledger.pass = match ledger.pass {
            _ if part == 0 => Some((newest, 0)),
            Some((began, next)) if next == part => Some((began, next)),
            _ => None,
        };
        Ok(())
    }

    /// Notes that a row could not be sealed anew: no key is struck out at the end of the pass.
    pub(super) fn spoil_pass(&self) {
        self.lock().pass = None;
    }

    /// Ends it; after the last part, strikes out the keys that nothing is sealed with any more.
    pub(super) fn end_part(&self, part: u8, parts: u8) -> Result<()> {
        let mut ledger = self.lock();
        let Some((began, _)) = ledger.pass.filter(|(_, next)| *next == part) else { return Ok(()) };
        let next = part.saturating_add(1);
        if next < parts {
            ledger.pass = Some((began, next));
            return Ok(());
        }
        ledger.pass = None;
        let stays = |used: &KeyUse| used.id >= began.id || ledger.admitted.contains(used);
        let named: BTreeSet<KeyUse> = ledger.named.iter().copied().filter(stays).collect();
        let gone: Vec<u32> = ledger.named.difference(&named).map(|used| used.id).filter(|id| *id > 0).collect();
        self.replace(&mut ledger, named)?;
        if !gone.is_empty() {
            let store = self.folder.display();
            tracing::info!(keys = ?gone, %store, "no value is sealed with these keys any more");
        }
        Ok(())
    }
}

impl Writing<'_> {
    /// The key.
    pub(super) fn key(&self) -> Arc<SealKey> {
        Arc::clone(&self.key)
    }

    /// The stored form of a value.
    pub(super) fn seal<'a>(&self, column: Column, key: &[u8], value: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        self.seals.seal(&self.key, column, key, value)
    }
}

/// System rows stay as they are, but for the answers that sessions keep.
fn is_clear(column: Column, key: &[u8]) -> bool {
    column == Column::Data && key.first() == Some(&CLASS_SYSTEM) && key.get(TAG_AT) != Some(&SESSIONS)
}

fn tag(column: Column) -> u8 {
    match column {
        Column::Data => 1,
        Column::Changes => 2,
    }
}

/// The value of what is stored under a key.
pub(super) fn open_value<'a>(sealer: &Sealer, column: Column, key: &[u8], stored: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    if is_clear(column, key) {
        return Ok(Cow::Borrowed(stored));
    }
    let named =
        |error: Error| Error::new(error.kind(), format!("under key {}: {}", key.escape_ascii(), error.message()));
    sealer.open(&[&[tag(column)], key], stored).map_err(named)
}

/// What a stored row of the data column is sealed with.
pub(super) fn key_of(key: &[u8], stored: &[u8]) -> Result<Option<KeyUse>> {
    if is_clear(Column::Data, key) {
        return Ok(None);
    }
    Ok(Some(SealedHead::read(stored)?.map_or(KeyUse::NONE, |head| head.key)))
}

/// Opens what a scan meets.
pub(super) fn visiting(
    seals: Option<&Seals>,
    column: Column,
    visit: Visit<'_>,
    walk: impl FnOnce(Visit<'_>) -> Result<()>,
) -> Result<()> {
    match seals {
        Some(seals) => walk(&mut |key, stored| visit(key, &seals.open_value(column, key, stored)?)),
        None => walk(visit),
    }
}

/// What a read has found, opened.
pub(super) fn opened(seals: Option<&Seals>, column: Column, key: &[u8], stored: &[u8]) -> Result<Bytes> {
    let Some(seals) = seals else { return Ok(Bytes::copy_from_slice(stored)) };
    Ok(match seals.open_value(column, key, stored)? {
        Cow::Borrowed(value) => Bytes::copy_from_slice(value),
        Cow::Owned(value) => value.into(),
    })
}

/// The list of keys in a folder; `None` where there is none. `Corrupt`, `NewerFormat`.
fn read(folder: &Path) -> Result<Option<BTreeSet<KeyUse>>> {
    let path = folder.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path, error)),
    };
    let damaged =
        || Error::corrupt(format!("{} is damaged: take the one of a checkpoint, or remove it", path.display()));
    let text = std::str::from_utf8(&bytes).map_err(|_not_text| damaged())?;
    let (body, crc) = text.rsplit_once("crc ").ok_or_else(damaged)?;
    if crc != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
        return Err(damaged());
    }
    let mut lines = body.lines();
    if lines.next() != Some(FORMAT) {
        return Err(Error::new(ErrorKind::NewerFormat, format!("{} was written by a newer version", path.display())));
    }
    let parse = |line: &str| {
        let (id, check) = line.split_once(' ')?;
        let check = u32::from_str_radix(check, 16).ok()?.to_be_bytes();
        Some(KeyUse { id: id.parse().ok()?, check })
    };
    lines.map(|line| parse(line).ok_or_else(damaged)).collect::<Result<_>>().map(Some)
}

/// Replaces the list of keys in a folder, durably.
fn write(folder: &Path, named: &BTreeSet<KeyUse>) -> Result<()> {
    let line = |used: &KeyUse| format!("{} {:08x}\n", used.id, u32::from_be_bytes(used.check));
    let body = format!("{FORMAT}\n{}", named.iter().map(line).collect::<String>());
    let text = format!("{body}crc {:08x}\n", crc32fast::hash(body.as_bytes()));
    let (path, temporary) = (folder.join(FILE), folder.join(format!("{FILE}.tmp")));
    let put = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    };
    put().map_err(|error| io_error("write", &path, error))
}

#[cfg(test)]
mod tests;
