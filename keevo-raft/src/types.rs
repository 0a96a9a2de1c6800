//! The types that Keevo's Raft groups are made of, and short names for openraft's own.
//!
//! Invariant: a replica id names one log for ever. The meta group assigns replica ids and never reuses
//! one, since the same id with an empty log could vote twice in a term.

use std::fmt;

use bytes::Bytes;
use keevo_core::{Entry as Command, Outcome, Result};

/// What a Raft log entry carries: an encoded [`keevo_core::Entry`].
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload(pub Bytes);

impl Payload {
    /// The payload that says `entry`.
    pub fn new(entry: &Command) -> Self {
        Self(entry.encode())
    }

    /// What the payload says. Unknown versions and commands are `NewerFormat`, damage is `Corrupt`.
    pub fn decode(&self) -> Result<Command> {
        Command::decode(&self.0)
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes, which no encoded entry has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0.len())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({self})")
    }
}

/// What applying an entry gave: nothing for blank and membership entries.
#[derive(Debug, Clone, Default)]
pub struct Applied(pub Option<Outcome>);

impl From<Outcome> for Applied {
    fn from(outcome: Outcome) -> Self {
        Self(Some(outcome))
    }
}

/// Where a replica lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PeerNode {
    /// The node that holds the replica: a [`keevo_core::NodeId`].
    pub node_id: u64,
    /// The node's address for other nodes, `host:port`.
    pub address: String,
}

impl fmt::Display for PeerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} at {}", self.node_id, self.address)
    }
}

openraft::declare_raft_types!(
    /// The types of every Raft group of Keevo.
    pub TypeConfig:
        D = Payload,
        R = Applied,
        NodeId = u64,
        Node = PeerNode,
        Term = u64,
        LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>,
        AsyncRuntime = crate::runtime::KeevoRuntime,
);

/// The id of one replica of one shard: an incarnation, never reused.
pub type ReplicaId = u64;
/// A leader: its term and replica id. Several candidates of a term are ordered by replica id.
pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, ReplicaId>;
/// The id of a log entry: the leader that proposed it, and its index.
pub type LogId = openraft::LogId<LeaderId>;
/// A vote: a leader, and whether a quorum granted it.
pub type Vote = openraft::Vote<LeaderId>;
/// What a log entry says: nothing, a payload, or a membership.
pub type EntryPayload = openraft::EntryPayload<Payload, ReplicaId, PeerNode>;
/// One entry of a group's log.
pub type Entry = openraft::Entry<LeaderId, EntryPayload>;
/// Who votes and who learns.
pub type Membership = openraft::Membership<ReplicaId, PeerNode>;
/// A membership and the log id that it came with.
pub type StoredMembership = openraft::StoredMembership<LeaderId, ReplicaId, PeerNode>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::SnapshotMeta<LeaderId, ReplicaId, PeerNode>;
/// A snapshot with its data.
pub type Snapshot<D> = openraft::Snapshot<LeaderId, ReplicaId, PeerNode, D>;
/// The ends of a group's log.
pub type LogState = openraft::LogState<TypeConfig>;
/// What openraft wants to hear when an append is durable.
pub type IoFlushed = openraft::storage::IOFlushed<TypeConfig>;
/// What answers the client of an applied entry.
pub type ApplyResponder = openraft::storage::ApplyResponder<TypeConfig>;
/// A Raft group whose state machine is `SM`.
pub type Raft<SM> = openraft::Raft<TypeConfig, SM>;
/// The metrics of a group.
pub type RaftMetrics = openraft::RaftMetrics<TypeConfig>;

/// The log id at `index` of the leader `replica` of `term`.
pub fn log_id(term: u64, replica: ReplicaId, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: replica }, index }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds only if the aliases name the types that openraft derives from [`TypeConfig`].
    fn same<T>(value: T) -> T {
        value
    }

    #[test]
    fn aliases_are_the_types_of_the_config() {
        use openraft::RaftTypeConfig;
        let entry: Entry = Entry { log_id: log_id(2, 7, 3), payload: EntryPayload::Blank };
        let entry = same::<<TypeConfig as RaftTypeConfig>::Entry>(entry);
        let vote = same::<<TypeConfig as RaftTypeConfig>::Vote>(Vote::new(2, 7));
        assert_eq!(entry.log_id.leader_id, vote.leader_id);
        assert_eq!(entry.log_id.to_string(), "T2-N7.3");
    }

    #[test]
    fn a_payload_prints_its_size_only() {
        let payload = Payload(Bytes::from(vec![7; 4096]));
        assert_eq!(format!("{payload} {payload:?}"), "4096 B Payload(4096 B)");
    }
}
