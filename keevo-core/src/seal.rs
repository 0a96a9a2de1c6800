//! Values sealed before they go to a disk, and opened when they are read: AES-256-GCM with the keys of a file.
//!
//! ```text
//! sealed   [format u8 = 94][flags u8][key u32][check 4][nonce 12][expires_at_ms u64, if TTL][encrypted value][tag 16]
//! key      HKDF-SHA256(the key of this number in the file, what it is for): rows and log entries have keys of their own
//! check    the first bytes of HMAC-SHA256(the key of this number, "keevo data key check"): tells a wrong key from damage
//! nonce    [8 random bytes][count u32]      also authenticated: all before the encrypted value, and where it lies
//! ```
//!
//! No nonce is used twice with a key. Each sealer draws 8 random bytes of its own, the operating system's, whenever it is made and
//! whenever its count is used up, so two values would share one only if two draws under one key fell together: below one in
//! a billion for 100,000 starts of all nodes that share the file. What is written again as it is, by RocksDB's compactions, by
//! the log's cleaning, by a snapshot or a copy of a folder, is not sealed again.
//!
//! The expiry stays readable, so that compactions find what has expired without opening all rows.
//!
//! Invariants: a value is opened only where it was sealed for, and only with the key that it names; what is not sealed is
//! given as it is, so that sealing can begin in a store that has data. Format 94 begins nothing else that Keevo stores: its
//! formats count from 1, and a version that does not know it says `NewerFormat`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use bytes::{Buf, BufMut};

use crate::error::{Error, ErrorKind, Result};
use crate::key_file::{KeyRing, SecretKey};

const FORMAT: u8 = 94;
const FLAG_TTL: u8 = 1;
const CHECK_BYTES: usize = 4;
const NONCE_BYTES: usize = 12;
const HEAD_BYTES: usize = 2 + 4 + CHECK_BYTES + NONCE_BYTES;
const TAG_BYTES: usize = 16;
/// The most bytes that sealing adds to a value.
pub const SEALED_BYTES_MORE: usize = HEAD_BYTES + 8 + TAG_BYTES;
const CHECKED: &[u8] = b"keevo data key check";

/// What the keys are derived for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Rows of a data store.
    Rows,
    /// Entries of a Raft log.
    LogEntries,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Rows => b"keevo rows",
            Self::LogEntries => b"keevo log entries",
        }
    }
}

/// The key that values were sealed with: its number in the file, and what tells it from another key of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyUse {
    /// Its number.
    pub id: u32,
    /// The first bytes of a keyed hash.
    pub check: [u8; CHECK_BYTES],
}

impl KeyUse {
    /// Stands for values that are not sealed. No key has its number.
    pub const NONE: Self = Self { id: 0, check: [0; CHECK_BYTES] };

    /// Eight bytes: the number and the check.
    pub fn to_bytes(self) -> [u8; 4 + CHECK_BYTES] {
        let mut bytes = [0; 4 + CHECK_BYTES];
        let mut rest = &mut bytes[..];
        rest.put_u32(self.id);
        rest.put_slice(&self.check);
        bytes
    }

    /// Reads what [`KeyUse::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 4 + CHECK_BYTES]) -> Self {
        let mut rest = &bytes[..];
        let id = rest.get_u32();
        let mut check = [0; CHECK_BYTES];
        rest.copy_to_slice(&mut check);
        Self { id, check }
    }
}

/// A key that is ready to be used.
pub struct SealKey {
    used: KeyUse,
    aead: LessSafeKey,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealKey").field(&self.used.id).finish()
    }
}

