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
use crate::serve::http::{Front, routes};
use crate::serve::listener::{Bounded, Certificate};
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
    /// Serves HTTPS with this certificate instead of HTTP.
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
    front: Arc<Front>,
    shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    loading: JoinHandle<Result<()>>,
}

impl Sidecar {
    /// Binds the address and begins to load the model; the sidecar is not ready yet.
    ///
    /// # Errors
    /// `AddressInUse`; `Config` for a bad address or certificate.
    pub async fn start(config: SidecarConfig, load: Load) -> Result<Self> {
        let options = Arc::new(config.options);
        let listener = Bounded::bind(config.http, config.tls.as_ref(), options.connections_max).await?;
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
        let shutdown = CancellationToken::new();
        let served = axum::serve(listener, routes(Arc::clone(&front)));
        let server = tokio::spawn(served.with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future());
        let loading = tokio::spawn(load_model(Arc::clone(&front), load));
        Ok(Self { http, front, shutdown, server, loading })
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http
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
    pub async fn stop(mut self) {
        self.front.stopping.store(true, Ordering::SeqCst);
        self.shutdown.cancel();
        self.loading.abort();
        let drain = self.front.options.drain;
        if tokio::time::timeout(drain, &mut self.server).await.is_err() {
            tracing::warn!("requests were still under way after {} s; they are cut off", drain.as_secs_f32());
            self.server.abort();
        }
        let Some(moderator) = self.front.moderator.get() else { return };
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
