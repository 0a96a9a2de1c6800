//! Embedded stores under load: Keevo's `LocalEngine`, and the rocksdb crate as a program would use it by itself.
//!
//! ```text
//! keevo-bench ──┬─ commands, one JSON a line ─▶ side keevo     each side is a process of its own, so that memory, CPU
//!               └─ commands, one JSON a line ─▶ side rocksdb   and bytes written are its own; the idle one waits
//! ```
//!
//! The load runs inside the side, in threads that call the store and wait for it. Invariant: both sides do the same with
//! the same keys and values; they differ in the three functions of [`Embedded`] alone.

mod keevo;
mod process;
mod rocks;
mod side;
mod wire;

use bytes::Bytes;
use clap::ValueEnum;
use keevo_core::Result;

pub(crate) use process::SideProcess;
pub(crate) use rocks::version;
pub(crate) use side::{SideArgs, run};
pub(crate) use wire::Run;

/// How many sort keys a partition has; the scans stay in one.
const PARTITION_KEYS: u64 = 1_000;
/// How many records a scan reads.
pub(crate) const SCAN_RECORDS: usize = 25;

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EmbeddedCase {
    /// A put of one value, synced to the disk before it returns.
    Put,
    /// A get of one value.
    Get,
    /// A scan of 25 records of one partition.
    Scan,
}

impl EmbeddedCase {
    /// Its name, as on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Scan => "scan",
        }
    }
}

/// Which store a side runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// `LocalEngine`.
    Keevo,
    /// The rocksdb crate.
    Rocksdb,
}

impl System {
    /// Its name, as on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keevo => "keevo",
            Self::Rocksdb => "rocksdb",
        }
    }
}

/// An embedded store. Calls block until they are done.
trait Embedded: Sync {
    /// Stores a value; returns once it is on the disk.
    fn put(&self, key: u64, value: Bytes) -> Result<()>;

    /// The length of a value, as it was read; `None` = not there.
    fn get(&self, key: u64) -> Result<Option<usize>>;

    /// Reads up to [`SCAN_RECORDS`] keys and values of the partition, from a key on; returns how many there were.
    fn scan(&self, from: u64) -> Result<usize>;

    /// Moves what is in memory to table files, and all of these to the last level.
    fn compact(&self) -> Result<()>;
}

/// The partition and the sort key of a number.
fn split(key: u64) -> (Vec<u8>, Vec<u8>) {
    (numbered(b'p', key / PARTITION_KEYS, 6), numbered(b's', key % PARTITION_KEYS, 3))
}

/// A letter and so many digits.
fn numbered(letter: u8, mut number: u64, digits: usize) -> Vec<u8> {
    let mut out = vec![letter; 1 + digits];
    for digit in out.iter_mut().skip(1).rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        assert_eq!(split(1_234_042), (b"p001234".to_vec(), b"s042".to_vec()));
        assert!((0..5_000).map(split).is_sorted());
    }
}
