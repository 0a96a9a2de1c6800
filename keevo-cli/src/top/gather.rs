//! Asking the nodes: the state of the cluster from one of them, the metrics from each.
//!
//! Invariant: a node that does not answer is missing in the sample, and keeps nobody waiting longer than a connection may.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use keevo_client::Connection;
use keevo_core::{Clock, ErrorKind, SystemClock};
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::observe_client::ObserveClient;

use super::exposition::Exposition;
use crate::connect::{Context, Effect, QUICK};
use crate::failure::Failure;
use crate::run::cluster::admin;

/// What a node says that will say the same the next time: who asks may not, or it knows no such call.
const REFUSED: [ErrorKind; 3] = [ErrorKind::Unauthenticated, ErrorKind::PermissionDenied, ErrorKind::Invalid];

/// The cluster at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// When, by this machine's clock that never goes back.
    pub(super) at: Duration,
    /// When, in milliseconds since the epoch.
    pub(super) now_ms: u64,
    pub(super) status: pb::ClusterStatusResponse,
    /// By node.
    pub(super) metrics: BTreeMap<u64, Exposition>,
}

/// Asks the nodes, over connections that it keeps.
#[derive(Debug)]
pub(super) struct Gatherer {
    context: Context,
    clock: SystemClock,
    nodes: BTreeMap<String, Connection>,
}

impl Gatherer {
    pub(super) fn new(context: Context) -> Self {
        Self { context, clock: SystemClock::new(), nodes: BTreeMap::new() }
    }

    /// Asks all nodes. Fails where none tells the state of the cluster, or a node refuses to tell its metrics.
    pub(super) async fn sample(&mut self) -> Result<Sample, Failure> {
        let status = self.status().await?;
        let reachable: Vec<&pb::NodeStatus> = status.nodes.iter().filter(|node| node.reachable).collect();
        let asked = join_all(reachable.iter().map(|node| self.metrics_of(&node.address))).await;
        let mut metrics = BTreeMap::new();
        let mut connections = BTreeMap::new();
        for (node, answer) in reachable.iter().zip(asked) {
            match answer {
                Ok((text, connection)) => {
                    metrics.insert(node.id, Exposition::parse(&text));
                    connections.insert(node.address.clone(), connection);
                }
                // A refusal stays one; what is not there now may be there at the next look.
                Err(failure) if REFUSED.contains(&failure.kind()) => return Err(failure),
                Err(_) => {}
            }
        }
        self.nodes = connections;
        Ok(Sample { at: self.clock.monotonic(), now_ms: self.clock.now_ms(), status, metrics })
    }

    /// The state of the cluster, from the first node that tells it.
    async fn status(&self) -> Result<pb::ClusterStatusResponse, Failure> {
        for connection in self.nodes.values() {
            let mut admin = admin(connection.clone());
            let call = admin.cluster_status(pb::ClusterStatusRequest {});
            if let Ok(status) = self.context.ask(Effect::Reads, QUICK, call).await {
                return Ok(status);
            }
        }
        let mut admin = admin(self.context.channel().await?);
        self.context.ask(Effect::Reads, QUICK, admin.cluster_status(pb::ClusterStatusRequest {})).await
    }

    async fn metrics_of(&self, address: &str) -> Result<(String, Connection), Failure> {
        let connection = match self.nodes.get(address) {
            Some(connection) => connection.clone(),
            None => self.context.channel_to(address).await?,
        };
        let mut observe = ObserveClient::new(connection.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answer = self.context.ask(Effect::Reads, QUICK, observe.get_metrics(pb::GetMetricsRequest {})).await?;
        Ok((answer.text, connection))
    }
}
