//! The door: every call of every service passes it before the service sees it.
//!
//! Invariant: with authentication on, nothing is called whose method has no rule, or whose caller was not found to keep
//! it; what is to be audited is called only once the log says so. With authentication off a call passes untouched.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, Either};
use http_body_util::{BodyExt, Full, Limited};
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::{error_from_status, status_from_error};
use keevo_tls::Caller;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderValue, Request, Response, header};
use tower::Layer;

use super::authority::Authority;
use super::grant::{Action, Target};
use super::pass::Pass;
use super::redact;
use super::rules::{self, Row, Rule};
use crate::grpc::app_of;

/// The largest request that administers, in bytes.
const AUDITED_BYTES_MAX: usize = 4 << 20;

/// Puts the door in front of all services.
#[derive(Debug, Clone)]
pub(crate) struct DoorLayer {
    /// `None` = authentication is off.
    pub(crate) authority: Option<Arc<Authority>>,
    /// Whether nodes have to show that they are.
    pub(crate) proven: bool,
}

impl<S> Layer<S> for DoorLayer {
    type Service = Door<S>;

    fn layer(&self, inner: S) -> Door<S> {
        Door { inner, layer: self.clone() }
    }
}

/// A service behind the door.
#[derive(Debug, Clone)]
pub(crate) struct Door<S> {
    inner: S,
    layer: DoorLayer,
}

/// A caller that keeps the rule, and the row of the method.
struct Admitted {
    pass: Option<Pass>,
    row: &'static Row,
}

impl DoorLayer {
    fn admit(&self, authority: &Arc<Authority>, request: &Request<Body>) -> Result<Admitted> {
        let method = request.uri().path().trim_start_matches('/');
        let row = rules::find(method).ok_or_else(|| {
            Error::new(ErrorKind::PermissionDenied, format!("there is no method {}", method.escape_debug()))
        })?;
        let caller = request.extensions().get::<Caller>();
        match row.rule {
            Rule::Open => return Ok(Admitted { pass: None, row }),
            Rule::Node if caller.is_some_and(|caller| caller.node.is_some()) || !self.proven => {
                return Ok(Admitted { pass: None, row });
            }
            Rule::Node => {
                return Err(Error::new(ErrorKind::PermissionDenied, "only nodes call here, with their certificates"));
            }
            _ => {}
        }
        let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let pass = authority.identify(caller, authorization)?;
        check(&pass, row.rule, request)?;
        Ok(Admitted { pass: Some(pass), row })
    }
}

/// Refuses a known caller that may not call a method of this rule.
fn check(pass: &Pass, rule: Rule, request: &Request<Body>) -> Result<()> {
    match rule {
        Rule::Cluster => pass.access()?.check(Action::Admin, Target::Cluster),
        Rule::Feeds(action) => pass.access()?.check(action, Target::Feeds(app_of(request.headers())?.0)),
        Rule::Chat(action) => pass.access()?.check(action, Target::Chat(crate::grpc::chat::APP.0)),
        Rule::ApiLog(action) => pass.access()?.check(action, Target::ApiLog),
        Rule::Open | Rule::Known | Rule::Node | Rule::Keys => Ok(()),
    }
}

fn refusal(authority: &Authority, error: &Error) -> Response<Body> {
    let metrics = authority.metrics();
    match error.kind() {
        ErrorKind::Unauthenticated => metrics.unauthenticated.fetch_add(1, Ordering::Relaxed),
        ErrorKind::PermissionDenied => metrics.denied.fetch_add(1, Ordering::Relaxed),
        _ => 0,
    };
    status_from_error(error).into_http()
}

impl<S> Service<Request<Body>> for Door<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(authority) = &self.layer.authority else { return Either::Left(self.inner.call(request)) };
        let admitted = match self.layer.admit(authority, &request) {
            Ok(admitted) => admitted,
            Err(error) => {
                let refused = refusal(authority, &error);
                return Either::Right(std::future::ready(Ok(refused)).boxed());
            }
        };
        let Some(pass) = admitted.pass else { return Either::Left(self.inner.call(request)) };
        if admitted.row.audited {
            let call = audited(self.inner.clone(), Arc::clone(authority), pass, admitted.row.method, request);
            return Either::Right(call.boxed());
        }
        request.extensions_mut().insert(pass);
        Either::Left(self.inner.call(request))
    }
}

/// Calls a method that administers, with an entry in the log before and after.
async fn audited<S>(
    mut inner: S,
    authority: Arc<Authority>,
    pass: Pass,
    method: &'static str,
    request: Request<Body>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let (mut parts, body) = request.into_parts();
    let bytes = match Limited::new(body, AUDITED_BYTES_MAX).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_cut_off_or_too_large) => {
            let message = format!("the request cannot be read, or has more than {AUDITED_BYTES_MAX} bytes");
            return Ok(refusal(&authority, &Error::new(ErrorKind::BatchTooLarge, message)));
        }
    };
    if !redact::is_one_frame(&bytes) {
        let error = Error::invalid("a call of this method has one message, whole and alone; send the others as calls");
        return Ok(refusal(&authority, &error));
    }
    let (who, audit) = (pass.principal(), authority.audit());
    parts.extensions.insert(pass);
    let number = match audit.begin(&who, method, redact::request(method, &bytes)).await {
        Ok(number) => number,
        Err(error) => {
            let message = format!("the audit log could not be written, so nothing was done: {}", error.message());
            return Ok(refusal(&authority, &Error::new(ErrorKind::Unavailable, message).with_source(error)));
        }
    };
    let response = inner.call(Request::from_parts(parts, Body::new(Full::new(bytes)))).await?;
    let outcome = match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != tonic::Code::Ok => error_from_status(&status).kind().row().name,
        _ => "OK",
    };
    if let Err(error) = audit.end(number, &who, method, outcome).await {
        tracing::error!(%error, number, method, outcome, "the outcome could not be written to the audit log");
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
