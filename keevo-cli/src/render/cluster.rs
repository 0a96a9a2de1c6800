//! The cluster: nodes, shards, replicas, hashes.
//!
//! Invariant: copies are said to differ only when their hashes were taken at the same revision.

use std::collections::{BTreeMap, BTreeSet};

use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::table;
use crate::output::Answer;
use crate::text::{count, hex, line};

/// What stands beside a replica whose hash is not that of another at the same revision.
const DIFFERS: &str = "!! HASH DIFFERS";

impl Answer for pb::ClusterStatusResponse {
    fn table(&self) -> String {
        let nodes =
            self.nodes.iter().map(|node| [node.id.to_string(), line(&node.address), state(node), line(&node.version)]);
        let replicas = self.shards.iter().flat_map(|shard| {
            let bad = differing(shard.replicas.iter().map(|replica| replica.checksum.as_ref()));
            shard.replicas.iter().enumerate().map(move |(place, replica)| {
                let id = if place == 0 { shard.id.to_string() } else { String::new() };
                replica_row(id, replica, &bad)
            })
        });
        let header = ["Shard", "Node", "Role", "Term", "Applied", "Committed", "Hash", "Note"];
        format!(
            "cluster {}\n{}\n{}\n{}",
            hex(&self.cluster_id),
            table(["Node", "Address", "State", "Version"], nodes.collect(), "no nodes"),
            table(header, replicas.collect(), "no shards"),
            self.summary()
        )
    }

    fn json(&self) -> Value {
        let nodes = self.nodes.iter().map(|node| {
            json!({
                "id": node.id,
                "address": node.address,
                "reachable": node.reachable,
                "version": node.version,
                "storage": storage_json(node.storage.as_ref()),
            })
        });
        let shards = self.shards.iter().map(|shard| {
            let bad = differing(shard.replicas.iter().map(|replica| replica.checksum.as_ref()));
            let epoch = shard.epoch.unwrap_or_default();
            let replicas = shard.replicas.iter().map(|replica| {
                json!({
                    "replica": replica.replica_id,
                    "node": replica.node_id,
                    "role": role(replica.role),
                    "term": replica.term,
                    "applied_index": replica.applied_index,
                    "committed_index": replica.committed_index,
                    "last_log_index": replica.last_log_index,
                    "checksum": checksum_json(replica.checksum.as_ref()),
                    "fault": if replica.fault.is_empty() { Value::Null } else { replica.fault.as_str().into() },
                })
            });
            json!({
                "id": shard.id,
                "start_key": hex(&shard.start_key),
                "end_key": hex(&shard.end_key),
                "epoch": { "version": epoch.version, "conf_version": epoch.conf_version },
                "hashes_differ": !bad.is_empty(),
                "replicas": replicas.collect::<Vec<_>>(),
            })
        });
        json!({
            "cluster": hex(&self.cluster_id),
            "nodes": nodes.collect::<Vec<_>>(),
            "shards": shards.collect::<Vec<_>>(),
        })
    }
}

/// What a node is up to; what it refuses, and why, where it does.
fn state(node: &pb::NodeStatus) -> String {
    match &node.storage {
        _ if !node.reachable => "UNREACHABLE".to_owned(),
        Some(storage) if storage.disk_full => format!("DISK FULL: {}", line(&storage.refusal)),
        Some(storage) if !storage.refusal.is_empty() => format!("REFUSES WRITES: {}", line(&storage.refusal)),
        _ => "up".to_owned(),
    }
}

fn storage_json(storage: Option<&pb::StorageStatus>) -> Value {
    storage.map_or(Value::Null, |one| {
        json!({
            "free_bytes": one.free_bytes,
            "low_water_bytes": one.low_water_bytes,
            "disk_full": one.disk_full,
            "refusal": if one.refusal.is_empty() { Value::Null } else { one.refusal.as_str().into() },
            "pressure_permille": one.pressure_permille,
        })
    })
}

trait Summary {
    fn summary(&self) -> String;
}

