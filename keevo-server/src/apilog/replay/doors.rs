//! Repeating calls of feeds and chat: through the services and APIs that they came in by, inside the node.
//!
//! Nobody is asked for a key or a token: who asked is in the record, and was let in when the call was recorded.

use std::fmt;

use axum::Router;
use http_body_util::{BodyExt, Full, Limited};
use keevo_core::{Error, ErrorKind, Result};
use keevo_gateway::shared::Replayed;
use keevo_proto::admin::v1 as pb;
use keevo_proto::error_from_status;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, header};
use tonic::service::Routes;
use tower::ServiceExt;

use crate::apilog::frame;
use crate::apilog::logged::is_recorded;

/// The most of an error's text that is told.
const REASON_BYTES_MAX: usize = 64 << 10;

/// The ways into a node for what is repeated.
#[derive(Clone)]
pub(crate) struct Doors {
    /// The gRPC services of feeds and chat.
    pub(crate) grpc: Routes,
    /// The REST API of feeds.
    pub(crate) feeds: Router,
    /// The API of chat.
    pub(crate) chat: Router,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doors")
    }
}

impl Doors {
    /// Refuses what could not be repeated.
    pub(super) fn look(call: &pb::ApiCall) -> Result<()> {
        match call.door.as_str() {
            "grpc" if is_recorded(&call.method) => Ok(()),
            "feeds-http" | "chat-http" => http_request(call).map(drop),
            _ => Err(unknown(call)),
        }
    }

    pub(super) async fn repeat(&self, call: &pb::ApiCall) -> Result<()> {
        match call.door.as_str() {
            "grpc" if is_recorded(&call.method) => self.grpc(call).await,
            "feeds-http" => http(self.feeds.clone(), http_request(call)?).await,
            "chat-http" => http(self.chat.clone(), http_request(call)?).await,
            _ => Err(unknown(call)),
        }
    }

    async fn grpc(&self, call: &pb::ApiCall) -> Result<()> {
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("/{}", call.method))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header("te", "trailers");
        if let Some(app) = call.app {
            request = request.header("keevo-app", app);
        }
        let body = Body::new(Full::new(frame::body(&call.request)));
        let request = request.body(body).map_err(|error| unknown(call).with_source(error))?;
        let response = match self.grpc.clone().oneshot(request).await {
            Ok(response) => response,
            Err(error) => {
                return Err(Error::new(ErrorKind::Unavailable, format!("the service did not answer: {error}")));
            }
        };
        match Status::from_header_map(response.headers()).filter(|status| status.code() != tonic::Code::Ok) {
            Some(status) => Err(error_from_status(&status)),
            None => Ok(()),
        }
    }
}

fn unknown(call: &pb::ApiCall) -> Error {
    let (door, method) = (call.door.escape_debug(), call.method.escape_debug());
    Error::invalid(format!("calls of {method} by {door} cannot be repeated"))
}

fn http_request(call: &pb::ApiCall) -> Result<Request<axum::body::Body>> {
    let (method, target) = call.method.split_once(' ').ok_or_else(|| unknown(call))?;
    let replayed = call.app.and_then(|app| Replayed::new(app, &call.principal)).ok_or_else(|| unknown(call))?;
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::CONTENT_TYPE, "application/json")
        .body(axum::body::Body::from(call.request.clone()))
        .map_err(|error| unknown(call).with_source(error))?;
    request.extensions_mut().insert(replayed);
    Ok(request)
}

async fn http(router: Router, request: Request<axum::body::Body>) -> Result<()> {
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let body = Limited::new(response.into_body(), REASON_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let detail = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let detail = detail.as_ref().and_then(|body| body.get("detail")?.as_str()).unwrap_or("no reason was given");
    let kind = if status.is_server_error() { ErrorKind::Unavailable } else { ErrorKind::Invalid };
    Err(Error::new(kind, format!("HTTP {}: {detail}", status.as_u16())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(door: &str, method: &str, principal: &str) -> pb::ApiCall {
        let (door, method, principal) = (door.to_owned(), method.to_owned(), principal.to_owned());
        pb::ApiCall { door, method, principal, app: Some(1), ..pb::ApiCall::default() }
    }

    #[test]
    fn only_what_was_recorded_comes_in_again() {
        let look = |door, method, principal| Doors::look(&call(door, method, principal)).map_err(|error| error.kind());
        assert_eq!(look("grpc", "keevo.feeds.v1.Feeds/Follow", "nobody"), Ok(()));
        assert_eq!(look("chat-http", "POST /chat/v1/channels/team/x/messages", "user bob"), Ok(()));
        for (door, method, principal) in [
            ("grpc", "keevo.admin.v1.Admin/Remove", "nobody"),
            ("grpc", "keevo.feeds.v1.Feeds/GetFeed", "nobody"),
            ("feeds-http", "POST", "user bob"),
            ("feeds-http", "POST /a b", "user bob"),
            ("chat-http", "POST /chat/v1/x", "admin"),
            ("else", "POST /x", "user bob"),
        ] {
            assert_eq!(look(door, method, principal), Err(ErrorKind::Invalid), "{door} {method} {principal}");
        }
    }
}
