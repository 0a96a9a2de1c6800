//! The bodies of peer requests and answers: Raft's own messages as bytes.
//!
//! Invariant: decoding refuses nonsense with `Corrupt`; it never panics, whatever a peer sends.

use bytes::Bytes;
use keevo_core::seal::KeyUse;
use keevo_core::{Error, Result, Revision};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use prost::Message;

use crate::quorum::Freshness;
use crate::types::{LogId, SnapshotMeta, TypeConfig, Vote};
use crate::wire;

#[derive(Clone, PartialEq, Message)]
struct AppendWire {
    #[prost(bytes = "bytes", tag = "1")]
    vote: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    prev: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    entries: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    commit: Option<Bytes>,
    /// The leader's wall clock when a quorum last followed it, in milliseconds; 0 when none did yet.
    #[prost(uint64, tag = "5")]
    as_of_ms: u64,
    /// How long ago that was by the leader's monotonic clock, in milliseconds.
    #[prost(uint64, tag = "6")]
    age_ms: u64,
    /// The revision up to which a replica then knows of all that had been acknowledged.
    #[prost(uint64, tag = "7")]
    revision: u64,
}

#[derive(Clone, PartialEq, Message)]
struct AppendAnswerWire {
    /// 1 success, 2 partial success, 3 conflict, 4 higher vote.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "bytes", optional, tag = "2")]
    log_id: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "3")]
    vote: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct VoteWire {
    #[prost(bytes = "bytes", tag = "1")]
    vote: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    last_log_id: Option<Bytes>,
    #[prost(bool, tag = "3")]
    leadership_transfer: bool,
    #[prost(bool, tag = "4")]
    granted: bool,
    #[prost(uint64, tag = "5")]
    to: u64,
}

#[derive(Clone, PartialEq, Message)]
struct SnapshotHeadWire {
    #[prost(bytes = "bytes", tag = "1")]
    vote: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    meta: Bytes,
    /// The keys that values in its files are sealed with, eight bytes each.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    keys: Vec<Bytes>,
}

fn parse<M: Message + Default>(what: &str, body: &Bytes) -> Result<M> {
    M::decode(body.clone()).map_err(|error| Error::corrupt(format!("{what} does not decode")).with_source(error))
}

fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn optional_log_id(log_id: Option<&Bytes>) -> Result<Option<LogId>> {
    log_id.map(wire::decode_log_id).transpose()
}

pub(crate) fn encode_append(request: &AppendEntriesRequest<TypeConfig>, freshness: Freshness) -> Bytes {
    bytes(&AppendWire {
        vote: wire::encode_vote(&request.vote),
        prev: request.prev_log_id.as_ref().map(wire::encode_log_id),
        entries: request.entries.iter().map(wire::encode_entry).collect(),
        commit: request.leader_commit.as_ref().map(wire::encode_log_id),
        as_of_ms: freshness.as_of_ms,
        age_ms: freshness.age_ms,
        revision: freshness.revision.0,
    })
}

/// The request, and how current its receiver is once it has applied what it should. Entries that do not follow each
/// other are `Corrupt`: the core relies on it.
pub(crate) fn decode_append(body: &Bytes) -> Result<(AppendEntriesRequest<TypeConfig>, Freshness)> {
    let wire: AppendWire = parse("an append request", body)?;
    let request: AppendEntriesRequest<TypeConfig> = AppendEntriesRequest {
        vote: wire::decode_vote(&wire.vote)?,
        prev_log_id: optional_log_id(wire.prev.as_ref())?,
        entries: wire.entries.iter().map(wire::decode_entry).collect::<Result<Vec<_>>>()?,
        leader_commit: optional_log_id(wire.commit.as_ref())?,
    };
    let mut before = request.prev_log_id;
    for entry in &request.entries {
        let expected = before.as_ref().map_or(Some(0), |before| before.index.checked_add(1));
        if Some(entry.log_id.index) != expected || before.as_ref().is_some_and(|before| *before > entry.log_id) {
            return Err(Error::corrupt("the entries of an append request do not follow each other"));
        }
        before = Some(entry.log_id);
    }
    Ok((request, Freshness { revision: Revision(wire.revision), as_of_ms: wire.as_of_ms, age_ms: wire.age_ms }))
}

pub(crate) fn encode_append_answer(answer: &AppendEntriesResponse<TypeConfig>) -> Bytes {
    let mut wire = AppendAnswerWire::default();
    match answer {
        AppendEntriesResponse::Success => wire.kind = 1,
        AppendEntriesResponse::PartialSuccess(log_id) => {
            wire.kind = 2;
            wire.log_id = log_id.as_ref().map(wire::encode_log_id);
        }
        AppendEntriesResponse::Conflict => wire.kind = 3,
        AppendEntriesResponse::HigherVote(vote) => {
            wire.kind = 4;
            wire.vote = wire::encode_vote(vote);
        }
    }
    bytes(&wire)
}

