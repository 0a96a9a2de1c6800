//! `keevo.admin.v1.Admin` over a host.
//!
//! Invariant: the service decides nothing; it translates errors and passes on what the host says.

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use keevo_core::Error;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::admin_server::{Admin, AdminServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use tonic::{Request, Response, Status};

use crate::host::Host;

/// The administration service of one node.
pub struct AdminService<H> {
    host: Arc<H>,
}

impl<H: Host> AdminService<H> {
    /// The service over `host`, ready to be added to a server.
    pub fn server(host: Arc<H>) -> AdminServer<Self> {
        AdminServer::new(Self { host }).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl<H> fmt::Debug for AdminService<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminService")
    }
}

fn answer<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status_from_error(&error))
}

#[tonic::async_trait]
impl<H: Host> Admin for AdminService<H> {
    type CompactStream = BoxStream<'static, Result<pb::CompactProgress, Status>>;
    type ScrubStream = BoxStream<'static, Result<pb::ScrubProgress, Status>>;

    async fn cluster_status(
        &self,
        _request: Request<pb::ClusterStatusRequest>,
    ) -> Result<Response<pb::ClusterStatusResponse>, Status> {
        answer(self.host.cluster_status().await)
    }

    async fn shard_map(
        &self,
        _request: Request<pb::ShardMapRequest>,
    ) -> Result<Response<pb::ShardMapResponse>, Status> {
        answer(self.host.shard_map().await)
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinResponse>, Status> {
        answer(self.host.join(request.into_inner()).await)
    }

    async fn remove(&self, request: Request<pb::RemoveRequest>) -> Result<Response<pb::RemoveResponse>, Status> {
        answer(self.host.remove(request.into_inner()).await.map(|()| pb::RemoveResponse {}))
    }

    async fn transfer(&self, request: Request<pb::TransferRequest>) -> Result<Response<pb::TransferResponse>, Status> {
        answer(self.host.transfer(request.into_inner()).await.map(|()| pb::TransferResponse {}))
    }

    async fn upgrade(&self, request: Request<pb::UpgradeRequest>) -> Result<Response<pb::UpgradeResponse>, Status> {
        answer(self.host.upgrade(request.into_inner()).await)
    }

    async fn checksum(&self, request: Request<pb::ChecksumRequest>) -> Result<Response<pb::ChecksumResponse>, Status> {
        answer(self.host.checksum(request.into_inner()).await)
    }

    async fn scrub(&self, request: Request<pb::ScrubRequest>) -> Result<Response<Self::ScrubStream>, Status> {
        let progress = self.host.scrub(request.into_inner()).await;
        answer(progress.map(|steps| steps.map(|step| step.map_err(|error| status_from_error(&error))).boxed()))
    }

    async fn checkpoint(
        &self,
        request: Request<pb::CheckpointRequest>,
    ) -> Result<Response<pb::CheckpointResponse>, Status> {
        answer(self.host.checkpoint(request.into_inner()).await)
    }

    async fn flush(&self, _request: Request<pb::FlushRequest>) -> Result<Response<pb::FlushResponse>, Status> {
        answer(self.host.flush().await.map(|()| pb::FlushResponse {}))
    }

    async fn list_keyspaces(
        &self,
        request: Request<pb::ListKeyspacesRequest>,
    ) -> Result<Response<pb::ListKeyspacesResponse>, Status> {
        answer(self.host.keyspaces(request.into_inner()).await)
    }

    async fn compact(&self, request: Request<pb::CompactRequest>) -> Result<Response<Self::CompactStream>, Status> {
        let progress = self.host.compact(request.into_inner()).await;
        answer(progress.map(|steps| steps.map(|step| step.map_err(|error| status_from_error(&error))).boxed()))
    }

    async fn diagnose(&self, _request: Request<pb::DiagnoseRequest>) -> Result<Response<pb::DiagnoseResponse>, Status> {
        answer(self.host.diagnose().await)
    }

    async fn info(&self, _request: Request<pb::InfoRequest>) -> Result<Response<pb::InfoResponse>, Status> {
        Ok(Response::new(self.host.info()))
    }
}
