//! `keevo.admin.v1.Backup` over the backups of a node.
//!
//! Invariant: the service decides nothing; who may call it was decided before.

use futures::StreamExt;
use futures::stream::BoxStream;
use keevo_core::Result;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::backup_server::{Backup, BackupServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use tonic::{Request, Response, Status};

use crate::backup::Backups;

/// The service of backups on one node.
#[derive(Debug)]
pub struct BackupService {
    backups: Backups,
}

impl BackupService {
    /// The service, ready to be added to a server.
    pub fn server(backups: Backups) -> BackupServer<Self> {
        BackupServer::new(Self { backups }).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

type Progress<P> = BoxStream<'static, Result<P, Status>>;

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status_from_error(&error))
}

fn told<P: 'static>(progress: Result<BoxStream<'static, Result<P>>>) -> Result<Response<Progress<P>>, Status> {
    answer(progress.map(|steps| steps.map(|step| step.map_err(|error| status_from_error(&error))).boxed()))
}

#[tonic::async_trait]
impl Backup for BackupService {
    type BackUpShardStream = Progress<pb::BackUpProgress>;
    type VerifyBackupStream = Progress<pb::VerifyBackupProgress>;
    type PruneBackupsStream = Progress<pb::PruneProgress>;
    type RestoreShardStream = Progress<pb::RestoreProgress>;

    async fn back_up_shard(
        &self,
        request: Request<pb::BackUpShardRequest>,
    ) -> Result<Response<Self::BackUpShardStream>, Status> {
        told(self.backups.back_up_shard(request.into_inner()).await)
    }

    async fn finish_backup(
        &self,
        request: Request<pb::FinishBackupRequest>,
    ) -> Result<Response<pb::FinishBackupResponse>, Status> {
        answer(self.backups.finish_backup(request.into_inner()).await)
    }

    async fn list_backups(
        &self,
        request: Request<pb::ListBackupsRequest>,
    ) -> Result<Response<pb::ListBackupsResponse>, Status> {
        answer(self.backups.list(request.into_inner()).await)
    }

    async fn verify_backup(
        &self,
        request: Request<pb::VerifyBackupRequest>,
    ) -> Result<Response<Self::VerifyBackupStream>, Status> {
        told(self.backups.verify(request.into_inner()).await)
    }

    async fn prune_backups(
        &self,
        request: Request<pb::PruneBackupsRequest>,
    ) -> Result<Response<Self::PruneBackupsStream>, Status> {
        told(self.backups.prune(request.into_inner()))
    }

    async fn begin_restore(
        &self,
        request: Request<pb::BeginRestoreRequest>,
    ) -> Result<Response<pb::BeginRestoreResponse>, Status> {
        answer(self.backups.begin_restore(request.into_inner()).await)
    }

    async fn restore_shard(
        &self,
        request: Request<pb::RestoreShardRequest>,
    ) -> Result<Response<Self::RestoreShardStream>, Status> {
        told(self.backups.restore_shard(request.into_inner()).await)
    }

    async fn finish_restore(
        &self,
        _request: Request<pb::FinishRestoreRequest>,
    ) -> Result<Response<pb::FinishRestoreResponse>, Status> {
        answer(self.backups.finish_restore().await)
    }
}
