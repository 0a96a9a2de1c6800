//! Commands: what a Raft log entry of a shard says, and what applying it gave.
//!
//! ```text
//! entry   [version u8 = 1][protobuf of Entry]
//! ```
//!
//! Invariant: a replica that meets a version or a command it does not know stops. It never skips, since
//! a skipped command makes replicas diverge.

use bytes::Bytes;

use crate::batch::{Batch, Written};
use crate::error::Error;
use crate::fan_out::{FanOut, FannedOut};
use crate::ids::{ClientId, Revision};
use crate::restore::{Archived, Restore};

/// A hybrid logical clock: `milliseconds since the epoch << 16 | counter`. Assigned by the shard's
/// leader, monotone per shard; apply takes the time from here alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The clock at `now_ms`, counter 0.
    pub fn from_ms(now_ms: u64) -> Self {
        Self(now_ms << 16)
    }

    /// Its milliseconds since the epoch.
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The next reading: later than this one, and not before `now_ms`.
    #[must_use]
    pub fn next(self, now_ms: u64) -> Self {
        Self((self.0 + 1).max(Self::from_ms(now_ms).0))
    }
}

/// One entry of a shard's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The leader's clock when it proposed the entry.
    pub hlc: Hlc,
    /// What to do.
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Apply a batch.
    Write(Batch),
    /// Expand a fan-out, whose targets all lie in this shard.
    FanOut(FanOut),
    /// Open a client's session, so that its requests are applied once. Repeatable.
    OpenSession(ClientId),
    /// Compute the shard's hash over the records live at this index and clock, and keep it in a system row.
    Checksum,
    /// Change nothing but the shard's clock, so that what has expired meanwhile is gone.
    MoveClock,
    /// Put rows of a backup in place, as they were.
    Restore(Restore),
    /// Note how far the archive holds the shard's log, in a system row.
    Archived(Archived),
}

/// What applying a command gave. The same on every replica.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A batch was applied, now or by an earlier send of the same request.
    Written(Written),
    /// A fan-out was expanded.
    FannedOut(FannedOut),
    /// The session is open.
    SessionOpened,
    /// The shard's hash at a revision.
    Checksum {
        /// The revision the hash was taken at.
        revision: Revision,
        /// CRC-32s of the live user records (keys, values, expiry, revision), combined in key order.
        hash: u64,
        /// How many records it covers.
        records: u64,
    },
    /// The clock has moved.
    ClockMoved,
    /// It was done, and there is nothing to say about it.
    Done,
    /// Nothing was applied; the error says why (`Conflict`, `OutcomeUnknown`).
    Refused(Error),
}

impl Entry {
    /// The entry as bytes for the log.
    pub fn encode(&self) -> Bytes {
        crate::wire::encode_entry(self)
    }

    /// The clock of an encoded entry, without decoding it; `None` where it does not begin like one.
    pub fn peek_hlc(bytes: &[u8]) -> Option<Hlc> {
        crate::wire::peek_hlc(bytes)
    }

    /// Decodes an entry from the log. An unknown version or command is `NewerFormat`.
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        crate::wire::decode_entry(bytes)
    }
}
