//! The store of a node: whichever implementation it was started on.
//!
//! One concrete type keeps everything above it, replication above all, free of a type parameter: it is compiled
//! once, and the choice is made where the node is put together. Each call goes to the store within, unchanged.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

#[cfg(feature = "rocksdb")]
use super::RocksStore;
use super::{
    Column, Durability, ExpiryClock, Export, MemoryStore, SnapshotFile, Store, StoreBatch, StoreLoad, StoreView, Visit,
};
use crate::error::Result;
use crate::scan::Direction;
use crate::seal::KeyUse;

/// A store of any kind. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub enum DataStore {
    /// In memory: for the simulator.
    Memory(MemoryStore),
    /// On disk.
    #[cfg(feature = "rocksdb")]
    Rocks(RocksStore),
}

impl From<MemoryStore> for DataStore {
    fn from(store: MemoryStore) -> Self {
        Self::Memory(store)
    }
}

#[cfg(feature = "rocksdb")]
impl From<RocksStore> for DataStore {
    fn from(store: RocksStore) -> Self {
        Self::Rocks(store)
    }
}

/// Calls a method on the store within.
macro_rules! within {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Memory($store) => $call,
            #[cfg(feature = "rocksdb")]
            Self::Rocks($store) => $call,
        }
    };
}

impl Store for DataStore {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>> {
        within!(self, store => store.get(column, key))
    }

    fn multi_get(&self, column: Column, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        within!(self, store => store.multi_get(column, keys))
    }

    fn scan(&self, column: Column, lower: &[u8], upper: &[u8], direction: Direction, visit: Visit<'_>) -> Result<()> {
        within!(self, store => store.scan(column, lower, upper, direction, visit))
    }

    fn view(&self) -> Result<Arc<dyn StoreView>> {
        within!(self, store => store.view())
    }

    fn write(&self, batch: StoreBatch, durability: Durability) -> Result<()> {
        within!(self, store => store.write(batch, durability))
    }

    fn flush(&self) -> Result<()> {
        within!(self, store => store.flush())
    }

    fn get_flushed(&self, key: &[u8]) -> Result<Option<Bytes>> {
        within!(self, store => store.get_flushed(key))
    }

    fn export(&self, tiles: &[(Bytes, Bytes)], rows: &[Bytes], dir: &Path) -> Result<Export> {
        within!(self, store => store.export(tiles, rows, dir))
    }

    fn install(&self, files: &[SnapshotFile]) -> Result<()> {
        within!(self, store => store.install(files))
    }

    fn admit_keys(&self, keys: &[KeyUse]) -> Result<()> {
        within!(self, store => store.admit_keys(keys))
    }

    fn load(&self) -> Result<StoreLoad> {
        within!(self, store => store.load())
    }

    fn set_expiry(&self, clocks: Vec<ExpiryClock>) {
        within!(self, store => store.set_expiry(clocks));
    }

    fn is_out_of_space(&self) -> bool {
        within!(self, store => store.is_out_of_space())
    }

    fn spare_disk(&self, spare: bool) -> Result<()> {
        within!(self, store => store.spare_disk(spare))
    }
}
