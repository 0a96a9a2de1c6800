//! How a client behaves.

use std::sync::Arc;
use std::time::Duration;

use keevo_core::trace::SpanSink;
use keevo_core::{Random, SeededRandom};

use crate::access::Access;

/// The most connections to a node that are opened unless it is said.
const PIPES_PER_NODE_MAX: usize = 4;

/// How a client behaves. The defaults suit a service in the same data centre.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// How long a call may take, retries included.
    pub deadline: Duration,
    /// How long one attempt waits for its answer before it is sent again, perhaps to another node.
    pub attempt_timeout: Duration,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// The first pause before a retry; each further one is twice as long, less up to a half at random.
    pub pause_min: Duration,
    /// The longest pause before a retry.
    pub pause_max: Duration,
    /// How long a watch that lost its node tries to resume before it ends with `Unavailable`.
    pub watch_resume: Duration,
    /// Connections to each node. By default one for every four processors, at least one and at most four: what travels
    /// together is written together, and one connection carries more than a few processors send.
    pub pipes_per_node: usize,
    /// The most requests of one connection that wait for their answers.
    pub in_flight_max: usize,
    /// The most requests that wait to be sent over one connection; beyond it they are `ResourceExhausted`.
    pub queue_max: usize,
    /// Addresses (`host:port`, as the cluster's nodes name themselves) of nodes near this client, such as those in
    /// its own zone: `Follower` and `Stale` reads go to them where they hold a replica. Empty = to any replica.
    pub near: Vec<String>,
    /// TLS, and the key that requests carry.
    pub access: Access,
    /// Where the spans of calls go; `None` = calls are traced only where their caller's trace is.
    pub traces: Option<Arc<dyn SpanSink>>,
    /// Where client ids, jitter and the choice of replicas come from.
    pub random: Arc<dyn Random>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            deadline: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            pause_min: Duration::from_millis(10),
            pause_max: Duration::from_millis(500),
            watch_resume: Duration::from_mins(1),
            pipes_per_node: (cpus / 4).clamp(1, PIPES_PER_NODE_MAX),
            in_flight_max: 1_024,
            queue_max: 4_096,
            near: Vec::new(),
            access: Access::default(),
            traces: None,
            random: Arc::new(SeededRandom::from_os()),
        }
    }
}
