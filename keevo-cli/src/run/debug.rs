//! `keevo-cli debug zip`: what somebody who looks for a fault asks for first, in one file.
//!
//! ```text
//! manifest.json   what is in it, what is missing and why
//! cluster.json    nodes, shards, replicas          doctor.txt, doctor.json
//! shards.json     where each shard is served       nodes/ID/{info.json, settings.txt, metrics.txt, log.txt}
//! ```
//!
//! Invariant: no part holds keys, values or messages, and secrets were taken out by the nodes. What cannot be had is named
//! in the manifest, and keeps nothing else out. A file is whole or is not there.

use std::fs::{self, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use keevo_core::{Clock, Error, ErrorKind, SystemClock};
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::observe_client::ObserveClient;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::cluster::admin;
use super::doctor;
use crate::args::debug::Debug;
use crate::connect::{Context, Effect, QUICK, SLOW};
use crate::failure::Failure;
use crate::output::{Answer, show};
use crate::render::Done;
use crate::text::{hex, time};

/// Only whoever made it reads it: settings and logs are nobody else's business.
const MODE: u32 = 0o600;

/// Carries out a command.
pub(crate) async fn run(context: &Context, debug: Debug) -> Result<(), Failure> {
    let Debug::Zip { file } = debug;
    let now = time(SystemClock::new().now_ms());
    let file = file.unwrap_or_else(|| PathBuf::from(format!("keevo-debug-{}.zip", now.replace([':', '.'], "-"))));
    let mut parts = Parts::default();
    collect(context, &mut parts).await?;
    let manifest = parts.manifest(&now);
    parts.add("manifest.json", format!("{manifest:#}\n"));
    parts.write(&file)?;
    let missing = parts.missing.len();
    let sentence = match missing {
        0 => format!("{}: {} parts", file.display(), parts.files.len()),
        _ => format!("{}: {} parts; {missing} could not be had, see manifest.json", file.display(), parts.files.len()),
    };
    show(context.output, &Done { sentence, json: json!({ "file": file.display().to_string(), "manifest": manifest }) })
}

/// What goes into the archive.
#[derive(Debug, Default)]
struct Parts {
    /// Paths and what they hold, in order.
    files: Vec<(String, String)>,
    /// What could not be had, and why.
    missing: Vec<(String, String)>,
    cluster: String,
}

impl Parts {
    fn add(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.files.push((path.into(), text.into()));
    }

    fn add_json(&mut self, path: impl Into<String>, json: &Value) {
        self.add(path, format!("{json:#}\n"));
    }

    fn lacks(&mut self, path: impl Into<String>, failure: &Failure) {
        self.missing.push((path.into(), failure.to_string()));
    }

    fn manifest(&self, now: &str) -> Value {
        let file = |(path, text): &(String, String)| json!({ "path": path, "bytes": text.len() });
        let gap = |(path, why): &(String, String)| json!({ "path": path, "why": why });
        json!({
            "format": 1,
            "made_by": format!("keevo-cli {}", env!("CARGO_PKG_VERSION")),
            "made_at": now,
            "cluster": self.cluster,
            "files": self.files.iter().map(file).collect::<Vec<_>>(),
            "missing": self.missing.iter().map(gap).collect::<Vec<_>>(),
            "left_out": "keys, values, messages, secrets",
        })
    }

    /// Writes the archive into a new file.
    fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error| Failure::io(&format!("{} cannot be written", path.display()), error);
        let made = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path);
        let file = made.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                let error = Error::new(ErrorKind::Invalid, format!("{} is there already", path.display()));
                Failure::with_advice(error, "Name another file.")
            }
            _ => failed(error),
        })?;
        let whole = self.pack(file).and_then(|file| file.sync_all());
        whole.map_err(|error| {
            // Half an archive is of no use; that it could not be written is what there is to say.
            drop(fs::remove_file(path));
            failed(error)
        })
    }

    fn pack<W: Write + Seek>(&self, file: W) -> std::io::Result<W> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(MODE);
        let mut zip = ZipWriter::new(file);
        for (path, text) in &self.files {
            zip.start_file(path.as_str(), options).map_err(std::io::Error::other)?;
            zip.write_all(text.as_bytes())?;
        }
        zip.finish().map_err(std::io::Error::other)
    }
}

/// Asks the cluster and each of its nodes. Fails where no node tells the state of the cluster.
async fn collect(context: &Context, parts: &mut Parts) -> Result<(), Failure> {
    let mut any = admin(context.channel().await?);
    let status = context.ask(Effect::Reads, SLOW, any.cluster_status(pb::ClusterStatusRequest {})).await?;
    parts.cluster = hex(&status.cluster_id);
    parts.add_json("cluster.json", &status.json());
    match context.ask(Effect::Reads, QUICK, any.shard_map(pb::ShardMapRequest {})).await {
        Ok(map) => parts.add_json("shards.json", &map.json()),
        Err(failure) => parts.lacks("shards.json", &failure),
    }
    match doctor::examine(context).await {
        Ok(findings) => {
            parts.add("doctor.txt", findings.table() + "\n");
            parts.add_json("doctor.json", &findings.json());
        }
        Err(failure) => parts.lacks("doctor.txt", &failure),
    }
    for node in &status.nodes {
        let folder = format!("nodes/{}", node.id);
        if let Err(failure) = collect_node(context, node, &folder, parts).await {
            parts.lacks(folder, &failure);
        }
    }
    Ok(())
}

async fn collect_node(
    context: &Context,
    node: &pb::NodeStatus,
    folder: &str,
    parts: &mut Parts,
) -> Result<(), Failure> {
    let connection = context.channel_to(&node.address).await?;
    let mut observe = ObserveClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let info = context.ask(Effect::Reads, QUICK, observe.get_debug_info(pb::GetDebugInfoRequest {})).await?;
    let about = json!({
        "node": info.node_id,
        "address": node.address,
        "version": info.version,
        "time": time(info.now_ms),
        "started": time(info.started_ms),
        "log_lines": info.log.len(),
        "log_lines_dropped": info.log_lines_dropped,
    });
    parts.add_json(format!("{folder}/info.json"), &about);
    parts.add(format!("{folder}/settings.txt"), info.settings);
    parts.add(format!("{folder}/log.txt"), info.log.iter().fold(String::new(), |log, line| log + line + "\n"));
    let metrics = context.ask(Effect::Reads, QUICK, observe.get_metrics(pb::GetMetricsRequest {})).await?;
    parts.add(format!("{folder}/metrics.txt"), metrics.text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_new_whole_and_for_its_maker_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.zip");
        let mut parts = Parts::default();
        parts.add("nodes/1/log.txt", "one\ntwo\n");
        parts.lacks("nodes/2", &Failure::from(Error::new(ErrorKind::Unavailable, "it is away")));
        let manifest = parts.manifest("now");
        assert_eq!(manifest["files"], json!([{ "path": "nodes/1/log.txt", "bytes": 8 }]));
        assert!(manifest["missing"][0]["why"].as_str().is_some_and(|why| why.contains("it is away")));
        parts.write(&path).expect("it is written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, MODE);
        let mut archive = zip::ZipArchive::new(fs::File::open(&path).expect("there")).expect("an archive");
        let log = std::io::read_to_string(archive.by_name("nodes/1/log.txt").expect("in it")).expect("text");
        assert_eq!(log, "one\ntwo\n");
        let again = parts.write(&path).expect_err("it is there");
        assert_eq!(again.kind(), ErrorKind::Invalid);
        assert!(parts.write(&dir.path().join("no/a.zip")).is_err());
    }
}
