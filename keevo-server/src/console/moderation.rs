//! The moderation queue: what waits for a person, and what the person decides.
//!
//! Invariant: a decision is in the audit log before it is carried out, and its outcome after, as when it comes by gRPC.

use axum::extract::State;
use keevo_core::{Error, ErrorKind, Result};
use keevo_moderation_policy::{Action as Verdicted, Decision, QueuedVerdict, Ruling, WorkerStatus};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::guard::Caller;
use super::reply::{Answer, Asked, Reply, Told};
use super::{Console, page_size};
use crate::auth::Pass;
use crate::auth::grant::{Action, Target};

/// As what a decision is audited.
const DECIDING: &str = "keevo.admin.v1.Moderation/Decide";

/// How moderation does on this node.
pub(super) async fn status(State(console): State<Console>, caller: Caller) -> Answer {
    caller.may(Action::Admin, Target::Cluster)?;
    let moderation = &console.parts().moderation;
    let metrics = moderation.metrics().unwrap_or_default();
    let worker = |one: WorkerStatus| json!({ "url": one.url, "in_flight": one.in_flight, "resting": one.resting });
    let counts: Map<String, Value> = Verdicted::ALL
        .iter()
        .zip(metrics.verdicts)
        .map(|(action, count)| (action.name().to_owned(), json!(count)))
        .collect();
    Ok(Reply(json!({
        "workers": moderation.workers().into_iter().map(worker).collect::<Vec<_>>(),
        "verdicts": counts,
        "pending": metrics.pending,
        "lag_ms": metrics.lag_ms,
        "set_aside": metrics.set_aside,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueOf {
    app: u32,
    /// Only entries whose text was dealt with so: `flag`, `hold` and so on.
    action: Option<String>,
    /// The last entry of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

/// A page of an app's queue, oldest first. With an action it may be short, or empty, and have a next one.
pub(super) async fn queue(State(console): State<Console>, caller: Caller, Asked(asked): Asked<QueueOf>) -> Answer {
    let limit = page_size(asked.limit)?;
    caller.may(Action::Admin, Target::Cluster)?;
    let action = asked.action.as_deref().filter(|name| !name.is_empty()).map(action).transpose()?;
    let verdicts = console.parts().moderation.moderator().verdicts().await?;
    let page = verdicts.queue(asked.app, limit, asked.after.as_deref()).await?;
    let entries = page.entries.iter().filter(|one| action.is_none_or(|action| one.verdict.action == action));
    Ok(Reply(json!({ "entries": entries.map(entry).collect::<Vec<_>>(), "next": page.next })))
}

fn action(name: &str) -> Result<Verdicted> {
    let found = Verdicted::ALL.into_iter().find(|action| action.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = Verdicted::ALL.iter().map(|action| action.name()).collect();
        Error::invalid(format!("action is one of {}", names.join(", ")))
    })
}

fn entry(one: &QueuedVerdict) -> Value {
    let (verdict, version) = (&one.verdict, &one.verdict.version);
    json!({
        "id": one.id,
        "kind": version.kind,
        "text_id": version.id,
        "scope": version.scope,
        "author": version.author,
        "text": version.text,
        "at_ms": version.at_ms,
        "action": verdict.action.name(),
        "reasons": verdict.reasons,
        "scores": verdict.scores,
        "model": verdict.model,
        "masked": verdict.masked,
        "judged_ms": verdict.judged_ms,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decide {
    app: u32,
    id: String,
    /// `allow`, `remove` or `ban`.
    decision: String,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    note: String,
}

/// Decides on an entry of the queue. `NotFound` where it is not there, `Conflict` where somebody decided otherwise before.
pub(super) async fn decide(State(console): State<Console>, caller: Caller, Told(told): Told<Decide>) -> Answer {
    caller.may(Action::Admin, Target::Cluster)?;
    let request = json!({
        "app": told.app, "id": told.id, "decision": told.decision, "labels": told.labels, "note": told.note, "by": "console",
    });
    let decision = Decision {
        ruling: Ruling::from_name(&told.decision)?,
        reviewer: reviewer(&caller.principal()),
        labels: told.labels,
        note: told.note,
    };
    let Some(pass) = caller.pass() else { return carry_out(&console, told.app, &told.id, decision).await };
    let number = begin(pass, request).await?;
    let done = carry_out(&console, told.app, &told.id, decision).await;
    let outcome = done.as_ref().err().map_or("OK", |refusal| refusal.kind().row().name);
    if let Err(error) = pass.authority().audit().end(number, &pass.principal(), DECIDING, outcome).await {
        tracing::error!(%error, number, outcome, "the outcome could not be written to the audit log");
    }
    done
}

async fn begin(pass: &Pass, request: Value) -> Result<u64> {
    pass.authority().audit().begin(&pass.principal(), DECIDING, request).await.map_err(|error| {
        let message = format!("the audit log could not be written, so nothing was done: {}", error.message());
        Error::new(ErrorKind::Unavailable, message).with_source(error)
    })
}

async fn carry_out(console: &Console, app: u32, id: &str, decision: Decision) -> Answer {
    let moderation = &console.parts().moderation;
    let verdicts = moderation.moderator().verdicts().await?;
    let decided = verdicts.decide(app, id, decision, moderation.effects()).await?;
    Ok(Reply(json!({ "decided_ms": decided.decided_ms })))
}

/// A principal as the name of a reviewer, which has no white space.
fn reviewer(principal: &str) -> String {
    format!("console/{}", principal.replace(char::is_whitespace, "-"))
}
