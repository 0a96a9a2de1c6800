//! The table of roles and keys: one row of the meta group, read whole.
//!
//! ```text
//! meta keyspace, partition "auth":   table → { "roles": {NAME: [grant, …]}, "keys": {ID: {role, sha256, …}} }, JSON
//! ```
//!
//! Invariant: of a key's text only the SHA-256 is kept. The text has 256 random bits, so a slow hash would add nothing. The
//! row is bounded, so that it always fits: at most [`ROLES_MAX`] roles and [`KEYS_MAX`] keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Key, Keyspace, Result};
use serde::{Deserialize, Serialize};

use super::grant::{Action, Grant, Place};

/// The most roles.
pub const ROLES_MAX: usize = 128;
/// The most keys.
pub const KEYS_MAX: usize = 1_024;
/// The most grants of a role.
pub const GRANTS_MAX: usize = 64;
/// The longest name of a role, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest note of a key, in bytes.
const NOTE_BYTES_MAX: usize = 128;
/// The most bytes of all grants of a role, as text.
const ROLE_BYTES_MAX: usize = 1_024;

/// What is kept of a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// Its role.
    pub role: String,
    /// SHA-256 of its text, as hexadecimal digits.
    pub sha256: String,
    /// What it is for.
    #[serde(default)]
    pub note: String,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// When it ends, milliseconds since 1970.
    #[serde(default)]
    pub expires_ms: Option<u64>,
}

impl std::fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRow").field("role", &self.role).field("note", &self.note).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    #[serde(default)]
    roles: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    keys: BTreeMap<String, KeyRow>,
}

/// All roles and keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    row: Row,
    roles: BTreeMap<String, Arc<[Grant]>>,
}

/// The roles that are always there.
pub fn built_in(name: &str) -> Option<Vec<Grant>> {
    let actions = match name {
        "admin" => &Action::ALL[..],
        "writer" => &[Action::Read, Action::Write, Action::Watch],
        "reader" => &[Action::Read, Action::Watch],
        _ => return None,
    };
    Some(vec![Grant::new(actions, Place::Everything)])
}

/// The names of the roles that are always there.
pub const BUILT_IN: [&str; 3] = ["admin", "reader", "writer"];

impl Default for Table {
    fn default() -> Self {
        Self::of(Row::default()).expect("an empty row has no bad grant")
    }
}

impl Table {
    fn of(row: Row) -> Result<Self> {
        let mut roles = BTreeMap::new();
        for (name, grants) in &row.roles {
            let parsed = grants.iter().map(|text| text.parse()).collect::<Result<Vec<Grant>>>();
            let parsed =
                parsed.map_err(|error| Error::corrupt(format!("role {name} has a bad grant")).with_source(error))?;
            roles.insert(name.clone(), Arc::from(parsed));
        }
        for name in BUILT_IN {
            roles.insert(name.to_owned(), Arc::from(built_in(name).unwrap_or_default()));
        }
        Ok(Self { row, roles })
    }

    /// Decodes the row.
    pub fn decode(value: &[u8]) -> Result<Self> {
        let row = serde_json::from_slice(value)
            .map_err(|error| Error::corrupt("the table of roles and keys is malformed").with_source(error))?;
        Self::of(row)
    }

    /// Encodes the row.
    pub fn encode(&self) -> Result<Bytes> {
        serde_json::to_vec(&self.row)
            .map(Bytes::from)
            .map_err(|error| Error::invalid("the table of roles and keys is no JSON").with_source(error))
    }

    /// The key of the row.
    pub fn key() -> Key {
        Keyspace::META.key("auth", "table")
    }

    /// What a role allows.
    pub fn grants(&self, role: &str) -> Option<Arc<[Grant]>> {
        self.roles.get(role).map(Arc::clone)
    }

