//! The tail of the audit log, newest first.

use axum::extract::State;
use keevo_core::Error;
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Caller;
use super::reply::{Answer, Asked, Reply};
use super::{Console, page_size};
use crate::auth::grant::{Action, Target};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    /// Only entries with a lower number.
    before: Option<u64>,
    limit: Option<usize>,
}

/// A page of the log, newest first. Without authentication nothing is logged.
pub(super) async fn tail(State(console): State<Console>, caller: Caller, Asked(asked): Asked<Before>) -> Answer {
    let limit = page_size(asked.limit)?;
    caller.may(Action::Admin, Target::Cluster)?;
    let Some(authority) = &console.parts().authority else {
        return Ok(Reply(json!({ "on": false, "entries": [], "next": null })));
    };
    let audit = authority.audit();
    let end = match asked.before {
        Some(before) => before.saturating_sub(1),
        None => audit.page(u64::MAX, 1).await?.last,
    };
    let start = end.saturating_sub(u64::try_from(limit).unwrap_or(u64::MAX));
    let wanted = usize::try_from(end - start).unwrap_or(limit);
    let page = audit.page(start, wanted).await?;
    let read = |bytes: &bytes::Bytes| {
        serde_json::from_slice::<Value>(bytes)
            .map_err(|error| Error::corrupt("an entry of the audit log is no JSON").with_source(error))
    };
    let mut entries = page.entries.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    entries.reverse();
    Ok(Reply(json!({
        "on": true,
        "entries": entries,
        "next": (start > 0).then(|| start + 1),
        "last": page.last,
        "last_sha256": page.last_sha256,
    })))
}
