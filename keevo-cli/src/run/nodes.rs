//! Commands that concern single nodes: each of the endpoints is called, in order, and the first failure ends it.

use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::cluster::admin;
use crate::connect::{Context, Effect, QUICK, SLOW};
use crate::failure::Failure;
use crate::output::show;
use crate::render::Done;
use crate::render::cluster::Nodes;

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

fn done(verb: &str, nodes: &Value, endpoints: &[String]) -> Done {
    Done { sentence: format!("{verb} {}", endpoints.join(", ")), json: json!({ verb: nodes }) }
}
