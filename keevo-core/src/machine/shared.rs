//! What the state machine shares with its readers.
//!
//! Invariant: the floor is raised before the rows below it go, the clock and the applied revision are raised
//! after the batch is in the store. So a reader that looks at the floor after reading rows misses no gap, and
//! one that looks at the clock before reading records judges none by a clock that is ahead of them.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::watch;

use crate::command::Hlc;
use crate::error::{Error, ErrorKind};
use crate::ids::{ClusterId, Revision, ShardId};
use crate::key::{CLASS_END, CLASS_META};

/// Which shard, of which cluster, with which keys.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) cluster: ClusterId,
    pub(super) shard: ShardId,
    /// The first encoded key.
    pub(super) lower: Bytes,
    /// The encoded key after the last.
    pub(super) upper: Bytes,
}

impl Place {
    /// The place of a shard. Whatever `range` says, it holds user keys alone; an empty end means their end.
    pub(super) fn new(cluster: ClusterId, shard: ShardId, range: (Bytes, Bytes)) -> Self {
        let (lower, upper) = range;
        let end = Bytes::from_static(&[CLASS_END]);
        Self {
            cluster,
            shard,
            lower: lower.max(Bytes::from_static(&[CLASS_META])),
            upper: if upper.is_empty() { end } else { upper.min(end) },
        }
    }

    /// Whether an encoded key, or the encoded start of a partition, lies in the shard.
    pub(super) fn owns(&self, key: &[u8]) -> bool {
        self.lower.as_ref() <= key && key < self.upper.as_ref()
    }

    /// The error for a key that the shard does not own.
    pub(super) fn moved(&self) -> Error {
        Error::new(ErrorKind::ShardMoved, format!("the key is not in the range of shard {}", self.shard))
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) place: Place,
    clock: AtomicU64,
    floor: AtomicU64,
    applied_rx: watch::Receiver<Revision>,
}

impl Shared {
    pub(super) fn new(place: Place, applied_rx: watch::Receiver<Revision>) -> Self {
        Self { place, clock: AtomicU64::new(0), floor: AtomicU64::new(0), applied_rx }
    }

    /// The shard clock.
    pub(super) fn clock(&self) -> Hlc {
        Hlc(self.clock.load(Ordering::SeqCst))
    }

    /// The shard clock, in milliseconds since the epoch.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock().ms()
    }

    pub(super) fn set_clock(&self, hlc: Hlc) {
        self.clock.store(hlc.0, Ordering::SeqCst);
    }

    /// The first revision from which on all changes are kept.
    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::SeqCst)
    }

    pub(super) fn set_floor(&self, floor: u64) {
        self.floor.store(floor, Ordering::SeqCst);
    }

    pub(super) fn applied(&self) -> Revision {
        *self.applied_rx.borrow()
    }

    pub(super) fn applied_rx(&self) -> watch::Receiver<Revision> {
        self.applied_rx.clone()
    }
}

/// The error of whoever waits for a machine that is gone.
pub(super) fn closed(place: &Place) -> Error {
    Error::new(ErrorKind::Closed, format!("shard {} is closed", place.shard))
}
