//! Repeating calls of keys and values: past their preconditions, under a request id of the replay.
//!
//! Invariant: a write is applied once. Its request id is its number in the replay; a number that the session has seen before
//! gives the answer of that time.

use aws_lc_rs::digest::{SHA256, digest};
use keevo_core::{Batch, ClientId, Engine, Error, FanOut, FanOutAction, Keyspace, KeyspaceKind, Op, RequestId, Result};
use keevo_proto::admin::v1 as pb;
use keevo_proto::{Message, kv::v1 as wire};
use keevo_raft::ClusterEngine;

use crate::apilog::cursor::ReplayId;

const WRITE: &str = "keevo.kv.v1.Kv/Write";
const FAN_OUT: &str = "keevo.kv.v1.Kv/FanOut";
const KEYSPACE: &str = "keevo.kv.v1.Kv/Keyspace";

/// Whether a method is one of keys and values.
pub(super) fn is_one(method: &str) -> bool {
    method.starts_with("keevo.kv.v1.Kv/")
}

/// Whether the request of a method is the command of its entry.
pub(super) fn is_command(method: &str) -> bool {
    [WRITE, FAN_OUT].contains(&method)
}

/// The session of a replay.
pub(super) fn session(id: &ReplayId) -> ClientId {
    let hash = digest(&SHA256, format!("replay/{}/{}/{:?}", id.name, id.cluster, id.app).as_bytes());
    let first = hash.as_ref().first_chunk::<16>().copied().unwrap_or_default();
    ClientId(u128::from_be_bytes(first))
}

/// Refuses what could not be repeated.
pub(super) fn look(call: &pb::ApiCall) -> Result<()> {
    match call.method.as_str() {
        WRITE => batch_of(call).map(drop),
        FAN_OUT => fan_out_of(call).map(drop),
        KEYSPACE => keyspace_of(call).map(drop),
        other => Err(unknown(other)),
    }
}

pub(super) async fn repeat(engine: &ClusterEngine, now_ms: u64, request: RequestId, call: &pb::ApiCall) -> Result<()> {
    match call.method.as_str() {
        WRITE => {
            let batch = batch_of(call)?;
            let Some(kind) = batch.partition_key().map(|key| key.keyspace.kind) else { return Ok(()) };
            let keyspace = engine.keyspace(&call.keyspace, kind).await?;
            let batch = forced(batch, keyspace, |ttl_ms| left(call.clock_ms, ttl_ms, now_ms));
            write(engine, batch, request).await
        }
        FAN_OUT => {
            let fan_out = fan_out_of(call)?;
            let keyspace = engine.keyspace(&call.keyspace, fan_out.keyspace.kind).await?;
            let targets = fan_out.targets.into_iter().map(|target| keevo_core::Target { guard: None, ..target });
            let action = match fan_out.action {
                FanOutAction::Put { value, ttl_ms } => {
                    let ttl_ms = ttl_ms.map(|ttl_ms| left(call.clock_ms, ttl_ms, now_ms));
                    FanOutAction::Put { value, ttl_ms }
                }
                remove @ FanOutAction::Remove { .. } => remove,
            };
            let targets = targets.collect();
            engine.fan_out(FanOut { keyspace, action, guard_sort: None, targets, ..fan_out }).await.map(drop)
        }
        KEYSPACE => {
            let (name, kind) = keyspace_of(call)?;
            engine.keyspace(&name, kind).await.map(drop)
        }
        other => Err(unknown(other)),
    }
}

async fn write(engine: &ClusterEngine, batch: Batch, request: RequestId) -> Result<()> {
    let Some(key) = batch.partition_key().cloned() else { return Ok(()) };
    let batch = batch.with_request(request);
    match engine.write(batch.clone()).await {
        Err(error) if error.is_session_not_open() => {
            engine.open_session(&key, request.client).await?;
            engine.write(batch).await.map(drop)
        }
        written => written.map(drop),
    }
}

fn unknown(method: &str) -> Error {
    Error::invalid(format!("calls of {} cannot be repeated", method.escape_debug()))
}

fn decoded<M: Message + Default>(call: &pb::ApiCall) -> Result<M> {
    M::decode(call.request.clone()).map_err(|error| {
        Error::corrupt(format!("the request of a call of {} does not decode", call.method)).with_source(error)
    })
}

fn missing(what: &str) -> Error {
    Error::corrupt(format!("the request of a call has no {what}"))
}

fn batch_of(call: &pb::ApiCall) -> Result<Batch> {
    decoded::<wire::WriteRequest>(call)?.batch.ok_or_else(|| missing("batch"))?.try_into()
}

fn fan_out_of(call: &pb::ApiCall) -> Result<FanOut> {
    decoded::<wire::FanOutRequest>(call)?.fan_out.ok_or_else(|| missing("fan-out"))?.try_into()
}

fn keyspace_of(call: &pb::ApiCall) -> Result<(String, KeyspaceKind)> {
    let request: wire::KeyspaceRequest = decoded(call)?;
    Ok((request.name, request.create.ok_or_else(|| missing("kind"))?.try_into()?))
}

/// What is left of a time to live that began at `clock_ms`, at least a millisecond.
fn left(clock_ms: u64, ttl_ms: u64, now_ms: u64) -> u64 {
    clock_ms.saturating_add(ttl_ms).saturating_sub(now_ms).max(1)
}

/// The batch without preconditions, in another cluster's keyspace; `ttl` gives what is left of a time to live.
fn forced(batch: Batch, keyspace: Keyspace, ttl: impl Fn(u64) -> u64) -> Batch {
    let moved = |key: keevo_core::Key| keevo_core::Key { keyspace, ..key };
    let ops = batch.ops.into_iter().map(|op| match op {
        Op::Put { key, value, ttl_ms } => Op::Put { key: moved(key), value, ttl_ms: ttl_ms.map(&ttl) },
        Op::Delete { key } => Op::Delete { key: moved(key) },
        Op::DeleteRange { start, end } => Op::DeleteRange { start: moved(start), end },
        Op::Merge { key, delta } => Op::Merge { key: moved(key), delta },
        Op::Append { counter, prefix, value, index } => Op::Append { counter: moved(counter), prefix, value, index },
    });
    Batch { preconditions: Vec::new(), ops: ops.collect(), request: None }
}

#[cfg(test)]
mod tests {
    use keevo_core::{Check, ClusterId, KeyspaceId, Revision};

    use super::*;

    #[test]
    fn a_write_is_forced_into_the_keyspace_of_the_same_name() {
        let here = |id| Keyspace { id: KeyspaceId(id), kind: KeyspaceKind::Hashed };
        let key = here(3).key("p", "a");
        let batch = Batch::new()
            .put_ttl(key.clone(), "v", 5_000)
            .merge(here(3).key("p", "b"), 2)
            .require(key, Check::RevisionIs(Revision(9)));
        let forced = forced(batch, here(8), |ttl_ms| left(10_000, ttl_ms, 12_000));
        let expected = Batch::new().put_ttl(here(8).key("p", "a"), "v", 3_000).merge(here(8).key("p", "b"), 2);
        assert_eq!(forced, expected);
        assert_eq!(left(10_000, 5_000, 99_000), 1, "long gone");
    }

    #[test]
    fn replays_have_sessions_of_their_own() {
        let id = |name: &str, app| ReplayId { name: name.to_owned(), cluster: ClusterId(1), app };
        let sessions = [id("a", None), id("b", None), id("a", Some(1))].map(|id| session(&id));
        assert_eq!(sessions[0], session(&id("a", None)));
        assert!(sessions[0] != sessions[1] && sessions[0] != sessions[2]);
    }
}
