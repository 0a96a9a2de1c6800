//! Keevo's data model, the [`Engine`] trait and the embedded engine.
//!
//! Start with [`Engine`]; open a [`LocalEngine`] to use it in your own process. `examples/embedded.rs`
//! is the tour.
//!
//! Invariant: nothing here knows of a network or of Raft. What a command does to a shard's state is decided
//! in `machine` alone, for every engine that keeps data on disk; [`MemoryEngine`] is an independent model of
//! the same contract, which the conformance suite compares with.

mod any_engine;
mod batch;
pub mod call;
mod clock;
#[cfg(feature = "rocksdb")]
mod columns;
mod command;
pub mod data_dir;
mod disk;
mod engine;
mod error;
mod failpoint;
mod fan_out;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod ids;
mod key;
pub mod key_file;
pub mod keyspaces;
mod level;
pub mod limits;
#[cfg(feature = "rocksdb")]
mod local_engine;
pub mod machine;
mod memory_engine;
pub mod mutants;
mod read;
mod record;
mod restore;
mod scan;
pub mod seal;
pub mod sessions;
mod store;
pub mod system;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trace;
pub mod views;
mod watch;
mod wire;

pub use any_engine::AnyEngine;
pub use batch::{Batch, Check, Op, Precondition, Written, validate_ttl, validate_value};
pub use clock::{Clock, ManualClock, Random, SeededRandom, SystemClock};
pub use command::{Command, Entry, Hlc, Outcome};
pub use disk::{Disk, DiskGuard, DiskLimits, DiskStatus, FolderDisk, ManualDisk};
pub use engine::Engine;
pub use error::{Error, ErrorKind, ErrorRow, Result, TABLE as ERROR_TABLE};
pub use failpoint::{FAILPOINTS, failpoint};
pub use fan_out::{FanOut, FanOutAction, FannedOut, Target};
pub use ids::{ClientId, ClusterId, KeyspaceId, NodeId, RequestId, Revision, ShardId};
pub use key::{
    CLASS_END, CLASS_HASHED, CLASS_META, CLASS_META_END, CLASS_ORDERED, CLASS_SYSTEM, Key, Keyspace, KeyspaceKind,
    encode_ordered_prefix, encode_partition, encode_system, partition_hash, prefix_end, validate_partition,
    validate_sort,
};
pub use level::Levels;
#[cfg(feature = "rocksdb")]
pub use local_engine::{LocalEngine, LocalOptions, LocalStats};
pub use memory_engine::MemoryEngine;
pub use read::Consistency;
pub use record::{Record, StoredRecord, has_expired};
pub use restore::{Archived, Restore, RestoreFence};
pub use scan::{Direction, PageToken, RecordView, Records, Scan, ScanPage, ScanRange};
pub use store::{
    Column, DataStore, Durability, ExpiryClock, Export, MemoryStore, Pressure, SnapshotFile, Store, StoreBatch,
    StoreLoad, StoreOp, StoreView, Visit, verify_snapshot,
};
#[cfg(feature = "rocksdb")]
pub use store::{Damage, RocksLevel, RocksOptions, RocksStats, RocksStore, Scrub, Scrubbed, check_wals};
pub use watch::{Change, Changes, CommitEvent, Cursor, Watch, WatchFrom, WatchRange, watches_nothing};

/// The README's code, compiled and run with the doc-tests.
#[cfg(all(doctest, feature = "rocksdb"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
