//! What a scrub has found.

use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::cluster::differing_shards;
use super::table;
use crate::output::Answer;
use crate::text::line;

/// What the scrub of one node has read.
#[derive(Debug, Default)]
pub(crate) struct NodeReport {
    pub(crate) endpoint: String,
    pub(crate) node_id: u64,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) entries: u64,
    pub(crate) damages: Vec<pb::Damage>,
}

impl NodeReport {
    /// Takes in a message: its figures are of the whole scrub, its damage is new.
    pub(crate) fn take(&mut self, step: pb::ScrubProgress) {
        (self.bytes, self.records, self.entries) = (step.done_bytes, step.records, step.entries);
        self.damages.extend(step.damages);
    }
}

/// What the scrub of all endpoints has found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) nodes: Vec<NodeReport>,
    /// The hashes of all copies; none where damage was found.
    pub(crate) copies: Option<pb::ChecksumResponse>,
}

impl Answer for Report {
    fn table(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let damage = if node.damages.is_empty() { "none".to_owned() } else { node.damages.len().to_string() };
            let (records, entries) = (node.records.to_string(), node.entries.to_string());
            let mib = node.bytes.div_ceil(1 << 20).to_string();
            [node.node_id.to_string(), line(&node.endpoint), mib, records, entries, damage]
        });
        let damages: Vec<[String; 4]> = self
            .nodes
            .iter()
            .flat_map(|node| {
                node.damages.iter().map(|damage| {
                    let shard = damage.shard.map_or_else(|| "-".to_owned(), |shard| shard.to_string());
                    [node.node_id.to_string(), shard, line(&damage.place), line(&damage.detail)]
                })
            })
            .collect();
        let mut text =
            table(["Node", "Address", "MiB", "Records", "Log entries", "Damage"], nodes.collect(), "no nodes");
        if !damages.is_empty() {
            text.push('\n');
            text.push_str(&table(["Node", "Shard", "Damaged", "How"], damages, ""));
        }
        text.push('\n');
        match &self.copies {
            Some(copies) => text.push_str(&copies.table()),
            None => text.push_str("copies were not compared: hashing a damaged one would stop it"),
        }
        text
    }

    fn json(&self) -> Value {
        let nodes = self.nodes.iter().map(|node| {
            let damages =
                node.damages.iter().map(|one| json!({ "shard": one.shard, "place": one.place, "detail": one.detail }));
            json!({
                "node": node.node_id,
                "address": node.endpoint,
                "bytes": node.bytes,
                "records": node.records,
                "log_entries": node.entries,
                "damages": damages.collect::<Vec<_>>(),
            })
        });
        json!({
            "nodes": nodes.collect::<Vec<_>>(),
            "copies_compared": self.copies.is_some(),
            "differing_shards": self.copies.as_ref().map(differing_shards).unwrap_or_default(),
        })
    }
}
