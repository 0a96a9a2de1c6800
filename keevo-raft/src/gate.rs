//! The gate before the log: what a client writes or a peer appends passes here before openraft sees it.
//!
//! ```text
//! client's write  ──▶ space? ──▶ store not behind? ──▶ held back a little, the more the further behind ──▶ propose
//! peer's append   ──▶ space? ──▶ store not behind? ─────────────────────────────────────────────────────▶ core
//! ```
//!
//! Invariant: votes, heartbeats, purges and flushes never pass here, so a node that refuses writes stays a member
//! that knows its leader, and can make room. What is refused was not applied, and says `ResourceExhausted`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use keevo_core::{DiskGuard, Error, ErrorKind, Pressure, Result, StoreLoad};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::stages::Stages;
use crate::storage_care::{StorageCare, StorageLimits, StorageStatus};

/// How long a write is held back at the highest pressure that is not yet refused.
const DELAY_MAX: Duration = Duration::from_millis(50);
/// A write of so many bytes is held back twice as long as a small one, and so on: a fan-out fills the store as many
/// writes do.
const DELAY_BYTES: u64 = 4 << 10;
/// The most times as long.
const DELAY_TIMES_MAX: u64 = 10;
/// Bytes that one permit of the semaphore stands for: it counts in 32 bits.
const PERMIT_BYTES: u64 = 1 << 10;

/// The gate of one node.
#[derive(Debug)]
pub(crate) struct Gate {
    disk: DiskGuard,
    limits: StorageLimits,
    pressure: RwLock<(Pressure, StoreLoad)>,
    /// Whether more bytes than may be are committed but not applied.
    lagging: AtomicBool,
    under_way: Arc<Semaphore>,
    permits: u64,
    /// Turns of replicas that apply much at once.
    large_applies: Semaphore,
    /// Committed bytes that this node's replicas have not applied yet.
    backlog: Arc<AtomicU64>,
    refused_for_load: AtomicU64,
    delayed_micros: AtomicU64,
    /// How long the stages of writes take.
    stages: Arc<Stages>,
}

impl Gate {
    /// The gate of a node that takes such care of its storage.
    pub(crate) fn new(care: &StorageCare) -> Self {
        let limits = care.limits;
        let disk =
            keevo_core::DiskLimits { low_water_bytes: limits.low_water_bytes, ballast_bytes: limits.ballast_bytes };
        let permits = (limits.unapplied_bytes_max / PERMIT_BYTES).clamp(1, u64::from(u32::MAX >> 3));
        Self {
            disk: DiskGuard::new(Arc::clone(&care.disk), disk),
            limits,
            pressure: RwLock::default(),
            lagging: AtomicBool::new(false),
            under_way: Arc::new(Semaphore::new(usize::try_from(permits).unwrap_or(Semaphore::MAX_PERMITS))),
            permits,
            large_applies: Semaphore::new(large_applies_max()),
            backlog: Arc::default(),
            refused_for_load: AtomicU64::new(0),
            delayed_micros: AtomicU64::new(0),
            stages: Arc::default(),
        }
    }

    /// Where the times of writes are counted.
    pub(crate) fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// Waits until a replica may apply much at once; it may until the permit is dropped. Half of the processors do
    /// nothing of the kind, so that reads and small writes need not wait for what a fan-out expands to.
    pub(crate) async fn large_apply(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.large_applies.acquire().await.ok()
    }