impl Summary for pb::ClusterStatusResponse {
    fn summary(&self) -> String {
        let replicas: usize = self.shards.iter().map(|shard| shard.replicas.len()).sum();
        let leaderless = self.shards.iter().filter(|shard| {
            !shard.replicas.is_empty()
                && shard.replicas.iter().all(|replica| replica.role != i32::from(pb::Role::Leader))
        });
        let leaderless: Vec<String> = leaderless.map(|shard| shard.id.to_string()).collect();
        let bad = self
            .shards
            .iter()
            .filter(|shard| !differing(shard.replicas.iter().map(|replica| replica.checksum.as_ref())).is_empty());
        let bad: Vec<String> = bad.map(|shard| shard.id.to_string()).collect();
        let mut text = format!(
            "{}, {}, {}",
            count(self.nodes.len(), "node"),
            count(self.shards.len(), "shard"),
            count(replicas, "replica")
        );
        if !leaderless.is_empty() {
            text.push_str("; no leader known: shard ");
            text.push_str(&leaderless.join(", "));
        }
        text + &verdict(&bad)
    }
}

fn replica_row(shard: String, replica: &pb::ReplicaStatus, bad: &BTreeSet<u64>) -> [String; 8] {
    let differs = replica.checksum.as_ref().is_some_and(|checksum| bad.contains(&checksum.revision));
    let note = match (differs, replica.fault.is_empty()) {
        (true, true) => DIFFERS.to_owned(),
        (true, false) => format!("{DIFFERS}; {}", line(&replica.fault)),
        (false, _) => line(&replica.fault),
    };
    [
        shard,
        replica.node_id.to_string(),
        role(replica.role).to_owned(),
        replica.term.to_string(),
        replica.applied_index.to_string(),
        replica.committed_index.to_string(),
        hash_text(replica.checksum.as_ref()),
        note,
    ]
}

fn role(role: i32) -> &'static str {
    match pb::Role::try_from(role) {
        Ok(pb::Role::Leader) => "leader",
        Ok(pb::Role::Follower) => "follower",
        Ok(pb::Role::Learner) => "learner",
        Ok(pb::Role::Candidate) => "candidate",
        Ok(pb::Role::Unspecified) | Err(_) => "unknown",
    }
}

/// The revisions at which copies were hashed and not all hashes are equal.
fn differing<'a>(copies: impl Iterator<Item = Option<&'a pb::ShardChecksum>>) -> BTreeSet<u64> {
    let mut seen: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut bad = BTreeSet::new();
    for copy in copies.flatten() {
        let hash = (copy.hash, copy.records);
        if *seen.entry(copy.revision).or_insert(hash) != hash {
            bad.insert(copy.revision);
        }
    }
    bad
}

fn verdict(bad: &[String]) -> String {
    if bad.is_empty() {
        return String::new();
    }
    format!("\n{DIFFERS} at the same revision: shard {}. A copy is damaged: restore it from its peers.", bad.join(", "))
}

fn hash_text(checksum: Option<&pb::ShardChecksum>) -> String {
    checksum.map_or_else(|| "-".to_owned(), |one| format!("{:016x} @ {}", one.hash, one.revision))
}

/// Hashes are text: they do not fit the numbers of JSON.
fn checksum_json(checksum: Option<&pb::ShardChecksum>) -> Value {
    checksum.map_or(
        Value::Null,
        |one| json!({ "revision": one.revision, "hash": format!("{:016x}", one.hash), "records": one.records }),
    )
}

/// The replicas of a response by shard.
fn by_shard(response: &pb::ChecksumResponse) -> BTreeMap<u64, Vec<&pb::ReplicaChecksum>> {
    let mut shards: BTreeMap<u64, Vec<&pb::ReplicaChecksum>> = BTreeMap::new();
    for replica in &response.replicas {
        shards.entry(replica.shard).or_default().push(replica);
    }
    shards
}

/// The shards whose copies differ.
pub(crate) fn differing_shards(response: &pb::ChecksumResponse) -> Vec<u64> {
    let mut shards = by_shard(response);
    shards.retain(|_, replicas| !differing(replicas.iter().map(|one| one.checksum.as_ref())).is_empty());
    shards.into_keys().collect()
}

