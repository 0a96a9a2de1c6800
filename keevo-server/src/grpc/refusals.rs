//! What tonic refuses before a service sees it, in Keevo's words; and the deadline of gRPC itself.
//!
//! A message that does not decode, one that is too large and a method that nobody has are answered by tonic with
//! bare codes, of which a client can make the wrong thing: an "out of range" that means "too large", a "cancelled"
//! that means "too late". [`Refusals`] gives each its kind, code and sentence.
//!
//! Invariant: whatever ends with an error before its first message names its kind. The `grpc-timeout` of a request
//! that writes ends with `OutcomeUnknown`, of any other with `DeadlineExceeded`.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind};
use keevo_proto::{KIND_METADATA, status_from_error};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;
use tonic::{Code, Status};

/// The header in which gRPC sends how long the caller waits.
const TIMEOUT: &str = "grpc-timeout";
/// The methods whose requests must not simply be sent again: they may have been applied.
const WRITES: [&str; 7] = [
    "/keevo.kv.v1.Kv/Write",
    "/keevo.feeds.v1.Feeds/AddActivity",
    "/keevo.feeds.v1.Feeds/AddActivities",
    "/keevo.feeds.v1.Feeds/AddToMany",
    "/keevo.feeds.v1.Social/AddEntry",
    "/keevo.feeds.v1.Social/AddReaction",
    "/keevo.chat.v1.Chat/SendMessage",
];

/// A service whose every refusal names its kind.
#[derive(Debug, Clone)]
pub struct Refusals<S> {
    inner: S,
}

impl<S> Refusals<S> {
    /// The service, with its refusals in Keevo's words.
    pub fn of(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: NamedService> NamedService for Refusals<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Refusals<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // tonic's own timer starts after this one, so that this one is the first to end.
        let limit = request.headers().get(TIMEOUT).and_then(|text| parse_timeout(text.to_str().ok()?));
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let path = request.uri().path().to_owned();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answered = match end {
                None => Some(answer.await?),
                Some(end) => until(end, answer).await.transpose()?,
            };
            Ok(match answered {
                Some(response) => with_kind(response, &path),
                None => late(&path, limit.unwrap_or_default()).into_http(),
            })
        })
    }
}

/// What `answer` gives, or nothing once `end` has passed.
async fn until<T>(end: Instant, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    let mut timer = pin!(tokio::time::sleep_until(end));
    poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        // The clock is asked too: tonic's timer may wake the task before this one is marked as fired.
        Poll::Pending if Instant::now() >= end => Poll::Ready(None),
        Poll::Pending => timer.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Reads a `grpc-timeout`: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

fn late(path: &str, limit: Duration) -> Status {
    let kind = if WRITES.contains(&path) { ErrorKind::OutcomeUnknown } else { ErrorKind::DeadlineExceeded };
    let shown = if limit < Duration::from_millis(1) { "1 ms".to_owned() } else { format!("{} ms", limit.as_millis()) };
    status_from_error(&Error::new(kind, format!("no answer within {shown}, the deadline of the call")))
}

/// The response, or if it is an error without a kind, the same error with one.
fn with_kind(response: http::Response<Body>, path: &str) -> http::Response<Body> {
    if response.headers().contains_key(KIND_METADATA) {
        return response;
    }
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let said = status.message().trim_end_matches('.');
    match status.code() {
        Code::Internal => status_from_error(&Error::invalid(format!("the request cannot be read: {said}"))).into_http(),
        Code::OutOfRange => {
            let sizes = said.rsplit_once("too large: ").map_or(said, |(_, sizes)| sizes);
            let error = Error::new(ErrorKind::BatchTooLarge, format!("the request is too large: {sizes}"));
            status_from_error(&error).into_http()
        }
        Code::Unimplemented => {
            let message = if said.is_empty() { format!("there is no method {path}") } else { said.to_owned() };
            let mut told = Status::unimplemented(message);
            told.metadata_mut().insert(KIND_METADATA, MetadataValue::from_static(ErrorKind::Invalid.row().name));
            told.into_http()
        }
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_proto::error_from_status;

    fn told(response: &http::Response<Body>) -> (Code, ErrorKind, String) {
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert!(status.metadata().contains_key(KIND_METADATA), "{status:?}");
        (status.code(), error_from_status(&status).kind(), status.message().to_owned())
    }

    #[test]
    fn a_timeout_is_read_as_grpc_writes_it() {
        let millis = |text| parse_timeout(text).map(|limit| limit.as_millis());
        assert_eq!([millis("5S"), millis("250m"), millis("1500u")], [Some(5_000), Some(250), Some(1)]);
        assert_eq!([millis("2M"), millis("1H"), millis("7000000n")], [Some(120_000), Some(3_600_000), Some(7)]);
        for bad in ["", "m", "5", "5s", "-5S", "123456789m", "é", "5é", "1.5S"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn bare_codes_become_kinds() {
        let bare = |status: Status| told(&with_kind(status.into_http(), "/a.B/C"));
        let (code, kind, message) = bare(Status::internal("failed to decode Protobuf message: x"));
        assert_eq!((code, kind), (Code::InvalidArgument, ErrorKind::Invalid));
        assert_eq!(message, "the request cannot be read: failed to decode Protobuf message: x");
        let (code, kind, _) = bare(Status::out_of_range("decoded message length too large"));
        assert_eq!((code, kind), (Code::InvalidArgument, ErrorKind::BatchTooLarge));
        let (code, kind, message) = bare(Status::unimplemented(""));
        assert_eq!(
            (code, kind, message.as_str()),
            (Code::Unimplemented, ErrorKind::Invalid, "there is no method /a.B/C")
        );
        let named = status_from_error(&Error::new(ErrorKind::Io, "the disk is gone"));
        assert_eq!(bare(named).1, ErrorKind::Io);
        let fine = with_kind(http::Response::new(Body::empty()), "/a.B/C");
        assert!(fine.headers().is_empty(), "what is no error stays");
    }

    /// A service that never answers.
    #[derive(Clone)]
    struct Silent;

    impl Service<http::Request<Body>> for Silent {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<http::Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test]
    async fn the_deadline_of_grpc_is_kept() {
        for (path, expected) in [
            ("/keevo.kv.v1.Kv/Get", (Code::DeadlineExceeded, ErrorKind::DeadlineExceeded)),
            ("/keevo.kv.v1.Kv/Write", (Code::Unknown, ErrorKind::OutcomeUnknown)),
        ] {
            let request = http::Request::builder().uri(path).header(TIMEOUT, "50m").body(Body::empty());
            let began = Instant::now();
            let response = Refusals::of(Silent).call(request.expect("a request")).await.expect("infallible");
            assert!(began.elapsed() >= Duration::from_millis(50), "it waits as long as it may");
            let (code, kind, message) = told(&response);
            assert_eq!((code, kind), expected);
            assert_eq!(message, "no answer within 50 ms, the deadline of the call");
        }
    }
}