    /// Where replicas add up what they have not applied yet.
    pub(crate) fn backlog_sum(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.backlog)
    }

    /// Lets a client's write of `bytes` bytes in, perhaps after a while; it counts until the permit is dropped.
    pub(crate) async fn admit_write(&self, bytes: u64) -> Result<OwnedSemaphorePermit> {
        self.disk.admit(bytes)?;
        self.check_load()?;
        let wanted = (bytes / PERMIT_BYTES + 1).min(self.permits);
        let permits = u32::try_from(wanted).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.under_way).try_acquire_many_owned(permits).map_err(|full| {
            self.refuse(format!("writes of {} MiB are under way already", self.limits.unapplied_bytes_max >> 20))
                .with_source(full)
        })?;
        let delay = delay(self.pressure().permille, bytes);
        if !delay.is_zero() {
            let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
            self.delayed_micros.fetch_add(micros, Ordering::Relaxed);
            tokio::time::sleep(delay).await;
        }
        Ok(permit)
    }

    /// Lets a peer's append of `bytes` bytes of entries in.
    pub(crate) fn admit_append(&self, bytes: u64) -> Result<()> {
        self.disk.admit(bytes)?;
        self.check_load()
    }

    /// Refuses what needs space beside the log, such as a snapshot, while the disk is full.
    pub(crate) fn admit_files(&self) -> Result<()> {
        self.disk.admit(0)
    }

    fn check_load(&self) -> Result<()> {
        let pressure = self.pressure();
        if pressure.is_full() {
            return Err(self.refuse(format!("the data store is behind: too many {}", pressure.cause)));
        }
        let unapplied = self.backlog.load(Ordering::SeqCst);
        if unapplied > self.limits.unapplied_bytes_max {
            return Err(self.refuse(format!("{} MiB are committed but not applied yet", unapplied >> 20)));
        }
        Ok(())
    }

    fn refuse(&self, why: String) -> Error {
        self.refused_for_load.fetch_add(1, Ordering::Relaxed);
        Error::new(ErrorKind::ResourceExhausted, why)
    }

    fn pressure(&self) -> Pressure {
        self.pressure.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Takes in how the store and the disk are now. Gives whether the disk counts as full.
    pub(crate) fn observe(&self, load: StoreLoad) -> bool {
        let pressure = load.pressure(self.limits.unflushed_bytes_max);
        let was_full = {
            let mut seen = self.pressure.write().unwrap_or_else(PoisonError::into_inner);
            let before = seen.0.is_full();
            *seen = (pressure, load);
            before
        };
        if pressure.is_full() != was_full {
            tracing::warn!(
                refusing = pressure.is_full(),
                cause = pressure.cause,
                ?load,
                "the data store's load changed"
            );
        }
        let lagging = self.backlog.load(Ordering::SeqCst) > self.limits.unapplied_bytes_max;
        if self.lagging.swap(lagging, Ordering::SeqCst) != lagging {
            tracing::warn!(refusing = lagging, "the replicas' applying fell behind, or caught up");
        }
        self.disk.look(load.unflushed_bytes)
    }

    /// Whether anything is to be observed at all.
    pub(crate) fn is_on(&self) -> bool {
        self.limits != StorageLimits::NONE
    }

    /// Whether there is too little space to compact.
    pub(crate) fn is_space_scarce(&self) -> bool {
        self.disk.is_scarce()
    }

    /// Whether the disk counts as full.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk.is_full()
    }

    /// The limits.
    pub(crate) fn limits(&self) -> &StorageLimits {
        &self.limits
    }

    /// What it knows.
    pub(crate) fn status(&self) -> StorageStatus {
        let disk = self.disk.status();
        let (pressure, load) = *self.pressure.read().unwrap_or_else(PoisonError::into_inner);
        let free = u64::try_from(self.under_way.available_permits()).unwrap_or(u64::MAX);
        let under_way = self.permits.saturating_sub(free) * PERMIT_BYTES;
        let refusal = match (disk.full, pressure.is_full(), self.lagging.load(Ordering::SeqCst)) {
            (true, _, _) => self.disk.refusal().message().to_owned(),
            (_, true, _) => format!("the data store is behind: too many {}", pressure.cause),
            (_, _, true) => "too much is committed but not applied yet".to_owned(),
            _ => String::new(),
        };
        StorageStatus {
            free_bytes: disk.free_bytes,
            low_water_bytes: disk.low_water_bytes,
            ballast_bytes: disk.ballast_bytes,
            disk_full: disk.full,
            pressure_permille: pressure.permille,
            unflushed_bytes: load.unflushed_bytes,
            unapplied_bytes: under_way.saturating_add(self.backlog.load(Ordering::SeqCst)),
            refused_for_space: disk.refused,
            refused_for_load: self.refused_for_load.load(Ordering::Relaxed),
            delayed_micros: self.delayed_micros.load(Ordering::Relaxed),
            refusal,
        }
    }
}

/// How long a write of `bytes` bytes is held back: hardly at first, then ever more.
fn delay(permille: u32, bytes: u64) -> Duration {
    let times = (1 + bytes / DELAY_BYTES).min(DELAY_TIMES_MAX);
    let micros = DELAY_MAX.as_micros() * u128::from(permille) * u128::from(permille) * u128::from(times) / 1_000_000;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

fn large_applies_max() -> usize {
    std::thread::available_parallelism().map_or(1, |count| (count.get() / 2).max(1))
}

#[cfg(test)]
mod tests;
