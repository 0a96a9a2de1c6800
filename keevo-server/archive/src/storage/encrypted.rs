//! Storage whose objects are encrypted before they leave the node.
//!
//! ```text
//! object   [magic "KEEVOENC"][version u8 = 1][check 3][key u32][salt 32] [frame]…               numbers are big endian
//! check    the first bytes of HMAC-SHA256(the key of this number, "keevo key check"); 0 in older objects
//! frame    AES-256-GCM of 64 KiB, the last one of what is left: as many bytes and a tag of 16
//! key      HKDF-SHA256(salt, the key of this number in the key file), of this object alone
//! nonce    [number of the frame u64][1 in the last frame, else 0, u32]        also authenticated: head and name of the object
//! ```
//!
//! So neither a frame nor an object can be changed, cut off, or put in the place of another one unnoticed. What was written before
//! there were keys is read as it is.
//!
//! Two keys of one number are told apart by the check, so that a wrong key file does not look like damage.
//!
//! Invariant: no key encrypts two different frames under one nonce, since each object has a key of its own.

use std::ops::Range;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use bytes::{Buf, BufMut, Bytes};
use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::key_file::{KeyRing, SecretKey};
use keevo_core::{Error, ErrorKind, Result};

use super::{Object, Storage};

const MAGIC: &[u8; 8] = b"KEEVOENC";
const VERSION: u8 = 1;
const CHECK_BYTES: usize = 3;
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = 16 + SALT_BYTES;
const TAG_BYTES: usize = 16;
/// Bytes of an object that are encrypted together.
const FRAME_BYTES: usize = 64 << 10;
/// What the key of an object is derived for.
const PURPOSE: &[u8] = b"keevo object";
/// What the check value of a key is made of.
const CHECKED: &[u8] = b"keevo key check";
/// That of objects from before there were any.
const UNCHECKED: [u8; CHECK_BYTES] = [0; CHECK_BYTES];

/// Whether these bytes are those of an encrypted object.
pub(crate) fn is_encrypted(object: &[u8]) -> bool {
    object.starts_with(MAGIC)
}

/// What to say where an encrypted object is met and there is no key.
pub(crate) fn no_key() -> Error {
    Error::new(ErrorKind::Config, "it is encrypted: set archive_key_file to the file with its key")
}

/// A storage that encrypts what it writes, and reads both encrypted and open objects. Sizes are those of the encrypted ones.
#[derive(Debug)]
pub struct Encrypted {
    inner: Arc<dyn Storage>,
    keys: KeyRing,
}

impl Encrypted {
    /// Encrypts what goes to `inner` with the newest of `keys`.
    pub fn new(inner: Arc<dyn Storage>, keys: KeyRing) -> Self {
        Self { inner, keys }
    }

    fn sealed(&self, name: &str, bytes: &[u8]) -> Result<Bytes> {
        let (id, key) = self.keys.newest();
        let (sealed, mut out) = Sealed::new((id, &key), name)?;
        out.reserve(bytes.len() + (bytes.len() / FRAME_BYTES + 1) * TAG_BYTES);
        sealed.seal(bytes, &mut out)?;
        Ok(out.into())
    }

    /// The object of an encrypted one; others are given as they are.
    fn open(&self, name: &str, object: Bytes) -> Result<Bytes> {
        if !is_encrypted(&object) {
            return Ok(object);
        }
        let sealed = Sealed::of(&self.keys, name, &object)?;
        let mut body = object;
        body.advance(HEAD_BYTES.min(body.len()));
        let frames = body.len().div_ceil(FRAME_BYTES + TAG_BYTES);
        sealed.open(&body, 0, frames).map(Bytes::from)
    }

    async fn range(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let Some(head) = self.inner.get_range(name, 0..wide(HEAD_BYTES)).await? else { return Ok(None) };
        if !is_encrypted(&head) {
            return self.inner.get_range(name, range).await;
        }
        let sealed = Sealed::of(&self.keys, name, &head)?;
        let Some(stored) = self.inner.size(name).await? else { return Ok(None) };
        let frame = wide(FRAME_BYTES + TAG_BYTES);
        let frames = stored.saturating_sub(wide(HEAD_BYTES)).div_ceil(frame);
        let first = range.start / wide(FRAME_BYTES);
        let end = range.end.div_ceil(wide(FRAME_BYTES)).min(frames);
        if first >= end {
            return Ok(Some(Bytes::new()));
        }
        let place = |frames: u64| wide(HEAD_BYTES) + frames * frame;
        let Some(body) = self.inner.get_range(name, place(first)..place(end)).await? else { return Ok(None) };
        let opened = Bytes::from(sealed.open(&body, first, usize::try_from(frames).unwrap_or(usize::MAX))?);
        let at = |offset: u64| {
            let offset = offset.saturating_sub(first * wide(FRAME_BYTES));
            usize::try_from(offset).unwrap_or(usize::MAX).min(opened.len())
        };
        Ok(Some(opened.slice(at(range.start)..at(range.end))))
    }
}

/// What an object is encrypted with.
struct Sealed<'a> {
    key: LessSafeKey,
    /// The head and the name of the object.
    about: Vec<u8>,
    name: &'a str,
}

impl<'a> Sealed<'a> {
    /// Of a new object: its head comes too.
    fn new((id, key): (u32, &SecretKey), name: &'a str) -> Result<(Self, Vec<u8>)> {
        let mut salt = [0; SALT_BYTES];
        aws_lc_rs::rand::fill(&mut salt)
            .map_err(|_unspecified| Error::new(ErrorKind::Unavailable, "the operating system gives no randomness"))?;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.put_slice(MAGIC);
        head.put_u8(VERSION);
        head.put_slice(&check_of(key));
        head.put_u32(id);
        head.put_slice(&salt);
        Ok((Self { key: derived(key, &salt)?, about: about(&head, name), name }, head))
    }

