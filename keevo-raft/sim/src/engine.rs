//! The engine that a program holds: each call travels to a node over the simulated network and runs there.
//!
//! It treats lost answers as `RemoteEngine` does: reads, and writes that carry a request id, are sent again, to
//! another node if there is one; any other write whose answer is lost ends in `OutcomeUnknown`.

mod admin;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use keevo_core::{
    Batch, ClientId, Consistency, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, Record,
    Result, Scan, ScanPage, Watch, WatchFrom, WatchRange, Written,
};
use tokio::time::Instant;

use crate::app::NodeApp;
use crate::net::{CLIENTS, Reply};
use crate::sim::Sim;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long one attempt at something that may be repeated may take.
const ATTEMPT: Duration = Duration::from_secs(4);
/// How long one attempt may take otherwise: longer than the node's own deadline.
const ONLY_ATTEMPT: Duration = Duration::from_secs(12);
/// The pause between attempts.
const PAUSE: Duration = Duration::from_millis(40);

/// What a lost answer means for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It can be sent again: it reads, or is applied once however often it comes.
    Freely,
    /// As before, but a later refusal does not speak for the attempt without an answer.
    Named,
    /// It must not be sent again.
    Never,
}

pub(crate) type Call<T> = Arc<dyn Fn(NodeApp) -> BoxFuture<'static, Result<T>> + Send + Sync>;

/// A cluster's engine as a client has it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SimEngine {
    sim: Sim,
    node: u64,
    /// Whether it turns to other nodes.
    roams: bool,
}

impl SimEngine {
    pub(crate) fn new(sim: Sim, node: u64, roams: bool) -> Self {
        Self { sim, node, roams }
    }

    /// Opens a client's session in the shard that owns `key`, so that the client's requests to it are applied once.
    pub async fn open_session(&self, key: &Key, client: ClientId) -> Result<()> {
        let key = key.clone();
        let open: Call<()> = Arc::new(move |app| {
            let key = key.clone();
            Box::pin(async move { app.engine.open_session(&key, client).await })
        });
        self.call("open session", Repeat::Freely, open).await
    }

    /// Runs `call` on a node.
    pub(crate) async fn call<T: Send + 'static>(&self, what: &'static str, repeat: Repeat, call: Call<T>) -> Result<T> {
        let end = Instant::now() + DEADLINE;
        let mut doubt = false;
        let mut number = 0;
        loop {
            let node = self.place(number);
            let error = match self.attempt(node, what, repeat, Arc::clone(&call)).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let unknown = matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded);
            doubt |= unknown && repeat != Repeat::Freely;
            let elsewhere =
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::NotLeader | ErrorKind::ShardMoved);
            let again = elsewhere || (unknown && repeat != Repeat::Never);
            if !again || Instant::now() + PAUSE >= end {
                return Err(if doubt && error.kind() != ErrorKind::Conflict { in_doubt(error) } else { error });
            }
            tokio::time::sleep(PAUSE).await;
            number += 1;
        }
    }

    fn place(&self, number: usize) -> u64 {
        let nodes = self.sim.nodes();
        if !self.roams || nodes.is_empty() {
            return self.node;
        }
        let first = nodes.iter().position(|&node| node == self.node).unwrap_or_default();
        nodes.get((first + number) % nodes.len()).copied().unwrap_or(self.node)
    }

    async fn attempt<T: Send + 'static>(
        &self,
        node: u64,
        what: &'static str,
        repeat: Repeat,
        call: Call<T>,
    ) -> Result<T> {
        let wires = &self.sim.wires;
        let (reply, answer_rx) = Reply::new(wires, CLIENTS, node, format!("c>n{node} {what}"));
        wires.request(node, false, 0, reply, move |app, reply| {
            let answer = call(app.clone());
            drop(tokio::spawn(async move {
                let answer = answer.await;
                let summary = answer.as_ref().map_or_else(|error| format!("{:?}", error.kind()), |_| "ok".to_owned());
                reply.answer(answer, &summary);
            }));
        });
        let longest = if repeat == Repeat::Never { ONLY_ATTEMPT } else { ATTEMPT };
        let lost = || Error::new(ErrorKind::OutcomeUnknown, format!("node {node} did not answer"));
        let answer = tokio::time::timeout(longest, answer_rx).await.map_err(|elapsed| lost().with_source(elapsed))?;
        answer.map_err(|error| lost().with_source(error))?
    }
}

fn in_doubt(error: Error) -> Error {
    if error.kind() == ErrorKind::OutcomeUnknown {
        return error;
    }
    Error::new(ErrorKind::OutcomeUnknown, format!("an attempt was not answered, and then: {}", error.message()))
        .with_source(error)
}

impl Engine for SimEngine {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        let name = name.to_owned();
        let call: Call<Keyspace> = Arc::new(move |app| {
            let name = name.clone();
            Box::pin(async move { app.engine.keyspace(&name, kind).await })
        });
        self.call("keyspace", Repeat::Freely, call).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        let name = name.to_owned();
        let call: Call<Keyspace> = Arc::new(move |app| {
            let name = name.clone();
            Box::pin(async move { app.engine.find_keyspace(&name).await })
        });
        self.call("find keyspace", Repeat::Freely, call).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        let call: Call<Option<Record>> = Arc::new(move |app| {
            let key = key.clone();
            Box::pin(async move { app.engine.get(key, consistency).await })
        });
        self.call("get", Repeat::Freely, call).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        let call: Call<Vec<Option<Record>>> = Arc::new(move |app| {
            let keys = keys.clone();
            Box::pin(async move { app.engine.multi_get(keys, consistency).await })
        });
        self.call("multi get", Repeat::Freely, call).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        let call: Call<ScanPage> = Arc::new(move |app| {
            let scan = scan.clone();
            Box::pin(async move { app.engine.scan(scan).await })
        });
        self.call("scan", Repeat::Freely, call).await
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        let repeat = if batch.request.is_some() { Repeat::Named } else { Repeat::Never };
        let call: Call<Written> = Arc::new(move |app| {
            let batch = batch.clone();
            Box::pin(async move { app.engine.write(batch).await })
        });
        self.call("write", repeat, call).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        let call: Call<FannedOut> = Arc::new(move |app| {
            let fan_out = fan_out.clone();
            Box::pin(async move { app.engine.fan_out(fan_out).await })
        });
        self.call("fan out", Repeat::Named, call).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        self.watch_from_a_node(range, from).await
    }
}
