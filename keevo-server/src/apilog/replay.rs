//! Repeating calls as they were accepted, with their principal, time and random numbers.
//!
//! ```text
//! records of one app, in order ─▶ cursor: skip what was repeated ─▶ one after the other ─▶ cursor moves
//!                                                                    │
//!              keys and values: the engine, past preconditions ◀─────┼─────▶ feeds and chat: the service or the API itself
//! ```
//!
//! A call of keys and values is applied once, however often the replay is cut off: it carries a request id of the replay's own
//! session. One of feeds or chat that was cut off is repeated, and makes up the same ids and times again.
//!
//! Invariant: the order of the records is the order of their effects; nothing of an app runs beside the rest of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use keevo_core::call::{Call, CallDoor, CallId, CallLog, CallOrigin, CallRequest, Envelope};
use keevo_core::{Clock, Error, ErrorKind, RequestId, Result, ShardId};
use keevo_proto::admin::v1 as pb;
use keevo_raft::ClusterEngine;

use super::cursor::{Cursor, ReplayId, order};

mod doors;
mod kv;

pub(crate) use doors::Doors;

/// The most calls of one request.
const CALLS_MAX: usize = 256;

/// Why a call is not repeated whose request is gone.
const ERASED: &str = "its user was erased";

/// Repeats calls at one node.
pub(crate) struct Replayer {
    engine: ClusterEngine,
    log: Arc<CallLog>,
    clock: Arc<dyn Clock>,
    doors: Doors,
    /// The replays that are under way here.
    busy: Mutex<BTreeMap<ReplayId, Arc<tokio::sync::Mutex<()>>>>,
}

impl std::fmt::Debug for Replayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replayer")
    }
}

impl Replayer {
    pub(crate) fn new(engine: ClusterEngine, log: Arc<CallLog>, clock: Arc<dyn Clock>, doors: Doors) -> Arc<Self> {
        Arc::new(Self { engine, log, clock, doors, busy: Mutex::default() })
    }

    /// How far a replay has come.
    pub(crate) async fn cursor(&self, request: pb::GetReplayCursorRequest) -> Result<pb::GetReplayCursorResponse> {
        let id = ReplayId::new(request.name, &request.cluster_id, request.app)?;
        Ok(id.load(&self.engine).await?.told)
    }

    /// Repeats calls, and says what became of each.
    pub(crate) async fn replay(&self, request: pb::ReplayCallsRequest) -> Result<pb::ReplayCallsResponse> {
        let id = ReplayId::new(request.name, &request.cluster_id, request.app)?;
        check_records(&request.records, request.app)?;
        if !request.into_source && self.engine.node().cluster() == Some(id.cluster) {
            return Err(Error::invalid(
                "this cluster recorded these calls, and would record them again: name another one, or say that it shall",
            ));
        }
        let turn = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(busy.entry(id.clone()).or_default())
        };
        let Ok(_turn) = turn.try_lock() else {
            let message = format!("a replay named {} is under way for this app", id.name);
            return Err(Error::new(ErrorKind::Conflict, message));
        };
        let mut cursor = id.load(&self.engine).await?;
        let before = cursor.told.calls;
        let mut results = Vec::with_capacity(request.records.len());
        let mut cut_off = None;
        for record in request.records {
            match self.one(&id, (&mut cursor, before), record, request.dry_run).await {
                Ok(result) => results.push(result),
                Err(error) => {
                    cut_off = Some(error);
                    break;
                }
            }
        }
        if cursor.told.calls > before && !request.dry_run {
            id.save(&self.engine, &mut cursor).await?;
        }
        match cut_off {
            Some(error) => Err(error),
            None => Ok(pb::ReplayCallsResponse { results }),
        }
    }

    /// Repeats one call. An error says that it is to be tried again; what is refused for good is a result.
    async fn one(
        &self,
        id: &ReplayId,
        (cursor, saved): (&mut Cursor, u64),
        record: pb::CallRecord,
        dry_run: bool,
    ) -> Result<pb::ReplayResult> {
        let (Some(place), Some(call)) = (record.place, record.call) else {
            return Err(Error::invalid("a record has no place or no call"));
        };
        if cursor.told.place.as_ref().is_some_and(|last| order(&place) <= order(last)) {
            return Ok(result(pb::ReplayOutcome::Skipped, String::new()));
        }
        if call.erased {
            // It takes no number: those behind it keep theirs, whether it is there or not.
            cursor.told.place = Some(place);
            return Ok(result(pb::ReplayOutcome::Skipped, ERASED.to_owned()));
        }
        let number = cursor.told.calls.saturating_add(1);
        let refused = if dry_run { look(&call) } else { self.repeat(id, (number, saved), &place, call).await };
        let told = match refused {
            Ok(()) => result(pb::ReplayOutcome::Applied, String::new()),
            Err(error) if passes(error.kind()) => return Err(error),
            Err(error) => {
                let reason = format!("{}: {}", error.kind().row().name, error.message());
                result(pb::ReplayOutcome::Failed, reason)
            }
        };
        cursor.told = pb::GetReplayCursorResponse { place: Some(place), calls: number };
        Ok(told)
    }

    /// `number` is the call's in the replay, `saved` that of the last one that the stored cursor has passed.
    async fn repeat(
        &self,
        id: &ReplayId,
        (number, saved): (u64, u64),
        place: &pb::LogPlace,
        call: pb::ApiCall,
    ) -> Result<()> {
        let envelope = envelope_of(&call)?;
        let origin = CallOrigin { cluster: id.cluster, shard: ShardId(place.shard), index: place.index };
        let again: Arc<Call> = self.log.again(envelope, origin);
        if kv::is_one(&call.method) {
            // What is behind the stored cursor is asked for again when the replay is cut off here.
            let request = RequestId { client: kv::session(id), sequence: number, acked_below: saved.saturating_add(1) };
            return again.run(kv::repeat(&self.engine, self.clock.now_ms(), request, &call)).await;
        }
        again.run(self.doors.repeat(&call)).await
    }
}

