//! Keevo's gRPC contract: the generated messages and services, and their conversion to the types of `keevo-core`.
//!
//! The `.proto` files under `proto/keevo/` are the contract; units and errors are documented there. Each package
//! has a module: [`kv`], [`admin`], [`raft`], [`feeds`], [`chat`], and [`moderation`], which the sidecar serves.
//!
//! Invariant: conversion is strict. A required field that is missing, an id of the wrong length or an unknown
//! choice is `Invalid`, never a default, and no bytes from the network panic. Limits are the engine's: what is
//! converted is not yet validated.

mod convert;
mod generated;
mod status;

pub use convert::{id_bytes, id_from_bytes};
pub use prost::Message;

pub use generated::{admin, chat, feeds, kv, moderation, raft};
pub use status::{KIND_METADATA, LEADER_METADATA, error_from_status, kind_from_code, status_from_error};

/// The encoded descriptors of all `.proto` files that keevod serves, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/keevo_descriptor.bin"));
/// Those of the moderation sidecar.
pub const MODERATION_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/moderation_descriptor.bin"));

/// The largest message that servers and clients accept, in bytes: more than any valid request or answer has.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// The most bytes of values in the answer to one `MultiGet`.
pub const MULTI_GET_BYTES_MAX: usize = 32 << 20;
/// The deadline of a request that names none, in milliseconds.
pub const DEADLINE_MS_DEFAULT: u32 = 5_000;
/// The longest deadline; a request that names a longer one gets this, in milliseconds.
pub const DEADLINE_MS_MAX: u32 = 60_000;
