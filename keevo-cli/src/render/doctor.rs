//! What the doctor found, and how it judges.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::table;
use crate::output::Answer;
use crate::text::{line, time};

/// A sync that takes longer makes every write slow.
const SYNC_MICROS_SLOW: u64 = 20_000;
/// Clocks further apart blur expiry and the order that people see.
const SKEW_MS_MAX: u64 = 500;
/// Files that a node may come to need.
const OPEN_FILES_WANTED: u64 = 8_192;
const DAY_S: u64 = 86_400;
/// How long before a certificate ends that is said.
const CERTIFICATE_DAYS: u64 = 21;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// It works, and will not for ever.
    Warn,
    /// Something does not work, or nobody could rely on it.
    Bad,
}

/// Something that the doctor found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// 0 = no node in particular.
    pub(crate) node: u64,
    pub(crate) what: String,
}

impl Finding {
    pub(crate) fn bad(node: u64, what: impl Into<String>) -> Self {
        Self { level: Level::Bad, node, what: what.into() }
    }

    fn warn(node: u64, what: impl Into<String>) -> Self {
        Self { level: Level::Warn, node, what: what.into() }
    }
}

/// What a node said of itself.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) address: String,
    /// Of a small call.
    pub(crate) round_trip: Duration,
    /// How far its clock is from this machine's, at least.
    pub(crate) skew_ms: u64,
    pub(crate) found: pb::DiagnoseResponse,
}

/// The nodes that answered, and what is wrong with any.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) nodes: Vec<Node>,
    pub(crate) findings: Vec<Finding>,
}

impl Findings {
    /// Judges what nodes said.
    pub(crate) fn judge(status: &pb::ClusterStatusResponse, nodes: &[Node]) -> Vec<Finding> {
        let mut found = Vec::new();
        for node in &status.nodes {
            found.extend(storage(node));
        }
        let versions: BTreeSet<&str> =
            status.nodes.iter().map(|node| node.version.as_str()).filter(|version| !version.is_empty()).collect();
        if versions.len() > 1 {
            let all: Vec<&str> = versions.into_iter().collect();
            found.push(Finding::warn(
                0,
                format!("nodes run different versions: {}; finish the upgrade", all.join(", ")),
            ));
        }
        for shard in &status.shards {
            let down = shard.replicas.iter().filter(|one| !one.fault.is_empty()).count();
            let leads = |one: &&pb::ReplicaStatus| one.role() == pb::Role::Leader;
            if !shard.replicas.iter().any(|one| leads(&one)) {
                found
                    .push(Finding::bad(0, format!("shard {} has no leader: bring back enough of its nodes", shard.id)));
            } else if down > 0 {
                let count = shard.replicas.len();
                found.push(Finding::warn(0, format!("shard {}: {down} of {count} replicas are down", shard.id)));
            }
        }
        for node in nodes {
            found.extend(limits(node));
        }
        found
    }

    /// Judges a certificate of this command's own.
    pub(crate) fn own(path: &Path, not_after_s: i64, now_ms: u64) -> Option<Finding> {
        let until = u64::try_from(not_after_s).unwrap_or_default();
        ends(0, &path.display().to_string(), until, now_ms)
    }
}

fn storage(node: &pb::NodeStatus) -> Option<Finding> {
    let storage = node.storage.as_ref()?;
    let free_mib = storage.free_bytes >> 20;
    if storage.disk_full {
        let what = format!("the disk is full ({free_mib} MiB are free), so writes are refused: make room");
        return Some(Finding::bad(node.id, what));
    }
    if !storage.refusal.is_empty() {
        return Some(Finding::bad(node.id, format!("writes are refused: {}", line(&storage.refusal))));
    }
    if storage.low_water_bytes > 0 && storage.free_bytes < storage.low_water_bytes.saturating_mul(2) {
        let what = format!("{free_mib} MiB of the disk are free, less than twice the low-water mark: make room");
        return Some(Finding::warn(node.id, what));
    }
    let behind = storage.pressure_permille;
    (behind >= 500).then(|| Finding::warn(node.id, format!("background work is behind ({behind} of 1000)")))
}

fn limits(node: &Node) -> Vec<Finding> {
    let (id, found) = (node.id, &node.found);
    let mut findings = Vec::new();
    if found.sync_micros_median > SYNC_MICROS_SLOW {
        let ms = found.sync_micros_median / 1_000;
        findings.push(Finding::warn(id, format!("a sync of the log's disk takes {ms} ms: every write waits for it")));
    }
    if node.skew_ms > SKEW_MS_MAX {
        let what = format!("its clock is {} ms from this machine's: synchronise clocks (chrony, NTP)", node.skew_ms);
        findings.push(Finding::warn(id, what));
    }
    if found.open_files_max < OPEN_FILES_WANTED {
        let what = format!("only {} files may be open: allow {OPEN_FILES_WANTED} (LimitNOFILE=)", found.open_files_max);
        findings.push(Finding::warn(id, what));
    }
    if found.tls_files_are_bad {
        findings.push(Finding::bad(id, "its TLS files cannot be used, and older ones are: its log says why"));
    }
    if found.certificate_until_s > 0 {
        findings.extend(ends(id, "its certificate", found.certificate_until_s, found.now_ms));
    }
    findings
}

/// What to say of a certificate's end.
fn ends(node: u64, what: &str, until_s: u64, now_ms: u64) -> Option<Finding> {
    let now_s = now_ms / 1_000;
    if until_s <= now_s {
        return Some(Finding::bad(node, format!("{what} has expired: replace it")));
    }
    let days = (until_s - now_s) / DAY_S;
    (days < CERTIFICATE_DAYS).then(|| Finding::warn(node, format!("{what} ends in {days} days: replace it")))
}

