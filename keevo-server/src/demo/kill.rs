//! The kill: a shard's leader dies by SIGKILL under load, another takes over, the dead node comes back and catches up.
//!
//! Invariant: nothing counts as survived before all replicas hold the same bytes again.

use std::time::Duration;

use keevo_client::RemoteEngine;
use keevo_core::{Error, ErrorKind, Result, ShardId};
use keevo_demo::Mismatches;
use keevo_proto::admin::v1 as pb;

use super::admin;
use super::nodes::Cluster;
use super::report::Screen;
use super::writers::Writers;

/// How long a new leader may take, and how long all replicas may take to agree.
const LEADER_WITHIN: Duration = Duration::from_secs(30);
const AGREE_WITHIN: Duration = Duration::from_mins(2);
/// Acknowledged writes before the kill, with a dead node, and after its return.
const WRITES_EACH: u64 = 200;
/// How long is written with a dead node at least.
const WRITE_ON: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(100);

/// What the kill showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Killed {
    /// Writes that were acknowledged.
    pub(super) acknowledged: u64,
    /// Of these, the ones that are gone.
    pub(super) lost: u64,
}

/// Kills the leader of a data shard while numbered writes go on, restarts it, and counts what is there.
pub(super) async fn kill_a_leader(
    screen: Screen,
    cluster: &mut Cluster,
    engine: &RemoteEngine,
    mismatches: &Mismatches,
) -> Result<Killed> {
    let writers = Writers::start(engine).await?;
    writers.wait_for(WRITES_EACH, LEADER_WITHIN).await?;
    let shard = engine.shard_map().await?.locate(&writers.first_key().encode())?.id;
    let leader = wait_for_leader(cluster, shard, 0).await?;

    screen.say(&format!(
        "{} writes acknowledged; killing node {leader}, which leads shard {shard}",
        writers.acknowledged()
    ))?;
    cluster.node(leader)?.process.kill();
    let began = tokio::time::Instant::now();
    let next = wait_for_leader(cluster, shard, leader).await?;
    screen.say(&format!("node {next} leads shard {shard} after {} ms; writing on", began.elapsed().as_millis()))?;
    writers.wait_for(WRITES_EACH, LEADER_WITHIN).await?;
    tokio::time::sleep(WRITE_ON).await;

    screen.say(&format!("{} writes acknowledged; restarting node {leader}", writers.acknowledged()))?;
    let node = &mut cluster.node(leader)?.process;
    node.start()?;
    node.wait_ready().await?;
    writers.wait_for(WRITES_EACH, LEADER_WITHIN).await?;
    let outcome = writers.finish(engine, mismatches).await?;
    let records = wait_for_agreement(cluster).await?;
    screen.say(&format!(
        "all replicas of all shards have equal applied indexes and equal checksums, over {records} records each"
    ))?;
    screen.say(&format!(
        "{} writes acknowledged, {} of them lost; {} ended with an unknown outcome",
        outcome.acknowledged, outcome.lost, outcome.unknown
    ))?;
    super::show::cluster_status(screen, cluster).await?;
    Ok(Killed { acknowledged: outcome.acknowledged, lost: outcome.lost })
}

/// The node that leads a shard, once there is one other than `not`.
async fn wait_for_leader(cluster: &Cluster, shard: ShardId, not: u64) -> Result<u64> {
    let waiting = async {
        loop {
            // Right after a kill nobody may know an answer.
            let shards = admin::shards(cluster).await.unwrap_or_default();
            let leader = shards.iter().find(|route| route.id == shard.0).map_or(0, |route| route.leader_node_id);
            if leader != 0 && leader != not {
                return leader;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(LEADER_WITHIN, waiting).await.map_err(|elapsed| {
        let message = format!("shard {shard} has no new leader after {} s", LEADER_WITHIN.as_secs());
        Error::new(ErrorKind::NoQuorum, message).with_source(elapsed)
    })
}

/// Waits until all replicas of all shards have applied the same and hash the same; how many records that is.
async fn wait_for_agreement(cluster: &Cluster) -> Result<u64> {
    let mut difference = String::new();
    let waiting = async {
        loop {
            match agreement(cluster).await {
                Ok(records) => return records,
                Err(error) => error.message().clone_into(&mut difference),
            }
            tokio::time::sleep(POLL * 3).await;
        }
    };
    let agreed = tokio::time::timeout(AGREE_WITHIN, waiting).await;
    agreed.map_err(|elapsed| {
        let message = format!("the replicas do not agree after {} s: {difference}", AGREE_WITHIN.as_secs());
        Error::corrupt(message).with_source(elapsed)
    })
}

async fn agreement(cluster: &Cluster) -> Result<u64> {
    let differs = |message: String| Error::new(ErrorKind::Unavailable, message);
    let status = admin::status(cluster).await?;
    for shard in &status.shards {
        let applied = shard.replicas.first().map_or(0, |replica| replica.applied_index);
        let behind =
            shard.replicas.iter().find(|replica| replica.applied_index != applied || !replica.fault.is_empty());
        if let Some(replica) = behind {
            let message = format!(
                "shard {}: node {} has applied {}, not {applied} {}",
                shard.id, replica.node_id, replica.applied_index, replica.fault
            );
            return Err(differs(message));
        }
        if shard.replicas.len() != cluster.replicas {
            return Err(differs(format!("shard {} has {} replicas", shard.id, shard.replicas.len())));
        }
    }
    let checksums = admin::checksums(cluster).await?;
    let mut records = 0;
    for shard in &status.shards {
        let of_shard: Vec<&pb::ReplicaChecksum> = checksums.iter().filter(|one| one.shard == shard.id).collect();
        let Some(first) = of_shard.first().and_then(|one| one.checksum) else {
            return Err(differs(format!("shard {} has no checksum", shard.id)));
        };
        if of_shard.len() != cluster.replicas || of_shard.iter().any(|one| one.checksum != Some(first)) {
            return Err(differs(format!("the replicas of shard {} have different checksums: {of_shard:?}", shard.id)));
        }
        records += first.records;
    }
    Ok(records)
}
