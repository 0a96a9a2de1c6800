//! Moderation in keevod: the pool of sidecars, what chat asks before it sends, the pipeline behind it, what verdicts do to
//! texts that stand already, and their copy in PostgreSQL.
//!
//! Invariant: without workers in the configuration nothing is judged and nothing waits; policies and the queue can be
//! looked at all the same.

mod effects;
mod gate;
mod kafka;
mod sources;

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{Clock, Engine, Error, ErrorKind, Result, SeededRandom, SystemClock};
use keevo_gateway::Registry;
use keevo_gateway::apps::OsRandom;
use keevo_moderation_policy::{
    Asking, Effects, Judge, ModerationMetrics, Moderator, Pipeline, PipelineOptions, Policies, Pool, Scores, Source,
    Store, StoreMetrics, StoreOptions, TextQueue, WorkerStatus,
};
use keevo_raft::Node;
use tokio_util::sync::CancellationToken;

use crate::config::ModerationConfig;
use effects::LayerEffects;
pub use gate::{Gate, Way};

/// The moderation of one node. Cheap to clone; clones share everything.
pub struct Moderation<E> {
    moderator: Moderator<E>,
    effects: Arc<dyn Effects>,
    pool: Option<Arc<Pool>>,
    sources: Vec<Arc<dyn Source>>,
    queues: Vec<Arc<dyn TextQueue>>,
    store: Option<Store>,
}

impl<E> Clone for Moderation<E> {
    fn clone(&self) -> Self {
        Self {
            moderator: self.moderator.clone(),
            effects: Arc::clone(&self.effects),
            pool: self.pool.clone(),
            sources: self.sources.clone(),
            queues: self.queues.clone(),
            store: self.store.clone(),
        }
    }
}

impl<E> fmt::Debug for Moderation<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moderation")
    }
}

/// Stands in for workers where none are configured.
struct NoWorkers;

impl Judge for NoWorkers {
    fn judge(&self, _texts: Vec<String>, _asking: Asking) -> BoxFuture<'_, Result<Vec<Scores>>> {
        let none = Error::new(ErrorKind::Unavailable, "no moderation workers are configured: set moderation_workers");
        futures::future::ready(Err(none)).boxed()
    }
}

impl<E: Engine> Moderation<E> {
    /// Moderation over `engine`, as configured; `Config` where the workers cannot be.
    pub fn new(config: &ModerationConfig, policies: Policies, engine: E, registry: Registry) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let pool = if config.workers.is_empty() {
            None
        } else {
            let key = config.key_file.as_deref().map(read_key).transpose()?;
            Some(Arc::new(Pool::new(&config.workers, key, Arc::clone(&clock), Arc::new(SeededRandom::from_os()))?))
        };
        let judge: Arc<dyn Judge> = match &pool {
            Some(pool) => Arc::clone(pool) as _,
            None => Arc::new(NoWorkers),
        };
        let effects = Arc::new(LayerEffects::new(engine.clone(), registry));
        let store = postgres_url(config)?;
        let store = store.map(|url| Store::new(&url, StoreOptions::default(), Arc::clone(&clock))).transpose()?;
        let sources = sources::of(config, &engine);
        let moderator = Moderator::new(engine, policies, judge, clock);
        if store.is_some() {
            moderator.keep_catalogue();
        }
        let queues = config.kafka.as_ref().map(kafka::open).transpose()?;
        let queues = queues.map(|queue| Arc::new(queue) as Arc<dyn TextQueue>).into_iter().collect();
        Ok(Self { moderator, effects, pool, sources, queues, store })
    }

    /// What chat asks before it sends; `None` where nothing is judged.
    pub fn gate(&self) -> Option<Gate<E>> {
        self.pool.as_ref().map(|_| Gate::new(self.moderator.clone()))
    }

    /// The policies and verdicts.
    pub fn moderator(&self) -> &Moderator<E> {
        &self.moderator
    }

    /// What verdicts and decisions do.
    pub fn effects(&self) -> &dyn Effects {
        self.effects.as_ref()
    }

    /// How the workers do; none where nothing is judged.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.pool.as_ref().map(|pool| pool.status()).unwrap_or_default()
    }

    /// What was counted here; `None` where nothing is judged.
    pub fn metrics(&self) -> Option<ModerationMetrics> {
        self.pool.as_ref().map(|_| self.moderator.metrics())
    }

    /// What was copied to PostgreSQL; `None` where nothing is.
    pub fn store_metrics(&self) -> Option<StoreMetrics> {
        self.store.as_ref().map(Store::metrics)
    }

    /// Runs the pipeline, and the copy to PostgreSQL, until `stop`; returns at once where neither is configured.
    pub async fn run(self, stop: CancellationToken) {
        let Self { moderator, effects, pool, sources, queues, store } = self;
        let copying = async {
            if let Some(store) = store {
                store.run(moderator.clone(), &OsRandom, stop.clone()).await;
            }
        };
        let judging = async {
            if pool.is_some() {
                let options = PipelineOptions::default();
                let pipeline = Pipeline::new(moderator.clone(), effects, sources, &OsRandom, options);
                pipeline.with_queues(queues).run(stop.clone()).await;
            }
        };
        futures::future::join(copying, judging).await;
    }
}

/// The moderation of a daemon's node.
pub(crate) fn of_node<E: Engine>(
    config: &ModerationConfig,
    node: &Node,
    engine: E,
    registry: &Registry,
) -> Result<Moderation<E>> {
    let policies = Policies::new(node.engine().meta(), Arc::new(SystemClock::new()));
    Moderation::new(config, policies, engine, registry.clone())
}

/// The variable with the URL of the PostgreSQL that verdicts are copied to: it may hold a password, so it is no setting,
/// which would show it.
const POSTGRES_URL: &str = "KEEVO_MODERATION_POSTGRES_URL";

/// The URL of PostgreSQL, from the environment or a file; `None` where neither says one.
fn postgres_url(config: &ModerationConfig) -> Result<Option<String>> {
    let said = std::env::var(POSTGRES_URL).ok().filter(|url| !url.is_empty());
    let Some(path) = &config.postgres_url_file else { return Ok(said) };
    if said.is_some() {
        let message = format!("moderation_postgres_url_file and {POSTGRES_URL} are both set: leave one of them out");
        return Err(Error::new(ErrorKind::Config, message));
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("moderation_postgres_url_file {} cannot be read", path.display());
        Error::new(ErrorKind::Config, message).with_source(error)
    })?;
    Ok(Some(text.trim().to_owned()))
}

/// The API key in a file; line ends behind it do not count.
fn read_key(path: &std::path::Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("moderation_key_file {} cannot be read", path.display());
        Error::new(ErrorKind::Config, message).with_source(error)
    })?;
    let key = text.trim_end_matches(['\r', '\n']);
    if key.is_empty() || key.chars().any(|c| !c.is_ascii_graphic()) {
        let message = format!("moderation_key_file {} does not hold one key on one line", path.display());
        return Err(Error::new(ErrorKind::Config, message));
    }
    Ok(key.to_owned())
}

#[cfg(test)]
mod tests;
