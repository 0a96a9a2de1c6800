//! The keyspaces that this engine has met: they are never changed, so one look is enough.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use keevo_core::{Error, ErrorKind, Keyspace, KeyspaceId, KeyspaceKind, Result, keyspaces};

use super::ClusterEngine;

/// The kinds of the keyspaces that were looked up.
#[derive(Debug, Default)]
pub(super) struct Known {
    kinds: RwLock<HashMap<KeyspaceId, KeyspaceKind>>,
}

impl ClusterEngine {
    /// The keyspace with this id, or `UnknownKeyspace`.
    pub async fn keyspace_by_id(&self, id: KeyspaceId) -> Result<Keyspace> {
        let met = self.shared.known.kinds.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        if let Some(kind) = met {
            return Ok(Keyspace { id, kind });
        }
        let (_, found) = keyspaces::keyspace_by_id(&self.meta(), id).await?;
        self.shared.known.kinds.write().unwrap_or_else(PoisonError::into_inner).insert(id, found.kind);
        Ok(found)
    }

    /// Refuses the meta keyspace, one that nobody made, and one that was made with another layout.
    pub(super) async fn check_keyspace(&self, keyspace: Keyspace) -> Result<()> {
        keyspaces::refuse_meta(keyspace)?;
        let found = self.keyspace_by_id(keyspace.id).await?;
        if found.kind != keyspace.kind {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("keyspace {} has another layout than the key says", keyspace.id),
            ));
        }
        Ok(())
    }
}
