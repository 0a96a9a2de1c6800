//! `keevo-cli cluster` and `keevo-cli shard`: any node answers for the cluster.

use keevo_client::Connection;
use keevo_core::{Error, ErrorKind};
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::admin_client::AdminClient;
use serde_json::json;

use crate::args::cluster::{Cluster, Shard};
use crate::confirm::{Plan, confirmed};
use crate::connect::{Context, Effect, QUICK, SLOW};
use crate::failure::Failure;
use crate::output::show;
use crate::render::Done;
use crate::render::cluster::differing_shards;
use crate::text::{count, hex, line};

/// The administration client of a node.
pub(crate) fn admin(channel: Connection) -> AdminClient<Connection> {
    AdminClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Carries out a command on the cluster.
pub(crate) async fn run(context: &Context, command: Cluster) -> Result<(), Failure> {
    let mut admin = admin(context.channel().await?);
    match command {
        Cluster::Status => {
            let call = admin.cluster_status(pb::ClusterStatusRequest {});
            show(context.output, &context.ask(Effect::Reads, QUICK, call).await?)
        }
        Cluster::Join { address } => {
            let call = admin.join(pb::JoinRequest { address: address.clone() });
            let joined = context.ask(Effect::Writes, SLOW, call).await?;
            let sentence = format!("{} joined as node {}", line(&address), joined.node_id);
            let json = json!({ "node": joined.node_id, "address": address, "cluster": hex(&joined.cluster_id) });
            show(context.output, &Done { sentence, json })
        }
        Cluster::Remove { node, sure } => {
            if !confirmed(context, sure, removal(context, &mut admin.clone(), node)).await? {
                return Ok(());
            }
            context.ask(Effect::Writes, SLOW, admin.remove(pb::RemoveRequest { node_id: node })).await?;
            show(context.output, &Done { sentence: format!("node {node} was removed"), json: json!({ "node": node }) })
        }
        Cluster::Transfer { shard, node } => {
            let call = admin.transfer(pb::TransferRequest { shard, to_node_id: node });
            context.ask(Effect::Writes, QUICK, call).await?;
            let sentence = format!("node {node} leads shard {shard}");
            show(context.output, &Done { sentence, json: json!({ "shard": shard, "node": node }) })
        }
        Cluster::Upgrade { finalize, sure } => {
            if finalize && !confirmed(context, sure, raise(context, &mut admin.clone())).await? {
                return Ok(());
            }
            let effect = if finalize { Effect::Writes } else { Effect::Reads };
            let call = admin.upgrade(pb::UpgradeRequest { finalize });
            show(context.output, &context.ask(effect, QUICK, call).await?)
        }
        Cluster::Checksum => {
            let response = context.ask(Effect::Reads, SLOW, admin.checksum(pb::ChecksumRequest::default())).await?;
            show(context.output, &response)?;
            let bad = differing_shards(&response);
            if bad.is_empty() {
                return Ok(());
            }
            let shards: Vec<String> = bad.iter().map(u64::to_string).collect();
            let message = format!("copies differ at the same revision: shard {}", shards.join(", "));
            Err(Error::new(ErrorKind::Corrupt, message).into())
        }
    }
}

/// What raising the level of the cluster would do.
async fn raise(context: &Context, admin: &mut AdminClient<Connection>) -> Result<Plan, Failure> {
    let call = admin.upgrade(pb::UpgradeRequest { finalize: false });
    let found = context.ask(Effect::Reads, QUICK, call).await?;
    let (level, newest) = (found.level, found.newest);
    let nodes: Vec<String> = found.nodes.iter().map(|node| format!("{} ({})", node.id, line(&node.version))).collect();
    let in_the_way = match found.obstacles.iter().map(|obstacle| line(obstacle)).collect::<Vec<_>>() {
        obstacles if obstacles.is_empty() => String::new(),
        obstacles => format!("; in the way: {}", obstacles.join("; ")),
    };
    let what = if level == newest {
        format!("change nothing: the cluster is at level {level}, the newest that its nodes know")
    } else {
        format!(
            "raise the cluster from level {level} to {newest} for good: no release that does not know it can take part or open a \
             folder any more; nodes {}{in_the_way}",
            nodes.join(", ")
        )
    };
    let json = json!({ "level": level, "newest": newest, "nodes": nodes, "obstacles": found.obstacles });
    Ok(Plan { what, json })
}

/// What removing a node would do.
async fn removal(context: &Context, admin: &mut AdminClient<Connection>, node: u64) -> Result<Plan, Failure> {
    let status = context.ask(Effect::Reads, SLOW, admin.cluster_status(pb::ClusterStatusRequest {})).await?;
    let found = status.nodes.iter().find(|one| one.id == node);
    let found = found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no node {node}")))?;
    let of_node = |shard: &pb::ShardStatus| shard.replicas.iter().find(|replica| replica.node_id == node).cloned();
    let replicas: Vec<pb::ReplicaStatus> = status.shards.iter().filter_map(of_node).collect();
    let leads = replicas.iter().filter(|replica| replica.role == i32::from(pb::Role::Leader)).count();
    let others = status.nodes.len().saturating_sub(1);
    let least = status.shards.iter().filter(|shard| of_node(shard).is_some() && shard.replicas.len() > others).count();
    let fewer = if least == 0 {
        String::new()
    } else {
        format!("; {} would have a replica less than now", count(least, "shard"))
    };
    let what = format!(
        "take node {node} ({}) out of the cluster for good: {} would move to {}, and it leads {leads} of their shards{fewer}",
        line(&found.address),
        count(replicas.len(), "replica"),
        count(others, "other node"),
    );
    let json = json!({
        "node": node,
        "address": found.address,
        "replicas": replicas.len(),
        "leads": leads,
        "other_nodes": others,
        "shards_with_fewer_replicas": least,
    });
    Ok(Plan { what, json })
}

/// Carries out a command on shards.
pub(crate) async fn shard(context: &Context, command: Shard) -> Result<(), Failure> {
    let mut admin = admin(context.channel().await?);
    match command {
        Shard::List => {
            let call = admin.shard_map(pb::ShardMapRequest {});
            show(context.output, &context.ask(Effect::Reads, QUICK, call).await?)
        }
    }
}
