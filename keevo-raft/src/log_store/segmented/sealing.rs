//! The entries of the log are sealed where there are keys; votes and marks, which hold no user's values, are not.
//!
//! Invariant: a key that is missing, or another one of its number, is found before anything of a group is judged: it is never
//! taken for damage, let alone for a torn end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use keevo_core::key_file::KeyRing;
use keevo_core::seal::{KeyUse, Purpose, SealKey, SealedHead, Sealer};
use keevo_core::{Error, ErrorKind, Result};

use super::record::{Header, Kind};
use crate::log_store::GroupId;

/// What seals and opens entries, if anything does. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct EntrySeals {
    sealer: Option<Arc<Sealer>>,
    /// The number of the oldest key that entries may be sealed with; 0 = some may not be sealed.
    oldest: Arc<AtomicU32>,
    /// The number of the key that was the newest when the log was opened.
    opened: Arc<AtomicU32>,
}

impl EntrySeals {
    /// Entries are sealed with `keys` from now on.
    pub(super) fn new(keys: Option<&Arc<KeyRing>>) -> Result<Self> {
        let sealer = keys.map(|keys| Sealer::new(Arc::clone(keys), Purpose::LogEntries)).transpose()?;
        Ok(Self { sealer: sealer.map(Arc::new), oldest: Arc::default(), opened: Arc::default() })
    }

    /// The key for the next entries; `None` = they are written as they are.
    pub(super) fn newest(&self) -> Result<Option<Arc<SealKey>>> {
        self.sealer.as_ref().map(|sealer| sealer.newest()).transpose()
    }

    /// The number of the oldest key that entries may be sealed with; 0 = some may not be sealed.
    pub(super) fn oldest(&self) -> u32 {
        self.oldest.load(Ordering::Relaxed)
    }

    /// Notes that all entries are sealed with this key or a later one.
    pub(super) fn set_oldest(&self, id: u32) {
        self.oldest.store(id, Ordering::Relaxed);
    }

    /// Notes the key that was the newest when the log was opened.
    pub(super) fn set_opened(&self, id: u32) {
        self.opened.store(id, Ordering::Relaxed);
    }

    /// Notes that what was there when the log was opened is sealed with the key that was the newest then, or a later one.
    pub(super) fn all_anew(&self) {
        self.set_oldest(self.opened.load(Ordering::Relaxed));
    }

    /// The body of an entry's record, sealed.
    pub(super) fn seal(&self, key: &SealKey, group: GroupId, index: u64, entry: &[u8]) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        match &self.sealer {
            Some(sealer) => {
                let (group, index) = place(group, index);
                sealer.seal(key, &[&group, &index], None, entry, &mut body)?;
            }
            None => body.extend_from_slice(entry),
        }
        Ok(body)
    }

    /// What the body of an entry's record says, opened if it is sealed.
    pub(super) fn open(&self, header: &Header, body: Bytes) -> Result<Bytes> {
        if header.kind != Kind::SealedEntry {
            return Ok(body);
        }
        let (group, index) = (header.group, header.index);
        let named =
            |error: Error| Error::new(error.kind(), format!("entry {index} of group {group}: {}", error.message()));
        let Some(sealer) = &self.sealer else { return Err(named(no_keys(&body))) };
        let (group, index) = place(group, index);
        let opened = sealer.open(&[&group, &index], &body).map_err(named)?;
        Ok(opened.into_owned().into())
    }

    /// The body of a sound entry's record as it is to be copied, if it is not sealed with the newest key. One that does not
    /// open goes as it is: whoever reads it is told.
    pub(super) fn anew(&self, header: &Header, body: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(newest) = self.newest()? else { return Ok(None) };
        if !matches!(header.kind, Kind::Entry | Kind::SealedEntry) || key_of(header, body) == Some(newest.used()) {
            return Ok(None);
        }
        match self.open(header, Bytes::copy_from_slice(body)) {
            // Nothing is left of an entry that was found damaged before.
            Ok(entry) if entry.is_empty() => Ok(None),
            Ok(entry) => self.seal(&newest, header.group, header.index, &entry).map(Some),
            Err(error) => {
                tracing::error!(%error, "an entry of the log cannot be sealed anew");
                Ok(None)
            }
        }
    }

    /// Refuses a log whose entries are sealed with keys that are not there: `Config`.
    pub(super) fn check(&self, used: &BTreeSet<KeyUse>) -> Result<()> {
        if !used.is_empty() {
            let keys: Vec<u32> = used.iter().map(|used| used.id).collect();
            tracing::info!(?keys, "entries of the log are sealed with these keys");
        }
        let refused = |error: Error| Error::new(error.kind(), format!("the log store: {}", error.message()));
        used.iter().try_for_each(|used| match &self.sealer {
            Some(sealer) => sealer.key(*used).map(drop).map_err(refused),
            None => Err(refused(no_key(used.id))),
        })
    }
}

/// The key that the body of a record is sealed with; `None` for what is not sealed, or is damaged.
pub(super) fn key_of(header: &Header, body: &[u8]) -> Option<KeyUse> {
    if header.kind != Kind::SealedEntry || !header.is_body_sound(body) {
        return None;
    }
    SealedHead::read(body).ok().flatten().map(|head| head.key)
}

/// Where an entry lies, for its seal.
fn place(group: GroupId, index: u64) -> ([u8; 8], [u8; 8]) {
    (group.to_be_bytes(), index.to_be_bytes())
}

fn no_keys(body: &[u8]) -> Error {
    match SealedHead::read(body) {
        Ok(Some(head)) => no_key(head.key.id),
        _ => Error::corrupt("it is not sealed as it says"),
    }
}

fn no_key(id: u32) -> Error {
    let message = format!("entries are sealed with key {id}: set data_key_file to the file that has the key");
    Error::new(ErrorKind::Config, message)
}
