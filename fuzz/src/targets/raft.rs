//! The decoders of keevo-raft: Raft's own values, the shard map, answers between nodes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keevo_core::{ClusterId, Error, ErrorKind};
use keevo_raft::shard_map::NodeInfo;
use keevo_raft::types::{
    Entry, EntryPayload, Membership, Payload, PeerNode, SnapshotMeta, StoredMembership, Vote, log_id,
};
use keevo_raft::{ShardMap, answer, wire};

use super::{Target, survives};

pub(crate) const PEER_ANSWER: Target = Target {
    name: "peer_answer",
    accepts: |input| match answer::decode(Bytes::copy_from_slice(input)) {
        Ok(_) => true,
        // An error that the peer reports is decoded as well as a body is.
        Err(error) => error.kind() != ErrorKind::Corrupt,
    },
    samples: || {
        let refused = Error::new(ErrorKind::NotLeader, "node 2 leads").with_leader("127.0.0.1:7102");
        let answers = [Ok(Bytes::from_static(b"body")), Ok(Bytes::new()), Err(refused)];
        answers.iter().map(|one| answer::encode(one).to_vec()).collect()
    },
};
pub(crate) const RAFT_ENTRY: Target = Target {
    name: "raft_entry",
    accepts: |input| survives(input, wire::decode_entry, wire::encode_entry),
    samples: || {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Payload(Bytes::from_static(b"\x01command"))),
            EntryPayload::Membership(joint()),
        ];
        let entry = |payload| Entry { log_id: log_id(3, 12, 400), payload };
        payloads.into_iter().map(|payload| wire::encode_entry(&entry(payload)).to_vec()).collect()
    },
};
pub(crate) const RAFT_LOG_ID: Target = Target {
    name: "raft_log_id",
    accepts: |input| survives(input, wire::decode_log_id, wire::encode_log_id),
    samples: || vec![wire::encode_log_id(&log_id(3, 12, u64::MAX)).to_vec()],
};
pub(crate) const RAFT_MEMBERSHIP: Target = Target {
    name: "raft_membership",
    accepts: |input| survives(input, wire::decode_stored_membership, wire::encode_stored_membership),
    samples: || {
        let stored = [StoredMembership::default(), StoredMembership::new(Some(log_id(3, 12, 400)), joint())];
        stored.iter().map(|one| wire::encode_stored_membership(one).to_vec()).collect()
    },
};
pub(crate) const RAFT_SNAPSHOT_META: Target = Target {
    name: "raft_snapshot_meta",
    accepts: |input| survives(input, wire::decode_snapshot_meta, wire::encode_snapshot_meta),
    samples: || {
        let last_membership = StoredMembership::new(Some(log_id(1, 11, 1)), joint());
        let meta = SnapshotMeta { last_log_id: Some(log_id(3, 12, 400)), last_membership };
        vec![wire::encode_snapshot_meta(&meta).to_vec()]
    },
};
pub(crate) const RAFT_VOTE: Target = Target {
    name: "raft_vote",
    accepts: |input| survives(input, wire::decode_vote, wire::encode_vote),
    samples: || {
        vec![wire::encode_vote(&Vote::new(7, 12)).to_vec(), wire::encode_vote(&Vote::new_committed(8, 13)).to_vec()]
    },
};
pub(crate) const SHARD_MAP: Target = Target {
    name: "shard_map",
    accepts: |input| survives(input, |bytes| ShardMap::decode(bytes), ShardMap::encode),
    samples: || {
        let node = |id: u64| NodeInfo { id, address: format!("127.0.0.1:{}", 7_100 + id), pair: u128::from(id) << 90 };
        let map = |nodes, shards| {
            ShardMap::bootstrap(ClusterId(7), (1..=nodes).map(node).collect(), shards, 3).expect("a valid cluster")
        };
        vec![map(1, 1).encode().to_vec(), map(3, 2).encode().to_vec()]
    },
};

/// A membership on its way from one voter to two, with a learner.
fn joint() -> Membership {
    let node = |node_id: u64| PeerNode { node_id, address: format!("127.0.0.1:{}", 7_100 + node_id) };
    let nodes = BTreeMap::from([(11, node(1)), (12, node(2)), (13, node(3))]);
    Membership::new(vec![BTreeSet::from([11]), BTreeSet::from([11, 12])], nodes).expect("voters have nodes")
}
