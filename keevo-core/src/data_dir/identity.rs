//! Whom a data folder belongs to, and the text that says so.
//!
//! ```text
//! keevo data folder
//! format = 1
//! cluster = 32 hex digits
//! pair = 32 hex digits
//! role = data | log | local
//! node = decimal
//! crc = CRC-32 of all lines above, 8 hex digits
//! ```
//!
//! Invariant: later formats keep the first two lines and the last, so that every version can tell a newer
//! folder from a damaged one.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ClusterId, NodeId};

const FORMAT: u32 = 1;
pub(super) const MAGIC: &str = "keevo data folder";

/// What a data folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The shards' data of a cluster node.
    Data,
    /// The Raft log of a cluster node.
    Log,
    /// An embedded engine.
    Local,
}

impl Role {
    const ALL: [Self; 3] = [Self::Data, Self::Log, Self::Local];

    fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Log => "log",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who a data folder belongs to. Written when the folder is made, and never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Random, the same in the data and the log folder of one node: they are useless without each other.
    pub pair: u128,
    /// What the folder holds.
    pub role: Role,
    /// The node.
    pub node: NodeId,
}

/// The text of an identity.
pub(super) fn render(identity: &Identity) -> String {
    let Identity { cluster, pair, role, node } = identity;
    let body =
        format!("{MAGIC}\nformat = {FORMAT}\ncluster = {cluster}\npair = {pair:032x}\nrole = {role}\nnode = {node}\n");
    let crc = crc32fast::hash(body.as_bytes());
    format!("{body}crc = {crc:08x}\n")
}

/// Reads the text; `damaged` makes the error that names the file.
pub(super) fn parse(text: &str, damaged: &impl Fn(&str) -> Error) -> Result<Identity> {
    let (body, crc) = text
        .strip_suffix('\n')
        .and_then(|text| text.rsplit_once('\n'))
        .and_then(|(body, last)| last.strip_prefix("crc = ").map(|crc| (format!("{body}\n"), crc)))
        .ok_or_else(|| damaged("is cut short"))?;
    if crc != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
        return Err(damaged("fails its checksum"));
    }
    let mut lines = body.lines();
    if lines.next() != Some(MAGIC) {
        return Err(damaged("does not start like one"));
    }
    let mut field = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)).and_then(|line| line.strip_prefix(" = "));
        line.ok_or_else(|| damaged(&format!("has no {name}")))
    };
    let format: u32 =
        field("format")?.parse().map_err(|source| damaged("has no number as format").with_source(source))?;
    if format > FORMAT {
        let told = damaged(&format!(
            "has format {format}; this version reads up to {FORMAT}: open it with the release that wrote it, or a newer one"
        ));
        return Err(Error::new(ErrorKind::NewerFormat, told.message()));
    }
    let hex = |name: &str, digits: &str| {
        u128::from_str_radix(digits, 16).map_err(|source| damaged(&format!("has a bad {name}")).with_source(source))
    };
    let cluster = ClusterId(hex("cluster", field("cluster")?)?);
    let pair = hex("pair", field("pair")?)?;
    let role = field("role")?;
    let role =
        Role::ALL.into_iter().find(|known| known.name() == role).ok_or_else(|| damaged("has an unknown role"))?;
    let node = field("node")?.parse().map_err(|source| damaged("has a bad node").with_source(source))?;
    Ok(Identity { cluster, pair, role, node: NodeId(node) })
}
