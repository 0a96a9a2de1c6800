//! One sink at one node: tries to have it, tells its changes, and tries again when something fails.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use keevo_core::{Changes, Error, ErrorKind, Keyspace, Result};
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::{Counters, Inner};
use crate::claim::{Claim, Failure, Staged};
use crate::places::Place;
use crate::sinks::keyspace_of;
use crate::spec::Sink;
use crate::target::Target;

/// How an attempt ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Another node has the sink, or it is gone.
    NotOurs,
    /// The sink is to stop.
    Stopped,
}

/// A page of one shard that is waited for.
type Page = BoxFuture<'static, (u64, Result<Changes>)>;

/// One sink at this node.
pub(super) struct Run {
    inner: Arc<Inner>,
    sink: Sink,
    counters: Arc<Counters>,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

fn lost() -> Error {
    Error::new(ErrorKind::Conflict, "another node runs the sink now")
}

impl Run {
    pub(super) fn new(inner: Arc<Inner>, sink: Sink, counters: Arc<Counters>) -> Self {
        Self { inner, sink, counters }
    }

    /// Runs the sink until `stop`.
    pub(super) async fn until(self, stop: CancellationToken) {
        let options = self.inner.parts.options;
        let mut pause = options.pause_min;
        loop {
            let wait = match Box::pin(self.attempt(&stop, &mut pause)).await {
                Ok(Ended::Stopped) => return,
                Ok(Ended::NotOurs) => options.claim / 3,
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(sink = self.sink.name, %error, source, "a sink does not get on; it is tried again");
                    add(&self.counters.failures, 1);
                    let wait = pause;
                    pause = (pause * 2).min(options.pause_max);
                    wait
                }
            };
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.inner.parts.clock.now_ms()
    }

    /// Takes the sink and runs it until something fails. `pause` is short again after something went well.
    async fn attempt(&self, stop: &CancellationToken, pause: &mut Duration) -> Result<Ended> {
        let parts = &self.inner.parts;
        let ttl_ms = u64::try_from(parts.options.claim.as_millis()).unwrap_or(u64::MAX);
        let (engine, who) = (parts.sinks.engine(), (parts.instance, parts.node));
        let Some(mut claim) = Claim::take(engine, &self.sink, who, self.now_ms(), ttl_ms).await? else {
            return Ok(Ended::NotOurs);
        };
        self.counters.running.store(1, Ordering::Relaxed);
        let ended = self.hold(&mut claim, stop, pause).await;
        self.counters.running.store(0, Ordering::Relaxed);
        let failure = match &ended {
            Err(error) if error.kind() == ErrorKind::Conflict => return Ok(Ended::NotOurs),
            Err(error) => Some(Failure::new(error, parts.node, self.now_ms())),
            Ok(_) => claim.row.failure.take(),
        };
        if let Err(error) = claim.give_back(failure).await {
            tracing::debug!(sink = self.sink.name, %error, "the claim on a sink runs out by itself");
        }
        ended
    }

    async fn hold(&self, claim: &mut Claim, stop: &CancellationToken, pause: &mut Duration) -> Result<Ended> {
        let parts = &self.inner.parts;
        let keyspace = keyspace_of(parts.sinks.engine(), &self.sink).await?;
        let proof = claim.row.staged.as_ref().map(|staged| staged.proof.clone());
        let cluster = claim.row.cluster();
        let opening = parts.targets.open(&self.sink, cluster, proof.as_ref());
        let Some(opened) = stop.run_until_cancelled(self.keep(claim, opening)).await else { return Ok(Ended::Stopped) };
        let (mut target, recovered) = opened?;
        if proof.is_some() {
            claim.settle(recovered.has_staged);
        }
        let mut seen = 0;
        for place in recovered.seen {
            if claim.row.places.of(place.shard).is_some_and(|known| known < place) {
                claim.row.places.advance(place);
                seen += 1;
            }
        }
        if seen > 0 {
            tracing::info!(sink = self.sink.name, shards = seen, "the target has changes that were not noted yet");
        }
        // Wherever that cuts it off, whoever opens the target next finds out what became of the last batch.
        let ended = stop.run_until_cancelled(self.tell(claim, target.as_mut(), keyspace, pause)).await;
        target.close().await;
        ended.unwrap_or(Ok(Ended::Stopped))
    }

    /// Tells changes until something fails.
    async fn tell(
        &self,
        claim: &mut Claim,
        target: &mut dyn Target,
        keyspace: Keyspace,
        pause: &mut Duration,
    ) -> Result<Ended> {
        let options = self.inner.parts.options;
        let mut pages: FuturesUnordered<Page> =
            claim.row.places.iter().map(|at| self.page(claim, keyspace, at)).collect();
        let mut renewal = tokio::time::interval(options.claim / 3);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick is at once: what was found out when the target was opened is written with it.
        loop {
            let page = tokio::select! {
                _ = renewal.tick() => {
                    if !claim.renew(self.now_ms()).await? {
                        return Err(lost());
                    }
                    continue;
                }
                page = pages.next() => page,
            };
            // There is a page for each shard, always.
            let Some((_, page)) = page else { return Err(Error::invalid("the keyspace of a sink lies in no shard")) };
            let mut batch = Batch::default();
            batch.take(&self.sink, &page?);
            while batch.changes.len() < options.batch_changes_max
                && batch.bytes < options.batch_bytes_max
                && let Some(Some((_, page))) = pages.next().now_or_never()
            {
                batch.take(&self.sink, &page?);
            }
            let reached = batch.places.clone();
            self.deliver(claim, target, batch).await?;
            claim.row.failure = None;
            *pause = options.pause_min;
            for place in reached {
                pages.push(self.page(claim, keyspace, place));
            }
        }
    }

    fn page(&self, claim: &Claim, keyspace: Keyspace, at: Place) -> Page {
        let (log, after) = (Arc::clone(self.inner.parts.sinks.log()), claim.cursor(at));
        async move { (at.shard, log.page(keyspace, after).await) }.boxed()
    }

    /// Gives a batch to the target, and notes that.
    async fn deliver(&self, claim: &mut Claim, target: &mut dyn Target, batch: Batch) -> Result<()> {
        let Batch { changes, places, bytes } = batch;
        let mut after = claim.row.places.clone();
        for place in places {
            after.advance(place);
        }
        if changes.is_empty() {
            // The next write notes it.
            claim.row.places = after;
            return Ok(());
        }
        let proof = self.keep(claim, target.stage(&changes)).await?;
        let count = u64::try_from(changes.len()).unwrap_or(u64::MAX);
        if !claim.stage(Staged { places: after, changes: count, proof }, self.now_ms()).await? {
            return Err(lost());
        }
        self.keep(claim, target.commit()).await?;
        claim.settle(true);
        add(&self.counters.told, changes.len());
        add(&self.counters.bytes, bytes);
        Ok(())
    }

    /// Waits for something that may take long, and keeps the claim meanwhile.
    async fn keep<T>(&self, claim: &mut Claim, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(self.inner.parts.options.claim / 3, work.as_mut()).await {
                Ok(done) => return done,
                Err(_elapsed) => {
                    if !claim.renew(self.now_ms()).await? {
                        return Err(lost());
                    }
                }
            }
        }
    }
}
