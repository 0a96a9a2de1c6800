//! Backups as text and as JSON.

use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::table;
use crate::output::Answer;
use crate::text::{count, hex, line, time};

fn records(backup: &pb::BackupInfo) -> u64 {
    backup.shards.iter().map(|shard| shard.records).sum()
}

fn mib(bytes: u64) -> String {
    bytes.div_ceil(1 << 20).to_string()
}

fn json_of(backup: &pb::BackupInfo) -> Value {
    let shard = |one: &pb::BackedUpShard| {
        json!({
            "shard": one.shard, "index": one.index, "until_ms": one.until_ms, "records": one.records, "bytes": one.bytes,
        })
    };
    json!({
        "id": backup.id,
        "cluster": hex(&backup.cluster_id),
        "made_ms": backup.made_ms,
        "version": backup.version,
        "until_ms": backup.until_ms,
        "shards": backup.shards.iter().map(shard).collect::<Vec<_>>(),
    })
}

impl Answer for pb::ListBackupsResponse {
    fn table(&self) -> String {
        let rows = self.backups.iter().map(|backup| {
            let bytes = backup.shards.iter().map(|shard| shard.bytes).sum();
            [
                line(&backup.id),
                time(backup.made_ms),
                hex(&backup.cluster_id),
                backup.shards.len().to_string(),
                records(backup).to_string(),
                mib(bytes),
            ]
        });
        table(["Backup", "Made", "Cluster", "Shards", "Records", "MiB"], rows.collect(), "no backups")
    }

    fn json(&self) -> Value {
        json!({ "backups": self.backups.iter().map(json_of).collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("backups")
    }
}

/// A backup that was made just now.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) backup: pb::BackupInfo,
    pub(crate) counts: pb::BackUpProgress,
}

impl Answer for Made {
    fn table(&self) -> String {
        format!(
            "backup {}: {} records in {} shards; {} of {} chunks were new, {} MiB written",
            line(&self.backup.id),
            records(&self.backup),
            self.backup.shards.len(),
            self.counts.new_chunks,
            self.counts.chunks,
            mib(self.counts.new_bytes)
        )
    }

    fn json(&self) -> Value {
        json!({
            "backup": json_of(&self.backup),
            "chunks": self.counts.chunks,
            "new_chunks": self.counts.new_chunks,
            "new_bytes": self.counts.new_bytes,
        })
    }
}

/// Backups that were removed, or would be.
#[derive(Debug)]
pub(crate) struct Pruned {
    pub(crate) end: pb::PruneProgress,
    pub(crate) dry_run: bool,
}

impl Answer for Pruned {
    fn table(&self) -> String {
        let end = &self.end;
        let ids = |ids: &[String]| if ids.is_empty() { "none".to_owned() } else { line(&ids.join(", ")) };
        let (removed, freed) = if self.dry_run { ("would be removed", "would be freed") } else { ("removed", "freed") };
        format!(
            "backups {removed}: {}; kept: {}\n{} of {} chunks and {} segments of the archive {removed}, {} MiB {freed}",
            ids(&end.removed),
            ids(&end.kept),
            end.chunks,
            end.looked,
            end.segments,
            mib(end.bytes)
        )
    }

    fn json(&self) -> Value {
        let end = &self.end;
        json!({
            "dry_run": self.dry_run, "removed": end.removed, "kept": end.kept, "chunks_looked_at": end.looked,
            "chunks": end.chunks, "segments": end.segments, "bytes": end.bytes,
        })
    }
}

/// A backup that was read as a whole.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) id: String,
    pub(crate) end: pb::VerifyBackupProgress,
}

impl Answer for Verified {
    fn table(&self) -> String {
        let end = &self.end;
        let mut text = format!(
            "backup {}: {} objects, {} MiB, {} records, {} archived entries verified",
            line(&self.id),
            end.objects,
            mib(end.bytes),
            end.records,
            end.entries
        );
        for damage in &end.damages {
            text.push_str("\ndamaged: ");
            text.push_str(&line(damage));
        }
        text
    }

    fn json(&self) -> Value {
        let end = &self.end;
        json!({
            "backup": self.id,
            "objects": end.objects,
            "bytes": end.bytes,
            "records": end.records,
            "archived_entries": end.entries,
            "damages": end.damages,
        })
    }
}

/// What a restore would do, or has done.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) begun: pb::BeginRestoreResponse,
    /// In milliseconds since the epoch; `None` = as in the backup.
    pub(crate) until_ms: Option<u64>,
    /// Nothing for a dry run.
    pub(crate) end: Option<pb::FinishRestoreResponse>,
}

impl Restored {
    /// Shards whose archive ends before the moment.
    fn short(&self) -> Vec<&pb::RestorePlan> {
        let Some(until_ms) = self.until_ms.filter(|until_ms| *until_ms < u64::MAX) else { return Vec::new() };
        self.begun.shards.iter().filter(|plan| plan.archived_to_ms < until_ms).collect()
    }
}

impl Answer for Restored {
    fn table(&self) -> String {
        let rows = self.begun.shards.iter().map(|plan| {
            let (records, segments) = (plan.records.to_string(), plan.segments.to_string());
            [plan.shard.to_string(), records, segments, time(plan.archived_to_ms)]
        });
        let mut text = table(["Shard", "Records", "Segments", "Last change"], rows.collect(), "no shards");
        let short = self.short();
        if !short.is_empty() {
            let shards = count(short.len(), "shard");
            text.push_str("\nthe archive of ");
            text.push_str(&shards);
            text.push_str(" ends before that time: nothing changed since, or it was not archived yet");
        }
        text.push('\n');
        let end = match &self.end {
            Some(end) => format!("restored: this cluster holds {} records", end.records_here),
            None => format!("dry run: it can be restored; this cluster holds {} records", self.begun.records_here),
        };
        text.push_str(&end);
        text
    }

    fn json(&self) -> Value {
        let plan = |plan: &pb::RestorePlan| {
            json!({
                "shard": plan.shard,
                "records": plan.records,
                "segments": plan.segments,
                "archived_to_ms": plan.archived_to_ms,
            })
        };
        json!({
            "backup": self.begun.backup.as_ref().map(json_of),
            "shards": self.begun.shards.iter().map(plan).collect::<Vec<_>>(),
            "archive_ends_before": self.short().iter().map(|plan| plan.shard).collect::<Vec<_>>(),
            "dry_run": self.end.is_none(),
            "records_here": self.end.as_ref().map_or(self.begun.records_here, |end| end.records_here),
        })
    }
}