    /// Of an object that begins so. `Corrupt`, `NewerFormat`, `Unavailable` without its key, `Config` with another key of its
    /// number.
    fn of(keys: &KeyRing, name: &'a str, object: &[u8]) -> Result<Self> {
        let cut_short = || Error::corrupt(format!("'{name}' is cut short"));
        let (head, _) = object.split_at_checked(HEAD_BYTES).ok_or_else(cut_short)?;
        let mut rest = head.get(MAGIC.len()..).unwrap_or_default();
        let version = rest.get_u8();
        if version != VERSION {
            let message = format!("'{name}' is encrypted by version {version}; this one knows {VERSION}");
            return Err(Error::new(ErrorKind::NewerFormat, message));
        }
        let mut check = UNCHECKED;
        rest.copy_to_slice(&mut check);
        let id = rest.get_u32();
        let key = keys.get(id).map_err(|error| Error::new(error.kind(), format!("'{name}': {}", error.message())))?;
        if check != UNCHECKED && check != check_of(&key) {
            let message = format!(
                "archive_key_file has another key {id} than the one that '{name}' is encrypted with: put the file in place that \
                 was used then"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(Self { key: derived(&key, rest)?, about: about(head, name), name })
    }

    fn seal(&self, contents: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let frames = contents.len().div_ceil(FRAME_BYTES).max(1);
        for number in 0..frames {
            let from = number * FRAME_BYTES;
            let to = contents.len().min(from + FRAME_BYTES);
            let mut frame = contents.get(from..to).unwrap_or_default().to_vec();
            let nonce = nonce(wide(number), number + 1 == frames);
            self.key
                .seal_in_place_append_tag(nonce, Aad::from(&self.about), &mut frame)
                .map_err(|_unspecified| Error::invalid(format!("'{}' cannot be encrypted", self.name)))?;
            out.append(&mut frame);
        }
        Ok(())
    }

    /// The contents of frames from number `first` on; the object has `frames` of them. `Corrupt`.
    fn open(&self, body: &[u8], first: u64, frames: usize) -> Result<Vec<u8>> {
        let damaged = || {
            let name = self.name;
            Error::corrupt(format!("'{name}' does not decrypt: it is damaged, or lies in the place of another object"))
        };
        if frames == 0 || body.is_empty() {
            return Err(damaged());
        }
        let mut out = Vec::with_capacity(body.len());
        for (number, frame) in (first..).zip(body.chunks(FRAME_BYTES + TAG_BYTES)) {
            let mut frame = frame.to_vec();
            let nonce = nonce(number, number.saturating_add(1) == wide(frames));
            let opened =
                self.key.open_in_place(nonce, Aad::from(&self.about), &mut frame).map_err(|_unspecified| damaged())?;
            out.extend_from_slice(opened);
        }
        Ok(out)
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn about(head: &[u8], name: &str) -> Vec<u8> {
    [head, name.as_bytes()].concat()
}

fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    let (mut count, mut last) = nonce.split_at_mut(8);
    count.put_u64(number);
    last.put_u32(u32::from(is_last));
    Nonce::assume_unique_for_key(nonce)
}

/// What tells one key from another without telling it.
fn check_of(key: &SecretKey) -> [u8; CHECK_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), CHECKED);
    match tag.as_ref().first_chunk::<CHECK_BYTES>() {
        Some(check) if *check != UNCHECKED => *check,
        _ => [0, 0, 1],
    }
}

/// The key of one object.
fn derived(key: &SecretKey, salt: &[u8]) -> Result<LessSafeKey> {
    let failed = |_| Error::new(ErrorKind::Invalid, "the key of an object cannot be derived");
    let pseudorandom = Salt::new(HKDF_SHA256, salt).extract(&key.0);
    let purpose = [PURPOSE];
    let expanded = pseudorandom.expand(&purpose, &AES_256_GCM).map_err(failed)?;
    Ok(LessSafeKey::new(UnboundKey::from(expanded)))
}

impl Storage for Encrypted {
    fn put_new<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<bool>> {
        async move {
            let sealed = self.sealed(name, &bytes)?;
            self.inner.put_new(name, sealed).await
        }
        .boxed()
    }

    fn replace<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        async move {
            let sealed = self.sealed(name, &bytes)?;
            self.inner.replace(name, sealed).await
        }
        .boxed()
    }

    fn may_need_another_key<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool>> {
        async move {
            let head = self.inner.get_range(name, 0..wide(HEAD_BYTES)).await?.unwrap_or_default();
            let check = head.get(MAGIC.len() + 1..MAGIC.len() + 1 + CHECK_BYTES);
            Ok(is_encrypted(&head) && check == Some(&UNCHECKED[..]))
        }
        .boxed()
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>> {
        async move {
            let object = self.inner.get(name).await?;
            object.map(|object| self.open(name, object)).transpose()
        }
        .boxed()
    }

    fn get_range<'a>(&'a self, name: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.range(name, range).boxed()
    }

    fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        self.inner.size(name)
    }

    fn list<'a>(&'a self, folder: &'a str, after: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Object>>> {
        self.inner.list(folder, after)
    }

    fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        self.inner.folders(folder)
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        self.inner.delete(name)
    }
}

#[cfg(test)]
mod tests;
