//! `RemoteEngine`: the [`Engine`](keevo_core::Engine) trait over gRPC.
//!
//! ```text
//! RemoteEngine ─▶ Routes (shard map) ─▶ Node (a few Pipes) ─▶ server
//!      │                                  requests in flight to a node travel together
//!      └─▶ Sessions: a request id for every write, so that a retry is applied once
//! ```
//!
//! Invariant: a write is answered with `OutcomeUnknown` whenever an attempt of it may have been applied and no
//! later attempt told; every other error means that it was not. Reads, fan-outs and session openings are repeatable
//! and simply retried. All queues are bounded: a full one is `ResourceExhausted`.

mod access;
mod engine;
mod fan_out;
mod node;
mod options;
pub mod otlp;
mod pipe;
mod read;
mod retry;
mod routes;
mod scan;
mod shard_map;
mod watch;
mod write;

pub use access::{Access, ApiKey, Connection};
pub use engine::RemoteEngine;
pub use options::ClientOptions;
pub use otlp::{Otlp, OtlpCounts, OtlpOptions};
pub use shard_map::{Shard, ShardMap};