impl Answer for pb::ChecksumResponse {
    fn table(&self) -> String {
        let rows = by_shard(self).into_iter().flat_map(|(shard, replicas)| {
            let bad = differing(replicas.iter().map(|one| one.checksum.as_ref()));
            replicas.into_iter().enumerate().map(move |(place, replica)| {
                let (records, note) = match &replica.checksum {
                    Some(one) if bad.contains(&one.revision) => (one.records.to_string(), DIFFERS),
                    Some(one) => (one.records.to_string(), ""),
                    None => ("-".to_owned(), "not reached, or behind"),
                };
                let id = if place == 0 { shard.to_string() } else { String::new() };
                [id, replica.node_id.to_string(), hash_text(replica.checksum.as_ref()), records, note.to_owned()]
            })
        });
        let text = table(["Shard", "Node", "Hash", "Records", "Note"], rows.collect(), "no shards");
        let bad: Vec<String> = differing_shards(self).iter().map(u64::to_string).collect();
        let missing = self.replicas.iter().filter(|replica| replica.checksum.is_none()).count();
        let end = match (bad.is_empty(), missing) {
            (true, 0) => "\nall copies are equal".to_owned(),
            (true, missing) => format!("\nno differences; {} not compared", count(missing, "replica")),
            (false, _) => verdict(&bad),
        };
        text + &end
    }

    fn json(&self) -> Value {
        let bad = differing_shards(self);
        let replicas = self.replicas.iter().map(|one| {
            json!({
                "shard": one.shard,
                "replica": one.replica_id,
                "node": one.node_id,
                "checksum": checksum_json(one.checksum.as_ref()),
            })
        });
        json!({ "replicas": replicas.collect::<Vec<_>>(), "differing_shards": bad })
    }

    fn list(&self) -> Option<&'static str> {
        Some("replicas")
    }
}

impl Answer for pb::ShardMapResponse {
    fn table(&self) -> String {
        let rows = self.shards.iter().map(|shard| {
            let end = if shard.end_key.is_empty() { "(no end)".to_owned() } else { hex(&shard.end_key) };
            let leader = match (shard.leader_node_id, shard.leader_address.as_str()) {
                (0, "") => "-".to_owned(),
                (0, address) => line(address),
                (node, "") => format!("node {node}"),
                (node, address) => format!("node {node}, {}", line(address)),
            };
            let epoch = shard.epoch.unwrap_or_default();
            let epoch = format!("{}.{}", epoch.version, epoch.conf_version);
            [shard.id.to_string(), hex(&shard.start_key), end, leader, line(&shard.replica_addresses.join(", ")), epoch]
        });
        let header = ["Shard", "Start key", "End key", "Leader", "Replicas", "Epoch"];
        format!("{}\nshard map version {}", table(header, rows.collect(), "no shards"), self.version)
    }

    fn json(&self) -> Value {
        let shards = self.shards.iter().map(|shard| {
            let epoch = shard.epoch.unwrap_or_default();
            json!({
                "id": shard.id,
                "start_key": hex(&shard.start_key),
                "end_key": hex(&shard.end_key),
                "epoch": { "version": epoch.version, "conf_version": epoch.conf_version },
                "leader_node": if shard.leader_node_id == 0 { Value::Null } else { shard.leader_node_id.into() },
                "leader_address":
                    if shard.leader_address.is_empty() { Value::Null } else { shard.leader_address.as_str().into() },
                "replicas": shard.replica_addresses,
            })
        });
        json!({ "cluster": hex(&self.cluster_id), "version": self.version, "shards": shards.collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("shards")
    }
}

/// Who the endpoints are.
#[derive(Debug)]
pub(crate) struct Nodes(pub(crate) Vec<(String, pb::InfoResponse)>);

impl Answer for Nodes {
    fn table(&self) -> String {
        let rows = self.0.iter().map(|(endpoint, info)| {
            [line(endpoint), info.node_id.to_string(), line(&info.version), hex(&info.cluster_id)]
        });
        table(["Endpoint", "Node", "Version", "Cluster"], rows.collect(), "no endpoints")
    }

    fn json(&self) -> Value {
        let nodes = self.0.iter().map(|(endpoint, info)| {
            json!({
                "endpoint": endpoint,
                "node": info.node_id,
                "version": info.version,
                "cluster": hex(&info.cluster_id),
            })
        });
        json!({ "nodes": nodes.collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("nodes")
    }
}
