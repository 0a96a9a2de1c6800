//! The key browser: partitions, the rows of one, and one value. Reads only.
//!
//! Invariant: rows are read through the engine, by the rights that its own calls ask for: a partition needs a grant that
//! covers it, a range of partitions one that covers all of it.

use axum::extract::State;
use bytes::Bytes;
use keevo_core::{
    Consistency, Engine, Error, ErrorKind, Key, Keyspace, KeyspaceKind, PageToken, Record, Result, Scan, ScanRange,
    prefix_end,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bytes::{escape, hex, preview, unescape, unhex};
use super::guard::Caller;
use super::keyspaces::find;
use super::reply::{Answer, Asked, Reply};
use super::{Console, page_size, partitions};
use crate::auth::grant::{Action, Target};

/// How much of a value a row shows, in bytes.
const ROW_BYTES_MAX: usize = 256;
/// How much of a value is shown when it is asked for alone, in bytes.
const VALUE_BYTES_MAX: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Partitions {
    keyspace: String,
    /// What the partitions begin with.
    #[serde(default)]
    prefix: String,
    /// Where the page before has ended.
    after: Option<String>,
    limit: Option<usize>,
}

/// A page of the partitions of a hashed keyspace, in the order of their hashes, as this node has them.
pub(super) async fn partitions(
    State(console): State<Console>,
    caller: Caller,
    Asked(asked): Asked<Partitions>,
) -> Answer {
    let limit = page_size(asked.limit)?;
    let keyspace = find(&console, &caller, &asked.keyspace).await?;
    if keyspace.kind != KeyspaceKind::Hashed {
        return Err(Error::invalid(format!("keyspace {} is ordered: list its rows", asked.keyspace)).into());
    }
    let prefix = unescape(&asked.prefix)?;
    caller.may(Action::Read, Target::Prefix(&asked.keyspace, &prefix))?;
    let page = list(&console, keyspace, prefix, asked.after.as_deref(), limit).await?;
    Ok(Reply(json!({
        "partitions": page.partitions.iter().map(|one| escape(one)).collect::<Vec<_>>(),
        "next": page.next.as_deref().map(hex),
        "done_permille": page.done_permille,
    })))
}

/// A page of partitions, off the threads that serve.
pub(super) async fn list(
    console: &Console,
    keyspace: Keyspace,
    prefix: Bytes,
    after: Option<&str>,
    limit: usize,
) -> Result<partitions::Page> {
    let after = after.map(|text| unhex("after", text)).transpose()?;
    let (store, now_ms) = (console.parts().metrics.store.clone(), console.parts().clock.now_ms());
    let walk = move || partitions::list(&store, keyspace, &prefix, after.as_deref(), (limit, now_ms));
    let ended = tokio::task::spawn_blocking(walk).await;
    ended.map_err(|error| Error::new(ErrorKind::Io, "the partitions could not be listed").with_source(error))?
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rows {
    keyspace: String,
    /// Of a hashed keyspace: the partition.
    partition: Option<String>,
    /// What the sort keys begin with; in an ordered keyspace, what partition and sort key together begin with.
    #[serde(default)]
    prefix: String,
    /// Where the page before has ended.
    after: Option<String>,
    limit: Option<usize>,
}

/// A page of rows, by key.
pub(super) async fn rows(State(console): State<Console>, caller: Caller, Asked(asked): Asked<Rows>) -> Answer {
    let limit = page_size(asked.limit)?;
    let name = &asked.keyspace;
    let keyspace = find(&console, &caller, name).await?;
    let prefix = unescape(&asked.prefix)?;
    let partition = asked.partition.as_deref().map(unescape).transpose()?;
    let scan = match (keyspace.kind, partition) {
        (_, Some(partition)) => {
            caller.may(Action::Read, Target::Partition(name, &partition))?;
            Scan::prefix(keyspace, partition, prefix, limit)
        }
        (KeyspaceKind::Hashed, None) => {
            return Err(Error::invalid("say which partition: the keyspace is hashed").into());
        }
        (KeyspaceKind::Ordered { partition_bytes }, None) => {
            let common = prefix.get(..usize::from(partition_bytes)).unwrap_or(&prefix);
            caller.may(Action::Read, Target::Prefix(name, common))?;
            let range = ScanRange::Ordered { keyspace, end: prefix_end(&prefix), start: prefix };
            Scan { range, ..Scan::partition(keyspace, Bytes::new(), limit) }
        }
    };
    let after = asked.after.as_deref().map(|text| unhex("after", text)).transpose()?;
    let page = console.parts().engine.scan(scan.after(after.map(|place| PageToken(place.into())))).await?;
    let rows: Vec<Value> = page.records.iter().map(|(key, record)| row(key, record, ROW_BYTES_MAX)).collect();
    Ok(Reply(json!({ "rows": rows, "next": page.next.map(|token| hex(&token.0)) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct One {
    keyspace: String,
    partition: String,
    #[serde(default)]
    sort: String,
}

/// One row with its value.
pub(super) async fn value(State(console): State<Console>, caller: Caller, Asked(asked): Asked<One>) -> Answer {
    let keyspace = find(&console, &caller, &asked.keyspace).await?;
    let partition = unescape(&asked.partition)?;
    caller.may(Action::Read, Target::Partition(&asked.keyspace, &partition))?;
    let key = keyspace.key(partition, unescape(&asked.sort)?);
    let found = console.parts().engine.get(key.clone(), Consistency::Linearizable).await?;
    let gone = || Error::new(ErrorKind::NotFound, "there is no such row, or not any more");
    let record = found.ok_or_else(gone)?;
    Ok(Reply(row(&key, &record, VALUE_BYTES_MAX)))
}

fn row(key: &Key, record: &Record, bytes_max: usize) -> Value {
    json!({
        "partition": escape(&key.partition),
        "sort": escape(&key.sort),
        // Beyond what a browser's numbers hold exactly.
        "revision": record.revision.0.to_string(),
        "expires_at_ms": record.expires_at_ms,
        "value": preview(&record.value, bytes_max),
    })
}
