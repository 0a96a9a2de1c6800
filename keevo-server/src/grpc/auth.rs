//! `keevo.admin.v1.Auth` over the authority of a node.
//!
//! Invariant: the service decides nothing; who may call it was decided before, and a key's text leaves with the answer that
//! made it and with no other.

use std::fmt;
use std::sync::Arc;

use keevo_core::{Error, Result};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::auth_server::{Auth, AuthServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use tonic::{Request, Response, Status};

use crate::auth::audit::PAGE_MAX;
use crate::auth::table::{BUILT_IN, KeyRow};
use crate::auth::{Authority, Pass};

/// The entries of a page of the audit log unless it is said.
const PAGE_DEFAULT: usize = 100;

/// The service of rights on one node.
pub struct AuthService {
    authority: Arc<Authority>,
}

impl fmt::Debug for AuthService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthService")
    }
}

impl AuthService {
    /// The service over an authority, ready to be added to a server.
    pub fn server(authority: Arc<Authority>) -> AuthServer<Self> {
        AuthServer::new(Self { authority }).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status_from_error(&error))
}

fn told(id: &str, row: &KeyRow) -> pb::ApiKey {
    pb::ApiKey {
        id: id.to_owned(),
        role: row.role.clone(),
        note: row.note.clone(),
        created_ms: row.created_ms,
        expires_ms: row.expires_ms.unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn who_am_i(&self, request: Request<pb::WhoAmIRequest>) -> Result<Response<pb::WhoAmIResponse>, Status> {
        let Some(pass) = request.extensions().get::<Pass>() else {
            // Nobody is asked who they are.
            let (principal, grants) = ("nobody".to_owned(), vec!["read,write,watch,admin *".to_owned()]);
            return Ok(Response::new(pb::WhoAmIResponse { principal, role: String::new(), grants }));
        };
        answer(pass.access().map(|access| pb::WhoAmIResponse {
            principal: pass.principal(),
            role: access.role.clone(),
            grants: access.grants().iter().map(ToString::to_string).collect(),
        }))
    }

    async fn list_roles(
        &self,
        _request: Request<pb::ListRolesRequest>,
    ) -> Result<Response<pb::ListRolesResponse>, Status> {
        let listed = self.authority.stored().await.map(|table| {
            let role = |(name, grants): (&str, &[crate::auth::grant::Grant])| pb::AuthRole {
                name: name.to_owned(),
                grants: grants.iter().map(ToString::to_string).collect(),
                built_in: BUILT_IN.contains(&name),
            };
            pb::ListRolesResponse { roles: table.roles().map(role).collect() }
        });
        answer(listed)
    }

    async fn set_role(&self, request: Request<pb::SetRoleRequest>) -> Result<Response<pb::SetRoleResponse>, Status> {
        let pb::SetRoleRequest { name, grants } = request.into_inner();
        answer(self.authority.set_role(&name, &grants).await.map(|()| pb::SetRoleResponse {}))
    }

    async fn remove_role(
        &self,
        request: Request<pb::RemoveRoleRequest>,
    ) -> Result<Response<pb::RemoveRoleResponse>, Status> {
        let removed = self.authority.remove_role(&request.into_inner().name).await;
        answer(removed.map(|()| pb::RemoveRoleResponse {}))
    }

    async fn create_key(
        &self,
        request: Request<pb::CreateKeyRequest>,
    ) -> Result<Response<pb::CreateKeyResponse>, Status> {
        let pb::CreateKeyRequest { role, note, ttl_ms } = request.into_inner();
        let made = self.authority.create_key(&role, &note, ttl_ms).await;
        answer(made.map(|(id, row, secret)| pb::CreateKeyResponse { key: Some(told(&id, &row)), secret }))
    }

    async fn list_keys(
        &self,
        _request: Request<pb::ListKeysRequest>,
    ) -> Result<Response<pb::ListKeysResponse>, Status> {
        let listed = self.authority.stored().await;
        answer(listed.map(|table| pb::ListKeysResponse { keys: table.keys().map(|(id, row)| told(id, row)).collect() }))
    }

    async fn revoke_key(
        &self,
        request: Request<pb::RevokeKeyRequest>,
    ) -> Result<Response<pb::RevokeKeyResponse>, Status> {
        let revoked = self.authority.revoke_key(&request.into_inner().id).await;
        answer(revoked.map(|()| pb::RevokeKeyResponse {}))
    }

    async fn list_audit(
        &self,
        request: Request<pb::ListAuditRequest>,
    ) -> Result<Response<pb::ListAuditResponse>, Status> {
        let pb::ListAuditRequest { after, limit } = request.into_inner();
        let limit = if limit == 0 { PAGE_DEFAULT } else { usize::try_from(limit).unwrap_or(usize::MAX) };
        if limit > PAGE_MAX {
            return Err(status_from_error(&Error::invalid(format!("a page has at most {PAGE_MAX} entries"))));
        }
        let page = self.authority.audit().page(after, limit).await;
        answer(page.map(|page| pb::ListAuditResponse {
            entries: page.entries,
            last: page.last,
            last_sha256: page.last_sha256,
        }))
    }
}
