//! What an operator does: moves leaders and members, and reads the state of the cluster.

use std::sync::Arc;

use keevo_core::{Result, ShardId};

use super::{Call, Repeat, SimEngine};

impl SimEngine {
    /// Hands the leadership of a shard to a node.
    pub async fn transfer(&self, shard: ShardId, node: u64) -> Result<()> {
        let call: Call<()> = Arc::new(move |app| Box::pin(async move { app.engine.transfer(shard, node).await }));
        self.call("transfer", Repeat::Never, call).await
    }

    /// Takes a node, which waits to join, into the cluster.
    pub async fn join(&self, node: u64, address: &str) -> Result<()> {
        let address = address.to_owned();
        let call: Call<()> = Arc::new(move |app| {
            let address = address.clone();
            Box::pin(async move { app.engine.join(node, &address).await })
        });
        self.call("join", Repeat::Never, call).await
    }

    /// Takes a node out of the cluster.
    pub async fn remove(&self, node: u64) -> Result<()> {
        let call: Call<()> = Arc::new(move |app| Box::pin(async move { app.engine.remove(node).await }));
        self.call("remove", Repeat::Never, call).await
    }

    /// Has every replica of a shard compute its hash; gives revision, hash and number of records.
    pub async fn checksum(&self, shard: ShardId) -> Result<(u64, u64, u64)> {
        let call: Call<(u64, u64, u64)> =
            Arc::new(move |app| Box::pin(async move { app.engine.checksum(shard).await }));
        self.call("checksum", Repeat::Freely, call).await
    }
}
