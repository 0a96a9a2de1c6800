//! `keevo-cli scrub` and `keevo-cli checkpoint`: each of the endpoints is called, in order.

use indicatif::{ProgressBar, ProgressStyle};
use keevo_core::{Error, ErrorKind};
use keevo_proto::admin::v1 as pb;
use serde_json::json;

use super::cluster::admin;
use super::nodes::BAR;
use super::until_interrupted;
use crate::connect::{Context, Effect, QUICK, SLOW, failed};
use crate::failure::Failure;
use crate::output::show;
use crate::render::Done;
use crate::render::cluster::differing_shards;
use crate::render::storage::{NodeReport, Report};
use crate::text::{count, line};

/// Verifies the endpoints, then compares the copies unless something was found; Ctrl-C stops it.
pub(crate) async fn scrub(context: &Context, shard: Option<u64>, mib_per_s: u64) -> Result<(), Failure> {
    let mut nodes = Vec::new();
    for endpoint in &context.endpoints {
        nodes.push(scrub_one(context, endpoint, shard, mib_per_s).await?);
    }
    let damaged: Vec<u64> = nodes.iter().filter(|node| !node.damages.is_empty()).map(|node| node.node_id).collect();
    let found: usize = nodes.iter().map(|node| node.damages.len()).sum();
    let copies = if damaged.is_empty() {
        let mut admin = admin(context.channel().await?);
        Some(context.ask(Effect::Reads, SLOW, admin.checksum(pb::ChecksumRequest { shard })).await?)
    } else {
        None
    };
    let differing = copies.as_ref().map(differing_shards).unwrap_or_default();
    show(context.output, &Report { nodes, copies })?;
    if let Some(first) = damaged.first() {
        let ids: Vec<String> = damaged.iter().map(u64::to_string).collect();
        let were = if found == 1 { "was" } else { "were" };
        let message = format!("{} {were} found on node {}", count(found, "damage"), ids.join(", "));
        return Err(Failure::with_advice(Error::corrupt(message), repair(*first)));
    }
    if !differing.is_empty() {
        let shards: Vec<String> = differing.iter().map(u64::to_string).collect();
        let error = Error::corrupt(format!("copies differ at the same revision: shard {}", shards.join(", ")));
        let advice = "Scrub every node; the copy that differs from the others' is the bad one: take its node out with \
                      `keevo-cli cluster remove` and let it come back empty.";
        return Err(Failure::with_advice(error, advice));
    }
    Ok(())
}

/// What is to be done about a node whose disk gives back other bytes than it was given.
fn repair(node: u64) -> String {
    format!(
        "The other copies are sound as long as they show no damage. Stop the node, check its disk and keep its folder; \
         then `keevo-cli cluster remove {node}` through another node, start keevod with a new node_id, an empty folder \
         and `join = true`, and `keevo-cli cluster join` it: it gets fresh copies. Without another node, start from a \
         checkpoint."
    )
}

async fn scrub_one(
    context: &Context,
    endpoint: &str,
    shard: Option<u64>,
    mib_per_s: u64,
) -> Result<NodeReport, Failure> {
    let mut admin = admin(context.channel_to(endpoint).await?);
    let info = context.ask(Effect::Reads, QUICK, admin.info(pb::InfoRequest {})).await?;
    let request = pb::ScrubRequest { shard, bytes_per_s_max: mib_per_s << 20 };
    let mut progress = context.ask(Effect::Reads, SLOW, admin.scrub(request)).await?;
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::no_length().with_style(style).with_prefix(endpoint.to_owned());
    let mut report = NodeReport { endpoint: endpoint.to_owned(), node_id: info.node_id, ..NodeReport::default() };
    let mut finished = false;
    until_interrupted(async {
        while let Some(step) = progress.message().await.map_err(|status| failed(Effect::Reads, &status))? {
            bar.set_length(step.total_bytes >> 20);
            bar.set_position(step.done_bytes >> 20);
            bar.set_message(format!("MiB, {}", line(&step.what)));
            finished = step.finished;
            report.take(step);
        }
        if finished {
            return Ok(());
        }
        // A stream that ends early is no scrub: only the last step says that all was read.
        let message = format!("{endpoint} stopped reporting before its scrub was done");
        Err(Error::new(ErrorKind::Unavailable, message).into())
    })
    .await
    .inspect_err(|_| bar.abandon())?;
    bar.finish_and_clear();
    if finished {
        return Ok(report);
    }
    let error = Error::new(ErrorKind::DeadlineExceeded, format!("the scrub of {endpoint} was interrupted"));
    Err(Failure::with_advice(error, "Nothing was changed; run the command again to verify all of it."))
}

/// Copies the endpoints.
pub(crate) async fn checkpoint(context: &Context, folder: String) -> Result<(), Failure> {
    if !std::path::Path::new(&folder).is_absolute() {
        let error = Error::invalid(format!("{folder:?} is no absolute path"));
        return Err(Failure::with_advice(error, "Write the path from / on: it is one on each node's machine."));
    }
    let mut copies = Vec::new();
    for endpoint in &context.endpoints {
        let mut admin = admin(context.channel_to(endpoint).await?);
        let call = admin.checkpoint(pb::CheckpointRequest { folder: folder.clone() });
        copies.push(context.ask(Effect::Writes, SLOW, call).await?);
    }
    let told = |copy: &pb::CheckpointResponse| {
        format!("node {}: {} MiB in {}", copy.node_id, copy.bytes.div_ceil(1 << 20), line(&copy.folder))
    };
    let sentence = copies.iter().map(told).collect::<Vec<_>>().join("\n");
    let json = copies.iter().map(|copy| json!({ "node": copy.node_id, "folder": copy.folder, "bytes": copy.bytes }));
    show(context.output, &Done { sentence, json: json!({ "checkpoints": json.collect::<Vec<_>>() }) })
}
