//! Which keyspaces exist, as far as requests have asked.
//!
//! Invariant: only what the host confirmed is kept. A keyspace never changes and its id is never reused, so an entry
//! stays true for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use keevo_core::{Error, ErrorKind, Keyspace, KeyspaceId, KeyspaceKind, Result};

use crate::host::Host;

/// The most keyspaces that are kept; further ones are asked for at every request.
const KEPT_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Keyspaces {
    known: RwLock<BTreeMap<KeyspaceId, KeyspaceKind>>,
    /// Asked for only where callers have limited rights.
    names: RwLock<BTreeMap<KeyspaceId, Arc<str>>>,
}

impl Keyspaces {
    /// Keeps a keyspace that the engine named.
    pub(super) fn learn(&self, keyspace: Keyspace) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < KEPT_MAX {
            known.insert(keyspace.id, keyspace.kind);
        }
    }

    /// The name of a keyspace, or `UnknownKeyspace`.
    pub(super) async fn name<H: Host>(&self, host: &H, id: KeyspaceId) -> Result<Arc<str>> {
        let known = self.names.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(name) = known {
            return Ok(name);
        }
        let name: Arc<str> = host.keyspace_name(id).await?.into();
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() < KEPT_MAX {
            names.insert(id, Arc::clone(&name));
        }
        Ok(name)
    }

    /// Refuses keyspace 0 with `Invalid`, and one that does not exist with this layout with `UnknownKeyspace`.
    pub(super) async fn check<H: Host>(&self, host: &H, keyspace: Keyspace) -> Result<()> {
        if keyspace.id == Keyspace::META.id {
            return Err(Error::invalid("keyspace 0 belongs to the cluster; open a keyspace by its name"));
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&keyspace.id).copied();
        let kind = if let Some(kind) = known {
            kind
        } else {
            let found = host.keyspace_by_id(keyspace.id).await?;
            self.learn(found);
            found.kind
        };
        if kind == keyspace.kind {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::UnknownKeyspace,
            format!("keyspace {} is {kind}, not {}", keyspace.id, keyspace.kind),
        ))
    }
}
