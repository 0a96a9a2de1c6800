//! Loading a data set into any engine.
//!
//! Order: the follows first, then the activities, so that each of these is fanned out to its followers; then the
//! outbox, until nothing waits in it. Channels are loaded side by side, the messages of one in their order.
//!
//! Invariant: every step may be repeated; a call that may have taken effect is made again as it was.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use keevo_chat::{Chat, ChatOptions, NewChannel, NewMember};
use keevo_core::{AnyEngine, Clock, Engine, Error, ErrorKind, Result, SystemClock};
use keevo_feeds::{AggregatedRequest, FeedId, Feeds, FeedsOptions, Mark, Marks, NewActivity, NewFollow, PageRequest};

use crate::bars::Bars;
use crate::plan::{
    CHAT_APP, ChannelPlan, FEEDS_APP, Plan, aggregated_feed, message, notification_feed, timeline_feed, user_feed,
};

/// Follows that are made by one call.
const FOLLOWS_PER_CALL: usize = 1_000;
/// Activities that are added by one call.
const ACTIVITIES_PER_CALL: usize = 128;
/// Messages that are sent by one call.
const MESSAGES_PER_CALL: usize = 256;
/// Calls that are under way at once.
const CALLS: usize = 4;
/// How often a call is made before its error counts.
const ATTEMPTS: u32 = 6;
/// Rounds over an outbox in which something still waits, half a second apart.
const OUTBOX_ROUNDS: u32 = 240;

/// Loads data sets into an engine.
#[derive(Debug, Clone)]
pub struct Loader {
    /// The feeds.
    pub feeds: Feeds<AnyEngine>,
    /// The chat.
    pub chat: Chat<AnyEngine>,
    bars: Bars,
    clock: Arc<dyn Clock>,
}

/// What was loaded, as it was acknowledged, and how long that took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loaded {
    /// Follows.
    pub follows: usize,
    /// Activities.
    pub activities: usize,
    /// Timeline entries that this loader's fan-outs have written, as its feeds counted them. Those that the nodes'
    /// workers wrote are not among them.
    pub timeline_entries: u64,
    /// Channels.
    pub channels: usize,
    /// Messages.
    pub messages: usize,
    /// How long the follows took.
    pub follow_time: Duration,
    /// How long the activities took, with their fan-out.
    pub activity_time: Duration,
    /// How long channels, members and messages took.
    pub chat_time: Duration,
}

impl Loader {
    /// A loader into `engine`.
    pub async fn open(engine: impl Engine, bars: Bars) -> Result<Self> {
        Self::open_any(AnyEngine::new(engine), bars).await
    }

    async fn open_any(engine: AnyEngine, bars: Bars) -> Result<Self> {
        // The nodes' own workers drive this app's outbox as well. What is left in it belongs to calls that are over when
        // the loader comes to it, so it need not wait for their makers.
        let options = FeedsOptions { pickup_after_ms: 0, ..FeedsOptions::default() };
        let feeds = Feeds::open(engine.clone(), FEEDS_APP, options).await?;
        let chat = Chat::new(engine, CHAT_APP, ChatOptions::default());
        Ok(Self { feeds, chat, bars, clock: Arc::new(SystemClock::new()) })
    }

    /// Loads everything, and waits until every fan-out is done.
    pub async fn load(&self, plan: &Plan<'_>) -> Result<Loaded> {
        let channels = plan.channels()?;
        let began = self.clock.monotonic();
        let follows = self.load_follows(plan).await?;
        let followed = self.clock.monotonic();
        let entries_before = self.feeds.metrics().entries_fanned_out;
        let activities = self.load_activities(plan).await?;
        self.drain().await?;
        let fanned_out = self.clock.monotonic();
        let messages = self.load_channels(&channels).await?;
        let chatted = self.clock.monotonic();
        Ok(Loaded {
            follows,
            activities,
            timeline_entries: self.feeds.metrics().entries_fanned_out - entries_before,
            channels: channels.len(),
            messages,
            follow_time: followed.saturating_sub(began),
            activity_time: fanned_out.saturating_sub(followed),
            chat_time: chatted.saturating_sub(fanned_out),
        })
    }

