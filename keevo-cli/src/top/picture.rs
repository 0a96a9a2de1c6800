//! What there is to see: rows of nodes and shards, with the rates between two samples.
//!
//! Invariant: a rate is of counters of the same process; where one has gone back, as after a restart, it is 0.

use std::collections::BTreeMap;

use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::exposition::Exposition;
use super::gather::Sample;
use super::quantile::Buckets;
use crate::text::{hex, line, time};

/// What clients ask for: their calls make up throughput and latency, administration does not.
const COUNTED: [&str; 5] = ["keevo.kv.v1.", "keevo.feeds.v1.", "keevo.chat.v1.", "http.feeds/", "http.chat/"];
/// A stream of requests, which are counted each by itself, and one that lasts.
const NOT_COUNTED: [&str; 3] = ["keevo.kv.v1.Kv/Pipe", "keevo.kv.v1.Kv/Watch", "keevo.chat.v1.Chat/Subscribe"];

/// Calls, and how long they took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Load {
    /// Calls a second.
    pub(super) calls: f64,
    /// The time in seconds that half of them took at most.
    pub(super) p50: Option<f64>,
    /// The time in seconds that 99 of 100 took at most.
    pub(super) p99: Option<f64>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct NodeRow {
    pub(super) id: u64,
    pub(super) address: String,
    /// `up`, or what is wrong.
    pub(super) state: String,
    pub(super) version: String,
    pub(super) leaders: u64,
    pub(super) replicas: u64,
    pub(super) disk_free: Option<f64>,
    pub(super) memory: Option<f64>,
    /// Processors that it keeps busy.
    pub(super) cpus: Option<f64>,
    pub(super) load: Load,
    /// How far its store is behind: 0 to 1,000.
    pub(super) pressure: u32,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ShardRow {
    pub(super) id: u64,
    /// The node that leads it.
    pub(super) leader: Option<u64>,
    /// Replicas that serve.
    pub(super) up: usize,
    pub(super) replicas: usize,
    /// The index that the leader has applied.
    pub(super) applied: u64,
    /// Entries that the replica furthest behind has yet to apply.
    pub(super) lag: u64,
    /// Entries a second at the leader.
    pub(super) rates: Option<Rates>,
}

/// Entries of a shard's log a second, at the leader.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Rates {
    pub(super) submitted: f64,
    pub(super) flushed: f64,
    pub(super) committed: f64,
    pub(super) applied: f64,
}

/// The cluster between two looks.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Picture {
    pub(super) cluster: String,
    pub(super) now_ms: u64,
    pub(super) load: Load,
    pub(super) nodes: Vec<NodeRow>,
    pub(super) shards: Vec<ShardRow>,
}

impl Picture {
    /// What happened between two samples.
    pub(super) fn between(before: &Sample, now: &Sample) -> Self {
        let seconds = now.at.saturating_sub(before.at).as_secs_f64().max(0.001);
        let nothing = Exposition::default();
        let mut all = Buckets::default();
        let nodes = now.status.nodes.iter().map(|node| {
            let here = now.metrics.get(&node.id);
            // Without a look before nothing is known of the time between.
            let then = before.metrics.get(&node.id).or(here).unwrap_or(&nothing);
            let buckets = Buckets::between(then, here.unwrap_or(&nothing), is_counted);
            all = std::mem::take(&mut all).with(&buckets);
            node_row(node, &now.status, here, then, load(&buckets, seconds), seconds)
        });
        let nodes = nodes.collect();
        let shards = now.status.shards.iter().map(|shard| shard_row(shard, before, now, seconds)).collect();
        let cluster = hex(&now.status.cluster_id);
        Self { cluster, now_ms: now.now_ms, load: load(&all, seconds), nodes, shards }
    }

    /// Nodes that are up, and shards without a leader.
    pub(super) fn health(&self) -> (usize, usize) {
        let up = self.nodes.iter().filter(|node| node.state != UNREACHABLE).count();
        (up, self.shards.iter().filter(|shard| shard.leader.is_none()).count())
    }

