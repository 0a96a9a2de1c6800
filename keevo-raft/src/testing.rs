//! What tests of this crate and of those above it are made of.

#[cfg(feature = "rocksdb")]
pub mod cluster;
pub mod crash;
mod identity;
pub mod log_store;
