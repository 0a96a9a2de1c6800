//! Writes are refused before the disk is full, and taken again when there is space.
//!
//! ```text
//! free   ├── low / 2 ──┤── low ──┤── low + low / 8 ──┤
//!         ballast goes   refuse     take writes again, once the ballast is back
//! ```
//!
//! What was accepted but does not show on the disk yet (in flight, or in memory until the next flush) counts as
//! written. Invariant: what may be accepted between two looks is at most an eighth of the low-water mark, so a
//! fast writer meets the mark with seven eighths of it left for votes, purges and flushes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Disk;
use crate::error::{Error, ErrorKind, Result};

/// How often an accepted byte is written before anything is given back: to the log, and to a table.
const WRITTEN_TIMES: u64 = 2;

/// When a disk counts as full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskLimits {
    /// Free bytes below which writes are refused; 0 = never.
    pub low_water_bytes: u64,
    /// Bytes set aside for the time below the mark; 0 = none.
    pub ballast_bytes: u64,
}

/// What a [`DiskGuard`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskStatus {
    /// Free bytes at the last look.
    pub free_bytes: u64,
    /// The mark; 0 = there is none.
    pub low_water_bytes: u64,
    /// Bytes that are set aside.
    pub ballast_bytes: u64,
    /// Whether writes are refused.
    pub full: bool,
    /// Writes that were refused.
    pub refused: u64,
}

/// Decides whether a write may still go to the disk.
pub struct DiskGuard {
    disk: Arc<dyn Disk>,
    limits: DiskLimits,
    /// Bytes accepted since the last look, as often as they will be written.
    recent: AtomicU64,
    /// Those of the look before: they may still be on their way.
    before: AtomicU64,
    /// Bytes that memory holds and a flush will write.
    owed: AtomicU64,
    free: AtomicU64,
    full: AtomicBool,
    refused: AtomicU64,
    /// Held while the ballast or the mode changes.
    changing: Mutex<()>,
}

