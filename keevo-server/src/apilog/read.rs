//! Calls of the log as messages.
//!
//! Invariant: a record stands by itself. A write of keys and values, whose request is the command of its entry, gets that
//! request back, and the name of its keyspace, whose id means nothing elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use keevo_archive::Storage;
use keevo_core::call::{CallRequest, EntryNote, Envelope};
use keevo_core::{Command, KeyspaceId, Result, ShardId, keyspaces};
use keevo_proto::admin::v1 as pb;
use keevo_proto::{Message, kv};
use keevo_raft::{CallEntry, Node};

use super::archived::ArchivedCalls;

/// The most names of keyspaces that are kept.
const NAMES_MAX: usize = 4_096;

/// Reads the calls of a node's logs, and those that were purged from their archive.
#[derive(Debug)]
pub(crate) struct Reader {
    node: Node,
    archived: Option<ArchivedCalls>,
    names: Mutex<BTreeMap<KeyspaceId, String>>,
}

impl Reader {
    /// A reader of the node's logs, and of their archive, if there is one.
    pub(crate) fn new(node: Node, archive: Option<Arc<dyn Storage>>) -> Self {
        Self { node, archived: archive.map(ArchivedCalls::new), names: Mutex::default() }
    }

    /// A part of the log of a shard.
    pub(crate) async fn page(&self, request: pb::ReadCallsRequest) -> Result<pb::ReadCallsResponse> {
        let shard = ShardId(request.shard);
        let mut page = self.node.calls(shard, request.from_index).await?;
        if let (Some(archived), Some(cluster)) = (&self.archived, self.node.cluster())
            && ArchivedCalls::is_needed(&request, &page)
        {
            page = archived.page(cluster, &request, &page).await?.unwrap_or(page);
        }
        let mut records = Vec::with_capacity(page.calls.len());
        for call in page.calls {
            records.push(self.record(shard, call).await?);
        }
        let cluster = self.node.cluster().map_or(0, |cluster| cluster.0);
        Ok(pb::ReadCallsResponse {
            records,
            next_index: page.next,
            first_index: page.first,
            end_index: page.end,
            hlc: page.hlc.0,
            cluster_id: Bytes::copy_from_slice(&cluster.to_be_bytes()),
        })
    }

    async fn record(&self, shard: ShardId, found: CallEntry) -> Result<pb::CallRecord> {
        let hlc = found.entry.hlc;
        let place = Some(pb::LogPlace { hlc: hlc.0, shard: shard.0, index: found.index });
        let (envelope, attempt) = match found.note {
            EntryNote::Call { envelope, attempt } => (envelope, attempt),
            EntryNote::Outcomes(outcomes) => {
                let failed = outcomes.0.into_iter();
                let failed =
                    failed.map(|(id, kind)| pb::FailedCall { node: id.node, stamp_us: id.stamp_us, kind }).collect();
                return Ok(pb::CallRecord { place, call: None, failed });
            }
        };
        let mut call = pb::ApiCall { attempt, clock_ms: hlc.ms(), ..told(&envelope) };
        if envelope.request == CallRequest::Command {
            let (keyspace, request) = match found.entry.command {
                Command::Write(batch) => {
                    let keyspace = batch.partition_key().map(|key| key.keyspace.id);
                    let batch = Some(batch.try_into()?);
                    (keyspace, kv::v1::WriteRequest { batch, deadline_ms: 0 }.encode_to_vec())
                }
                Command::FanOut(fan_out) => {
                    call.partial = true;
                    let keyspace = Some(fan_out.keyspace.id);
                    let fan_out = Some(fan_out.into());
                    (keyspace, kv::v1::FanOutRequest { fan_out, deadline_ms: 0 }.encode_to_vec())
                }
                _ => (None, Vec::new()),
            };
            call.request = request.into();
            if let Some(id) = keyspace {
                call.keyspace = self.name(id).await?;
            }
        }
        Ok(pb::CallRecord { place, call: Some(call), failed: Vec::new() })
    }

    async fn name(&self, id: KeyspaceId) -> Result<String> {
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(name) = known {
            return Ok(name);
        }
        let (name, _) = keyspaces::keyspace_by_id(&self.node.engine().meta(), id).await?;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX {
            names.insert(id, name.clone());
        }
        Ok(name)
    }
}

/// An envelope as a message; a request that is the command of its entry stays empty.
pub(crate) fn told(envelope: &Envelope) -> pb::ApiCall {
    pb::ApiCall {
        node: envelope.id.node,
        stamp_us: envelope.id.stamp_us,
        at_us: envelope.at_us,
        seed: envelope.seed,
        app: envelope.app,
        door: envelope.door.name().to_owned(),
        principal: envelope.principal.clone(),
        method: envelope.method.clone(),
        request: match &envelope.request {
            CallRequest::Command => Bytes::new(),
            CallRequest::Body(body) => body.clone(),
        },
        redacted: envelope.redacted,
        replayed: envelope.origin.is_some(),
        erased: envelope.erased,
        ..pb::ApiCall::default()
    }
}
