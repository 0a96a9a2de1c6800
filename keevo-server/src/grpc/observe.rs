//! `keevo.admin.v1.Observe`: what a node shows of itself.
//!
//! Invariant: the service only shows; secrets are taken out before anything leaves the node.

use std::fmt;
use std::sync::Arc;

use keevo_core::{Clock, SystemClock};
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::observe_server::{Observe, ObserveServer};
use tonic::{Request, Response, Status};

use crate::metrics::Metrics;
use crate::observe::{RecentLog, redact};

/// The service of one node.
pub(crate) struct ObserveService {
    metrics: Arc<Metrics>,
    /// The settings, a line each, without secrets.
    settings: String,
    recent: RecentLog,
    started_ms: u64,
}

impl ObserveService {
    /// The service of a node with such `settings`, ready to be added to a server.
    pub(crate) fn server(metrics: Arc<Metrics>, settings: String, recent: RecentLog) -> ObserveServer<Self> {
        let started_ms = SystemClock::new().now_ms();
        ObserveServer::new(Self { metrics, settings, recent, started_ms }).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl fmt::Debug for ObserveService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObserveService")
    }
}

#[tonic::async_trait]
impl Observe for ObserveService {
    async fn get_metrics(
        &self,
        _request: Request<pb::GetMetricsRequest>,
    ) -> Result<Response<pb::GetMetricsResponse>, Status> {
        Ok(Response::new(pb::GetMetricsResponse { node_id: self.metrics.node.id(), text: self.metrics.render() }))
    }

    async fn get_debug_info(
        &self,
        _request: Request<pb::GetDebugInfoRequest>,
    ) -> Result<Response<pb::GetDebugInfoResponse>, Status> {
        let (lines, log_lines_dropped) = self.recent.lines();
        Ok(Response::new(pb::GetDebugInfoResponse {
            node_id: self.metrics.node.id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_ms: SystemClock::new().now_ms(),
            started_ms: self.started_ms,
            settings: self.settings.clone(),
            log: lines.iter().map(|line| redact::line(line)).collect(),
            log_lines_dropped,
        }))
    }
}
