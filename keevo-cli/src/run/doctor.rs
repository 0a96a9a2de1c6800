//! `keevo-cli doctor`: what is wrong, or soon will be, with the nodes of a cluster.
//!
//! Invariant: it changes nothing. What it finds is judged by pure functions, from what the nodes said.

use std::fs;

use keevo_core::{Clock, Error, ErrorKind, SystemClock};
use keevo_proto::admin::v1 as pb;
use keevo_tls::describe;

use super::cluster::admin;
use crate::connect::{Context, Effect, QUICK, SLOW};
use crate::failure::Failure;
use crate::output::show;
use crate::render::doctor::{Finding, Findings, Level, Node};

/// Looks at all nodes of the cluster, and says what is wrong.
pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let findings = examine(context).await?;
    let bad = findings.findings.iter().filter(|finding| finding.level == Level::Bad).count();
    show(context.output, &findings)?;
    if bad == 0 {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Config, format!("{bad} findings are bad"));
    Err(Failure::with_advice(error, "Each says what to do."))
}

/// What is wrong with the cluster's nodes.
pub(crate) async fn examine(context: &Context) -> Result<Findings, Failure> {
    let clock = SystemClock::new();
    let mut any = admin(context.channel().await?);
    let status = context.ask(Effect::Reads, SLOW, any.cluster_status(pb::ClusterStatusRequest {})).await?;
    let mut nodes = Vec::new();
    let mut findings = Vec::new();
    for node in &status.nodes {
        match look(context, &clock, node).await {
            Ok(found) => nodes.push(found),
            Err(failure) => findings.push(Finding::bad(node.id, failure.to_string())),
        }
    }
    findings.extend(Findings::judge(&status, &nodes));
    for path in context.certificates() {
        let pem = fs::read(path).map_err(|error| Failure::io(&format!("{} cannot be read", path.display()), error))?;
        findings
            .extend(describe(&pem)?.iter().filter_map(|info| Findings::own(path, info.not_after_s, clock.now_ms())));
    }
    Ok(Findings { nodes, findings })
}

async fn look(context: &Context, clock: &SystemClock, status: &pb::NodeStatus) -> Result<Node, Failure> {
    let mut admin = admin(context.channel_to(&status.address).await?);
    // The first call opens the connection's way; the second is timed.
    context.ask(Effect::Reads, QUICK, admin.info(pb::InfoRequest {})).await?;
    let (began, began_ms) = (clock.monotonic(), clock.now_ms());
    context.ask(Effect::Reads, QUICK, admin.info(pb::InfoRequest {})).await?;
    let round_trip = clock.monotonic().saturating_sub(began);
    let found = context.ask(Effect::Reads, SLOW, admin.diagnose(pb::DiagnoseRequest {})).await?;
    let ended_ms = clock.now_ms();
    // The node's clock was read between the two readings here.
    let ahead = i128::from(found.now_ms) - i128::from(ended_ms);
    let behind = i128::from(began_ms) - i128::from(found.now_ms);
    let skew_ms = u64::try_from(ahead.max(behind).max(0)).unwrap_or(u64::MAX);
    Ok(Node { id: status.id, address: status.address.clone(), round_trip, skew_ms, found })
}
