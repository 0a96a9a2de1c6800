//! A follower that was away for so long that the others' logs begin after what it has: only a snapshot helps it.

use std::time::Duration;

use futures::StreamExt;
use keevo_core::{Batch, Engine, Error, Result};

use crate::cluster::Cluster;
use crate::node::is_abort;

/// Writes, so many that every shard's log is purged, and how many of them are under way at once. A log waits for a
/// follower that lags by less than twenty times the entries that are kept: 2,000 in each of three shards here.
const WRITES: u64 = 12_000;
const AT_ONCE: usize = 64;
/// Partitions that they spread over.
const PARTITIONS: u64 = 64;

/// What is flushed is purged when the next attempt to reach the follower has failed, some of which come each second.
const PURGED_WITHIN: Duration = Duration::from_millis(1_500);
const FLUSHES: u32 = 2;

/// How long a follower may take to fetch a snapshot, and how often it is left behind until it needs one: a log is not
/// purged while it is being sent.
const FETCHES_WITHIN: Duration = Duration::from_secs(15);
const TRIES: u32 = 4;

/// Has a follower that needs a snapshot end at a failpoint that it passes with one. Gives the follower, which is dead.
pub(super) async fn dies_with_a_snapshot(cluster: &mut Cluster, failpoint: &'static str) -> Result<u64> {
    for _ in 0..TRIES {
        let victim = leave_behind(cluster).await?;
        let node = cluster.node(victim)?;
        node.start(Some(failpoint))?;
        let ended = node.ended(FETCHES_WITHIN).await;
        node.kill();
        match ended {
            Ok(status) if is_abort(status) && node.died_at(failpoint) > 0 => return Ok(victim),
            Ok(status) => {
                let message = format!("node {victim} ended with {status}, not at {failpoint}: {}", node.last_line());
                return Err(Error::invalid(message));
            }
            // Its log was still there: it caught up without a snapshot.
            Err(_) => node.start(None)?,
        }
        cluster.wait_ready().await?;
    }
    Err(Error::invalid(format!("no follower was sent a snapshot in {TRIES} tries")))
}

/// Kills a follower and lets the others go on without it until their logs are purged.
pub(super) async fn leave_behind(cluster: &mut Cluster) -> Result<u64> {
    let leader = cluster.leader().await?;
    let victim = cluster.ids().into_iter().find(|&id| id != leader).unwrap_or(leader);
    cluster.node(victim)?.kill();
    // The victim may have led the shard that knows the keyspaces.
    let engine = cluster.connect().await?.with_deadline(Duration::from_secs(20));
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
        return Err(Error::new(keevo_core::ErrorKind::Unavailable, format!("only {count} writes were taken")));
    }
    for _ in 0..FLUSHES {
        cluster.flush().await?;
        tokio::time::sleep(PURGED_WITHIN).await;
    }
    Ok(victim)
}
