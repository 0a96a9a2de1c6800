//! Whether the node serves: `/ready` over HTTP and `grpc.health.v1` say the same.
//!
//! Invariant: what reads or writes data is SERVING only while every replica here knows a leader; administration and the
//! peers' service, which bring a node that far, are from the start. At the end all are NOT_SERVING before any request
//! is turned away.

use std::fmt;
use std::time::Duration;

use keevo_raft::Node;
use tokio::task::JoinHandle;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthApi, HealthServer};
use tonic_health::server::HealthReporter;

/// How often the node is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// The services that need leaders; the empty name is the node as a whole.
const DATA: [&str; 5] = ["", "keevo.kv.v1.Kv", "keevo.feeds.v1.Feeds", "keevo.feeds.v1.Social", "keevo.chat.v1.Chat"];
/// The services that do not.
const ALWAYS: [&str; 3] = ["keevo.admin.v1.Admin", "keevo.admin.v1.Observe", "keevo.raft.v1.Raft"];

/// Why the node should not get traffic yet; `None` when it should.
pub(crate) fn not_ready(node: &Node) -> Option<String> {
    if let Err(error) = node.serving_map() {
        return Some(error.message().to_owned());
    }
    let waiting = node.replicas().into_iter().find(|one| one.leader_node == 0 || !one.fault.is_empty())?;
    if !waiting.fault.is_empty() {
        return Some(format!("the replica of shard {} is down: {}", waiting.shard, waiting.fault));
    }
    Some(format!("shard {} has no leader that this node knows", waiting.shard))
}

/// Keeps the health service up to date.
pub(crate) struct Health {
    reporter: HealthReporter,
    task: JoinHandle<()>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

impl Health {
    /// The health of a node, and the service that tells it.
    pub(crate) async fn start(node: Node) -> (Self, HealthServer<impl HealthApi>) {
        let (reporter, server) = tonic_health::server::health_reporter();
        set(&reporter, &ALWAYS, ServingStatus::Serving).await;
        set(&reporter, &DATA, ServingStatus::NotServing).await;
        let task = tokio::spawn(follow(node, reporter.clone()));
        (Self { reporter, task }, server)
    }

    /// Says from now on that nothing is served.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        // It has ended, by this or by itself; nothing of it may come after what is said here.
        drop((&mut self.task).await);
        for services in [&DATA[..], &ALWAYS[..]] {
            set(&self.reporter, services, ServingStatus::NotServing).await;
        }
    }

    /// Ends the streams of those who watch it, which would hold up the server's end.
    pub(crate) async fn close(mut self) {
        for service in DATA.into_iter().chain(ALWAYS) {
            self.reporter.clear_service_status(service).await;
        }
    }
}

async fn set(reporter: &HealthReporter, services: &[&str], status: ServingStatus) {
    for service in services {
        reporter.set_service_status(service, status).await;
    }
}

async fn follow(node: Node, reporter: HealthReporter) {
    let mut told = ServingStatus::NotServing;
    loop {
        let reason = not_ready(&node);
        let status = if reason.is_none() { ServingStatus::Serving } else { ServingStatus::NotServing };
        if status != told {
            tracing::info!(%status, reason = reason.as_deref(), "the node's health has changed");
            set(&reporter, &DATA, status).await;
            told = status;
        }
        tokio::time::sleep(EVERY).await;
    }
}
