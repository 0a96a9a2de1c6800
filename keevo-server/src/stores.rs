//! A node's stores as administration sees them: to be verified, to be compacted and to be copied.

mod checkpoint;
mod compact;
mod diagnose;
mod log;
mod scrub;

use std::sync::Arc;

use keevo_core::RocksStore;
use keevo_raft::log_store::LogStore;

use compact::Compactions;
pub(crate) use compact::Scope;
pub use log::LogEngine;
pub(crate) use log::open_log;
pub use scrub::Scrubs;

use crate::config::StorageConfig;
use crate::identity::Folders;

/// The stores of a node and the folders they lie in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stores {
    pub(crate) data: RocksStore,
    log: Arc<dyn LogStore>,
    folders: Arc<Folders>,
    config: Arc<StorageConfig>,
    scrubs: Arc<Scrubs>,
    compactions: Arc<Compactions>,
}

impl Stores {
    /// The stores in `folders`.
    pub fn new(data: RocksStore, log: Arc<dyn LogStore>, folders: Arc<Folders>, config: &StorageConfig) -> Self {
        Self {
            data,
            log,
            folders,
            config: Arc::new(config.clone()),
            scrubs: Arc::default(),
            compactions: Arc::default(),
        }
    }

    /// Where the log store lies.
    pub(crate) fn log_folder(&self) -> &std::path::Path {
        self.folders.log.path()
    }

    /// What scrubs have done so far.
    pub fn scrubs(&self) -> Arc<Scrubs> {
        Arc::clone(&self.scrubs)
    }
}
