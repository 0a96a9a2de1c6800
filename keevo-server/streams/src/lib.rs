//! Change streams: what is committed in Keevo, told to others as it is committed.
//!
//! ```text
//! ChangeLog ──pages, a shard each──> Runner ──batches──> Target: a Kafka topic, files of JSON lines, standard output
//!                                      │ places, before and after a batch
//!                                      v
//!                          a row in Keevo, with the claim of the one node that runs the sink
//! ```
//!
//! A sink is a named object, kept in the meta group ([`Sinks`]); which of the nodes runs it, and how far it is in each shard,
//! stands in a row of the keyspace [`KEYSPACE`]. [`Runner`] runs those that nobody else runs.
//!
//! Invariant: the places of a sink never run ahead of what its target has, so that whatever stops in between, nothing is
//! left out; what is told twice has the same dedup key, and where the target has transactions nothing is.

mod claim;
mod format;
mod kafka;
mod log;
mod places;
mod queue;
mod runner;
mod secret;
mod sinks;
mod spec;
mod status;
mod target;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use claim::Failure;
pub use format::{DEDUP_HEADER, Outgoing};
pub use kafka::Connection;
pub use log::ChangeLog;
pub use places::Place;
pub use queue::{KafkaQueue, QueueReader, Queued};
pub use runner::{Runner, RunnerOptions, RunnerParts};
pub use secret::Secret;
pub use sinks::{Sinks, Start};
pub use spec::{Delivery, Format, KafkaTopic, Mechanism, SINKS_MAX, Sasl, Sink, Tls, To};
pub use status::{ShardLag, SinkMetrics, SinkStatus, State};
pub use target::{DefaultTargets, Recovered, Target, Targets};

/// The keyspace of the places of sinks.
pub const KEYSPACE: &str = "sinks";
