//! A file of keys that something is encrypted with: the newest encrypts, all of them decrypt.
//!
//! ```text
//! # a comment
//! 1 0f3c…          the id, a space, the key in 64 hexadecimal digits; the highest id is the newest
//! 2 99ab…
//! ```
//!
//! Invariant: no key shows in an error or in what is written for debugging.

mod ring;

use std::collections::BTreeMap;
use std::fmt;

pub use ring::KeyRing;

use crate::error::{Error, ErrorKind, Result};

/// The bytes of a key, of AES-256.
pub const SECRET_KEY_BYTES: usize = 32;
/// The most keys of a file.
pub const KEYS_MAX: usize = 1_000;

/// A key. It does not show in what is written for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(pub [u8; SECRET_KEY_BYTES]);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

/// The keys of a file, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    newest: (u32, SecretKey),
    older: BTreeMap<u32, SecretKey>,
}

impl KeyFile {
    /// A file with one key, whose id is 1.
    pub fn new(key: SecretKey) -> Self {
        Self { newest: (1, key), older: BTreeMap::new() }
    }

    /// Reads the text of a file. `Config`, with the number of the line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut keys = BTreeMap::new();
        for (number, line) in (1_u32..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| Error::new(ErrorKind::Config, format!("line {number} of the key file: {why}"));
            let form = || wrong("write a number, a space, and a key of 64 hexadecimal digits");
            let (id, key) = line.split_once(' ').ok_or_else(form)?;
            let id: u32 = id.parse().ok().filter(|id| *id > 0).ok_or_else(form)?;
            let key = key_of(key.trim()).ok_or_else(form)?;
            if keys.insert(id, key).is_some() {
                return Err(wrong("there is another key of this number"));
            }
            if keys.len() > KEYS_MAX {
                return Err(wrong("there are too many keys"));
            }
        }
        let newest = keys.pop_last();
        let none = "the key file has no key: make it with `keevo-cli key new`";
        Ok(Self { newest: newest.ok_or_else(|| Error::new(ErrorKind::Config, none))?, older: keys })
    }

    /// The key that encrypts, and its id.
    pub fn newest(&self) -> (u32, &SecretKey) {
        (self.newest.0, &self.newest.1)
    }

    /// The key of an id.
    pub fn get(&self, id: u32) -> Option<&SecretKey> {
        if id == self.newest.0 { Some(&self.newest.1) } else { self.older.get(&id) }
    }

    /// The ids, ascending: the last one is that of the key that encrypts.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.older.keys().copied().chain([self.newest.0])
    }

    /// Adds a key, which encrypts from then on; gives its id. `ResourceExhausted` when there are too many.
    pub fn add(&mut self, key: SecretKey) -> Result<u32> {
        let id = self.newest.0.checked_add(1).filter(|_| self.older.len() + 1 < KEYS_MAX);
        let full = || Error::new(ErrorKind::ResourceExhausted, "the key file is full: remove keys that nothing needs");
        let id = id.ok_or_else(full)?;
        let (before, old) = std::mem::replace(&mut self.newest, (id, key));
        self.older.insert(before, old);
        Ok(id)
    }

    /// Takes a key out. `Invalid` for the newest, `NotFound`.
    pub fn remove(&mut self, id: u32) -> Result<()> {
        if id == self.newest.0 {
            return Err(Error::invalid(format!("key {id} is the one that encrypts: add another one first")));
        }
        let none = || Error::new(ErrorKind::NotFound, format!("the key file has no key {id}"));
        self.older.remove(&id).map(drop).ok_or_else(none)
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "# Keys of Keevo. The highest number encrypts, all of them decrypt: without them nothing can be read.\n",
        );
        for id in self.ids() {
            let key = self.get(id).map(hex).unwrap_or_default();
            text.extend([id.to_string().as_str(), " ", key.as_str(), "\n"]);
        }
        text
    }
}

fn hex(SecretKey(key): &SecretKey) -> String {
    let digits = key.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

fn key_of(digits: &str) -> Option<SecretKey> {
    let mut key = [0; SECRET_KEY_BYTES];
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != SECRET_KEY_BYTES {
        return None;
    }
    for (byte, [high, low]) in key.iter_mut().zip(pairs) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(SecretKey(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_added_removed_and_read_back() {
        let mut file = KeyFile::new(SecretKey([0xa7; 32]));
        assert_eq!(file.add(SecretKey([2; 32])).expect("room"), 2);
        assert_eq!(file.add(SecretKey([3; 32])).expect("room"), 3);
        let again = KeyFile::parse(&file.text()).expect("a file");
        assert_eq!(again, file);
        assert_eq!(again.newest(), (3, &SecretKey([3; 32])));
        assert_eq!(again.get(1), Some(&SecretKey([0xa7; 32])));
        assert_eq!(file.remove(3).expect_err("it encrypts").kind(), ErrorKind::Invalid);
        file.remove(2).expect("there");
        assert_eq!(file.remove(2).expect_err("gone").kind(), ErrorKind::NotFound);
        assert_eq!(file.ids().collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_line_and_shows_nowhere() {
        let good = "77".repeat(32);
        for (text, told) in [
            (String::new(), "no key"),
            ("# nothing\n\n".to_owned(), "no key"),
            (format!("1 {good}\nx {good}"), "line 2"),
            (format!("0 {good}"), "line 1"),
            (format!("1 {good}7"), "line 1"),
            (format!("1 {}", &good[2..]), "line 1"),
            (format!("1 {}zz", &good[2..]), "line 1"),
            (format!("1 {good}\n1 {good}"), "another key"),
        ] {
            let error = KeyFile::parse(&text).expect_err("refused");
            assert!(error.kind() == ErrorKind::Config && error.message().contains(told), "{text}: {error}");
            assert!(!error.to_string().contains("7777"), "{error}");
        }
        let file = KeyFile::parse(&format!(" 4 {good} \r\n# 9 {good}")).expect("a file");
        assert_eq!(file.newest().0, 4);
        assert!(!format!("{file:?}").contains("119"), "{file:?}");
    }
}
