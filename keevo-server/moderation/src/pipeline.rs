//! The pipeline: gives a verdict to every text that waits, and finds those that came in past the callers.
//!
//! ```text
//! change streams ──tail──> rows of texts that wait <──leave── callers whose budget ran out, or who died
//!         queues ──────────────^
//!                                  │ sweep
//!                                  v
//!                     verdict, queue, effects, and the row goes
//! ```
//!
//! Invariants: it may run on any number of nodes at once, since a verdict is written once; the lease only saves double
//! work. A row goes only after everything that follows from its text is done. Nothing waits for a worker but rows on
//! disk: the tail goes on while every worker is down.

mod queued;
mod sweep;
mod tail;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{CommitEvent, Engine, Random, Result};
use tokio_util::sync::CancellationToken;

use crate::lease::Lease;
use crate::moderator::Moderator;
use crate::queue::TextQueue;
use crate::text::{TextId, TextKind, TextVersion};
use crate::verdict::Effects;
pub use sweep::Sweep;

/// The first question has this part of the bytes that one may have: nobody knows yet how fast the workers are.
const QUESTION_AT_FIRST: usize = 8;

/// Where texts come from: a keyspace whose changes tell them.
pub trait Source: Send + Sync + 'static {
    /// Its name, under which the place in its changes is kept.
    fn name(&self) -> &'static str;

    /// The keyspace to watch.
    fn keyspace(&self) -> &'static str;

    /// The text version that a change brings, if it brings one.
    fn text(&self, event: &CommitEvent) -> Result<Option<TextVersion>>;

    /// The text that a change erases, if it does.
    fn erased(&self, _event: &CommitEvent) -> Result<Option<TextId>> {
        Ok(None)
    }

    /// The authors, or the names of one, whose texts a change erases: also those that no change will tell of.
    fn erased_authors(&self, _event: &CommitEvent) -> Result<Vec<ErasedAuthor>> {
        Ok(Vec::new())
    }

    /// The channel that a change erases, if it does: with texts that no change will tell of.
    fn erased_channel(&self, _event: &CommitEvent) -> Result<Option<ErasedChannel>> {
        Ok(None)
    }

    /// Whether something else may be said under the id of a text that was erased: then its text is judged as a new one.
    fn reuses_ids(&self) -> bool {
        false
    }

    /// Whether an author was erased, so that what it wrote stays under another name.
    fn is_gone<'a>(&'a self, _app: u32, _author: &'a str) -> BoxFuture<'a, Result<bool>> {
        futures::future::ready(Ok(false)).boxed()
    }

    /// Whether a change brings a text that waits for its verdict to let it go: then it is looked at although it may have one.
    fn is_held(&self, _event: &CommitEvent) -> bool {
        false
    }
}

/// An author that is erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedAuthor {
    /// The app.
    pub app: u32,
    /// Who it was.
    pub author: String,
    /// Of which kinds the texts are that go with it.
    pub kinds: &'static [TextKind],
    /// Under whose name its texts stay; `None` = they go.
    pub stand_in: Option<String>,
}

/// A channel of chat that is erased.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErasedChannel {
    /// The app.
    pub app: u32,
    /// Its name, `TYPE:ID`.
    pub channel: String,
}

/// How a pipeline works. The defaults suit production.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// How often it looks for texts that wait, unless it is woken.
    pub sweep_every: Duration,
    /// The longest pause while no worker answers; pauses double up to it.
    pub pause_max: Duration,
    /// The most texts in one question.
    pub texts_max: usize,
    /// The most bytes of texts in one question.
    pub bytes_max: usize,
    /// How long a question may take.
    pub answer_within: Duration,
    /// How often a text may fail alone, while others are answered, before it is set aside.
    pub strikes_max: u32,
    /// How long a node that fell silent keeps others from running.
    pub lease: Duration,
    /// How often the place in a stream is saved.
    pub save_every: Duration,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            sweep_every: Duration::from_millis(500),
            pause_max: Duration::from_secs(10),
            texts_max: 64,
            bytes_max: 512 << 10,
            answer_within: Duration::from_secs(10),
            strikes_max: 5,
            lease: Duration::from_secs(10),
            save_every: Duration::from_secs(1),
        }
    }
}

