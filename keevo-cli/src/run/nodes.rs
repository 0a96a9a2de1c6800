//! Commands that concern single nodes: each of the endpoints is called, in order, and the first failure ends it.

use indicatif::{ProgressBar, ProgressStyle};
use keevo_core::{Error, ErrorKind};
use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::cluster::admin;
use super::until_interrupted;
use crate::connect::{Context, Effect, QUICK, SLOW, failed};
use crate::failure::Failure;
use crate::output::show;
use crate::render::Done;
use crate::render::cluster::Nodes;
use crate::text::line;

/// How progress is shown.
pub(super) const BAR: &str = "{prefix} [{bar:32}] {pos}/{len} {wide_msg}";

/// Says who the endpoints are.
pub(crate) async fn info(context: &Context) -> Result<(), Failure> {
    let mut nodes = Vec::new();
    for endpoint in &context.endpoints {
        let mut admin = admin(context.channel_to(endpoint).await?);
        let info = context.ask(Effect::Reads, QUICK, admin.info(pb::InfoRequest {})).await?;
        nodes.push((endpoint.clone(), info));
    }
    show(context.output, &Nodes(nodes))
}

/// Flushes the endpoints.
pub(crate) async fn flush(context: &Context) -> Result<(), Failure> {
    for endpoint in &context.endpoints {
        let mut admin = admin(context.channel_to(endpoint).await?);
        // Repeatable, and harmless when it was not answered.
        context.ask(Effect::Reads, SLOW, admin.flush(pb::FlushRequest {})).await?;
    }
    show(context.output, &done("flushed", &json!(context.endpoints), &context.endpoints))
}

/// Compacts the endpoints, which takes as long as it takes; Ctrl-C stops waiting for it.
pub(crate) async fn compact(context: &Context) -> Result<(), Failure> {
    let mut reports = Vec::new();
    for endpoint in &context.endpoints {
        let steps = compact_one(context, endpoint).await?;
        let Some(steps) = steps else { return Err(interrupted(endpoint)) };
        reports.push(json!({ "endpoint": endpoint, "steps": steps }));
    }
    show(context.output, &done("compacted", &json!(reports), &context.endpoints))
}

/// The steps that a compaction took; nothing when it was interrupted.
async fn compact_one(context: &Context, endpoint: &str) -> Result<Option<u64>, Failure> {
    let mut admin = admin(context.channel_to(endpoint).await?);
    let mut progress = context.ask(Effect::Reads, QUICK, admin.compact(pb::CompactRequest {})).await?;
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::no_length().with_style(style).with_prefix(endpoint.to_owned());
    let mut last = None;
    until_interrupted(async {
        while let Some(step) = progress.message().await.map_err(|status| failed(Effect::Reads, &status))? {
            bar.set_length(step.total_steps);
            bar.set_position(step.done_steps);
            bar.set_message(line(&step.what));
            last = Some(step);
        }
        // A stream that ends early is no compaction: only the last step says that it is done.
        match &last {
            Some(step) if step.done_steps >= step.total_steps => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{endpoint} stopped reporting before its compaction was done"),
            )
            .into()),
        }
    })
    .await
    .inspect_err(|_| bar.abandon())?;
    bar.finish_and_clear();
    Ok(last.filter(|step| step.done_steps >= step.total_steps).map(|step| step.total_steps))
}

fn interrupted(endpoint: &str) -> Failure {
    let error =
        Error::new(ErrorKind::DeadlineExceeded, format!("the wait for the compaction of {endpoint} was interrupted"));
    Failure::with_advice(error, "The node may go on with it; run the command again to wait for it.")
}

fn done(verb: &str, nodes: &Value, endpoints: &[String]) -> Done {
    Done { sentence: format!("{verb} {}", endpoints.join(", ")), json: json!({ verb: nodes }) }
}
