//! Which log store a node has: the segmented one, or RocksDB's.
//!
//! ```text
//! DATA_DIR/log/segments   the segmented log
//! DATA_DIR/log/db         RocksDB's
//! ```
//!
//! Invariant: a node that has one never gets the other beside it, whatever the configuration says: the new one would be
//! empty, and the node would have forgotten its votes.

use std::path::Path;
use std::sync::Arc;

use keevo_core::{Error, ErrorKind, Result};
use keevo_raft::log_store::{
    LogStore, RocksLogOptions, SegmentedLogOptions, open_rocks_log_store, open_segmented_log_store,
};

use crate::config::StorageConfig;

/// A log store on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEngine {
    /// One stream of records in segments.
    Segmented,
    /// A RocksDB of its own.
    Rocksdb,
}

impl LogEngine {
    const ALL: [Self; 2] = [Self::Segmented, Self::Rocksdb];
    /// What a new node gets unless it is said. Why: docs/decisions/0013-segmented-log.md.
    const DEFAULT: Self = Self::Segmented;

    /// The log store that the configuration calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Segmented => "segmented",
            Self::Rocksdb => "rocksdb",
        }
    }

    /// The store's folder in the folder of the log, and the file that every whole store has in it.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Segmented => ("segments", "MANIFEST"),
            Self::Rocksdb => ("db", "CURRENT"),
        }
    }

    /// The log store that lies in the folder of the log; `None` if none does. `Corrupt` if both do.
    pub(crate) fn found_in(log: &Path) -> Result<Option<Self>> {
        let is_there = |engine: &Self| {
            let (folder, file) = engine.place();
            log.join(folder).join(file).exists()
        };
        match Self::ALL.map(|engine| Some(engine).filter(is_there)) {
            [Some(_), Some(_)] => Err(Error::corrupt(format!("{} holds two log stores", log.display()))),
            [one, other] => Ok(one.or(other)),
        }
    }
}

/// Opens the log store in the folder `log`, or makes it. `Invalid` if another one is there than is configured.
pub(crate) fn open_log(log: &Path, config: &StorageConfig) -> Result<Arc<dyn LogStore>> {
    let engine = match (LogEngine::found_in(log)?, config.log_engine) {
        (Some(found), Some(wanted)) if found != wanted => {
            return Err(Error::invalid(format!(
                "{} holds a {} log, but log_store says {}: set it to {} or auto; to change over, remove the node, give it \
                 an empty folder, and let it join again",
                log.display(),
                found.name(),
                wanted.name(),
                found.name(),
            )));
        }
        (found, wanted) => found.or(wanted).unwrap_or(LogEngine::DEFAULT),
    };
    let path = log.join(engine.place().0);
    let cache_bytes_max = config.log_cache_bytes();
    match engine {
        LogEngine::Segmented => {
            let (segment_bytes, keys) = (config.log_segment_bytes, config.keys()?);
            let options =
                SegmentedLogOptions { segment_bytes, cache_bytes_max, keys, ..SegmentedLogOptions::default() };
            open_segmented_log_store(path, &options)
        }
        LogEngine::Rocksdb if config.key_file.is_some() => {
            let message = "data_key_file takes the segmented log, and this node has a log in RocksDB: remove the node, give it an \
                           empty folder, and let it join again";
            Err(Error::new(ErrorKind::Config, message))
        }
        LogEngine::Rocksdb => {
            let defaults = RocksLogOptions::default();
            let write_buffer_bytes = usize::try_from(config.write_buffer_bytes).unwrap_or(usize::MAX);
            let memtable_bytes = defaults.memtable_bytes.min(write_buffer_bytes);
            open_rocks_log_store(path, &RocksLogOptions { memtable_bytes, cache_bytes_max, ..defaults })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layers, Machine};

    fn config(log_store: &str) -> StorageConfig {
        let mut layers = Layers::defaults();
        layers.add_flag("log_store", log_store);
        let machine = Machine { memory_bytes: 1 << 30, cpus: 2 };
        Config::from_layers_on(&layers, &machine).expect("good").storage
    }

    #[test]
    fn a_node_keeps_the_log_store_that_it_has() {
        for (made, other) in [("segmented", "rocksdb"), ("rocksdb", "segmented")] {
            let dir = tempfile::tempdir().expect("a folder");
            assert_eq!(LogEngine::found_in(dir.path()).expect("read"), None);
            drop(open_log(dir.path(), &config(made)).expect("made"));
            assert_eq!(LogEngine::found_in(dir.path()).expect("read"), LogEngine::from_name(made));
            for good in ["auto", made] {
                drop(open_log(dir.path(), &config(good)).expect("opened"));
            }
            let error = open_log(dir.path(), &config(other)).expect_err("another one");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains(&format!("set it to {made} or auto")), "{error}");
            let (folder, file) = LogEngine::from_name(other).expect("known").place();
            std::fs::create_dir_all(dir.path().join(folder)).expect("made");
            std::fs::write(dir.path().join(folder).join(file), "").expect("written");
            assert_eq!(open_log(dir.path(), &config("auto")).expect_err("two").kind(), ErrorKind::Corrupt);
        }
    }
}
