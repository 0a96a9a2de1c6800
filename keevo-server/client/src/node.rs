//! The nodes a client talks to, and the connections to each.
//!
//! Invariant: one `Node` an address, however many calls use it; connections come about when they are first used and
//! come back by themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::admin::v1::admin_client::AdminClient;
use keevo_proto::kv::v1::kv_client::KvClient;

use crate::access::Connection;
use crate::options::ClientOptions;
use crate::pipe::{Answer, Ask, Fault, Pipe};

/// The most nodes that are remembered; a larger cluster does not exist yet.
const NODES_MAX: usize = 4_096;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Every node that was addressed so far.
#[derive(Debug)]
pub(crate) struct Nodes {
    options: Arc<ClientOptions>,
    by_address: Mutex<BTreeMap<String, Arc<Node>>>,
}

impl Nodes {
    pub(crate) fn new(options: Arc<ClientOptions>) -> Self {
        Self { options, by_address: Mutex::default() }
    }

    /// The node at `address` (`host:port`); `Invalid` when that is no address.
    pub(crate) fn at(&self, address: &str) -> Result<Arc<Node>> {
        let mut nodes = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        if nodes.len() >= NODES_MAX {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("more than {NODES_MAX} nodes were addressed"),
            ));
        }
        let node = Arc::new(Node::new(address, &self.options)?);
        nodes.insert(address.to_owned(), Arc::clone(&node));
        Ok(node)
    }
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    /// For watches and administration, which have streams of their own.
    connection: Connection,
    pipes: Vec<Pipe>,
    next: AtomicUsize,
}

impl Node {
    fn new(address: &str, options: &ClientOptions) -> Result<Self> {
        let access = &options.access;
        let endpoint = access
            .endpoint(address)?
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let pipe = |_| Pipe::open(access.connect_lazy(&endpoint), options);
        let pipes = (0..options.pipes_per_node.max(1)).map(pipe).collect();
        Ok(Self { connection: access.connect_lazy(&endpoint), pipes, next: AtomicUsize::new(0) })
    }

    /// Sends a request over one of the pipes.
    pub(crate) async fn call(&self, ask: Ask, timeout: Duration) -> Result<Answer, Fault> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.pipes.len().max(1);
        match self.pipes.get(turn) {
            Some(pipe) => pipe.call(ask, timeout).await,
            None => Err(Fault::NotSent(Error::new(ErrorKind::Unavailable, "the node has no connection"))),
        }
    }

    pub(crate) fn admin(&self) -> AdminClient<Connection> {
        AdminClient::new(self.connection.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn kv(&self) -> KvClient<Connection> {
        KvClient::new(self.connection.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}
