//! Which keyspaces there are.
//!
//! Invariant: nobody hears of a keyspace in which their role allows nothing.

use axum::extract::State;
use futures::stream::{self, StreamExt};
use keevo_core::keyspaces::{keyspace_by_id, validate_name};
use keevo_core::{Engine, Error, ErrorKind, Keyspace, KeyspaceId, KeyspaceKind, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Caller;
use super::reply::{Answer, Asked, Reply};
use super::{Console, page_size};
use crate::auth::grant::{Action, LAYER_KEYSPACES, Target};

/// How many rows are read at once.
const AT_ONCE: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// The id after which the page begins.
    #[serde(default)]
    after: u32,
    limit: Option<usize>,
}

/// A page of the keyspaces by id, those that the caller may know of.
pub(super) async fn list(State(console): State<Console>, caller: Caller, Asked(page): Asked<Page>) -> Answer {
    let limit = page_size(page.limit)?;
    let meta = console.parts().engine.meta();
    let count = u32::try_from(limit).unwrap_or(u32::MAX);
    // Ids are given one after the other and never taken back, so the first that there is not ends the list.
    let ids = (page.after.saturating_add(1)..).take(limit);
    let meta = &meta;
    let mut found =
        stream::iter(ids.map(|id| async move { keyspace_by_id(meta, KeyspaceId(id)).await })).buffered(AT_ONCE);
    let (mut rows, mut next) = (Vec::new(), Some(page.after.saturating_add(count)));
    while let Some(one) = found.next().await {
        match one {
            Ok((name, keyspace)) if caller.knows(&name)? => rows.push(row(&caller, &name, keyspace)?),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnknownKeyspace => {
                next = None;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Reply(json!({ "keyspaces": rows, "next": next })))
}

fn row(caller: &Caller, name: &str, keyspace: Keyspace) -> Result<Value> {
    let partition_bytes = match keyspace.kind {
        KeyspaceKind::Hashed => None,
        KeyspaceKind::Ordered { partition_bytes } => Some(partition_bytes),
    };
    Ok(json!({
        "id": keyspace.id.0,
        "name": name,
        "kind": if partition_bytes.is_some() { "ordered" } else { "hashed" },
        "partition_bytes": partition_bytes,
        "layer": LAYER_KEYSPACES.contains(&name),
        "whole": caller.could(Action::Read, Target::Prefix(name, b""))?,
    }))
}

/// The keyspace of that name. What the caller may not know of does not exist for it.
pub(super) async fn find(console: &Console, caller: &Caller, name: &str) -> Result<Keyspace> {
    validate_name(name)?;
    if !caller.knows(name)? {
        return Err(Error::new(ErrorKind::UnknownKeyspace, format!("there is no keyspace {name}")));
    }
    console.parts().engine.find_keyspace(name).await
}
