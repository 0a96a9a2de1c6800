//! Newtypes for every id of the engine, so that none is passed where another is meant.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

id!(
    /// A keyspace: a named set of partitions with one key order.
    KeyspaceId(u32), "{}"
);
id!(
    /// A shard: a contiguous range of the encoded key space. Shard 0 is the meta group.
    ShardId(u64), "{}"
);
id!(
    /// A shard's base plus the log index of a write: grows with every write of the shard and never goes back.
    Revision(u64), "{}"
);
id!(
    /// A node of a cluster.
    NodeId(u64), "{}"
);
id!(
    /// A cluster, or the folder of an embedded engine: random, chosen once.
    ClusterId(u128), "{:032x}"
);
id!(
    /// A client session: random, chosen by the client.
    ClientId(u128), "{:032x}"
);

impl ShardId {
    /// The meta group: shard map, nodes, keyspaces, configuration.
    pub const META: Self = Self(0);
    /// The one shard of an embedded engine.
    pub const LOCAL: Self = Self(1);
}

/// Names one request of one client, so that a retry is applied once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// The client's session.
    pub client: ClientId,
    /// Grows by one with every request of the client to a shard.
    pub sequence: u64,
    /// The client has the answers of all its requests below this sequence; at most `sequence`.
    pub acked_below: u64,
}
