//! A node's hybrid logical clock: later than every write that the node led or heard of.
//!
//! All groups that a node leads read it, and proposals and their answers carry it, so that a write that follows another,
//! whatever the shards and nodes, has the later clock: restored or replayed in the order of the clocks, no effect comes
//! before its cause.
//!
//! Invariant: it never goes back, and what is heard, of other nodes or of a shard that this one leads, moves it at most [`AHEAD_MS_MAX`] before the node's own wall clock:
//! one clock that is far off costs the order of its writes, and not everybody's time.

use std::sync::atomic::{AtomicU64, Ordering};

use keevo_core::Hlc;

/// How far before its own wall clock a node follows others.
const AHEAD_MS_MAX: u64 = 1_000;

/// The clock.
#[derive(Debug, Default)]
pub(crate) struct NodeHlc(AtomicU64);

impl NodeHlc {
    /// The latest clock that is known.
    pub(crate) fn read(&self) -> Hlc {
        Hlc(self.0.load(Ordering::SeqCst))
    }

    /// Takes in the clock of a write, of this node or of another one.
    pub(crate) fn hear(&self, hlc: Hlc, now_ms: u64) {
        let limit = Hlc::from_ms(now_ms.saturating_add(AHEAD_MS_MAX).min(u64::MAX >> 16));
        if hlc <= limit {
            self.0.fetch_max(hlc.0, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_others_within_reason_and_never_goes_back() {
        let clock = NodeHlc::default();
        clock.hear(Hlc::from_ms(5_000), 5_000);
        clock.hear(Hlc::from_ms(4_000), 5_000);
        assert_eq!(clock.read(), Hlc::from_ms(5_000));
        clock.hear(Hlc::from_ms(6_000), 5_000);
        assert_eq!(clock.read(), Hlc::from_ms(6_000));
        clock.hear(Hlc::from_ms(6_001), 5_000);
        clock.hear(Hlc(u64::MAX), u64::MAX);
        assert_eq!(clock.read(), Hlc::from_ms(6_000), "that clock is off");
    }
}
