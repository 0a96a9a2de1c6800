//! The store behind a shard: an ordered map with atomic batches.
//!
//! [`RocksStore`](crate::RocksStore) is the one on disk; [`MemoryStore`](crate::MemoryStore) stands in its
//! place in the simulator. Both pass `keevo_core::testing::store`. Calls block; callers on an async
//! runtime keep them short or move them off its threads.

mod data;
pub(crate) mod files;
mod load;
mod memory;
#[cfg(feature = "rocksdb")]
mod rocks;

pub use data::DataStore;
pub use files::verify as verify_snapshot;
pub use load::{Pressure, StoreLoad};
pub use memory::MemoryStore;
#[cfg(feature = "rocksdb")]
pub use rocks::{Damage, RocksLevel, RocksOptions, RocksStats, RocksStore, Scrub, Scrubbed, check_wals};

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::scan::Direction;
use crate::seal::KeyUse;

/// The columns of the data store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Records, and the system rows of their shards.
    Data,
    /// Recent changes per shard, for watches: `[shard u64 BE][revision u64 BE]`.
    Changes,
}

impl Column {
    /// Every column.
    pub const ALL: [Self; 2] = [Self::Data, Self::Changes];
}

/// One operation of a [`StoreBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOp {
    /// Stores a value.
    Put(Column, Bytes, Bytes),
    /// Removes a key.
    Delete(Column, Bytes),
    /// Removes `[start, end)`: nothing when `end` is not above `start`.
    DeleteRange(Column, Bytes, Bytes),
}

/// Operations that are applied together, in order, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreBatch {
    /// The operations.
    pub ops: Vec<StoreOp>,
}

/// What a store's `write` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Returns when the write survives a power cut.
    #[default]
    Sync,
    /// Returns when the write survives the end of the process; a power cut may lose the newest writes, in order.
    Buffered,
    /// Kept in memory until the next [`Store::flush`]: for callers that have their own log.
    Unlogged,
}

/// One file of a snapshot: the whole of `[lower, upper)` in the data column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The first key of the tile.
    pub lower: Bytes,
    /// The key after the tile.
    pub upper: Bytes,
    /// Its size.
    pub bytes: u64,
    /// CRC-32 over the file.
    pub crc32: u32,
}

/// What [`Store::export`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The files.
    pub files: Vec<SnapshotFile>,
    /// The values under the rows that were asked for, in their order, as of the files' read view.
    pub rows: Vec<Option<Bytes>>,
    /// The keys that values in the files are sealed with; [`KeyUse::NONE`] where some are not sealed. Empty for a store without
    /// keys.
    pub keys: Vec<KeyUse>,
}

/// The clock of a shard as of the last flush, and the keys that it is the clock of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiryClock {
    /// The first encoded key.
    pub lower: Bytes,
    /// The encoded key after the last.
    pub upper: Bytes,
    /// The clock, in milliseconds since the epoch.
    pub now_ms: u64,
}

/// What a scan calls for each key and value; it breaks when it has enough.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>;

/// One state of a store's data column, for as long as it is held: what is written later does not show in it.
pub trait StoreView: Debug + Send + Sync + 'static {
    /// As [`Store::scan`] of [`Column::Data`], of this state.
    fn scan(&self, lower: &[u8], upper: &[u8], direction: Direction, visit: Visit<'_>) -> Result<()>;
}

/// An ordered map with atomic batches.
pub trait Store: Clone + Debug + Send + Sync + 'static {
    /// The value under `key`.
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>>;

    /// The values under `keys`, in their order.
    fn multi_get(&self, column: Column, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>>;

    /// Visits `[lower, upper)` in `direction`; an empty `upper` means no end. The whole call sees one state.
    fn scan(&self, column: Column, lower: &[u8], upper: &[u8], direction: Direction, visit: Visit<'_>) -> Result<()>;

    /// The state of [`Column::Data`] as it is now. It costs little, but space: what it shows stays on disk.
    fn view(&self) -> Result<Arc<dyn StoreView>>;

    /// Applies a batch.
    fn write(&self, batch: StoreBatch, durability: Durability) -> Result<()>;

    /// Makes everything written so far durable, all columns at one point in the order of writes.
    fn flush(&self) -> Result<()>;

    /// The value under `key` in [`Column::Data`] as of the last completed flush.
    fn get_flushed(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// Writes the tiles `[lower, upper)` of [`Column::Data`] to files in `dir`, all from one read view and
    /// in the order given; a large tile becomes several files with adjoining ranges. The values under `rows`
    /// are read from that same view, so that the caller knows what the files hold.
    fn export(&self, tiles: &[(Bytes, Bytes)], rows: &[Bytes], dir: &Path) -> Result<Export>;

    /// Replaces the ranges of `files` by their contents: all of them at once and durably, or, after a crash
    /// at any point, none of them. The files must not overlap; their CRCs are verified first. The files are
    /// consumed.
    fn install(&self, files: &[SnapshotFile]) -> Result<()>;

    /// Takes note that an install is to bring values that are sealed with these keys. `Config`, with what to do, where a key
    /// is missing. A store that cannot open values refuses all keys.
    fn admit_keys(&self, keys: &[KeyUse]) -> Result<()> {
        match keys.iter().find(|used| **used != KeyUse::NONE) {
            Some(used) => {
                let message = format!("values are sealed with key {}, and this store has no keys", used.id);
                Err(Error::new(ErrorKind::Config, message))
            }
            None => Ok(()),
        }
    }

    /// How much work waits in the store's background; nothing by default.
    fn load(&self) -> Result<StoreLoad> {
        Ok(StoreLoad::default())
    }

    /// Lets the store drop the records that have expired by these clocks, which must be flushed; in place of the clocks
    /// that were set before. A store may also keep everything.
    fn set_expiry(&self, clocks: Vec<ExpiryClock>) {
        let _ = clocks;
    }

    /// Whether a write or a flush has failed for want of space and none has succeeded since. Cheap.
    fn is_out_of_space(&self) -> bool {
        false
    }

    /// While `spare` is set, nothing is rewritten in the background: a compaction needs space before it gives any.
    fn spare_disk(&self, spare: bool) -> Result<()> {
        let _ = spare;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
