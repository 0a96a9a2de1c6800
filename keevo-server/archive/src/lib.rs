//! The archive of the committed log, and backups, in object storage.
//!
//! ```text
//! CLUSTER/log/SHARD/FIRST.seg        segments of committed entries, named by their first index
//! CLUSTER/chunks/HH/SHA256           rows of shards, named by their contents
//! CLUSTER/backups/ID/SHARD.shard     what a shard consisted of: its chunks, its index and clock
//! CLUSTER/backups/ID/manifest        the backup; written last
//! ```
//!
//! CLUSTER is the cluster's id in 32 hexadecimal digits, SHARD and FIRST are numbers in 20 decimal digits, HH are the
//! first two digits of SHA256. Reading order: [`storage`], [`segment`], [`shipper`], [`reader`]; then [`manifest`], [`backup`],
//! [`rebuild`], [`restore`], [`prune`], [`erase`].
//!
//! Invariant: an object is written once and never changed, until retention removes it, but for a segment that no backup needs, which the
//! erasure of a user may reduce; every byte is under a checksum. Nothing here knows of gRPC or of the configuration.

pub mod backup;
pub mod chunk;
pub mod erase;
mod load;
pub mod manifest;
pub mod names;
pub mod prune;
pub mod reader;
pub mod rebuild;
pub mod restore;
mod sealed;
pub mod segment;
pub mod shipper;
pub mod storage;
pub mod verify;
mod zip;

pub use reader::Archive;
pub use segment::{Segment, SegmentHead};
pub use shipper::{LogSource, Shipper, ShipperOptions, Shipping};
pub use storage::{Encrypted, KeyRing, Object, ObjectStorage, Storage};