    pub(super) fn json(&self) -> Value {
        let load = |load: &Load| {
            let ms = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1_000.0);
            json!({ "calls_per_s": load.calls, "p50_ms": ms(load.p50), "p99_ms": ms(load.p99) })
        };
        let nodes = self.nodes.iter().map(|node| {
            json!({
                "id": node.id,
                "address": node.address,
                "state": node.state,
                "version": node.version,
                "leaders": node.leaders,
                "replicas": node.replicas,
                "disk_free_bytes": node.disk_free,
                "memory_bytes": node.memory,
                "cpus": node.cpus,
                "pressure_permille": node.pressure,
                "load": load(&node.load),
            })
        });
        let shards = self.shards.iter().map(|shard| {
            let rates = shard.rates.map(|rates| {
                json!({
                    "submitted": rates.submitted,
                    "flushed": rates.flushed,
                    "committed": rates.committed,
                    "applied": rates.applied,
                })
            });
            json!({
                "id": shard.id,
                "leader": shard.leader,
                "replicas_up": shard.up,
                "replicas": shard.replicas,
                "applied_index": shard.applied,
                "lag_entries": shard.lag,
                "entries_per_s": rates,
            })
        });
        json!({
            "cluster": self.cluster,
            "time": time(self.now_ms),
            "load": load(&self.load),
            "nodes": nodes.collect::<Vec<_>>(),
            "shards": shards.collect::<Vec<_>>(),
        })
    }
}

/// The state of a node that did not answer.
pub(super) const UNREACHABLE: &str = "UNREACHABLE";

fn is_counted(method: &str) -> bool {
    COUNTED.iter().any(|prefix| method.starts_with(prefix)) && !NOT_COUNTED.contains(&method)
}

fn load(buckets: &Buckets, seconds: f64) -> Load {
    Load { calls: buckets.calls() / seconds, p50: buckets.quantile(0.5), p99: buckets.quantile(0.99) }
}

fn node_row(
    node: &pb::NodeStatus,
    status: &pb::ClusterStatusResponse,
    here: Option<&Exposition>,
    then: &Exposition,
    load: Load,
    seconds: f64,
) -> NodeRow {
    let replicas = status.shards.iter().flat_map(|shard| &shard.replicas).filter(|one| one.node_id == node.id);
    let (leaders, replicas) = replicas.fold((0, 0), |(leaders, all), one| (leaders + u64::from(leads(one)), all + 1));
    let storage = node.storage.as_ref();
    let state = match storage {
        _ if !node.reachable => UNREACHABLE.to_owned(),
        Some(storage) if storage.disk_full => "DISK FULL".to_owned(),
        Some(storage) if !storage.refusal.is_empty() => "REFUSES WRITES".to_owned(),
        _ if here.is_none() => "no metrics".to_owned(),
        _ => "up".to_owned(),
    };
    let value = |name: &str| here.and_then(|here| here.value(name));
    let cpus = value(CPU).zip(then.value(CPU)).map(|(now, before)| (now - before).max(0.0) / 1e6 / seconds);
    NodeRow {
        id: node.id,
        address: line(&node.address),
        state,
        version: line(&node.version),
        leaders,
        replicas,
        disk_free: value("keevo_disk_free_bytes"),
        memory: value("keevo_process_memory_bytes"),
        cpus,
        load,
        pressure: storage.map_or(0, |storage| storage.pressure_permille),
    }
}

const CPU: &str = "keevo_process_cpu_micros_total";

fn leads(replica: &pb::ReplicaStatus) -> bool {
    replica.role == i32::from(pb::Role::Leader) && replica.fault.is_empty()
}

fn shard_row(shard: &pb::ShardStatus, before: &Sample, now: &Sample, seconds: f64) -> ShardRow {
    // Two may believe to lead for a moment: the later term does.
    let leader = shard.replicas.iter().filter(|one| leads(one)).max_by_key(|one| one.term);
    let last = shard.replicas.iter().map(|one| one.last_log_index).max().unwrap_or(0);
    let up = shard.replicas.iter().filter(|one| one.fault.is_empty());
    let behind = up.clone().map(|one| last.saturating_sub(one.applied_index)).max().unwrap_or(0);
    ShardRow {
        id: shard.id,
        leader: leader.map(|one| one.node_id),
        up: up.count(),
        replicas: shard.replicas.len(),
        applied: leader.map_or(0, |one| one.applied_index),
        lag: behind,
        rates: leader.and_then(|one| rates(shard.id, one.node_id, before, now, seconds)),
    }
}

fn rates(shard: u64, node: u64, before: &Sample, now: &Sample, seconds: f64) -> Option<Rates> {
    let (then, here) = (before.metrics.get(&node)?, now.metrics.get(&node)?);
    let rate = |name: &str| {
        let index = |sample: &Exposition| -> Option<f64> { by(sample, name).get(&shard).copied() };
        Some((index(here)? - index(then)?).max(0.0) / seconds)
    };
    Some(Rates {
        submitted: rate("keevo_raft_submitted_index")?,
        flushed: rate("keevo_raft_flushed_index")?,
        committed: rate("keevo_raft_committed_index")?,
        applied: rate("keevo_raft_applied_index")?,
    })
}