impl Answer for Findings {
    fn table(&self) -> String {
        let rows = self.nodes.iter().map(|node| {
            let until = match node.found.certificate_until_s {
                0 => "no TLS".to_owned(),
                seconds => time(seconds.saturating_mul(1_000)),
            };
            let sync = format!("{} / {} µs", node.found.sync_micros_median, node.found.sync_micros_max);
            let round_trip = format!("{} µs", node.round_trip.as_micros());
            let memory = format!("{} MiB, {} CPUs", node.found.memory_bytes >> 20, node.found.cpus);
            [node.id.to_string(), line(&node.address), round_trip, sync, format!("{} ms", node.skew_ms), memory, until]
        });
        let header =
            ["Node", "Address", "Round trip", "Sync median / max", "Clock off", "Machine", "Certificate until"];
        let mut text = table(header, rows.collect(), "no node answered");
        for finding in &self.findings {
            let level = if finding.level == Level::Bad { "BAD " } else { "WARN" };
            let node = if finding.node == 0 { String::new() } else { format!("node {}: ", finding.node) };
            write!(text, "\n{level} {node}{}", finding.what).expect("a string takes all text");
        }
        if self.findings.is_empty() {
            text.push_str("\nnothing is wrong");
        }
        text
    }

    fn json(&self) -> Value {
        let node = |node: &Node| {
            json!({
                "id": node.id, "address": node.address, "round_trip_micros": u64::try_from(node.round_trip.as_micros()).unwrap_or(u64::MAX),
                "sync_micros_median": node.found.sync_micros_median, "sync_micros_max": node.found.sync_micros_max,
                "clock_off_ms": node.skew_ms, "open_files_max": node.found.open_files_max,
                "memory_bytes": node.found.memory_bytes, "cpus": node.found.cpus,
                "certificate_until_s": node.found.certificate_until_s,
            })
        };
        let finding = |finding: &Finding| {
            let level = if finding.level == Level::Bad { "bad" } else { "warn" };
            json!({ "level": level, "node": finding.node, "what": finding.what })
        };
        json!({
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> (pb::ClusterStatusResponse, Vec<Node>) {
        let storage = pb::StorageStatus { free_bytes: 9 << 30, low_water_bytes: 1 << 30, ..Default::default() };
        let node =
            |id| pb::NodeStatus { id, version: "1".into(), storage: Some(storage.clone()), ..Default::default() };
        let leader = pb::ReplicaStatus { role: pb::Role::Leader.into(), ..Default::default() };
        let shard =
            pb::ShardStatus { id: 7, replicas: vec![leader, pb::ReplicaStatus::default()], ..Default::default() };
        let nodes = vec![node(1), node(2)];
        let status = pb::ClusterStatusResponse { nodes, shards: vec![shard], ..Default::default() };
        let now_ms = 1_000_000_000;
        let found = pb::DiagnoseResponse {
            now_ms,
            sync_micros_median: 300,
            open_files_max: 1 << 20,
            certificate_until_s: now_ms / 1_000 + 100 * DAY_S,
            ..Default::default()
        };
        let seen = Node { id: 1, address: String::new(), round_trip: Duration::from_micros(90), skew_ms: 3, found };
        (status, vec![seen])
    }

    #[test]
    fn the_healthy_get_no_word_and_each_ill_gets_its_own() {
        type Ill = fn(&mut pb::ClusterStatusResponse, &mut Node);
        let (status, nodes) = healthy();
        assert_eq!(Findings::judge(&status, &nodes), []);
        let ills: [(&str, Level, Ill); 10] = [
            ("disk is full", Level::Bad, |status, _| status.nodes[0].storage.as_mut().expect("it").disk_full = true),
            ("make room", Level::Warn, |status, _| status.nodes[0].storage.as_mut().expect("it").free_bytes = 1 << 30),
            ("writes are refused", Level::Bad, |status, _| {
                status.nodes[0].storage.as_mut().expect("it").refusal = "it is behind".into();
            }),
            ("different versions", Level::Warn, |status, _| status.nodes[1].version = "2".into()),
            ("has no leader", Level::Bad, |status, _| status.shards[0].replicas[0].role = 0),
            ("1 of 2 replicas", Level::Warn, |status, _| status.shards[0].replicas[1].fault = "down".into()),
            ("takes 30 ms", Level::Warn, |_, node| node.found.sync_micros_median = 30_000),
            ("clock is 900 ms", Level::Warn, |_, node| node.skew_ms = 900),
            ("files may be open", Level::Warn, |_, node| node.found.open_files_max = 1_024),
            ("has expired", Level::Bad, |_, node| node.found.certificate_until_s = 5),
        ];
        for (word, level, ill) in ills {
            let (mut status, mut nodes) = healthy();
            ill(&mut status, &mut nodes[0]);
            let found = Findings::judge(&status, &nodes);
            assert_eq!(found.len(), 1, "{word}: {found:?}");
            assert!(found[0].what.contains(word) && found[0].level == level, "{word}: {found:?}");
        }
        let soon = Findings::own(Path::new("a.crt"), 10 * 86_400, 0).expect("soon");
        assert_eq!((soon.level, soon.what.as_str()), (Level::Warn, "a.crt ends in 10 days: replace it"));
        assert_eq!(Findings::own(Path::new("a.crt"), 30 * 86_400, 0), None);
    }
}
