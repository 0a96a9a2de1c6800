//! What a node shows of itself beside its metrics: its process, the newest lines of its log, its settings.
//!
//! Invariant: a secret leaves the node in none of it ([`redact`]), and all of it is bounded.

pub(crate) mod process;
pub mod recent;
pub mod redact;

use std::sync::Arc;

use keevo_client::{Otlp, OtlpOptions};
use keevo_core::Result;
use keevo_core::trace::SpanSink;
use keevo_raft::Node;
pub use recent::RecentLog;

use crate::config::TracesConfig;

/// Has the spans of a node go to its collector.
pub(crate) fn trace_to(config: &TracesConfig, node: &Node) -> Result<Arc<Otlp>> {
    let traces = Otlp::start(&OtlpOptions {
        endpoint: config.endpoint.clone(),
        service: "keevod".to_owned(),
        instance: node.id().to_string(),
        ratio: config.ratio(),
    })?;
    node.trace_to(Arc::clone(&traces) as Arc<dyn SpanSink>);
    Ok(traces)
}