impl SealKey {
    fn new(id: u32, secret: &SecretKey, purpose: Purpose) -> Result<Self> {
        let failed = |_| Error::new(ErrorKind::Invalid, "the key of a store cannot be derived");
        let pseudorandom = Salt::new(HKDF_SHA256, &[]).extract(&secret.0);
        let labels = [purpose.label()];
        let expanded = pseudorandom.expand(&labels, &AES_256_GCM).map_err(failed)?;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret.0), CHECKED);
        let check = tag.as_ref().first_chunk().copied().unwrap_or_default();
        Ok(Self { used: KeyUse { id, check }, aead: LessSafeKey::new(UnboundKey::from(expanded)) })
    }

    /// Its number and check.
    pub fn used(&self) -> KeyUse {
        self.used
    }
}

/// What a sealed value says of itself; authenticated only when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedHead {
    /// What it was sealed with.
    pub key: KeyUse,
    /// When it expires.
    pub expires_at_ms: Option<u64>,
    nonce: [u8; NONCE_BYTES],
    bytes: usize,
}

impl SealedHead {
    /// The head of a sealed value; `None` for what is not sealed. `Corrupt`, `NewerFormat`.
    pub fn read(stored: &[u8]) -> Result<Option<Self>> {
        let Some((&FORMAT, rest)) = stored.split_first() else { return Ok(None) };
        let cut_short = || Error::corrupt("a sealed value is cut short");
        let (flags, mut rest) = rest.split_first().ok_or_else(cut_short)?;
        if flags & !FLAG_TTL != 0 {
            let message = format!("a value is sealed with flags {flags}, of which this version knows {FLAG_TTL}");
            return Err(Error::new(ErrorKind::NewerFormat, message));
        }
        let bytes = HEAD_BYTES + if *flags == FLAG_TTL { 8 } else { 0 };
        if stored.len() < bytes + TAG_BYTES {
            return Err(cut_short());
        }
        let (mut check, mut nonce) = ([0; CHECK_BYTES], [0; NONCE_BYTES]);
        let id = rest.get_u32();
        rest.copy_to_slice(&mut check);
        rest.copy_to_slice(&mut nonce);
        let expires_at_ms = (*flags == FLAG_TTL).then(|| rest.get_u64());
        Ok(Some(Self { key: KeyUse { id, check }, expires_at_ms, nonce, bytes }))
    }
}

/// Nonces that no other sealer gives.
#[derive(Debug)]
struct Nonces {
    prefix: [u8; 8],
    next: u32,
}

impl Nonces {
    fn new() -> Result<Self> {
        let mut prefix = [0; 8];
        aws_lc_rs::rand::fill(&mut prefix)
            .map_err(|_unspecified| Error::new(ErrorKind::Unavailable, "the operating system gives no randomness"))?;
        Ok(Self { prefix, next: 0 })
    }

    fn next(&mut self) -> Result<[u8; NONCE_BYTES]> {
        if self.next == u32::MAX {
            *self = Self::new()?;
        }
        let mut nonce = [0; NONCE_BYTES];
        let mut rest = &mut nonce[..];
        rest.put_slice(&self.prefix);
        rest.put_u32(self.next);
        self.next += 1;
        Ok(nonce)
    }
}

/// Seals with the newest key of a file, and opens with any of them.
pub struct Sealer {
    ring: Arc<KeyRing>,
    purpose: Purpose,
    /// The keys that were needed so far. A number means one key for as long as the process runs.
    known: RwLock<BTreeMap<u32, Arc<SealKey>>>,
    nonces: Mutex<Nonces>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("ring", &self.ring).field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer with the keys of `ring`. `Unavailable` where the operating system has no randomness.
    pub fn new(ring: Arc<KeyRing>, purpose: Purpose) -> Result<Self> {
        Ok(Self { ring, purpose, known: RwLock::default(), nonces: Mutex::new(Nonces::new()?) })
    }

    /// The key that seals from now on.
    pub fn newest(&self) -> Result<Arc<SealKey>> {
        let (id, secret) = self.ring.newest();
        if let Some(known) = self.known_key(id) {
            return Ok(known);
        }
        Ok(self.learn(SealKey::new(id, &secret, self.purpose)?))
    }

