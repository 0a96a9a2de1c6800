//! `keevo.admin.v1.ApiLog` over the log of a node and its replays.
//!
//! Invariant: the service decides nothing; who may call it was decided before.

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use keevo_core::Result;
use keevo_core::call::{CallLog, REFUSED_MAX};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::api_log_server::{ApiLog, ApiLogServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use keevo_raft::Node;
use tonic::{Request, Response, Status};

use crate::apilog::read::{Reader, told};
use crate::apilog::{Replayer, hash};
use crate::backup::Backups;

/// How many refused calls are listed unless it is said.
const REFUSED_DEFAULT: usize = 100;

/// The service of the API log on one node.
pub struct ApiLogService {
    node: Node,
    log: Arc<CallLog>,
    reader: Reader,
    replayer: Arc<Replayer>,
    backups: Backups,
}

impl fmt::Debug for ApiLogService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiLogService")
    }
}

impl ApiLogService {
    /// The service, ready to be added to a server; `backups` knows where the log is archived, if it is.
    pub(crate) fn server(
        node: Node,
        log: Arc<CallLog>,
        replayer: Arc<Replayer>,
        backups: Backups,
    ) -> ApiLogServer<Self> {
        let reader = Reader::new(node.clone(), backups.archive());
        ApiLogServer::new(Self { node, log, reader, replayer, backups })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status_from_error(&error))
}

#[tonic::async_trait]
impl ApiLog for ApiLogService {
    type EraseCallsStream = BoxStream<'static, Result<pb::EraseCallsProgress, Status>>;

    async fn read_calls(
        &self,
        request: Request<pb::ReadCallsRequest>,
    ) -> Result<Response<pb::ReadCallsResponse>, Status> {
        answer(self.reader.page(request.into_inner()).await)
    }

    async fn list_refused_calls(
        &self,
        request: Request<pb::ListRefusedCallsRequest>,
    ) -> Result<Response<pb::ListRefusedCallsResponse>, Status> {
        let limit = match usize::try_from(request.into_inner().limit).unwrap_or(usize::MAX) {
            0 => REFUSED_DEFAULT,
            limit => limit.min(REFUSED_MAX),
        };
        let refused = self.log.refused(limit).into_iter();
        let calls = refused.map(|one| pb::RefusedCall {
            call: Some(told(&one.envelope)),
            kind: one.kind,
            message: one.message,
        });
        answer(Ok(pb::ListRefusedCallsResponse { calls: calls.collect() }))
    }

    async fn replay_calls(
        &self,
        request: Request<pb::ReplayCallsRequest>,
    ) -> Result<Response<pb::ReplayCallsResponse>, Status> {
        answer(self.replayer.replay(request.into_inner()).await)
    }

    async fn get_replay_cursor(
        &self,
        request: Request<pb::GetReplayCursorRequest>,
    ) -> Result<Response<pb::GetReplayCursorResponse>, Status> {
        answer(self.replayer.cursor(request.into_inner()).await)
    }

    async fn hash_keyspaces(
        &self,
        _request: Request<pb::HashKeyspacesRequest>,
    ) -> Result<Response<pb::HashKeyspacesResponse>, Status> {
        answer(hash::of_node(&self.node).await)
    }

    async fn erase_calls(
        &self,
        request: Request<pb::EraseCallsRequest>,
    ) -> Result<Response<Self::EraseCallsStream>, Status> {
        let steps = self.backups.erase_calls(request.into_inner());
        answer(steps.map(|steps| steps.map(|step| step.map_err(|error| status_from_error(&error))).boxed()))
    }
}