pub(crate) fn decode_append_answer(body: &Bytes) -> Result<AppendEntriesResponse<TypeConfig>> {
    let wire: AppendAnswerWire = parse("an append answer", body)?;
    match wire.kind {
        1 => Ok(AppendEntriesResponse::Success),
        2 => Ok(AppendEntriesResponse::PartialSuccess(optional_log_id(wire.log_id.as_ref())?)),
        3 => Ok(AppendEntriesResponse::Conflict),
        4 => Ok(AppendEntriesResponse::HigherVote(wire::decode_vote(&wire.vote)?)),
        kind => Err(Error::corrupt(format!("an append answer has unknown kind {kind}"))),
    }
}

pub(crate) fn encode_vote_request(request: &VoteRequest<TypeConfig>) -> Bytes {
    bytes(&VoteWire {
        vote: wire::encode_vote(&request.vote),
        last_log_id: request.last_log_id.as_ref().map(wire::encode_log_id),
        leadership_transfer: request.leadership_transfer,
        ..VoteWire::default()
    })
}

pub(crate) fn decode_vote_request(body: &Bytes) -> Result<VoteRequest<TypeConfig>> {
    let wire: VoteWire = parse("a vote request", body)?;
    Ok(VoteRequest {
        vote: wire::decode_vote(&wire.vote)?,
        last_log_id: optional_log_id(wire.last_log_id.as_ref())?,
        leadership_transfer: wire.leadership_transfer,
    })
}

pub(crate) fn encode_vote_answer(answer: &VoteResponse<TypeConfig>) -> Bytes {
    bytes(&VoteWire {
        vote: wire::encode_vote(&answer.vote),
        last_log_id: answer.last_log_id.as_ref().map(wire::encode_log_id),
        granted: answer.vote_granted,
        ..VoteWire::default()
    })
}

pub(crate) fn decode_vote_answer(body: &Bytes) -> Result<VoteResponse<TypeConfig>> {
    let wire: VoteWire = parse("a vote answer", body)?;
    Ok(VoteResponse {
        vote: wire::decode_vote(&wire.vote)?,
        vote_granted: wire.granted,
        last_log_id: optional_log_id(wire.last_log_id.as_ref())?,
    })
}

pub(crate) fn encode_transfer(request: &TransferLeaderRequest<TypeConfig>) -> Bytes {
    bytes(&VoteWire {
        vote: wire::encode_vote(request.from_leader()),
        last_log_id: request.last_log_id().map(wire::encode_log_id),
        to: *request.to_node_id(),
        ..VoteWire::default()
    })
}

pub(crate) fn decode_transfer(body: &Bytes) -> Result<TransferLeaderRequest<TypeConfig>> {
    let wire: VoteWire = parse("a leader transfer", body)?;
    let log_id = optional_log_id(wire.last_log_id.as_ref())?;
    Ok(TransferLeaderRequest::new(wire::decode_vote(&wire.vote)?, wire.to, log_id))
}

pub(crate) fn encode_snapshot_head(vote: &Vote, meta: &SnapshotMeta, keys: &[KeyUse]) -> Bytes {
    let keys = keys.iter().map(|used| Bytes::copy_from_slice(&used.to_bytes())).collect();
    bytes(&SnapshotHeadWire { vote: wire::encode_vote(vote), meta: wire::encode_snapshot_meta(meta), keys })
}

pub(crate) fn decode_snapshot_head(body: &Bytes) -> Result<(Vote, SnapshotMeta, Vec<KeyUse>)> {
    let wire: SnapshotHeadWire = parse("a snapshot head", body)?;
    let key = |bytes: &Bytes| {
        let wrong = |error: std::array::TryFromSliceError| {
            Error::corrupt("a snapshot head has a key of a wrong length").with_source(error)
        };
        bytes.as_ref().try_into().map(KeyUse::from_bytes).map_err(wrong)
    };
    let keys = wire.keys.iter().map(key).collect::<Result<_>>()?;
    Ok((wire::decode_vote(&wire.vote)?, wire::decode_snapshot_meta(&wire.meta)?, keys))
}

pub(crate) fn encode_snapshot_answer(answer: &SnapshotResponse<TypeConfig>) -> Bytes {
    wire::encode_vote(&answer.vote)
}

pub(crate) fn decode_snapshot_answer(body: &Bytes) -> Result<SnapshotResponse<TypeConfig>> {
    Ok(SnapshotResponse::new(wire::decode_vote(body)?))
}