    /// The key that something was sealed with. `Config`, with what to do, where the file lacks it or has another one of its
    /// number.
    pub fn key(&self, used: KeyUse) -> Result<Arc<SealKey>> {
        let KeyUse { id, .. } = used;
        let key = if let Some(known) = self.known_key(id) {
            known
        } else {
            let name = self.ring.name();
            let lacks = || {
                let message = format!(
                    "there are values sealed with key {id}, which {name} lacks: put the key back into the file"
                );
                Error::new(ErrorKind::Config, message)
            };
            let secret = self.ring.find(id).ok_or_else(lacks)?;
            self.learn(SealKey::new(id, &secret, self.purpose)?)
        };
        if key.used == used {
            return Ok(key);
        }
        let message = format!(
            "{} has another key {id} than the one that values here are sealed with: put the file in place that was used then",
            self.ring.name()
        );
        Err(Error::new(ErrorKind::Config, message))
    }

    fn known_key(&self, id: u32) -> Option<Arc<SealKey>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id).map(Arc::clone)
    }

    fn learn(&self, key: SealKey) -> Arc<SealKey> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(key.used.id).or_insert_with(|| Arc::new(key)))
    }

    /// Appends `value`, sealed with `key` for `place`, to `out`. The parts of a place have fixed lengths but for the last one.
    /// `Unavailable` where the operating system has no randomness.
    pub fn seal(
        &self,
        key: &SealKey,
        place: &[&[u8]],
        expires_at_ms: Option<u64>,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let nonce = self.nonces.lock().unwrap_or_else(PoisonError::into_inner).next()?;
        out.reserve(SEALED_BYTES_MORE + value.len());
        let start = out.len();
        out.put_u8(FORMAT);
        out.put_u8(if expires_at_ms.is_some() { FLAG_TTL } else { 0 });
        out.put_u32(key.used.id);
        out.put_slice(&key.used.check);
        out.put_slice(&nonce);
        if let Some(at) = expires_at_ms {
            out.put_u64(at);
        }
        let about = about(out.get(start..).unwrap_or_default(), place);
        let body = out.len();
        out.put_slice(value);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let value = out.get_mut(body..).unwrap_or_default();
        let tag = key.aead.seal_in_place_separate_tag(nonce, Aad::from(about), value);
        let tag = tag.map_err(|_unspecified| Error::invalid("a value is too long to be sealed"))?;
        out.put_slice(tag.as_ref());
        Ok(())
    }

    /// The value that is stored for `place`: opened, or as it is where it was not sealed.
    ///
    /// Errors: `Corrupt` for what is damaged or lies in another place; `Config` without its key; `NewerFormat`.
    pub fn open<'a>(&self, place: &[&[u8]], stored: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        let Some(head) = SealedHead::read(stored)? else { return Ok(Cow::Borrowed(stored)) };
        let key = self.key(head.key)?;
        let cut_short = || Error::corrupt("a sealed value is cut short");
        let (header, rest) = stored.split_at_checked(head.bytes).ok_or_else(cut_short)?;
        let (body, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or_else(cut_short)?;
        let mut value = vec![0; body.len()];
        let nonce = Nonce::assume_unique_for_key(head.nonce);
        let opened = key.aead.open_separate_gather(nonce, Aad::from(about(header, place)), body, tag, &mut value);
        opened.map_err(|_unspecified| {
            Error::corrupt(format!(
                "a value sealed with key {} does not open: it is damaged, or lies in the place of another one; take it from \
                 another replica or from a backup",
                head.key.id
            ))
        })?;
        Ok(Cow::Owned(value))
    }
}

/// What is authenticated beside the value.
fn about(header: &[u8], place: &[&[u8]]) -> Vec<u8> {
    let mut about = Vec::with_capacity(header.len() + place.iter().map(|part| part.len()).sum::<usize>());
    about.extend_from_slice(header);
    for part in place {
        about.extend_from_slice(part);
    }
    about
}

#[cfg(test)]
mod tests;