impl fmt::Debug for DiskGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskGuard")
            .field("limits", &self.limits)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl DiskGuard {
    /// A guard of `disk`, which sets the ballast aside if there is room for it. Where there is none, the guard begins
    /// with writes refused.
    pub fn new(disk: Arc<dyn Disk>, limits: DiskLimits) -> Self {
        let guard = Self {
            disk,
            limits,
            recent: AtomicU64::new(0),
            before: AtomicU64::new(0),
            owed: AtomicU64::new(0),
            free: AtomicU64::new(u64::MAX),
            // Until the first look; that is what sets the ballast aside.
            full: AtomicBool::new(limits.low_water_bytes > 0),
            refused: AtomicU64::new(0),
            changing: Mutex::new(()),
        };
        guard.look(0);
        guard
    }

    /// Whether there is a mark at all.
    pub fn is_on(&self) -> bool {
        self.limits.low_water_bytes > 0
    }

    /// Takes `bytes` in, or refuses with `ResourceExhausted`. Cheap; measures the disk when enough was taken in.
    pub fn admit(&self, bytes: u64) -> Result<()> {
        if !self.is_on() {
            return Ok(());
        }
        let written = bytes.saturating_mul(WRITTEN_TIMES);
        let recent = self.recent.fetch_add(written, Ordering::SeqCst).saturating_add(written);
        if recent > self.limits.low_water_bytes / 8 && !self.is_full() {
            self.measure();
        }
        if self.is_full() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(self.refusal());
        }
        Ok(())
    }

    /// Whether there is so little space that a compaction, which takes some before it gives any, should wait: less than
    /// one and a half times the mark.
    pub fn is_scarce(&self) -> bool {
        let mark = self.limits.low_water_bytes;
        self.is_on() && (self.is_full() || self.free.load(Ordering::SeqCst) < mark.saturating_add(mark / 2))
    }

    /// Whether writes are refused.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Looks at the disk, and changes mode and ballast as it finds it; `owed_bytes` are those that memory holds and a
    /// flush will write. To be called often. Blocks, for as long as it takes to set the ballast aside. Gives whether
    /// writes are refused from now on.
    pub fn look(&self, owed_bytes: u64) -> bool {
        if !self.is_on() {
            return false;
        }
        self.owed.store(owed_bytes, Ordering::SeqCst);
        self.measure();
        if self.is_full() {
            let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            self.make_room();
            self.recover();
        }
        self.is_full()
    }

    /// What it knows.
    pub fn status(&self) -> DiskStatus {
        DiskStatus {
            free_bytes: self.free.load(Ordering::SeqCst),
            low_water_bytes: self.limits.low_water_bytes,
            ballast_bytes: if self.is_on() { self.disk.aside_bytes() } else { 0 },
            full: self.is_full(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Why writes are refused.
    pub fn refusal(&self) -> Error {
        let (free, mark) = (self.free.load(Ordering::SeqCst), self.limits.low_water_bytes);
        Error::new(
            ErrorKind::ResourceExhausted,
            format!(
                "the disk is nearly full: {} MiB are free, and writes are taken again above {} MiB",
                free >> 20,
                self.enough() >> 20
            ),
        )
        .with_source(LowWater { free, mark })
    }

    /// Reads the free space; below the mark writes are refused from now on.
    fn measure(&self) {
        let before = self.recent.swap(0, Ordering::SeqCst);
        let in_flight = self.before.swap(before, Ordering::SeqCst).saturating_add(before);
        let free = match self.disk.free_bytes() {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(%error, "the free space is not known; the last figure stands");
                return;
            }
        };
        self.free.store(free, Ordering::SeqCst);
        let usable = free.saturating_sub(self.owed.load(Ordering::SeqCst)).saturating_sub(in_flight);
        let mark = self.limits.low_water_bytes;
        if usable < mark && !self.full.swap(true, Ordering::SeqCst) {
            tracing::error!(free, mark, "the disk is nearly full: writes are refused, reads go on");
        }
    }

    /// Gives the ballast back when half of the reserve is gone.
    fn make_room(&self) {
        let low = self.free.load(Ordering::SeqCst) < self.limits.low_water_bytes / 2;
        if !low || self.disk.aside_bytes() == 0 {
            return;
        }
        match self.disk.give_back() {
            Ok(()) => tracing::warn!("the ballast was given back, for votes, purges and flushes"),
            Err(error) => tracing::error!(%error, "the ballast cannot be given back"),
        }
    }

    /// Free bytes at which writes are taken again, with the ballast in place.
    fn enough(&self) -> u64 {
        self.limits.low_water_bytes.saturating_add(self.limits.low_water_bytes / 8)
    }

    /// Takes writes again if there is space for them and for the ballast.
    fn recover(&self) {
        let missing = self.limits.ballast_bytes.saturating_sub(self.disk.aside_bytes());
        let owed = self.owed.load(Ordering::SeqCst);
        let usable = self.free.load(Ordering::SeqCst).saturating_sub(owed);
        if usable < self.enough().saturating_add(missing) {
            return;
        }
        if let Err(error) = self.disk.set_aside(self.limits.ballast_bytes) {
            tracing::warn!(%error, "the ballast cannot be set aside yet; writes stay refused");
            return;
        }
        if self.full.swap(false, Ordering::SeqCst) {
            tracing::info!(free = self.free.load(Ordering::SeqCst), "there is space on the disk: writes are taken");
        }
    }
}

/// The figures behind a refusal.
#[derive(Debug, thiserror::Error)]
#[error("{free} bytes are free, the low-water mark is {mark}")]
struct LowWater {
    free: u64,
    mark: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ManualDisk;

    const LIMITS: DiskLimits = DiskLimits { low_water_bytes: 800, ballast_bytes: 200 };

    fn guard(free: u64) -> (Arc<ManualDisk>, DiskGuard) {
        let disk = Arc::new(ManualDisk::new(free));
        let guard = DiskGuard::new(Arc::clone(&disk) as Arc<dyn Disk>, LIMITS);
        (disk, guard)
    }

    #[test]
    fn a_guard_without_a_mark_takes_everything() {
        let guard = DiskGuard::new(Arc::new(ManualDisk::new(0)), DiskLimits::default());
        guard.admit(u64::MAX).unwrap();
        assert!(!guard.look(0) && !guard.is_full());
        assert_eq!(guard.status().ballast_bytes, 0);
    }

    #[test]
    fn below_the_mark_writes_are_refused_until_space_and_ballast_are_back() {
        let (disk, guard) = guard(2_000);
        assert_eq!(disk.aside_bytes(), 200, "set aside at the start");
        guard.admit(10).unwrap();
        disk.set_free_bytes(950);
        assert!(guard.look(0), "750 bytes beside the ballast");
        let refused = guard.admit(1).expect_err("below the mark");
        assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
        assert_eq!(disk.aside_bytes(), 200, "above half of the mark the ballast stays");
        disk.set_free_bytes(500);
        assert!(guard.look(0));
        assert_eq!((disk.aside_bytes(), disk.free_bytes().unwrap()), (0, 500), "given back");
        disk.set_free_bytes(1_050);
        assert!(guard.look(0), "enough for writes, but not for the ballast");
        assert_eq!(disk.aside_bytes(), 0);
        disk.set_free_bytes(1_100);
        assert!(!guard.look(0));
        assert_eq!(disk.aside_bytes(), 200);
        guard.admit(1).unwrap();
        assert_eq!(guard.status().refused, 1);
    }

    #[test]
    fn space_is_scarce_before_it_is_gone() {
        let (disk, guard) = guard(2_000);
        assert!(!guard.is_scarce());
        disk.set_free_bytes(1_399);
        assert!(!guard.look(0) && guard.is_scarce());
        disk.set_free_bytes(1_400);
        assert!(!guard.look(0) && !guard.is_scarce());
        disk.set_free_bytes(900);
        assert!(guard.look(0) && guard.is_scarce());
    }

    #[test]
    fn it_does_not_swing_at_the_mark() {
        let (disk, guard) = guard(2_000);
        disk.set_free_bytes(999);
        assert!(guard.look(0));
        disk.set_free_bytes(1_001);
        assert!(guard.look(0), "just above the mark is not enough");
        disk.set_free_bytes(1_100);
        assert!(!guard.look(0));
    }

    #[test]
    fn a_fast_writer_is_stopped_between_two_looks_with_the_reserve_untouched() {
        let (disk, guard) = guard(3_000);
        let mut on_disk = 3_000;
        let accepted = (0..1_000).take_while(|_| {
            let taken = guard.admit(10).is_ok();
            if taken {
                on_disk -= 10 * WRITTEN_TIMES;
                disk.set_free_bytes(on_disk);
            }
            taken
        });
        let accepted = accepted.count();
        assert!(accepted > 80, "{accepted} writes were taken");
        let left = disk.free_bytes().unwrap();
        assert!(left >= LIMITS.low_water_bytes - LIMITS.low_water_bytes / 8, "{left} bytes are left");
    }

    #[test]
    fn what_memory_owes_the_disk_counts_as_written() {
        let (_disk, guard) = guard(2_000);
        assert!(!guard.look(900));
        assert!(guard.look(1_100), "1,800 free, 1,100 of them for the next flush");
        assert!(!guard.look(0), "flushed into nothing");
    }

    #[test]
    fn a_start_on_a_full_disk_begins_with_refusals() {
        let (disk, guard) = guard(700);
        assert!(guard.is_full());
        assert_eq!(disk.aside_bytes(), 0);
        disk.set_free_bytes(5_000);
        assert!(!guard.look(0));
    }

    #[test]
    fn an_unknown_free_space_changes_nothing() {
        #[derive(Debug)]
        struct Mute;
        impl Disk for Mute {
            fn free_bytes(&self) -> Result<u64> {
                Err(Error::new(ErrorKind::Io, "no answer"))
            }
            fn set_aside(&self, _bytes: u64) -> Result<()> {
                Ok(())
            }
            fn give_back(&self) -> Result<()> {
                Ok(())
            }
            fn aside_bytes(&self) -> u64 {
                0
            }
        }
        let guard = DiskGuard::new(Arc::new(Mute), LIMITS);
        guard.admit(10_000).unwrap();
        assert!(!guard.look(0));
    }
}
