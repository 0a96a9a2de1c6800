//! The tail of the API log: the newest calls that changed data, as the logs of this node have them.
//!
//! Invariant: of the log of each shard a bounded part is read, so a look costs the same however long the logs are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use axum::extract::State;
use keevo_core::{ErrorKind, Result};
use keevo_proto::admin::v1 as pb;
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Caller;
use super::reply::{Answer, Asked, Reply};
use super::{Console, page_size};
use crate::auth::grant::{Action, Target};

/// How many entries of each shard's log are looked at, from its end back.
const ENTRIES_MAX: u64 = 256;
/// The most parts that these are read in.
const PARTS_MAX: usize = 4;
/// The most characters of a request that are shown.
const REQUEST_CHARS_MAX: usize = 600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TailOf {
    /// Only calls of this app; 0 = of keys and values.
    app: Option<u32>,
    /// Only calls whose method, caller or request has this.
    #[serde(default)]
    text: String,
    /// Only calls that failed.
    #[serde(default)]
    failed: bool,
    limit: Option<usize>,
}

/// A call, at the newest of the entries that have it.
struct Found {
    place: pb::LogPlace,
    call: pb::ApiCall,
}

/// The newest calls, newest first.
pub(super) async fn tail(State(console): State<Console>, caller: Caller, Asked(asked): Asked<TailOf>) -> Answer {
    let limit = page_size(asked.limit)?;
    caller.may(Action::Read, Target::ApiLog)?;
    let (mut calls, mut failed) = (BTreeMap::new(), BTreeMap::new());
    let shards: Vec<u64> = console.parts().node.replicas().iter().map(|replica| replica.shard.0).collect();
    for shard in &shards {
        match read(&console, *shard, &mut calls, &mut failed).await {
            // A replica may be on its way in or out.
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            read => read?,
        }
    }
    let mut found: Vec<(Found, Option<String>)> =
        calls.into_iter().map(|(id, found)| (found, failed.remove(&id))).collect();
    found.retain(|(found, failed)| asked.wants(&found.call, failed.as_deref()));
    found.sort_unstable_by_key(|(found, _)| std::cmp::Reverse((found.place.hlc, found.place.shard, found.place.index)));
    let more = found.len() > limit;
    found.truncate(limit);
    Ok(Reply(json!({
        "calls": found.iter().map(|(found, failed)| row(found, failed.as_deref())).collect::<Vec<_>>(),
        "more": more,
        "shards": shards.len(),
        "entries_max": ENTRIES_MAX,
    })))
}

impl TailOf {
    fn wants(&self, call: &pb::ApiCall, failed: Option<&str>) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.text.to_lowercase());
        self.app.is_none_or(|app| call.app.unwrap_or(0) == app)
            && (!self.failed || failed.is_some())
            && (self.text.is_empty()
                || has(&call.method)
                || has(&call.principal)
                || std::str::from_utf8(&call.request).is_ok_and(has))
    }
}

/// What names a call: its node and its stamp.
type Id = (u64, u64);

/// Reads the end of the log of a shard.
async fn read(
    console: &Console,
    shard: u64,
    calls: &mut BTreeMap<Id, Found>,
    failed: &mut BTreeMap<Id, String>,
) -> Result<()> {
    let reader = console.calls();
    let ask = |from_index| pb::ReadCallsRequest { shard, from_index, log_only: true, ..Default::default() };
    let end = reader.page(ask(u64::MAX)).await?.end_index;
    let mut from = end.saturating_sub(ENTRIES_MAX);
    for _ in 0..PARTS_MAX {
        let page = reader.page(ask(from)).await?;
        for record in page.records {
            failed.extend(record.failed.into_iter().map(|one| ((one.node, one.stamp_us), one.kind)));
            if let (Some(place), Some(call)) = (record.place, record.call) {
                keep(calls, Found { place, call });
            }
        }
        from = page.next_index;
        if from >= end {
            break;
        }
    }
    Ok(())
}

/// Keeps one entry of each call: that of the last attempt, and of those the first.
fn keep(calls: &mut BTreeMap<Id, Found>, found: Found) {
    match calls.entry((found.call.node, found.call.stamp_us)) {
        Entry::Vacant(place) => {
            place.insert(found);
        }
        Entry::Occupied(mut known) => {
            if found.call.attempt > known.get().call.attempt {
                known.insert(found);
            }
        }
    }
}

fn row(found: &Found, failed: Option<&str>) -> Value {
    let Found { place, call } = found;
    let request = std::str::from_utf8(&call.request).ok().map(|text| text.chars().take(REQUEST_CHARS_MAX));
    json!({
        "id": format!("{}-{}", call.node, call.stamp_us),
        "at_ms": place.hlc >> 16,
        "shard": place.shard,
        "index": place.index,
        "node": call.node,
        "app": call.app,
        "door": call.door,
        "who": call.principal,
        "method": call.method,
        "keyspace": call.keyspace,
        // A message of gRPC is no text.
        "request": request.filter(|_| call.door != "grpc").map(String::from_iter),
        "request_bytes": call.request.len(),
        "redacted": call.redacted,
        "replayed": call.replayed,
        "erased": call.erased,
        "failed": failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stamp_us: u64, attempt: u32, index: u64) -> Found {
        let place = pb::LogPlace { hlc: index << 16, shard: 1, index };
        Found { place, call: pb::ApiCall { node: 1, stamp_us, attempt, ..Default::default() } }
    }

    #[test]
    fn of_a_call_the_first_entry_of_the_last_attempt_is_kept() {
        let mut calls = BTreeMap::new();
        for (attempt, index) in [(0, 5), (1, 7), (1, 8), (0, 9)] {
            keep(&mut calls, found(3, attempt, index));
        }
        keep(&mut calls, found(4, 0, 6));
        let kept: Vec<(u64, u64)> = calls.iter().map(|(id, found)| (id.1, found.place.index)).collect();
        assert_eq!(kept, [(3, 7), (4, 6)]);
    }

    #[test]
    fn filters_look_at_app_text_and_outcome() {
        let call = pb::ApiCall {
            app: Some(2),
            method: "POST /chat/v1/channels".into(),
            principal: "alice".into(),
            request: "{\"id\":\"Roastery\"}".into(),
            ..Default::default()
        };
        let of = |app, text: &str, failed| TailOf { app, text: text.to_owned(), failed, limit: None };
        for (asked, wanted) in [
            (of(None, "", false), true),
            (of(Some(2), "ALICE", false), true),
            (of(Some(0), "", false), false),
            (of(None, "roastery", false), true),
            (of(None, "/chat/v1/", false), true),
            (of(None, "bob", false), false),
            (of(None, "", true), false),
        ] {
            assert_eq!(asked.wants(&call, None), wanted, "{:?} {}", asked.app, asked.text);
        }
        assert!(of(None, "", true).wants(&call, Some("INVALID")));
    }
}
