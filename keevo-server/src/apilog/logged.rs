//! The API log at the gRPC doors of feeds and chat: a service whose calls are recorded.
//!
//! Invariant: a method that changes something of feeds or chat is recorded, by its rule in the table of rules; a test names
//! those that are not. A call has one message; more than that are refused.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use keevo_core::call::{Call, CallDoor, CallLog, CallRequest, NewCall, REQUEST_BYTES_MAX};
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::{error_from_status, status_from_error};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;

use super::{frame, redact};
use crate::auth::Pass;
use crate::auth::grant::Action;
use crate::auth::rules::{self, Rule};
use crate::grpc::app_of;
use crate::grpc::kv::{NOBODY, is_in_doubt};

/// What a frame takes beside its message.
const HEAD_BYTES: usize = 5;
/// Methods that administer an app and change nothing, and the import, whose calls are streams.
const NOT_RECORDED: [&str; 8] = [
    "keevo.chat.v1.ChatTransfer/ExportChannel",
    "keevo.chat.v1.ChatTransfer/ExportUser",
    "keevo.chat.v1.ChatTransfer/ExportUsers",
    "keevo.chat.v1.ChatTransfer/GetErasure",
    "keevo.chat.v1.ChatTransfer/Import",
    "keevo.chat.v1.ChatTransfer/ListAllChannels",
    "keevo.feeds.v1.Social/AuditLog",
    "keevo.feeds.v1.Social/ExportIds",
];

/// Whether the calls of a method are recorded.
pub(crate) fn is_recorded(method: &str) -> bool {
    let changes = rules::find(method).is_some_and(|row| {
        matches!(row.rule, Rule::Feeds(Action::Write | Action::Admin) | Rule::Chat(Action::Write | Action::Admin))
    });
    changes && !NOT_RECORDED.contains(&method)
}

/// A service whose calls are recorded.
#[derive(Debug, Clone)]
pub(crate) struct Logged<S> {
    inner: S,
    log: Arc<CallLog>,
}

impl<S> Logged<S> {
    /// Records the calls of `inner`.
    pub(crate) fn new(inner: S, log: &Arc<CallLog>) -> Self {
        Self { inner, log: Arc::clone(log) }
    }
}

impl<S: NamedService> NamedService for Logged<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Logged<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/');
        if !self.log.is_on() || !is_recorded(method) {
            return self.inner.call(request).boxed();
        }
        recorded(self.inner.clone(), Arc::clone(&self.log), method.to_owned(), request).boxed()
    }
}

async fn recorded<S>(
    mut inner: S,
    log: Arc<CallLog>,
    method: String,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, REQUEST_BYTES_MAX + HEAD_BYTES).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            let error = if error.is::<LengthLimitError>() {
                let message = format!("the request has more than {REQUEST_BYTES_MAX} bytes");
                Error::new(ErrorKind::BatchTooLarge, message)
            } else {
                Error::invalid("the request ended before it was whole")
            };
            return Ok(status_from_error(&error).into_http());
        }
    };
    let Some(message) = frame::message(&body) else {
        let message = "a call has one message, which is not compressed";
        return Ok(status_from_error(&Error::new(ErrorKind::Invalid, message)).into_http());
    };
    let call = begin(&log, &method, &parts, message);
    let request = Request::from_parts(parts, Body::new(Full::new(body)));
    // What is no request that can be kept is refused by the service.
    let Some(call) = call else { return inner.call(request).await };
    let response = call.run(inner.call(request)).await?;
    if let Some(status) = Status::from_header_map(response.headers()).filter(|status| status.code() != tonic::Code::Ok)
    {
        let error = error_from_status(&status);
        if !is_in_doubt(error.kind()) {
            log.failed(&call, &error);
        }
    }
    Ok(response)
}

fn begin(
    log: &CallLog,
    method: &str,
    parts: &tonic::codegen::http::request::Parts,
    message: bytes::Bytes,
) -> Option<Arc<Call>> {
    let (message, redacted) = redact::clean(method, message)?;
    let app = if method.starts_with("keevo.chat.") { crate::grpc::chat::APP.0 } else { app_of(&parts.headers).ok()?.0 };
    let principal = parts.extensions.get::<Pass>().map_or_else(|| NOBODY.to_owned(), Pass::principal);
    log.begin(NewCall {
        door: CallDoor::Grpc,
        app: Some(app),
        principal,
        method: method.to_owned(),
        request: CallRequest::Body(message),
        redacted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::rules::RULES;

    #[test]
    fn what_changes_feeds_and_chat_is_recorded() {
        for row in RULES {
            let writes = matches!(row.rule, Rule::Feeds(Action::Write) | Rule::Chat(Action::Write));
            assert!(!writes || is_recorded(row.method), "{} is not recorded", row.method);
        }
        for method in ["keevo.feeds.v1.Social/DeleteActivities", "keevo.chat.v1.ChatTransfer/EraseUser"] {
            assert!(is_recorded(method), "{method}");
        }
        assert!(NOT_RECORDED.iter().all(|method| rules::find(method).is_some()), "a method is gone");
        for method in ["keevo.chat.v1.Chat/History", "keevo.kv.v1.Kv/Write", "keevo.admin.v1.Apps/CreateApp", "x"] {
            assert!(!is_recorded(method), "{method}");
        }
    }
}
