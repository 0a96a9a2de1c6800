//! The conformance suite over the network: one node, and three nodes that each own a part of the keys.

use std::sync::{Arc, Mutex};

use keevo_client::RemoteEngine;
use keevo_core::testing::conformance::Factory;
use keevo_core::{ClientId, MemoryEngine, SystemClock};

use super::routing::three_nodes;
use super::support::{FaultyEngine, Server, TestHost, connect, new_client, options};

/// A server and a client for every case. Servers live as long as the factory.
#[derive(Default)]
struct Single {
    servers: Mutex<Vec<Server>>,
}

impl Single {
    async fn over(&self, memory: MemoryEngine) -> RemoteEngine {
        let server = Server::start(TestHost::new(FaultyEngine::new(memory))).await;
        let client = connect(server.address, options()).await;
        self.servers.lock().expect("not poisoned").push(server);
        client
    }
}

async fn session(engine: &RemoteEngine) -> ClientId {
    let client = new_client();
    engine.open_session(client).await.expect("a session opens");
    client
}

impl Factory for Single {
    type Engine = RemoteEngine;

    async fn fresh(&self) -> RemoteEngine {
        self.over(MemoryEngine::new()).await
    }

    async fn session(&self, engine: &RemoteEngine) -> ClientId {
        session(engine).await
    }

    async fn retaining(&self, entries: usize) -> Option<RemoteEngine> {
        let clock = Arc::new(SystemClock::new());
        Some(self.over(MemoryEngine::with_clock_and_retained(clock, entries)).await)
    }
}

/// Three servers for every case.
#[derive(Default)]
struct Sharded {
    servers: Mutex<Vec<Server>>,
}

impl Factory for Sharded {
    type Engine = RemoteEngine;

    async fn fresh(&self) -> RemoteEngine {
        let (nodes, client) = three_nodes().await;
        self.servers.lock().expect("not poisoned").extend(nodes.servers);
        client
    }

    async fn session(&self, engine: &RemoteEngine) -> ClientId {
        session(engine).await
    }
}

mod single {
    keevo_core::conformance_tests!(super::Single::default());
}

mod sharded {
    keevo_core::conformance_tests!(super::Sharded::default());
}
