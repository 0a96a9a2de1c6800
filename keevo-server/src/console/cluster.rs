//! The cluster map: nodes, shards, who leads, how far each replica has applied.

use axum::extract::State;
use keevo_core::{CLASS_HASHED, CLASS_META, CLASS_ORDERED};
use keevo_raft::shard_map::ShardInfo;
use keevo_raft::{NodeStatus, ReplicaStatus};
use serde_json::{Value, json};

use super::Console;
use super::bytes::hex;
use super::guard::Caller;
use super::reply::{Answer, Reply};
use crate::auth::grant::{Action, Target};

/// Nodes, shards and replicas, as far as they can be reached.
pub(super) async fn status(State(console): State<Console>, caller: Caller) -> Answer {
    caller.may(Action::Admin, Target::Cluster)?;
    let (map, nodes) = console.parts().engine.cluster_status().await?;
    Ok(Reply(json!({
        "cluster": format!("{:032x}", map.cluster.0),
        "map_version": map.version,
        "asked": console.parts().node.id(),
        "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
        "shards": map.shards.iter().map(|info| shard(info, &nodes)).collect::<Vec<_>>(),
    })))
}

fn node(node: &NodeStatus) -> Value {
    let leads = node.replicas.iter().filter(|one| one.role == "leader").count();
    let storage = node.alive.then(|| {
        json!({
            "free_bytes": node.storage.free_bytes,
            "low_water_bytes": node.storage.low_water_bytes,
            "disk_full": node.storage.disk_full,
            "refusal": node.storage.refusal,
            "pressure_permille": node.storage.pressure_permille,
        })
    });
    json!({
        "id": node.node_id,
        "address": node.address,
        "reachable": node.alive,
        "version": node.version,
        "replicas": node.replicas.len(),
        "leads": leads,
        "storage": storage,
    })
}

fn shard(info: &ShardInfo, nodes: &[NodeStatus]) -> Value {
    let found = |node_id: u64| {
        let node = nodes.iter().find(|node| node.node_id == node_id);
        (node, node.and_then(|node| node.replicas.iter().find(|one| one.shard == info.id)))
    };
    let told: Vec<(u64, bool, Option<&ReplicaStatus>)> = info
        .replicas
        .iter()
        .map(|replica| {
            let (node, status) = found(replica.node_id);
            (replica.node_id, node.is_some_and(|node| node.alive), status)
        })
        .collect();
    let committed = told.iter().filter_map(|(_, _, status)| *status).map(|one| one.committed).max().unwrap_or_default();
    let leader = told.iter().find(|(_, _, status)| status.is_some_and(|one| one.role == "leader"));
    let replicas: Vec<Value> =
        told.iter().map(|(node, alive, status)| replica(*node, *alive, *status, committed)).collect();
    json!({
        "id": info.id.0,
        "range": range(info),
        "start": hex(&info.start),
        "end": hex(&info.end),
        "leader": leader.map(|(node, _, _)| node),
        "term": leader.and_then(|(_, _, status)| status.map(|one| one.term)),
        "committed": committed,
        "replicas": replicas,
    })
}

fn replica(node: u64, alive: bool, status: Option<&ReplicaStatus>, committed: u64) -> Value {
    let Some(one) = status else {
        let fault = if alive { "not open yet" } else { "node unreachable" };
        return json!({ "node": node, "role": "unknown", "fault": fault });
    };
    json!({
        "node": node,
        "role": one.role,
        "applied": one.applied,
        "committed": one.committed,
        "last_log": one.last_log,
        "lag": committed.saturating_sub(one.applied),
        "fault": one.fault,
    })
}

/// What a shard holds, for people: a share of the hashed keys, the ordered ones, the cluster's own.
fn range(info: &ShardInfo) -> String {
    let hash = |key: &[u8]| key.get(1..3).map_or_else(|| "0000".to_owned(), hex);
    let (start, end) = (info.start.first().copied(), info.end.first().copied());
    match (start, end) {
        (Some(CLASS_META), _) => "the cluster's own".to_owned(),
        (Some(CLASS_HASHED), Some(CLASS_HASHED)) => format!("hashes {} to {}", hash(&info.start), hash(&info.end)),
        (Some(CLASS_HASHED), _) => format!("hashes {} to the end, and ordered keys", hash(&info.start)),
        (Some(CLASS_ORDERED), _) => "ordered keys".to_owned(),
        _ => "other keys".to_owned(),
    }
}