    async fn load_follows(&self, plan: &Plan<'_>) -> Result<usize> {
        let bar = self.bars.bar("follows", plan.follows());
        let mut calls: Vec<Vec<NewFollow>> = Vec::new();
        let mut call: Vec<NewFollow> = Vec::new();
        let timelines = plan.dataset().packages.iter().map(|package| Ok((timeline_feed(&package.name)?, package)));
        let readers = plan.readers().iter().flat_map(|package| {
            [aggregated_feed(&package.name), notification_feed(&package.name)].map(|feed| Ok((feed?, *package)))
        });
        for follower in timelines.chain(readers) {
            let (follower, package) = follower?;
            for dependency in &package.depends {
                let target = user_feed(dependency)?;
                call.push(NewFollow { follower: follower.clone(), target, copy_limit: Some(0) });
            }
            // A follower's edges stay in one call, so that calls side by side never meet.
            if call.len() >= FOLLOWS_PER_CALL {
                calls.push(std::mem::take(&mut call));
            }
        }
        calls.push(call);
        let calls = calls.iter().map(|call| async {
            persist(|| self.feeds.follow_many(call.clone())).await?;
            bar.inc(u64::try_from(call.len()).unwrap_or_default());
            Ok(call.len())
        });
        let made = total(futures::stream::iter(calls).buffer_unordered(CALLS)).await?;
        bar.finish();
        Ok(made)
    }

    async fn load_activities(&self, plan: &Plan<'_>) -> Result<usize> {
        let dataset = plan.dataset();
        let bar = self.bars.bar("activities", dataset.changes.len());
        let all: Vec<(FeedId, NewActivity)> = dataset
            .changes
            .iter()
            .map(|change| Ok((user_feed(&change.package)?, plan.activity(change)?)))
            .collect::<Result<_>>()?;
        let calls = all.chunks(ACTIVITIES_PER_CALL).map(|call| async {
            let added = persist(|| self.feeds.add_many(call.to_vec())).await?;
            bar.inc(u64::try_from(call.len()).unwrap_or_default());
            Ok(added.len())
        });
        // One after the other: each call already drives many fan-outs at once.
        let added = total(futures::stream::iter(calls).buffer_unordered(1)).await?;
        bar.finish();
        Ok(added)
    }

    /// Has every reader look at all of its notifications and read those of the newest day.
    pub async fn read_notifications(&self, plan: &Plan<'_>) -> Result<()> {
        for reader in plan.readers() {
            let feed = notification_feed(&reader.name)?;
            let newest = AggregatedRequest::from(PageRequest::first(1));
            let page = persist(|| self.feeds.aggregated_page(&feed, newest.clone())).await?;
            let read = Mark::Groups(page.groups.iter().map(|group| group.id).collect());
            let marks = Marks { seen: Mark::All, read };
            persist(|| self.feeds.mark(&feed, &marks, page.seen_to)).await?;
        }
        Ok(())
    }

    /// Runs the outbox until nothing waits in it.
    async fn drain(&self) -> Result<()> {
        let mut last = None;
        for _ in 0..OUTBOX_ROUNDS {
            let run = persist(|| self.feeds.run_outbox_once(10_000)).await?;
            if run.driven == 0 && run.waiting == 0 && run.failed == 0 && !run.more {
                return Ok(());
            }
            if run.driven == 0 {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            last = Some(run);
        }
        let message = format!("the feeds' outbox is not empty after a long time: {last:?}");
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    async fn load_channels(&self, channels: &[ChannelPlan<'_>]) -> Result<usize> {
        let messages = channels.iter().map(|channel| channel.mails().count()).sum();
        let bar = self.bars.bar("messages", messages);
        let load = channels.iter().map(|channel| async {
            let new = || NewChannel { created_by: "demo".to_owned(), ..NewChannel::default() };
            persist(|| self.chat.create_channel(&channel.id, new())).await?;
            let members: Vec<NewMember> = channel.senders().into_iter().map(NewMember::new).collect();
            persist(|| self.chat.add_members(&channel.id, members.clone())).await?;
            let mails: Vec<_> = channel.mails().map(message).collect::<Result<_>>()?;
            let mut sent = 0;
            for call in mails.chunks(MESSAGES_PER_CALL) {
                sent += persist(|| self.chat.send_many(&channel.id, call.to_vec())).await?.len();
                bar.inc(u64::try_from(call.len()).unwrap_or_default());
            }
            Ok(sent)
        });
        let sent = total(futures::stream::iter(load).buffer_unordered(CALLS)).await?;
        persist(|| self.chat.run_outbox_once()).await?;
        bar.finish();
        Ok(sent)
    }
}

/// Adds up what each of many calls counted.
pub(crate) async fn total(counts: impl Stream<Item = Result<usize>>) -> Result<usize> {
    counts.try_fold(0, |sum, count| std::future::ready(Ok(sum + count))).await
}

/// Makes a repeatable call until it succeeds or fails for good.
pub(crate) async fn persist<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    for attempt in 1..ATTEMPTS {
        match call().await {
            Err(error) if is_passing(error.kind()) => {
                tracing::warn!(%error, attempt, "the demo repeats a call");
                tokio::time::sleep(Duration::from_millis(250) * attempt).await;
            }
            answer => return answer,
        }
    }
    call().await
}

fn is_passing(kind: ErrorKind) -> bool {
    kind.is_retryable() || matches!(kind, ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded)
}