    /// All roles, by name: what each allows.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &[Grant])> {
        self.roles.iter().map(|(name, grants)| (name.as_str(), grants.as_ref()))
    }

    /// What is kept of the key with this id.
    pub fn find_key(&self, id: &str) -> Option<&KeyRow> {
        self.row.keys.get(id)
    }

    /// All keys, by id.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &KeyRow)> {
        self.row.keys.iter().map(|(id, row)| (id.as_str(), row))
    }

    /// The table with a role made or replaced.
    pub fn with_role(&self, name: &str, grants: &[String]) -> Result<Self> {
        check_role_name(name)?;
        if grants.is_empty() || grants.len() > GRANTS_MAX {
            return Err(Error::invalid(format!("a role has 1 to {GRANTS_MAX} grants")));
        }
        let grants = grants.iter().map(|text| text.parse()).collect::<Result<Vec<Grant>>>()?;
        let grants: Vec<String> = grants.iter().map(ToString::to_string).collect();
        if grants.iter().map(String::len).sum::<usize>() > ROLE_BYTES_MAX {
            return Err(Error::invalid(format!("the grants of a role have at most {ROLE_BYTES_MAX} bytes as text")));
        }
        let mut row = self.row.clone();
        if row.roles.len() >= ROLES_MAX && !row.roles.contains_key(name) {
            return Err(Error::new(ErrorKind::ResourceExhausted, format!("there are {ROLES_MAX} roles already")));
        }
        row.roles.insert(name.to_owned(), grants);
        Self::of(row)
    }

    /// The table without a role; `NotFound` where there is none.
    pub fn without_role(&self, name: &str) -> Result<Self> {
        check_role_name(name)?;
        let mut row = self.row.clone();
        row.roles.remove(name).ok_or_else(|| no_role(name))?;
        Self::of(row)
    }

    /// The table with another key.
    pub fn with_key(&self, id: &str, key: KeyRow) -> Result<Self> {
        if !self.roles.contains_key(&key.role) {
            return Err(no_role(&key.role));
        }
        if key.note.len() > NOTE_BYTES_MAX || key.note.chars().any(char::is_control) {
            let message = format!("the note of a key has at most {NOTE_BYTES_MAX} bytes and no control characters");
            return Err(Error::invalid(message));
        }
        let mut row = self.row.clone();
        if row.keys.len() >= KEYS_MAX {
            let message = format!("there are {KEYS_MAX} keys already: revoke those that nobody uses");
            return Err(Error::new(ErrorKind::ResourceExhausted, message));
        }
        if row.keys.insert(id.to_owned(), key).is_some() {
            return Err(Error::new(ErrorKind::Conflict, format!("there is a key {id} already")));
        }
        Self::of(row)
    }

    /// The table without a key; `NotFound` where there is none.
    pub fn without_key(&self, id: &str) -> Result<Self> {
        let mut row = self.row.clone();
        let none = || Error::new(ErrorKind::NotFound, format!("there is no key {}", id.escape_debug()));
        row.keys.remove(id).ok_or_else(none)?;
        Self::of(row)
    }
}

fn no_role(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no role {}", name.escape_debug()))
}

fn check_role_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(good) {
        let message = format!("a role's name has 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 . _ -");
        return Err(Error::invalid(message));
    }
    if BUILT_IN.contains(&name) {
        return Err(Error::invalid(format!("the role {name} is always there as it is; choose another name")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::limits::VALUE_BYTES_MAX;

    fn key(role: &str) -> KeyRow {
        let (note, sha256) = ("\"".repeat(NOTE_BYTES_MAX), "0".repeat(64));
        KeyRow { role: role.to_owned(), sha256, note, created_ms: u64::MAX, expires_ms: Some(u64::MAX) }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let table = Table::default().with_role("sales", &["read kv:orders".to_owned()]).expect("a role");
        let table = table.with_key("k1", key("sales")).expect("a key");
        let again = Table::decode(&table.encode().expect("JSON")).expect("read");
        assert_eq!(again, table);
        assert_eq!(again.grants("sales").expect("there").len(), 1);
        assert!(again.grants("admin").is_some() && again.grants("nobody").is_none());
        assert!(!format!("{table:?}").contains("0000"), "hashes are not shown: {table:?}");
        assert_eq!(Table::decode(b"{").expect_err("damaged").kind(), ErrorKind::Corrupt);
        assert_eq!(Table::decode(br#"{"roles":{"x":["?"]}}"#).expect_err("damaged").kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn changes_are_checked() {
        let table = Table::default();
        let grants = ["read *".to_owned()];
        let kind = |result: Result<Table>| result.map(drop).map_err(|error| error.kind());
        for name in ["", "a b", "admin", "writer", &"x".repeat(65)] {
            assert_eq!(kind(table.with_role(name, &grants)), Err(ErrorKind::Invalid), "{name}");
        }
        assert_eq!(kind(table.with_role("a", &[])), Err(ErrorKind::Invalid));
        assert_eq!(kind(table.without_role("a")), Err(ErrorKind::NotFound));
        assert_eq!(kind(table.without_role("admin")), Err(ErrorKind::Invalid));
        assert_eq!(kind(table.with_key("k", key("none"))), Err(ErrorKind::NotFound));
        assert_eq!(kind(table.without_key("k")), Err(ErrorKind::NotFound));
        let with = table.with_key("k", key("admin")).expect("a key");
        assert_eq!(kind(with.with_key("k", key("admin"))), Err(ErrorKind::Conflict));
        assert_eq!(kind(with.without_key("k")), Ok(()));
    }

    #[test]
    fn the_fullest_table_fits_into_a_row() {
        let mut table = Table::default();
        // A quote takes two bytes in JSON.
        let grants: Vec<String> = (0..2).map(|number| format!("read kv:{number}/{}", "\"".repeat(490))).collect();
        for number in 0..ROLES_MAX {
            table = table.with_role(&format!("{number:064}"), &grants).expect("a role");
        }
        assert_eq!(table.with_role("more", &grants).expect_err("full").kind(), ErrorKind::ResourceExhausted);
        let role = format!("{:064}", 0);
        for number in 0..KEYS_MAX {
            table.row.keys.insert(format!("{number:016}"), key(&role));
        }
        assert_eq!(table.with_key("more", key("admin")).expect_err("full").kind(), ErrorKind::ResourceExhausted);
        assert!(table.encode().expect("JSON").len() < VALUE_BYTES_MAX, "{}", table.encode().expect("JSON").len());
    }
}
