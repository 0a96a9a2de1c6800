//! Raft's own values as bytes: log ids, votes, entries, memberships, what a snapshot covers.
//!
//! The log store, the state machine's system rows and the messages between nodes all use these. Each value
//! is one protobuf message whose scalar fields are always present, so that missing bytes are not mistaken
//! for zeros.
//!
//! Invariant: decoding refuses nonsense with `Corrupt`, never panics, and copies no payload. Decoding what
//! was encoded gives the same value, and equal values give equal bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keevo_core::{Error, Result};
use prost::Message;

use crate::types::{
    self, Entry, EntryPayload, LeaderId, LogId, Membership, Payload, PeerNode, SnapshotMeta, StoredMembership, Vote,
};

#[cfg(test)]
mod tests;

/// Bytes that an entry costs beside its payload, at most, unless it carries a membership.
const ENTRY_OVERHEAD_BYTES: usize = 64;

#[derive(Clone, Copy, PartialEq, Message)]
struct LogIdWire {
    #[prost(uint64, optional, tag = "1")]
    term: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    replica: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    index: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct VoteWire {
    #[prost(uint64, optional, tag = "1")]
    term: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    replica: Option<u64>,
    #[prost(bool, optional, tag = "3")]
    committed: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct EntryWire {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdWire>,
    #[prost(oneof = "PayloadWire", tags = "2, 3, 4")]
    payload: Option<PayloadWire>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum PayloadWire {
    #[prost(message, tag = "2")]
    Blank(BlankWire),
    #[prost(bytes = "bytes", tag = "3")]
    Normal(Bytes),
    #[prost(message, tag = "4")]
    Membership(MembershipWire),
}

#[derive(Clone, Copy, PartialEq, Message)]
struct BlankWire {}

#[derive(Clone, PartialEq, Message)]
struct MembershipWire {
    #[prost(message, repeated, tag = "1")]
    configs: Vec<ConfigWire>,
    #[prost(message, repeated, tag = "2")]
    members: Vec<MemberWire>,
}

#[derive(Clone, PartialEq, Message)]
struct ConfigWire {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct MemberWire {
    #[prost(uint64, optional, tag = "1")]
    replica: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    node_id: Option<u64>,
    #[prost(string, optional, tag = "3")]
    address: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMembershipWire {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdWire>,
    #[prost(message, optional, tag = "2")]
    membership: Option<MembershipWire>,
}

#[derive(Clone, PartialEq, Message)]
struct SnapshotMetaWire {
    #[prost(message, optional, tag = "1")]
    last_log_id: Option<LogIdWire>,
    #[prost(message, optional, tag = "2")]
    last_membership: Option<StoredMembershipWire>,
}

/// A log id as bytes.
pub fn encode_log_id(log_id: &LogId) -> Bytes {
    to_bytes(&log_id_wire(log_id))
}

/// Reads back [`encode_log_id`]. Errors: `Corrupt`.
pub fn decode_log_id(bytes: &Bytes) -> Result<LogId> {
    log_id_of(parse("a log id", bytes)?)
}

/// A vote as bytes.
pub fn encode_vote(vote: &Vote) -> Bytes {
    let Vote { leader_id: LeaderId { term, node_id }, committed } = *vote;
    to_bytes(&VoteWire { term: Some(term), replica: Some(node_id), committed: Some(committed) })
}

/// Reads back [`encode_vote`]. Errors: `Corrupt`.
pub fn decode_vote(bytes: &Bytes) -> Result<Vote> {
    let wire: VoteWire = parse("a vote", bytes)?;
    let leader_id = LeaderId { term: present("a vote", wire.term)?, node_id: present("a vote", wire.replica)? };
    Ok(Vote { leader_id, committed: present("a vote", wire.committed)? })
}

/// A log entry as bytes.
pub fn encode_entry(entry: &Entry) -> Bytes {
    to_bytes(&entry_wire(entry))
}

/// Appends [`encode_entry`] to `buffer`.
pub fn encode_entry_into(entry: &Entry, buffer: &mut Vec<u8>) {
    entry_wire(entry).encode(buffer).expect("a vector grows as needed");
}

/// Reads back [`encode_entry`]; the payload shares the memory of `bytes`. Errors: `Corrupt`.
pub fn decode_entry(bytes: &Bytes) -> Result<Entry> {
    let wire: EntryWire = parse("a log entry", bytes)?;
    let log_id = log_id_of(present("a log entry", wire.log_id)?)?;
    let payload = match present("a log entry", wire.payload)? {
        PayloadWire::Blank(BlankWire {}) => EntryPayload::Blank,
        PayloadWire::Normal(data) => EntryPayload::Normal(Payload(data)),
        PayloadWire::Membership(wire) => EntryPayload::Membership(membership_of(wire)?),
    };
    Ok(Entry { log_id, payload })
}

/// How many bytes an entry takes, encoded or in memory: an estimate that is never too low for the encoding.
pub fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_OVERHEAD_BYTES
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(payload) => payload.len(),
            EntryPayload::Membership(membership) => membership_wire(membership).encoded_len(),
        }
}

/// A membership with its log id as bytes.
pub fn encode_stored_membership(membership: &StoredMembership) -> Bytes {
    to_bytes(&stored_membership_wire(membership))
}

/// Reads back [`encode_stored_membership`]. Errors: `Corrupt`.
pub fn decode_stored_membership(bytes: &Bytes) -> Result<StoredMembership> {
    stored_membership_of(parse("a membership", bytes)?)
}

/// What a snapshot covers as bytes.
pub fn encode_snapshot_meta(meta: &SnapshotMeta) -> Bytes {
    to_bytes(&SnapshotMetaWire {
        last_log_id: meta.last_log_id.as_ref().map(log_id_wire),
        last_membership: Some(stored_membership_wire(&meta.last_membership)),
    })
}

/// Reads back [`encode_snapshot_meta`]. Errors: `Corrupt`.
pub fn decode_snapshot_meta(bytes: &Bytes) -> Result<SnapshotMeta> {
    let wire: SnapshotMetaWire = parse("a snapshot's head", bytes)?;
    Ok(SnapshotMeta {
        last_log_id: wire.last_log_id.map(log_id_of).transpose()?,
        last_membership: stored_membership_of(present("a snapshot's head", wire.last_membership)?)?,
    })
}

fn to_bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn parse<M: Message + Default>(what: &str, bytes: &Bytes) -> Result<M> {
    M::decode(bytes.clone()).map_err(|error| Error::corrupt(format!("{what} does not decode")).with_source(error))
}

fn present<T>(what: &str, field: Option<T>) -> Result<T> {
    field.ok_or_else(|| Error::corrupt(format!("{what} lacks a field")))
}

fn log_id_wire(log_id: &LogId) -> LogIdWire {
    let LogId { leader_id: LeaderId { term, node_id }, index } = *log_id;
    LogIdWire { term: Some(term), replica: Some(node_id), index: Some(index) }
}

fn log_id_of(wire: LogIdWire) -> Result<LogId> {
    let what = "a log id";
    Ok(types::log_id(present(what, wire.term)?, present(what, wire.replica)?, present(what, wire.index)?))
}

fn entry_wire(entry: &Entry) -> EntryWire {
    let payload = match &entry.payload {
        EntryPayload::Blank => PayloadWire::Blank(BlankWire {}),
        EntryPayload::Normal(payload) => PayloadWire::Normal(payload.0.clone()),
        EntryPayload::Membership(membership) => PayloadWire::Membership(membership_wire(membership)),
    };
    EntryWire { log_id: Some(log_id_wire(&entry.log_id)), payload: Some(payload) }
}

fn membership_wire(membership: &Membership) -> MembershipWire {
    let config = |voters: &BTreeSet<u64>| ConfigWire { voters: voters.iter().copied().collect() };
    let member = |(replica, node): (&u64, &PeerNode)| MemberWire {
        replica: Some(*replica),
        node_id: Some(node.node_id),
        address: Some(node.address.clone()),
    };
    MembershipWire {
        configs: membership.get_joint_config().iter().map(config).collect(),
        members: membership.nodes().map(member).collect(),
    }
}

/// Refuses empty configurations, voters without a node, learners without any voter, and ids out of order.
fn membership_of(wire: MembershipWire) -> Result<Membership> {
    let mut configs = Vec::with_capacity(wire.configs.len());
    for ConfigWire { voters } in wire.configs {
        if !voters.is_sorted_by(|a, b| a < b) {
            return Err(Error::corrupt("a membership names its voters out of order"));
        }
        configs.push(BTreeSet::from_iter(voters));
    }
    let mut nodes = BTreeMap::new();
    for MemberWire { replica, node_id, address } in wire.members {
        let replica = present("a member", replica)?;
        let node = PeerNode { node_id: present("a member", node_id)?, address: present("a member", address)? };
        if nodes.last_key_value().is_some_and(|(last, _)| *last >= replica) {
            return Err(Error::corrupt("a membership names its members out of order"));
        }
        nodes.insert(replica, node);
    }
    if configs.is_empty() && !nodes.is_empty() {
        return Err(Error::corrupt("a membership has members but no voters"));
    }
    Membership::new(configs, nodes)
        .map_err(|error| Error::corrupt("a membership contradicts itself").with_source(error))
}

fn stored_membership_wire(membership: &StoredMembership) -> StoredMembershipWire {
    StoredMembershipWire {
        log_id: membership.log_id().as_ref().map(log_id_wire),
        membership: Some(membership_wire(membership.membership())),
    }
}

fn stored_membership_of(wire: StoredMembershipWire) -> Result<StoredMembership> {
    let membership = membership_of(present("a membership", wire.membership)?)?;
    Ok(StoredMembership::new(wire.log_id.map(log_id_of).transpose()?, membership))
}
