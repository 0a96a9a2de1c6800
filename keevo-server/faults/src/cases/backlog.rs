//! A follower that was away for so long that the others' logs begin after what it has: only a snapshot helps it.

use futures::StreamExt;
use keevo_core::{Batch, Engine, Result};

use crate::cluster::Cluster;

/// Writes, so many that every shard's log is purged; and how many of them are under way at once.
const WRITES: u64 = 4_000;
const AT_ONCE: usize = 64;
/// Partitions that they spread over.
const PARTITIONS: u64 = 64;

/// Kills a follower and lets the others go on without it until their logs are purged.
pub(super) async fn leave_behind(cluster: &mut Cluster) -> Result<u64> {
    let leader = cluster.leader().await?;
    let victim = cluster.ids().into_iter().find(|&id| id != leader).unwrap_or(leader);
    cluster.node(victim)?.kill();
    let engine = cluster.connect().await?;
    let keyspace = engine.find_keyspace("faults").await?;
    let writes =
        (0..WRITES).map(|number| {
            let (engine, partition) = (engine.clone(), format!("backlog-{}", number % PARTITIONS));
            async move {
                engine.write(Batch::new().put(keyspace.key(partition, "value"), number.to_be_bytes().to_vec())).await
            }
        });
    // Some fail while the victim's shards look for a leader: there are plenty.
    let written =
        futures::stream::iter(writes).buffer_unordered(AT_ONCE).filter(|written| std::future::ready(written.is_ok()));
    let count = written.count().await;
    if u64::try_from(count).is_ok_and(|count| count < WRITES / 2) {
        return Err(keevo_core::Error::new(
            keevo_core::ErrorKind::Unavailable,
            format!("only {count} writes were taken"),
        ));
    }
    cluster.flush().await?;
    Ok(victim)
}
