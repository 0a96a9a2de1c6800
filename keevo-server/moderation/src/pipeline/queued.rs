//! Texts of queues: read, judged, and only then passed.
//!
//! Invariant: the saved place in a queue is behind a text only once its verdict is stored. The verdict and the place lie in
//! different partitions, so they are two writes; what is read again after a crash has its verdict by then. While no worker
//! answers, one chunk of records waits on disk and the rest in the queue.

use std::collections::BTreeMap;
use std::time::Duration;

use keevo_core::{Engine, Result};

use super::Pipeline;
use crate::metrics::add;
use crate::queue::{Offsets, QueuedText, TextQueue};
use crate::text::TextVersion;

/// How long one look at a queue waits for records.
const WAIT: Duration = Duration::from_secs(2);
/// The first pause before verdicts are looked for again; pauses double up to the longest one between sweeps.
const PAUSE: Duration = Duration::from_millis(20);

impl<E: Engine> Pipeline<E> {
    /// Follows a queue for ever.
    pub(super) async fn follow_queue(&self, queue: &dyn TextQueue) {
        let mut pause = self.options.sweep_every;
        loop {
            let before = self.moderator.metrics().queued;
            if let Err(error) = self.drain(queue).await {
                tracing::warn!(queue = queue.name(), %error, "a queue of texts cannot be read; it is tried again");
            }
            let got_on = self.moderator.metrics().queued > before;
            pause = if got_on { self.options.sweep_every } else { (pause * 2).min(self.options.pause_max) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads a queue until it breaks.
    async fn drain(&self, queue: &dyn TextQueue) -> Result<()> {
        let mut offsets = Offsets::load(self.moderator.verdicts().await?, &queue.name()).await?;
        let mut reader = queue.open(offsets.next()).await?;
        loop {
            let records = reader.next(WAIT).await?;
            if records.is_empty() {
                continue;
            }
            self.judge_all(self.versions(&records)).await?;
            offsets.pass(&records).await?;
            add(&self.moderator.inner.counters.queued, records.len());
        }
    }

    /// The texts among records, each version once.
    fn versions(&self, records: &[QueuedText]) -> Vec<TextVersion> {
        let mut versions: BTreeMap<[u8; 16], TextVersion> = BTreeMap::new();
        for record in records {
            match record.version() {
                Ok(version) => {
                    versions.entry(version.digest()).or_insert(version);
                }
                Err(error) => {
                    let QueuedText { partition, offset, .. } = record;
                    tracing::error!(partition, offset, %error, "a record of a queue is no text");
                    add(&self.moderator.inner.counters.unreadable, 1);
                }
            }
        }
        versions.into_values().collect()
    }

    /// Leaves texts to the sweep, and waits until all have their verdicts.
    async fn judge_all(&self, versions: Vec<TextVersion>) -> Result<()> {
        let verdicts = self.moderator.verdicts().await?;
        let mut waiting = self.without_verdict(versions).await?;
        for version in &waiting {
            verdicts.leave(version).await?;
        }
        let mut pause = PAUSE;
        while !waiting.is_empty() {
            self.moderator.inner.wake.notify_one();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.options.sweep_every);
            waiting = self.without_verdict(waiting).await?;
        }
        Ok(())
    }

    /// Those that have no verdict yet, and are not erased.
    async fn without_verdict(&self, versions: Vec<TextVersion>) -> Result<Vec<TextVersion>> {
        let verdicts = self.moderator.verdicts().await?;
        let (found, erased) = (verdicts.of_versions(&versions).await?, verdicts.are_erased(&versions).await?);
        let kept = versions.into_iter().zip(found.into_iter().zip(erased));
        Ok(kept.filter(|(_, (verdict, erased))| verdict.is_none() && !erased).map(|(version, _)| version).collect())
    }
}
