//! The model's keyspaces: a name, an id that is never reused, a kind that never changes.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::KeyspaceId;
use crate::key::{Keyspace, KeyspaceKind};
use crate::limits::KEYSPACE_NAME_BYTES_MAX;

#[derive(Debug, Default)]
pub(super) struct Keyspaces {
    by_name: BTreeMap<String, Keyspace>,
    kinds: BTreeMap<KeyspaceId, KeyspaceKind>,
}

impl Keyspaces {
    pub(super) fn open(&mut self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        validate_name(name)?;
        kind.validate()?;
        if let Some(found) = self.by_name.get(name) {
            if found.kind != kind {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("keyspace {name} exists as {}, not as {kind}", found.kind),
                ));
            }
            return Ok(*found);
        }
        let id = u32::try_from(self.by_name.len() + 1)
            .map_err(|error| Error::new(ErrorKind::ResourceExhausted, "no keyspace id is left").with_source(error))?;
        let keyspace = Keyspace { id: KeyspaceId(id), kind };
        self.by_name.insert(name.to_owned(), keyspace);
        self.kinds.insert(keyspace.id, kind);
        Ok(keyspace)
    }

    pub(super) fn find(&self, name: &str) -> Result<Keyspace> {
        validate_name(name)?;
        self.by_name
            .get(name)
            .copied()
            .ok_or_else(|| Error::new(ErrorKind::UnknownKeyspace, format!("there is no keyspace {name}")))
    }

    /// Refuses to write to the cluster's own keyspace, to one that was never created, and to one of another kind.
    pub(super) fn check(&self, keyspace: Keyspace) -> Result<()> {
        if keyspace.id == Keyspace::META.id {
            return Err(Error::invalid("keyspace 0 belongs to the cluster; users write to keyspaces of their own"));
        }
        match self.kinds.get(&keyspace.id) {
            Some(kind) if *kind == keyspace.kind => Ok(()),
            Some(kind) => Err(Error::invalid(format!("keyspace {} is {kind}, not {}", keyspace.id, keyspace.kind))),
            None => {
                Err(Error::new(ErrorKind::UnknownKeyspace, format!("there is no keyspace with id {}", keyspace.id)))
            }
        }
    }
}

fn validate_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(Error::invalid(format!(
            "a keyspace name has 1 to {KEYSPACE_NAME_BYTES_MAX} bytes of a-z 0-9 . _ -, unlike '{}'",
            name.escape_debug()
        )));
    }
    Ok(())
}
