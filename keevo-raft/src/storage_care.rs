//! How a node takes care of its disk and its stores: the limits, and what it tells of them.

use std::sync::Arc;

use keevo_core::{Disk, ManualDisk};

/// What a node may leave undone before it slows writers down or refuses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageLimits {
    /// Free bytes on the disk below which client writes and appends from peers are refused; 0 = never.
    pub low_water_bytes: u64,
    /// Bytes set aside on the disk for votes, purges and flushes below the mark; 0 = none.
    pub ballast_bytes: u64,
    /// Unflushed bytes of the data store at which it is flushed, whatever its timer says. A restart replays no more.
    pub flush_bytes: u64,
    /// Unflushed bytes of the data store at which writes are refused; from half of them on they are slowed down.
    pub unflushed_bytes_max: u64,
    /// Bytes of writes of all shards that are under way, or committed and not yet applied, at which more are refused.
    pub unapplied_bytes_max: u64,
}

impl StorageLimits {
    /// No limits: for stores in memory.
    pub const NONE: Self = Self {
        low_water_bytes: 0,
        ballast_bytes: 0,
        flush_bytes: u64::MAX,
        unflushed_bytes_max: u64::MAX,
        unapplied_bytes_max: u64::MAX,
    };
}

/// What a node needs to take care of its storage.
#[derive(Debug, Clone)]
pub struct StorageCare {
    /// The disk under its folders.
    pub disk: Arc<dyn Disk>,
    /// Its limits.
    pub limits: StorageLimits,
}

impl Default for StorageCare {
    fn default() -> Self {
        Self { disk: Arc::new(ManualDisk::default()), limits: StorageLimits::NONE }
    }
}

/// What a node tells of its storage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageStatus {
    /// Free bytes on its disk.
    pub free_bytes: u64,
    /// Free bytes below which writes are refused; 0 = there is no mark.
    pub low_water_bytes: u64,
    /// Bytes that are set aside.
    pub ballast_bytes: u64,
    /// Whether the disk counts as full.
    pub disk_full: bool,
    /// How loaded the data store is: from 0, not at all, to 1,000, writes are refused.
    pub pressure_permille: u32,
    /// Bytes of the data store that no flush has made durable yet.
    pub unflushed_bytes: u64,
    /// Bytes of writes that are under way or not yet applied.
    pub unapplied_bytes: u64,
    /// Writes and appends that were refused for want of space.
    pub refused_for_space: u64,
    /// Writes and appends that were refused because the store was behind.
    pub refused_for_load: u64,
    /// Time for which writes were held back, in microseconds, of all of them together.
    pub delayed_micros: u64,
    /// Why writes are refused now; empty = they are taken.
    pub refusal: String,
}
