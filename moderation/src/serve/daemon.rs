//! A sidecar: bound, loading, ready, stopping.
//!
//! ```text
//! start: the address is bound, /health says 503 ─> the model is loaded and warmed up ─> ready, /health says 200
//! stop:  /health says 503, no new connections ─> requests under way are answered ─> the model's threads end
//! ```
//!
//! Invariant: nothing is judged before the warm-up, and what was taken in is answered before the end, or the drain's
//! time is over.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use keevo_core::{Clock, Error, ErrorKind, Result, SeededRandom, SystemClock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::classify::Classify;
use crate::serve::auth::ApiKeys;
use crate::serve::grpc::{self, Grpc};
use crate::serve::http::{Front, routes};
use crate::serve::listener::{Bounded, Certificate, HTTP};
use crate::serve::metrics::Metrics;
use crate::serve::moderator::Moderator;
use crate::serve::options::ServeOptions;

/// Loads the model; it may block and take its time.
pub type Load = Box<dyn FnOnce() -> Result<Box<dyn Classify>> + Send>;

/// Where and for whom a sidecar serves.
#[derive(Debug, Clone)]
pub struct SidecarConfig {
    /// The address for HTTP; port 0 takes a free one.
    pub http: SocketAddr,
    /// The address for gRPC likewise; without one it is not served.
    pub grpc: Option<SocketAddr>,
    /// Serves HTTPS, and gRPC over TLS, with this certificate.
    pub tls: Option<Certificate>,
    /// Who is let in.
    pub keys: ApiKeys,
    /// The limits.
    pub options: ServeOptions,
}

/// A sidecar that runs.
#[derive(Debug)]
pub struct Sidecar {
    http: SocketAddr,
    grpc: Option<Grpc>,
    front: Arc<Front>,
    shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    loading: JoinHandle<Result<()>>,
}

impl Sidecar {
    /// Binds the addresses and begins to load the model; the sidecar is not ready yet.
    ///
    /// # Errors
    /// `AddressInUse`; `Config` for a bad address or certificate.
    pub async fn start(config: SidecarConfig, load: Load) -> Result<Self> {
        let options = Arc::new(config.options);
        let listener = Bounded::bind(config.http, config.tls.as_ref(), options.connections_max, HTTP).await?;
        let http = listener.address();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let metrics = Arc::new(Metrics::new(options.batch_tokens_max));
        let front = Arc::new(Front {
            moderator: OnceLock::new(),
            stopping: AtomicBool::new(false),
            keys: config.keys,
            options,
            metrics,
            clock,
            random: Arc::new(SeededRandom::from_os()),
        });
        let grpc = match config.grpc {
            Some(address) => Some(Grpc::start(address, config.tls.as_ref(), Arc::clone(&front)).await?),
            None => None,
        };
        let shutdown = CancellationToken::new();
        let served = axum::serve(listener, routes(Arc::clone(&front)));
        let server = tokio::spawn(served.with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future());
        let reporter = grpc.as_ref().map(Grpc::reporter);
        let ready = Arc::clone(&front);
        let loading = tokio::spawn(async move {
            load_model(ready, load).await?;
            if let Some(reporter) = reporter {
                grpc::tell_ready(&reporter).await;
            }
            Ok(())
        });
        Ok(Self { http, grpc, front, shutdown, server, loading })
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where gRPC is served.
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(Grpc::address)
    }

    #[cfg(test)]
    pub(crate) fn front(&self) -> &Front {
        &self.front
    }

    /// Waits until the sidecar is ready, or could not become so: then it is of no use, but is still to be stopped.
    pub async fn ready(&mut self) -> Result<()> {
        if self.front.is_ready() {
            return Ok(());
        }
        match (&mut self.loading).await {
            Ok(loaded) => loaded,
            Err(error) => Err(Error::new(ErrorKind::Io, "loading the model failed").with_source(error)),
        }
    }

    /// Stops the sidecar: requests under way are answered, as long as the drain allows.
    pub async fn stop(self) {
        let Self { grpc, front, shutdown, mut server, loading, .. } = self;
        front.stopping.store(true, Ordering::SeqCst);
        shutdown.cancel();
        loading.abort();
        let drain = front.options.drain;
        let http = async {
            if tokio::time::timeout(drain, &mut server).await.is_err() {
                tracing::warn!("requests were still under way after {} s; they are cut off", drain.as_secs_f32());
                server.abort();
            }
        };
        let grpc = async {
            if let Some(grpc) = grpc {
                grpc.stop(drain).await;
            }
        };
        tokio::join!(http, grpc);
        let Some(moderator) = front.moderator.get() else { return };
        if tokio::time::timeout(drain, Arc::clone(moderator).stop()).await.is_err() {
            tracing::warn!("the model is still at work; it ends with the process");
        }
    }
}

async fn load_model(front: Arc<Front>, load: Load) -> Result<()> {
    let began = front.clock.monotonic();
    let loaded = tokio::task::spawn_blocking(load).await;
    let model = loaded.map_err(|error| Error::new(ErrorKind::Io, "loading the model failed").with_source(error))??;
    let model: Arc<dyn Classify> = Arc::from(model);
    let (options, clock) = (Arc::clone(&front.options), Arc::clone(&front.clock));
    let moderator = Arc::new(Moderator::start(model, options, clock, Arc::clone(&front.metrics))?);
    let loaded = front.clock.monotonic();
    moderator.warm_up().await?;
    let warm = front.clock.monotonic();
    let info = moderator.info();
    tracing::info!(
        model = info.name,
        version = info.version,
        device = info.device,
        dtype = info.dtype,
        load_ms = loaded.saturating_sub(began).as_millis(),
        warm_up_ms = warm.saturating_sub(loaded).as_millis(),
        "the model is ready"
    );
    front.moderator.set(moderator).map_err(|_twice| Error::new(ErrorKind::Io, "the model was loaded twice"))
}

#[cfg(test)]
mod tests;