fn by(sample: &Exposition, name: &str) -> BTreeMap<u64, f64> {
    sample.by_shard(name)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    fn replica(node_id: u64, role: pb::Role, applied_index: u64) -> pb::ReplicaStatus {
        pb::ReplicaStatus { node_id, role: role.into(), applied_index, last_log_index: 120, ..Default::default() }
    }

    fn metrics(calls: u32, index: u32, cpu: u32) -> Exposition {
        Exposition::parse(&format!(
            "keevo_disk_free_bytes 5368709120\nkeevo_process_memory_bytes 268435456\n\
             keevo_process_cpu_micros_total {cpu}\n\
             keevo_raft_submitted_index{{shard=\"1\"}} {index}\nkeevo_raft_flushed_index{{shard=\"1\"}} {index}\n\
             keevo_raft_committed_index{{shard=\"1\"}} {index}\nkeevo_raft_applied_index{{shard=\"1\"}} {index}\n\
             keevo_rpc_seconds_bucket{{method=\"keevo.kv.v1.Kv/Get\",le=\"0.001\"}} {calls}\n\
             keevo_rpc_seconds_bucket{{method=\"keevo.kv.v1.Kv/Get\",le=\"+Inf\"}} {calls}\n\
             keevo_rpc_seconds_bucket{{method=\"keevo.kv.v1.Kv/Pipe\",le=\"0.001\"}} 5\n\
             keevo_rpc_seconds_bucket{{method=\"keevo.kv.v1.Kv/Pipe\",le=\"+Inf\"}} 5\n"
        ))
    }

    /// Two nodes of three are up; node 1 leads shard 1, nobody leads shard 2.
    pub(in crate::top) fn samples() -> (Sample, Sample) {
        let node = |id: u64, reachable| pb::NodeStatus {
            id,
            address: format!("10.0.0.{id}:7101"),
            reachable,
            version: "0.1.0".into(),
            storage: None,
        };
        let led = vec![
            replica(1, pb::Role::Leader, 120),
            replica(2, pb::Role::Follower, 100),
            pb::ReplicaStatus { node_id: 3, fault: "node unreachable".into(), ..Default::default() },
        ];
        let status = pb::ClusterStatusResponse {
            cluster_id: vec![0xab; 16].into(),
            nodes: vec![node(1, true), node(2, true), node(3, false)],
            shards: vec![
                pb::ShardStatus { id: 1, replicas: led, ..Default::default() },
                pb::ShardStatus { id: 2, replicas: vec![replica(2, pb::Role::Follower, 7)], ..Default::default() },
            ],
        };
        let sample = |seconds, calls, index, cpu| Sample {
            at: Duration::from_secs(seconds),
            now_ms: 1_790_000_000_000 + seconds * 1_000,
            status: status.clone(),
            metrics: [(1, metrics(calls, index, cpu)), (2, metrics(calls, index, cpu))].into(),
        };
        (sample(10, 100, 20, 1_000_000), sample(12, 300, 120, 2_000_000))
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let (before, now) = samples();
        let picture = Picture::between(&before, &now);
        assert_eq!(picture.health(), (2, 1));
        assert!((picture.load.calls - 200.0).abs() < 1e-9, "pipes are not counted twice: {:?}", picture.load);
        let [one, _, three] = picture.nodes.as_slice() else { panic!("three nodes: {picture:?}") };
        assert_eq!((one.leaders, one.replicas, one.state.as_str()), (1, 1, "up"));
        assert_eq!((one.cpus, one.memory), (Some(0.5), Some(268_435_456.0)));
        assert_eq!((three.state.as_str(), three.memory, three.load.p50), (UNREACHABLE, None, None));
        let [led, orphan] = picture.shards.as_slice() else { panic!("two shards: {picture:?}") };
        assert_eq!((led.leader, led.up, led.replicas, led.applied, led.lag), (Some(1), 2, 3, 120, 20));
        let fifty = Rates { submitted: 50.0, flushed: 50.0, committed: 50.0, applied: 50.0 };
        assert_eq!(led.rates, Some(fifty));
        assert_eq!((orphan.leader, orphan.rates), (None, None));
    }

    #[test]
    fn a_node_that_was_restarted_has_no_negative_rates() {
        let (before, now) = samples();
        let picture = Picture::between(&now, &Sample { at: now.at + Duration::from_secs(1), ..before });
        assert!(picture.load.calls.abs() < 1e-9);
        assert_eq!(picture.shards[0].rates, Some(Rates::default()));
        assert_eq!(picture.nodes[0].cpus, Some(0.0));
    }
}
