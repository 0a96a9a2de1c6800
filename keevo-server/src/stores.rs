//! A node's stores as administration sees them: to be verified and to be copied.

mod checkpoint;
mod scrub;

use std::path::Path;
use std::sync::Arc;

use keevo_core::{Result, RocksStore};
use keevo_raft::log_store::{LogStore, RocksLogOptions, open_rocks_log_store};

pub use scrub::Scrubs;

use crate::config::StorageConfig;
use crate::identity::Folders;

/// Opens the log store in a folder, or makes it.
pub(crate) fn open_log(path: &Path, config: &StorageConfig) -> Result<Arc<dyn LogStore>> {
    let defaults = RocksLogOptions::default();
    let write_buffer_bytes = usize::try_from(config.write_buffer_bytes).unwrap_or(usize::MAX);
    let options = RocksLogOptions { memtable_bytes: defaults.memtable_bytes.min(write_buffer_bytes), ..defaults };
    open_rocks_log_store(path, &options)
}

/// The stores of a node and the folders they lie in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stores {
    pub(crate) data: RocksStore,
    log: Arc<dyn LogStore>,
    folders: Arc<Folders>,
    config: Arc<StorageConfig>,
    scrubs: Arc<Scrubs>,
}

impl Stores {
    /// The stores in `folders`.
    pub fn new(data: RocksStore, log: Arc<dyn LogStore>, folders: Arc<Folders>, config: &StorageConfig) -> Self {
        Self { data, log, folders, config: Arc::new(config.clone()), scrubs: Arc::default() }
    }

    /// What scrubs have done so far.
    pub fn scrubs(&self) -> Arc<Scrubs> {
        Arc::clone(&self.scrubs)
    }
}
