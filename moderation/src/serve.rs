//! Serving: the sidecar's queue and batches, its interfaces, and its start and end.
//!
//! ```text
//! OpenAI, TEI, Perspective over HTTP, gRPC ─> Moderator ─> tokens, windows ─> Batcher ─> the model's thread(s)
//! ```
//!
//! Start with [`Sidecar::start`]. Invariant: no task of the runtime waits for the model, every queue has a bound, and
//! a score that is no number is an error.

mod auth;
mod batcher;
mod daemon;
mod grpc;
mod http;
mod listener;
mod metrics;
mod moderator;
mod options;
mod queue;
#[cfg(test)]
mod testing;
mod windows;

pub use auth::ApiKeys;
pub use daemon::{Load, Sidecar, SidecarConfig};
pub use listener::Certificate;
pub use options::ServeOptions;
pub use queue::Priority;