/// The pipeline of one node.
pub struct Pipeline<E> {
    moderator: Moderator<E>,
    effects: Arc<dyn Effects>,
    sources: Vec<Arc<dyn Source>>,
    queues: Vec<Arc<dyn TextQueue>>,
    options: PipelineOptions,
    instance: u64,
    /// The most bytes of the next question: less while questions of many are too much for the workers.
    question_bytes: AtomicUsize,
    /// How often texts failed alone; bounded, and forgotten with the process.
    strikes: Mutex<BTreeMap<[u8; 16], u32>>,
}

impl<E> fmt::Debug for Pipeline<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipeline")
    }
}

impl<E: Engine> Pipeline<E> {
    /// The pipeline behind `moderator`, over `sources`.
    pub fn new(
        moderator: Moderator<E>,
        effects: Arc<dyn Effects>,
        sources: Vec<Arc<dyn Source>>,
        random: &dyn Random,
        options: PipelineOptions,
    ) -> Self {
        let (instance, strikes) = (random.next_u64(), Mutex::default());
        let question_bytes = AtomicUsize::new(options.bytes_max / QUESTION_AT_FIRST);
        let queues = Vec::new();
        Self { moderator, effects, sources, queues, options, instance, question_bytes, strikes }
    }

    /// The same, over `queues` too.
    #[must_use]
    pub fn with_queues(self, queues: Vec<Arc<dyn TextQueue>>) -> Self {
        Self { queues, ..self }
    }

    /// Runs until `stop`, while this node has the lease.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            loop {
                if let Err(error) = self.take_and_hold().await {
                    tracing::debug!(%error, "the moderation's lease cannot be taken yet");
                }
                tokio::time::sleep(self.options.lease / 3).await;
            }
        };
        if stop.run_until_cancelled(work).await.is_none()
            && let Err(error) = self.give_back().await
        {
            tracing::debug!(%error, "the moderation's lease runs out by itself");
        }
    }

    async fn lease(&self) -> Result<Lease<E>> {
        Ok(Lease::new(self.moderator.verdicts().await?, "lease", self.instance, self.options.lease))
    }

    async fn take_and_hold(&self) -> Result<()> {
        let lease = self.lease().await?;
        if lease.take().await? {
            self.hold(&lease).await;
        }
        Ok(())
    }

    async fn give_back(&self) -> Result<()> {
        self.lease().await?.give_back().await
    }

    /// Works until the lease is lost.
    async fn hold(&self, lease: &Lease<E>) {
        let tails = futures::future::join_all(self.sources.iter().map(|source| self.tail(source.as_ref())));
        let queues = futures::future::join_all(self.queues.iter().map(|queue| self.follow_queue(queue.as_ref())));
        tokio::select! {
            // Both go on for ever; without any they end at once.
            _ = futures::future::join(tails, queues) => {}
            () = self.sweeps() => {}
            () = lease.hold() => tracing::info!("another node runs the moderation now"),
        }
    }

    /// Sweeps for ever, with pauses that grow while no worker answers.
    async fn sweeps(&self) {
        let mut pause = self.options.sweep_every;
        loop {
            match self.sweep().await {
                Ok(sweep) if sweep.stalled => pause = (pause * 2).min(self.options.pause_max),
                Ok(sweep) if sweep.more => continue,
                Ok(_) => pause = self.options.sweep_every,
                Err(error) => {
                    tracing::warn!(%error, "a sweep of the texts that wait failed");
                    pause = (pause * 2).min(self.options.pause_max);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Who is woken by every new text gives no worker time to come back.
                () = self.moderator.inner.wake.notified(), if pause <= self.options.sweep_every => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
