//! The gRPC side: `keevo.moderation.v1`, with `grpc.health.v1` and server reflection beside it.
//!
//! ```text
//! Classify        one request ─> Moderator ─> one answer
//! ClassifyStream  requests ─> at most 64 under way ─> answers as they are done; failures are answers too
//! ```
//!
//! Invariant: what is asked here is judged as what is asked over HTTP: the same keys, queue, batches, limits and kinds of
//! errors. A key is looked at before a message is read. Nothing is held for a client that does not read its answers but
//! the requests that are under way.

mod convert;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::moderation::v1 as pb;
use keevo_proto::moderation::v1::moderation_server::{Moderation, ModerationServer};
use keevo_proto::{MODERATION_DESCRIPTOR_SET, status_from_error};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::serve::http::Front;
use crate::serve::listener::{Bounded, Certificate, GRPC};
use crate::serve::moderator::Moderator;

/// Its place among the labels of the metrics.
const PLACE: usize = 3;
/// The services whose health is told; the empty name is the sidecar as a whole.
const SERVICES: [&str; 2] = ["", "keevo.moderation.v1.Moderation"];
/// The most calls of one connection at a time.
const STREAMS_MAX: u32 = 128;
/// The metadata key of the seconds after which it is worth asking again.
const RETRY_AFTER: &str = "retry-after";

/// The gRPC server of a sidecar.
pub(crate) struct Grpc {
    address: SocketAddr,
    reporter: HealthReporter,
    stop: CancellationToken,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl std::fmt::Debug for Grpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grpc").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Grpc {
    /// Binds the address and serves; its health says that it does not yet.
    ///
    /// # Errors
    /// `AddressInUse`; `Config` for a bad address or certificate.
    pub(crate) async fn start(address: SocketAddr, tls: Option<&Certificate>, front: Arc<Front>) -> Result<Self> {
        let options = Arc::clone(&front.options);
        let listener = Bounded::bind(address, tls, options.connections_max, GRPC).await?;
        let address = listener.address();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(MODERATION_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| Error::new(ErrorKind::Config, "reflection cannot be set up").with_source(error))?;
        let (reporter, health) = tonic_health::server::health_reporter();
        tell(&reporter, ServingStatus::NotServing).await;
        let stop = CancellationToken::new();
        let service = Service { front: Arc::clone(&front), stop: stop.clone() };
        let server = ModerationServer::new(service).max_decoding_message_size(options.body_bytes_max);
        let served = tonic::transport::Server::builder()
            .max_concurrent_streams(Some(STREAMS_MAX))
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            // The moderator keeps to the timeout; this one is for messages that do not come.
            .timeout(options.timeout + Duration::from_secs(1))
            .add_service(InterceptedService::new(server, move |request| let_in(&front, request)))
            .add_service(health)
            .add_service(reflection)
            .serve_with_incoming_shutdown(listener, stop.clone().cancelled_owned());
        Ok(Self { address, reporter, stop, task: tokio::spawn(served) })
    }

    /// Where it is served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What tells its health.
    pub(crate) fn reporter(&self) -> HealthReporter {
        self.reporter.clone()
    }

    /// Takes no more calls, and ends once those under way are answered or `drain` is over.
    pub(crate) async fn stop(mut self, drain: Duration) {
        tell(&self.reporter, ServingStatus::NotServing).await;
        self.stop.cancel();
        for service in SERVICES {
            // Those who watch it would hold up the end.
            self.reporter.clear_service_status(service).await;
        }
        match tokio::time::timeout(drain, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the gRPC server failed"),
            Ok(Err(error)) => tracing::error!(%error, "the gRPC server failed"),
            Err(_elapsed) => {
                tracing::warn!("calls were still under way after {} s; they are cut off", drain.as_secs_f32());
                self.task.abort();
            }
        }
    }
}

/// Tells whether texts are judged.
async fn tell(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

/// Tells that texts are judged from now on.
pub(crate) async fn tell_ready(reporter: &HealthReporter) {
    tell(reporter, ServingStatus::Serving).await;
}

#[allow(clippy::result_large_err, reason = "tonic's interceptors answer so")]
fn let_in(front: &Front, request: Request<()>) -> Result<Request<()>, Status> {
    let headers = request.metadata().clone().into_headers();
    match front.keys.check(&headers, &Uri::default()) {
        Ok(()) => Ok(request),
        Err(error) => {
            front.metrics.answered(PLACE, Some(error.kind()), Duration::ZERO);
            Err(status_from_error(&error))
        }
    }
}

/// `keevo.moderation.v1` over the model of a sidecar.
struct Service {
    front: Arc<Front>,
    stop: CancellationToken,
}

/// Judges one request and counts it.
async fn ask(front: &Front, request: pb::ClassifyRequest) -> Result<pb::ClassifyResponse> {
    let began = front.clock.monotonic();
    let result = judge(front, request).await;
    let took = front.clock.monotonic().saturating_sub(began);
    front.metrics.answered(PLACE, result.as_ref().err().map(Error::kind), took);
    result
}

async fn judge(front: &Front, request: pb::ClassifyRequest) -> Result<pb::ClassifyResponse> {
    let moderator: &Moderator = front.moderator()?;
    let call = convert::call(&request)?;
    let raw = request.raw_scores;
    let scored = moderator.score(convert::inputs(request.inputs), call).await?;
    Ok(convert::response(moderator, scored, raw))
}

/// After how many seconds it is worth asking again; `None` where waiting does not help.
fn retry_after_s(front: &Front, error: &Error) -> Option<u64> {
    let helps = matches!(error.kind(), ErrorKind::ResourceExhausted | ErrorKind::Unavailable);
    helps.then(|| front.retry_after_s())
}

fn status(front: &Front, error: &Error) -> Status {
    let mut status = status_from_error(error);
    if let Some(seconds) = retry_after_s(front, error) {
        status.metadata_mut().insert(RETRY_AFTER, MetadataValue::from(seconds));
    }
    status
}

#[tonic::async_trait]
impl Moderation for Service {
    type ClassifyStreamStream = ReceiverStream<Result<pb::ClassifyStreamResponse, Status>>;

    async fn classify(&self, request: Request<pb::ClassifyRequest>) -> Result<Response<pb::ClassifyResponse>, Status> {
        let answered = ask(&self.front, request.into_inner()).await;
        answered.map(Response::new).map_err(|error| status(&self.front, &error))
    }

    async fn classify_stream(
        &self,
        request: Request<Streaming<pb::ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        let answers = stream::start(Arc::clone(&self.front), request.into_inner(), self.stop.clone());
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn get_info(&self, _request: Request<pb::GetInfoRequest>) -> Result<Response<pb::GetInfoResponse>, Status> {
        let moderator = self.front.moderator().map_err(|error| status(&self.front, &error))?;
        Ok(Response::new(convert::info(moderator)))
    }
}

#[cfg(test)]
mod tests;
