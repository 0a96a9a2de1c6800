//! The conformance suite on clusters of one and of three nodes.

#![cfg(feature = "rocksdb")]

use keevo_core::testing::conformance::{Factory, run_all};
use keevo_core::{ClientId, Random, SeededRandom, ShardId};
use keevo_raft::ClusterEngine;
use keevo_raft::testing::cluster::TestCluster;

struct Clustered {
    cluster: TestCluster,
    through: u64,
    random: SeededRandom,
}

impl Factory for Clustered {
    type Engine = ClusterEngine;

    async fn fresh(&self) -> Self::Engine {
        self.cluster.engine(self.through)
    }

    async fn session(&self, engine: &Self::Engine) -> ClientId {
        let client = ClientId(self.random.next_u128());
        let map = self.cluster.node(self.through).map().expect("a map");
        for shard in map.shards.iter().filter(|shard| shard.id != ShardId::META) {
            engine.open_session_in(shard.id, client).await.expect("the session opens");
        }
        client
    }
}

async fn conforms(nodes: u64, shards: u32) {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), nodes, shards).await;
    let clustered = Clustered { cluster, through: nodes, random: SeededRandom::from_os() };
    run_all(&clustered).await;
    clustered.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_conforms() {
    conforms(1, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_conform() {
    conforms(3, 4).await;
}
