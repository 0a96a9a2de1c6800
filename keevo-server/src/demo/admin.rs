//! Questions to the cluster's administration service, asked of any node that answers.
//!
//! Invariant: a killed node is never asked, and a question that a node cannot answer goes to the next one.

use std::net::SocketAddr;
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::admin_client::AdminClient;
use keevo_proto::error_from_status;
use tonic::transport::{Channel, Endpoint};

use super::nodes::Cluster;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The shards with their leaders.
pub(super) async fn shards(cluster: &Cluster) -> Result<Vec<pb::ShardRoute>> {
    let mut failure = None;
    for address in running(cluster) {
        match client(address)?.shard_map(pb::ShardMapRequest {}).await {
            Ok(map) => return Ok(map.into_inner().shards),
            Err(status) => failure = Some(error_from_status(&status)),
        }
    }
    Err(failure.unwrap_or_else(nobody))
}

/// The state of every replica.
pub(super) async fn status(cluster: &Cluster) -> Result<pb::ClusterStatusResponse> {
    let mut failure = None;
    for address in running(cluster) {
        match client(address)?.cluster_status(pb::ClusterStatusRequest {}).await {
            Ok(status) => return Ok(status.into_inner()),
            Err(status) => failure = Some(error_from_status(&status)),
        }
    }
    Err(failure.unwrap_or_else(nobody))
}

/// The hash of every replica, taken now.
pub(super) async fn checksums(cluster: &Cluster) -> Result<Vec<pb::ReplicaChecksum>> {
    let mut failure = None;
    for address in running(cluster) {
        match client(address)?.checksum(pb::ChecksumRequest::default()).await {
            Ok(checksums) => return Ok(checksums.into_inner().replicas),
            Err(status) => failure = Some(error_from_status(&status)),
        }
    }
    Err(failure.unwrap_or_else(nobody))
}

fn running(cluster: &Cluster) -> impl Iterator<Item = SocketAddr> {
    cluster.nodes.iter().filter(|node| node.process.is_started()).map(|node| node.grpc)
}

fn client(address: SocketAddr) -> Result<AdminClient<Channel>> {
    Ok(AdminClient::new(channel(address)?))
}

/// A connection to a node, made when it is first used.
pub(super) fn channel(address: SocketAddr) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Error::invalid(format!("{address} is no address")).with_source(error))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(2)).timeout(ANSWER_WITHIN).connect_lazy())
}

fn nobody() -> Error {
    Error::new(ErrorKind::Unavailable, "no node runs")
}
