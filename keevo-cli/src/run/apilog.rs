//! `keevo-cli apilog`, over `keevo.admin.v1.ApiLog`.
//!
//! ```text
//! the log of each shard, or a file ─▶ source: merged by clock, failed calls marked ─▶ show, count, write, or replay
//! ```
//!
//! Invariant: calls are read in the order of their places, each once; what the log has lost is said on standard error.

mod erase;
mod file;
mod replay;
mod source;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use keevo_client::Connection;
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::api_log_client::ApiLogClient;

use super::until_interrupted;
use crate::args::apilog::{ApiLog, App, Which};
use crate::connect::{Context, Effect, QUICK, SLOW};
use crate::failure::Failure;
use crate::output::{show, show_line};
use crate::progress::exported;
use crate::render::apilog::{Calls, Hashes, Line, Refused, Stats};
pub(crate) use file::json_of;
use source::Logs;
pub(crate) use source::{Found, when};

/// How often a tail looks for new calls.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The client of a node's API log.
fn client(channel: Connection) -> ApiLogClient<Connection> {
    ApiLogClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Carries out a command on the API log.
pub(crate) async fn run(context: &Context, command: ApiLog) -> Result<(), Failure> {
    match command {
        ApiLog::Tail { which, follow, lines } => tail(context, &which, follow, lines).await,
        ApiLog::Search { which, limit } => search(context, &which, limit).await,
        ApiLog::Stats { which } => {
            let mut stats = Stats::default();
            each(context, &which, |found| {
                stats.count(&found);
                Ok(())
            })
            .await?;
            show(context.output, &stats)
        }
        ApiLog::Export { which } => export(context, &which).await,
        ApiLog::Refused { limit } => refused(context, limit).await,
        ApiLog::Replay(args) => replay::run(context, args).await,
        ApiLog::Erase(args) => erase::run(context, args).await,
        ApiLog::Hash => hash(context).await,
    }
}

/// Whether a call is one of those that are asked for.
pub(super) fn matches(which: &Which, found: &Found) -> bool {
    let call = &found.call;
    let has = |text: &str, part: &Option<String>| part.as_ref().is_none_or(|part| text.contains(part.as_str()));
    let text = |part: &Option<String>| {
        part.as_ref().is_none_or(|part| String::from_utf8_lossy(&call.request).contains(part.as_str()))
    };
    which.app.is_none_or(|app| app == App(call.app))
        && has(&call.method, &which.method)
        && has(&call.principal, &which.principal)
        && text(&which.text)
        && (!which.failed || found.failed.is_some())
}

/// Shows each matching call of the logs, in order.
async fn each(
    context: &Context,
    which: &Which,
    mut show: impl FnMut(Found) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut logs = Logs::open(context, which).await?;
    while let Some(found) = logs.next().await? {
        if matches(which, &found) {
            show(found)?;
        }
    }
    Ok(())
}

async fn export(context: &Context, which: &Which) -> Result<(), Failure> {
    let mut logs = Logs::open(context, which).await?;
    while let Some(found) = logs.next().await? {
        if matches(which, &found) {
            exported(&file::line_of(&logs.cluster, &found))?;
        }
    }
    Ok(())
}

async fn search(context: &Context, which: &Which, limit: u32) -> Result<(), Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut logs = Logs::open(context, which).await?;
    let mut calls = Calls::default();
    while let Some(found) = logs.next().await? {
        if !matches(which, &found) {
            continue;
        }
        if calls.calls.len() == limit {
            calls.more = true;
            break;
        }
        calls.calls.push(found);
    }
    show(context.output, &calls)
}

async fn tail(context: &Context, which: &Which, follow: bool, lines: u32) -> Result<(), Failure> {
    let lines = usize::try_from(lines).unwrap_or(usize::MAX);
    // The newest calls are in the log, unless older ones are asked for.
    let mut logs = match which.from {
        Some(_) => Logs::open(context, which).await?,
        None => Logs::open_held(context, which).await?,
    };
    let mut last: VecDeque<Found> = VecDeque::with_capacity(lines.min(64));
    while let Some(found) = logs.next().await? {
        if lines > 0 && matches(which, &found) {
            if last.len() == lines {
                last.pop_front();
            }
            last.push_back(found);
        }
    }
    last.into_iter().try_for_each(|found| show_line(context.output, &Line(found)))?;
    if !follow {
        return Ok(());
    }
    until_interrupted(async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            logs.go_on(context).await?;
            while let Some(found) = logs.next().await? {
                if matches(which, &found) {
                    show_line(context.output, &Line(found))?;
                }
            }
        }
    })
    .await
}

async fn refused(context: &Context, limit: u32) -> Result<(), Failure> {
    let mut all = Refused::default();
    for endpoint in &context.endpoints {
        let mut client = client(context.channel_to(endpoint).await?);
        let call = client.list_refused_calls(pb::ListRefusedCallsRequest { limit });
        let calls = context.ask(Effect::Reads, QUICK, call).await?.calls;
        all.0.extend(calls.into_iter().map(|call| (endpoint.clone(), call)));
    }
    show(context.output, &all)
}

/// The hash of each keyspace, over all nodes that lead a shard.
async fn hash(context: &Context) -> Result<(), Failure> {
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for address in source::leaders(context).await? {
        let mut client = client(context.channel_to(&address).await?);
        let call = client.hash_keyspaces(pb::HashKeyspacesRequest {});
        for one in context.ask(Effect::Reads, SLOW, call).await?.keyspaces {
            let sum = sums.entry(one.name).or_default();
            *sum = (sum.0 + one.records, sum.1.wrapping_add(one.hash));
        }
    }
    show(context.output, &Hashes(sums))
}
