//! Guards that fan-outs have read lately, so that the next one to the same targets need not read them again.
//!
//! ```text
//! look up ──▶ young ──▶ old ──▶ the store       learned: into young; young is full: it becomes old, and old goes
//! ```
//!
//! A guard is mostly the record of a follow: every entry that reaches the follower asks for it, and it hardly ever
//! changes. Reading it from the store is half of what a fan-out costs.
//!
//! Invariant: of a key is known what the store and the call in progress hold, or nothing. Whoever writes to a key, or
//! deletes over it, forgets it, so no outcome depends on what is known. Records that expire are never learned.
//!
//! A key is known by 128 bits of a keyed hash. Two keys that share them, by chance, are far less likely than a
//! damaged record that passes its checksum.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ids::Revision;

/// The most guards of a generation.
const GENERATION_MAX: usize = 1 << 17;
/// A generation of so many may end early, when all shards together know too much.
const GENERATION_MIN: usize = 1 << 10;
/// About how many guards all shards of the process know, at some 40 bytes each.
const KNOWN_MAX: usize = 1 << 20;

static KNOWN: AtomicUsize = AtomicUsize::new(0);

/// What is known of one shard's guards.
#[derive(Debug, Default)]
pub(super) struct Guards {
    hashers: [RandomState; 2],
    young: Generation,
    old: Generation,
}

/// A sort key that guards lie under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GuardSort(u64);

type KeyHash = (u64, u64);

#[derive(Debug, Default)]
struct Generation {
    guards: HashMap<KeyHash, Revision, BuildHasherDefault<Hashed>>,
    /// Hashes of the sort keys of all of them, and maybe of others.
    sorts: HashSet<u64, BuildHasherDefault<Hashed>>,
}

impl Generation {
    fn insert(&mut self, sort: GuardSort, key: KeyHash, revision: Revision) {
        if self.guards.insert(key, revision).is_none() {
            KNOWN.fetch_add(1, Ordering::Relaxed);
        }
        self.sorts.insert(sort.0);
    }

    fn remove(&mut self, key: KeyHash) -> Option<Revision> {
        let revision = self.guards.remove(&key)?;
        KNOWN.fetch_sub(1, Ordering::Relaxed);
        Some(revision)
    }

    fn is_full(&self) -> bool {
        let count = self.guards.len();
        // Sort keys stay when their guards are forgotten.
        count >= GENERATION_MAX
            || self.sorts.len() >= GENERATION_MAX
            || (count >= GENERATION_MIN && KNOWN.load(Ordering::Relaxed) >= KNOWN_MAX)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        KNOWN.fetch_sub(self.guards.len(), Ordering::Relaxed);
    }
}

impl Guards {
    /// How a guard's sort key is told to the other calls.
    pub(super) fn sort(&self, sort: &[u8]) -> GuardSort {
        GuardSort(self.hashers[0].hash_one(sort))
    }

    fn hash(&self, key: &[u8]) -> KeyHash {
        (self.hashers[0].hash_one(key), self.hashers[1].hash_one(key))
    }

    fn is_empty(&self) -> bool {
        self.young.guards.is_empty() && self.old.guards.is_empty()
    }

    /// Whether guards under this sort key may be known: if not, writing to such a key need not forget it.
    pub(super) fn may_know(&self, sort: &[u8]) -> bool {
        let GuardSort(sort) = self.sort(sort);
        self.young.sorts.contains(&sort) || self.old.sorts.contains(&sort)
    }

    /// The revision of the record under the encoded key, if it is known.
    pub(super) fn find(&mut self, sort: GuardSort, key: &[u8]) -> Option<Revision> {
        if self.is_empty() {
            return None;
        }
        let key = self.hash(key);
        if let Some(revision) = self.young.guards.get(&key) {
            return Some(*revision);
        }
        let revision = self.old.remove(key)?;
        self.insert(sort, key, revision);
        Some(revision)
    }

    /// Learns that the record under the encoded key is of this revision, and does not expire.
    pub(super) fn learn(&mut self, sort: GuardSort, key: &[u8], revision: Revision) {
        self.insert(sort, self.hash(key), revision);
    }

    fn insert(&mut self, sort: GuardSort, key: KeyHash, revision: Revision) {
        if self.young.is_full() {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(sort, key, revision);
    }

    /// Forgets the record under the encoded key, which is written.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if self.is_empty() {
            return;
        }
        let key = self.hash(key);
        // It may be in both: learned anew after it was in an old generation.
        let _gone = (self.young.remove(key), self.old.remove(key));
    }

    /// Forgets everything.
    pub(super) fn forget_all(&mut self) {
        (self.young, self.old) = Default::default();
    }
}

/// A hasher of what is a hash already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = self.0.rotate_left(1) ^ hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_is_found_until_it_is_forgotten() {
        let mut guards = Guards::default();
        let sort = guards.sort(b"e");
        assert_eq!(guards.find(sort, b"ae"), None);
        assert!(!guards.may_know(b"e"));
        guards.learn(sort, b"ae", Revision(1));
        guards.learn(sort, b"be", Revision(2));
        assert!(guards.may_know(b"e") && !guards.may_know(b"t"));
        assert_eq!((guards.find(sort, b"ae"), guards.find(sort, b"be")), (Some(Revision(1)), Some(Revision(2))));
        guards.forget(b"ae");
        assert_eq!((guards.find(sort, b"ae"), guards.find(sort, b"be")), (None, Some(Revision(2))));
        guards.forget_all();
        assert_eq!(guards.find(sort, b"be"), None);
        assert!(!guards.may_know(b"e"));
    }

    #[test]
    fn an_old_generation_goes_but_for_what_was_asked_for() {
        let mut guards = Guards::default();
        let sort = guards.sort(b"e");
        let learn = |guards: &mut Guards, numbers: std::ops::Range<usize>| {
            for number in numbers {
                guards.learn(sort, &number.to_be_bytes(), Revision(7));
            }
        };
        let knows = |guards: &mut Guards, number: usize| guards.find(sort, &number.to_be_bytes()).is_some();
        learn(&mut guards, 0..GENERATION_MAX);
        learn(&mut guards, GENERATION_MAX..GENERATION_MAX + 1);
        assert!(knows(&mut guards, 0), "the first generation is the old one now");
        learn(&mut guards, GENERATION_MAX + 1..2 * GENERATION_MAX + 1);
        assert!(!knows(&mut guards, 1), "it is gone");
        assert!(knows(&mut guards, 0) && guards.may_know(b"e"), "but for what was asked for");
        // What is forgotten is so in both generations.
        guards.forget(&0_usize.to_be_bytes());
        assert!(!knows(&mut guards, 0));
    }
}
