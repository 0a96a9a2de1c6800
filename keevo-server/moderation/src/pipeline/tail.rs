//! The tail of a change stream: texts that came in without a verdict are left to the sweep.
//!
//! Invariant: the saved place in a stream never runs ahead of the rows: it is saved after the texts before it have a
//! verdict or wait for one. What is read again after a crash has its verdict by then, or waits under the same key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{CommitEvent, Engine, ErrorKind, KeyspaceKind, Result, WatchFrom, WatchRange};

use super::{ErasedChannel, Pipeline, Source};
use crate::metrics::add;
use crate::places::Places;
use crate::text::TextVersion;

/// How many changes are looked at together.
const CHUNK: usize = 512;
/// How long the tail waits after its stream broke.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

impl<E: Engine> Pipeline<E> {
    /// Follows a source for ever.
    pub(super) async fn tail(&self, source: &dyn Source) {
        loop {
            if let Err(error) = self.follow(source).await {
                if error.kind() == ErrorKind::CursorCompacted {
                    // Texts that went through a caller have their verdicts all the same.
                    tracing::error!(source = source.name(), %error, "changes were dropped before they were looked at");
                    add(&self.moderator.inner.counters.gaps, 1);
                    if let Err(error) = self.skip_to_now(source).await {
                        tracing::warn!(%error, "the place in the changes could not be moved");
                    }
                } else {
                    tracing::debug!(source = source.name(), %error, "the changes broke off");
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Follows a source until its stream breaks.
    async fn follow(&self, source: &dyn Source) -> Result<()> {
        let verdicts = self.moderator.verdicts().await?;
        let keyspace = verdicts.engine.keyspace(source.keyspace(), KeyspaceKind::Hashed).await?;
        let mut places = Places::load(verdicts, source.name(), keyspace).await?;
        let from = WatchFrom::After(places.cursors());
        let watch = verdicts.engine.watch(WatchRange::Keyspace(keyspace), from).await?;
        let mut chunks = watch.ready_chunks(CHUNK);
        let clock = &self.moderator.inner.clock;
        let (mut saved_at, mut unsaved) = (clock.monotonic(), false);
        loop {
            let next = tokio::time::timeout(self.options.save_every, chunks.next()).await;
            if let Ok(Some(chunk)) = next {
                let events = chunk.into_iter().collect::<Result<Vec<_>>>();
                let events = match events {
                    Ok(events) => events,
                    Err(error) => {
                        places.save().await?;
                        return Err(error);
                    }
                };
                self.take_in(source, &events).await?;
                places.pass(&events);
                unsaved = true;
            } else if let Ok(None) = next {
                return places.save().await;
            }
            if unsaved && clock.monotonic().saturating_sub(saved_at) >= self.options.save_every {
                places.save().await?;
                (saved_at, unsaved) = (clock.monotonic(), false);
            }
        }
    }

    /// Leaves the texts of these changes to the sweep, unless they have their verdicts.
    async fn take_in(&self, source: &dyn Source, events: &[CommitEvent]) -> Result<()> {
        let mut versions: BTreeMap<[u8; 16], TextVersion> = BTreeMap::new();
        let (mut held, mut erased, mut channels) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut authors = BTreeMap::new();
        for event in events {
            match source.text(event) {
                Ok(Some(version)) => {
                    if source.is_held(event) {
                        held.insert(version.digest());
                    }
                    versions.insert(version.digest(), version);
                }
                Ok(None) => {
                    if let Some(text) = source.erased(event).unwrap_or_default() {
                        // What it said before goes with it; what is said after is another text.
                        versions.retain(|_, version| !version.is_of(&text));
                        erased.insert(text);
                    }
                    for gone in source.erased_authors(event).unwrap_or_default() {
                        authors.insert((gone.app, gone.author), (gone.kinds, gone.stand_in));
                    }
                    channels.extend(source.erased_channel(event).unwrap_or_default());
                }
                // A row that cannot be read is somebody else's to mend, and holds nothing up here.
                Err(error) => tracing::error!(source = source.name(), %error, "a change cannot be read"),
            }
        }
        for text in erased {
            self.moderator.verdicts().await?.erase(&text).await?;
        }
        let versions: Vec<TextVersion> = versions.into_values().collect();
        let verdicts = self.moderator.verdicts().await?.of_versions(&versions).await?;
        let mut caught = 0;
        for (version, verdict) in versions.iter().zip(verdicts) {
            if verdict.as_ref().is_some_and(|verdict| verdict.version.author != version.author) {
                self.rename_erased(source, version).await?;
            }
            if verdict.is_none() && source.reuses_ids() {
                self.moderator.verdicts().await?.say_again(&version.text_id()).await?;
            }
            if held.contains(&version.digest()) {
                self.moderator.verdicts().await?.leave(version).await?;
            } else if verdict.is_none() {
                self.moderator.verdicts().await?.leave_standing(version).await?;
            }
            caught += usize::from(verdict.is_none());
        }
        for ErasedChannel { app, channel } in channels {
            self.moderator.verdicts().await?.erase_channel(app, &channel).await?;
        }
        for ((app, author), (kinds, stand_in)) in authors {
            self.moderator.verdicts().await?.erase_author(app, &author, kinds, stand_in.as_deref()).await?;
        }
        if caught > 0 || !held.is_empty() {
            add(&self.moderator.inner.counters.caught_up, caught);
            self.moderator.inner.wake.notify_one();
        }
        Ok(())
    }

    /// Gives a text to its author as it is called now, where who wrote it was erased, and what it wrote stays under another name. A
    /// version that somebody else wrote, such as a moderator who edited it, stays that one's.
    async fn rename_erased(&self, source: &dyn Source, version: &TextVersion) -> Result<()> {
        let (verdicts, text) = (self.moderator.verdicts().await?, version.text_id());
        for author in verdicts.authors_of(&text).await? {
            if author != version.author && source.is_gone(version.app, &author).await? {
                verdicts.rename_author(&text, &author, &version.author).await?;
            }
        }
        Ok(())
    }

    async fn skip_to_now(&self, source: &dyn Source) -> Result<()> {
        let verdicts = self.moderator.verdicts().await?;
        let keyspace = verdicts.engine.keyspace(source.keyspace(), KeyspaceKind::Hashed).await?;
        Places::skip(verdicts, source.name(), keyspace).await
    }
}