/// Refuses what could not be repeated.
fn look(call: &pb::ApiCall) -> Result<()> {
    if kv::is_one(&call.method) { kv::look(call) } else { Doors::look(call) }
}

fn result(outcome: pb::ReplayOutcome, reason: String) -> pb::ReplayResult {
    pb::ReplayResult { outcome: outcome.into(), reason }
}

/// Whether a call that ended so is to be tried again.
fn passes(kind: ErrorKind) -> bool {
    kind.is_retryable() || matches!(kind, ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded)
}

fn check_records(records: &[pb::CallRecord], app: Option<u32>) -> Result<()> {
    if records.len() > CALLS_MAX {
        return Err(Error::new(ErrorKind::BatchTooLarge, format!("a request has at most {CALLS_MAX} calls")));
    }
    let in_order = records.is_sorted_by(|left, right| match (&left.place, &right.place) {
        (Some(left), Some(right)) => order(left) < order(right),
        _ => false,
    });
    if !in_order {
        return Err(Error::invalid("the calls are not in the order of their places"));
    }
    if records.iter().any(|record| record.call.as_ref().is_none_or(|call| call.app != app)) {
        return Err(Error::invalid("a call is of another app than the request"));
    }
    Ok(())
}

fn envelope_of(call: &pb::ApiCall) -> Result<Envelope> {
    let doors = [CallDoor::Grpc, CallDoor::FeedsHttp, CallDoor::ChatHttp];
    let door = doors.into_iter().find(|door| door.name() == call.door);
    let request = if kv::is_command(&call.method) {
        CallRequest::Command
    } else {
        CallRequest::Body(Bytes::clone(&call.request))
    };
    Ok(Envelope {
        id: CallId { node: call.node, stamp_us: call.stamp_us },
        at_us: call.at_us,
        seed: call.seed,
        app: call.app,
        door: door.ok_or_else(|| Error::invalid(format!("there is no door {}", call.door.escape_debug())))?,
        principal: call.principal.clone(),
        method: call.method.clone(),
        request,
        redacted: call.redacted,
        origin: None,
        erased: call.erased,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(hlc: u64, app: Option<u32>) -> pb::CallRecord {
        let place = Some(pb::LogPlace { hlc, shard: 1, index: hlc });
        pb::CallRecord { place, call: Some(pb::ApiCall { app, ..pb::ApiCall::default() }), failed: Vec::new() }
    }

    #[test]
    fn calls_come_in_order_and_of_one_app() {
        let check = |records: &[pb::CallRecord]| check_records(records, Some(3)).map_err(|error| error.kind());
        assert_eq!(check(&[record(1, Some(3)), record(2, Some(3))]), Ok(()));
        assert_eq!(check(&[record(2, Some(3)), record(1, Some(3))]), Err(ErrorKind::Invalid));
        assert_eq!(check(&[record(1, Some(3)), record(1, Some(3))]), Err(ErrorKind::Invalid));
        assert_eq!(check(&[record(1, Some(3)), record(2, None)]), Err(ErrorKind::Invalid));
        let many: Vec<_> = (0..257).map(|hlc| record(hlc, Some(3))).collect();
        assert_eq!(check(&many), Err(ErrorKind::BatchTooLarge));
    }
}
