//! How loaded a store is, and how hard its writers are to be slowed down for it.
//!
//! ```text
//! pressure   0 ───────────────── 1
//!            relaxed   delayed     refused
//! ```
//!
//! RocksDB by itself stops all writers at once, for as long as it takes, when its background work falls too far
//! behind. Invariant: each figure here reaches its end before RocksDB would act on it, so that writers are slowed
//! down step by step, and refused by an error instead of held.

/// Files of level 0 from which on writers are slowed down.
const LEVEL0_FILES_RELAXED: u64 = 8;
/// Files of level 0 from which on RocksDB itself slows writers down; they stop at 36.
pub(super) const LEVEL0_FILES_MAX: u64 = 20;
/// Full memtables that wait for their flush, of one column family. RocksDB stops writers at its limit of four.
const IMMUTABLE_MAX: u64 = 3;
/// Bytes that compactions owe from which on writers are slowed down.
const PENDING_RELAXED: u64 = 24 << 30;
/// Bytes that compactions owe from which on RocksDB itself slows writers down.
pub(super) const PENDING_MAX: u64 = 64 << 30;

/// What waits in a store's background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreLoad {
    /// Bytes that no flush has made durable yet.
    pub unflushed_bytes: u64,
    /// Full memtables that wait for their flush, of the column family that has the most.
    pub immutable_memtables: u64,
    /// Files of level 0, of the column family that has the most.
    pub level0_files: u64,
    /// Bytes that compactions have yet to rewrite.
    pub pending_compaction_bytes: u64,
    /// A flush or a compaction has failed, and no flush has succeeded since.
    pub failing: bool,
}

/// How hard writers are to be slowed down, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    /// From 0, not at all, to 1,000, refused.
    pub permille: u32,
    /// What it is that weighs most; empty at 0.
    pub cause: &'static str,
}

impl Pressure {
    /// Whether writes are to be refused.
    pub fn is_full(self) -> bool {
        self.permille >= 1_000
    }
}

impl StoreLoad {
    /// The pressure of this load, with at most `unflushed_bytes_max` bytes that are not flushed.
    pub fn pressure(&self, unflushed_bytes_max: u64) -> Pressure {
        let parts = [
            (share(self.unflushed_bytes, unflushed_bytes_max / 2, unflushed_bytes_max), "bytes that are not flushed"),
            (share(self.immutable_memtables, 1, IMMUTABLE_MAX), "write buffers that wait for their flush"),
            (share(self.level0_files, LEVEL0_FILES_RELAXED, LEVEL0_FILES_MAX), "files of level 0"),
            (share(self.pending_compaction_bytes, PENDING_RELAXED, PENDING_MAX), "bytes that wait for a compaction"),
            (if self.failing { 1_000 } else { 0 }, "a failed flush or compaction"),
        ];
        let worst = parts.into_iter().max_by_key(|(permille, _)| *permille).filter(|(permille, _)| *permille > 0);
        worst.map_or_else(Pressure::default, |(permille, cause)| Pressure { permille, cause })
    }
}

/// Where `value` lies between `relaxed` and `full`, in thousandths.
fn share(value: u64, relaxed: u64, full: u64) -> u32 {
    if value >= full {
        return 1_000;
    }
    let above = value.saturating_sub(relaxed);
    u32::try_from(u128::from(above) * 1_000 / u128::from(full.saturating_sub(relaxed).max(1))).unwrap_or(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1_000_000;

    #[test]
    fn a_relaxed_store_presses_nobody() {
        assert_eq!(StoreLoad::default().pressure(MAX), Pressure::default());
        let busy = StoreLoad {
            unflushed_bytes: MAX / 2,
            immutable_memtables: 1,
            level0_files: 8,
            pending_compaction_bytes: PENDING_RELAXED,
            failing: false,
        };
        assert_eq!(busy.pressure(MAX).permille, 0);
        assert_eq!(busy.pressure(u64::MAX).permille, 0, "without a bound");
    }

    #[test]
    fn each_figure_presses_more_the_larger_it_is_and_refuses_at_its_end() {
        type Set = fn(&mut StoreLoad, u64);
        let figures: [(Set, u64, u64); 4] = [
            (|load, value| load.unflushed_bytes = value, MAX / 2, MAX),
            (|load, value| load.immutable_memtables = value, 1, IMMUTABLE_MAX),
            (|load, value| load.level0_files = value, LEVEL0_FILES_RELAXED, LEVEL0_FILES_MAX),
            (|load, value| load.pending_compaction_bytes = value, PENDING_RELAXED, PENDING_MAX),
        ];
        for (set, relaxed, full) in figures {
            let at = |value| {
                let mut load = StoreLoad::default();
                set(&mut load, value);
                load.pressure(MAX)
            };
            let half = at(u64::midpoint(relaxed, full));
            assert!(half.permille >= 400 && half.permille <= 600, "{half:?}");
            assert!(!half.is_full() && !half.cause.is_empty());
            assert!(at(full).is_full() && at(full * 2).is_full());
            assert!(at(full - 1).permille < 1_000);
        }
    }

    #[test]
    fn the_worst_figure_counts_and_a_failure_refuses() {
        let load = StoreLoad { level0_files: 19, immutable_memtables: 2, ..StoreLoad::default() };
        assert_eq!(load.pressure(MAX).cause, "files of level 0");
        let failing = StoreLoad { failing: true, ..load };
        assert_eq!(failing.pressure(MAX), Pressure { permille: 1_000, cause: "a failed flush or compaction" });
    }
}
