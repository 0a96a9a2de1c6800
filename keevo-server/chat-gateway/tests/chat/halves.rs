//! Two shards of which one cannot be reached: only those whose partitions are there hear nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use keevo_chat_gateway::ChatGatewayOptions;
use keevo_core::{
    Batch, CommitEvent, Consistency, Cursor, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceKind,
    MemoryEngine, Record, Result, Scan, ScanPage, ScanRange, ShardId, Watch, WatchFrom, WatchRange, Written,
};
use keevo_gateway::GatewayOptions;
use serde_json::json;
use tokio::sync::watch;

use super::support::{Lab, Socket, user};

/// Partitions that are named after somebody far away are in the second shard.
#[derive(Clone)]
struct Halves {
    shards: Arc<[MemoryEngine; 2]>,
    /// Whether the second shard has no leader.
    down: Arc<watch::Sender<bool>>,
}

fn no_leader() -> Error {
    Error::new(ErrorKind::Unavailable, "the shard has no leader")
}

impl Halves {
    fn of(partition: &[u8]) -> usize {
        usize::from(partition.windows(3).any(|part| part == b"far"))
    }

    fn shard(&self, at: usize) -> Result<&MemoryEngine> {
        if at == 1 && *self.down.borrow() {
            return Err(no_leader());
        }
        Ok(&self.shards[at])
    }

    /// A cursor of one of the engines as this one gives it.
    fn outside(&self, at: usize, cursor: Cursor) -> Cursor {
        let shard = ShardId(10 + u64::try_from(at).expect("small"));
        Cursor { cluster: self.shards[0].cluster_id(), shard, ..cursor }
    }

    /// One shard's part of a watch.
    async fn part(&self, range: &WatchRange, at: usize, from: WatchFrom) -> Result<Watch> {
        let watch = self.shard(at)?.watch(range.clone(), from).await?;
        let (halves, mut down) = (self.clone(), self.down.subscribe());
        let events = watch
            .map(move |event| event.map(|event| CommitEvent { cursor: halves.outside(at, event.cursor), ..event }));
        let ends = Box::pin(async move { down.wait_for(|down| *down && at == 1).await.is_ok() });
        Ok(events.take_until(ends).chain(stream::once(async { Err(no_leader()) })).boxed())
    }
}

impl Engine for Halves {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        let one = self.shards[0].keyspace(name, kind).await?;
        assert_eq!(self.shards[1].keyspace(name, kind).await?, one);
        Ok(one)
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.shards[0].find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.shard(Self::of(&key.partition))?.get(key, consistency).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.get(key, consistency).await?);
        }
        Ok(found)
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        let at = match &scan.range {
            ScanRange::Partition { partition, .. } => Self::of(partition),
            ScanRange::Ordered { .. } => 0,
        };
        let page = self.shard(at)?.scan(scan).await?;
        Ok(ScanPage { as_of: self.outside(at, page.as_of), ..page })
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        let at = batch.partition_key().map_or(0, |key| Self::of(&key.partition));
        self.shard(at)?.write(batch).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.shards[0].fan_out(fan_out).await
    }

    /// As a cluster does: `Only` the shards that are named are asked, and else all of the range.
    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        let (cursors, only) = match from {
            WatchFrom::Now => (Vec::new(), false),
            WatchFrom::After(cursors) => (cursors, false),
            WatchFrom::Only(cursors) => (cursors, true),
        };
        let mut parts = Vec::new();
        for at in 0..2 {
            let covers = match &range {
                WatchRange::Partition { partition, .. } => Self::of(partition) == at,
                WatchRange::Keyspace(_) => true,
            };
            let number = ShardId(10 + u64::try_from(at).expect("small"));
            let cursor = cursors.iter().find(|cursor| cursor.shard == number);
            let inside =
                cursor.map(|cursor| Cursor { cluster: self.shards[at].cluster_id(), shard: ShardId::LOCAL, ..*cursor });
            if covers && (inside.is_some() || !only) {
                let from = inside.map_or(WatchFrom::Now, |cursor| WatchFrom::After(vec![cursor]));
                parts.push(self.part(&range, at, from).await?);
            }
        }
        Ok(stream::select_all(parts).boxed())
    }
}

/// One shard without a leader once kept from all users of a node what happened to them: one watch of all shards served them.
#[tokio::test]
async fn a_shard_without_a_leader_keeps_nothing_from_the_users_of_others() {
    let down = Arc::new(watch::Sender::new(false));
    let shards = Arc::new([MemoryEngine::new(), MemoryEngine::new()]);
    let engine = Halves { shards, down: Arc::clone(&down) };
    let lab = Lab::with(engine, GatewayOptions::default(), ChatGatewayOptions::default(), None).await;
    let address = lab.serve().await;
    let (mut near, mut far) = (Socket::to(address, "ann").await, Socket::to(address, "farah").await);
    let update = async |name: &str, x: u32| {
        lab.patch(&format!("users/{name}"), &user(name), json!({ "custom": { "x": x } })).await.good()
    };
    for (name, socket) in [("ann", &mut near), ("farah", &mut far)] {
        update(name, 1).await;
        assert_eq!(socket.until("user.updated").await["user"]["custom"]["x"], 1);
    }
    down.send_replace(true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    update("ann", 2).await;
    assert_eq!(near.until("user.updated").await["user"]["custom"]["x"], 2);
    let begun = tokio::time::Instant::now();
    let mut later = Socket::to(address, "bob").await;
    assert!(begun.elapsed() < Duration::from_secs(3), "who begins waits for nobody's shard but its own");
    update("bob", 3).await;
    assert_eq!(later.until("user.updated").await["user"]["custom"]["x"], 3);
    down.send_replace(false);
    update("farah", 4).await;
    assert_eq!(far.until("user.updated").await["user"]["custom"]["x"], 4, "it goes on, and nothing was missed");
    later.is_quiet().await;
}
