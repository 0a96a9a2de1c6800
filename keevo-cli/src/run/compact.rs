//! `keevo-cli compact`: each of the nodes in turn, with a view of its levels.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use keevo_core::{Error, ErrorKind};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::compact_request::Scope;

use super::cluster::admin;
use super::nodes::BAR;
use super::until_interrupted;
use crate::args::compact::{Compact, Range};
use crate::connect::{Context, Effect, QUICK, SLOW, failed};
use crate::failure::Failure;
use crate::output::{Answer, show, show_line};
use crate::render::compact::{Compacted, Look};
use crate::text::line;

/// How progress is shown with the levels below it.
const BAR_ABOVE: &str = "{prefix} [{bar:32}] {pos}/{len}\n{msg}";

/// Compacts the nodes, which takes as long as it takes; Ctrl-C stops waiting for it.
pub(crate) async fn run(context: &Context, args: Compact) -> Result<(), Failure> {
    let scope = match (args.shard, args.keyspace, args.range) {
        (Some(shard), ..) => Some(Scope::Shard(shard)),
        (_, Some(name), _) => Some(Scope::Keyspace(name)),
        (_, _, Some(Range(start_key, end_key))) => Some(Scope::Range(pb::KeyRange { start_key, end_key })),
        (None, None, None) => None,
    };
    let nodes = if args.all_nodes { all_nodes(context, args.shard).await? } else { context.endpoints.clone() };
    let mut done = Vec::new();
    for node in nodes {
        let last = compact_one(context, &node, scope.clone(), args.watch).await?;
        let Some(last) = last else { return Err(interrupted(&node)) };
        done.push((node, last));
    }
    show(context.output, &Compacted(done))
}

/// The addresses of all nodes, or of those that have a replica of the shard.
async fn all_nodes(context: &Context, shard: Option<u64>) -> Result<Vec<String>, Failure> {
    let mut admin = admin(context.channel().await?);
    let status = context.ask(Effect::Reads, SLOW, admin.cluster_status(pb::ClusterStatusRequest {})).await?;
    let has = |node: u64| match shard {
        None => true,
        Some(shard) => {
            let mut replicas = status.shards.iter().filter(|one| one.id == shard).flat_map(|one| &one.replicas);
            replicas.any(|replica| replica.node_id == node)
        }
    };
    let nodes: Vec<String> = status.nodes.iter().filter(|node| has(node.id)).map(|node| node.address.clone()).collect();
    match (nodes.is_empty(), shard) {
        (true, Some(shard)) => {
            Err(Error::new(ErrorKind::NotFound, format!("no node has a replica of shard {shard}")).into())
        }
        _ => Ok(nodes),
    }
}

/// The last thing that the node said; nothing when it was interrupted.
async fn compact_one(
    context: &Context,
    node: &str,
    scope: Option<Scope>,
    watch: bool,
) -> Result<Option<pb::CompactProgress>, Failure> {
    let mut admin = admin(context.channel_to(node).await?);
    let mut progress = context.ask(Effect::Reads, QUICK, admin.compact(pb::CompactRequest { scope })).await?;
    let style = ProgressStyle::with_template(if watch { BAR_ABOVE } else { BAR });
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::no_length().with_style(style).with_prefix(node.to_owned());
    // The bar shows nothing where standard error is no terminal.
    let lines = watch && !std::io::stderr().is_terminal();
    let mut last = None;
    until_interrupted(async {
        while let Some(step) = progress.message().await.map_err(|status| failed(Effect::Reads, &status))? {
            bar.set_length(step.total_steps);
            bar.set_position(step.done_steps);
            let look = Look { node, step: &step };
            if lines {
                show_line(context.output, &look)?;
            } else if watch {
                bar.set_message(look.table());
            } else {
                bar.set_message(line(&step.what));
            }
            last = Some(step);
        }
        // A stream that ends early is no compaction: only the last step says that it is done.
        match &last {
            Some(step) if step.done_steps >= step.total_steps => Ok(()),
            _ => {
                let message = format!("{node} stopped reporting before its compaction was done");
                Err(Error::new(ErrorKind::Unavailable, message).into())
            }
        }
    })
    .await
    .inspect_err(|_| bar.abandon())?;
    bar.finish_and_clear();
    Ok(last.filter(|step| step.done_steps >= step.total_steps))
}

fn interrupted(node: &str) -> Failure {
    let error =
        Error::new(ErrorKind::DeadlineExceeded, format!("the wait for the compaction of {node} was interrupted"));
    Failure::with_advice(error, "The node finishes the step that it is at; run the command again to compact the rest.")
}
