//! Retention: messages that are older than their channel's type allows are erased, a few at a time.
//!
//! ```text
//! channel   1 2 3 4 5 6 7 8 9          position = 5: what is up to there is erased, or passed over
//!           x x P x T · · · ·          P pinned, T has a thread with replies that are young
//! passed over: 3, 5                    looked at again each time the walk comes by
//! ```
//!
//! A message keeps its place and its id, as one that was erased by hand. Age is the time at which a message was sent; the
//! walk goes in the order of the sequence and stops at the first message that is young enough.
//!
//! Invariant: a message is erased only after it was read as old enough and, where the type says so, as not pinned; what a
//! channel has behind it is in the channel, so a walk that begins anew looks at what is left and no more.

use keevo_core::{Batch, Check, Engine, ErrorKind, Record, Result, Scan};

use crate::channel_type::Retention;
use crate::chat::{ATTEMPTS_MAX, Chat};
use crate::history::{HistoryRequest, messages_between};
use crate::ids::{ChannelId, Place};
use crate::keys::{self, CHANNEL_BUCKETS, ChannelKeys, Row, Stat};
use crate::rows::{self, MessageRow, RetainedRow};

/// How many channels one page of the walk looks at.
const CHANNELS_PAGE: usize = 100;
/// How many messages one look at a channel takes.
const MESSAGES_PAGE: usize = 100;

/// Where a walk over the channels goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionCursor {
    bucket: u16,
    channel: Option<ChannelId>,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionRun {
    /// Channels that were looked at.
    pub channels: u64,
    /// Messages that were erased.
    pub erased: u64,
    /// Channels in which something failed: it is logged, and the next round comes by again.
    pub failed: u64,
    /// Where the next run goes on; `None` = all channels were looked at.
    pub next: Option<RetentionCursor>,
}

/// What is to be erased in one channel.
struct Policy {
    /// What was sent before this time is old.
    before_ms: u64,
    keep_pinned: bool,
    now_ms: u64,
}

impl Policy {
    fn new(retention: Retention, now_ms: u64) -> Self {
        Self { before_ms: now_ms.saturating_sub(retention.age_ms_max), keep_pinned: retention.keep_pinned, now_ms }
    }

    fn is_old(&self, row: &MessageRow) -> bool {
        row.created_at_ms < self.before_ms
    }

    fn keeps(&self, row: &MessageRow) -> bool {
        let lasts = |until: Option<u64>| until.is_none_or(|until| until > self.now_ms);
        self.keep_pinned && row.pinned.as_ref().is_some_and(|pin| lasts(pin.expires_at_ms))
    }
}

impl<E: Engine> Chat<E> {
    /// Erases messages that their channel's type retains no longer, up to about `budget` of them, and looks at a page of
    /// channels at most. Goes on at the cursor of the run before; begins anew without one. Repeatable.
    pub async fn run_retention(&self, from: Option<RetentionCursor>, budget: usize) -> Result<RetentionRun> {
        let mut run = RetentionRun::default();
        if !self.channel_types().any_retention() {
            return Ok(run);
        }
        let mut at = from.unwrap_or(RetentionCursor { bucket: 0, channel: None });
        while at.bucket < CHANNEL_BUCKETS {
            let channels = self.directory_page(at.bucket, None, at.channel.as_ref(), CHANNELS_PAGE).await?;
            if channels.is_empty() {
                at = RetentionCursor { bucket: at.bucket + 1, channel: None };
                continue;
            }
            for channel in channels {
                run.channels += 1;
                match self.retain(&channel, budget.saturating_sub(small(run.erased))).await {
                    Ok(erased) => run.erased += erased,
                    Err(error) => {
                        tracing::warn!(%channel, %error, "retention leaves the channel for the next round");
                        run.failed += 1;
                    }
                }
                if small(run.erased) >= budget {
                    // This channel may have more to erase.
                    run.next = Some(at);
                    return Ok(run);
                }
                at.channel = Some(channel);
            }
            run.next = Some(at);
            return Ok(run);
        }
        Ok(run)
    }

    /// Erases up to `budget` messages of one channel; how many.
    async fn retain(&self, channel: &ChannelId, budget: usize) -> Result<u64> {
        // A type that is no more says nothing of its channels.
        let Ok(kind) = self.kind_of(channel) else {
            return Ok(0);
        };
        let Some(retention) = kind.retention else {
            return Ok(0);
        };
        let policy = Policy::new(retention, self.now_ms());
        let keys = self.keys(channel).await?;
        let erased = self.retain_passed_over(channel, &keys, &policy, budget).await?;
        Ok(erased + self.retain_next(channel, &keys, &policy, budget.saturating_sub(small(erased))).await?)
    }

    /// Looks again at what was passed over.
    async fn retain_passed_over(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        policy: &Policy,
        budget: usize,
    ) -> Result<u64> {
        let mut erased = 0;
        let prefix = keys::all_passed_over();
        let mut scan = Scan::prefix(keys.keyspace, keys.partition.clone(), prefix, MESSAGES_PAGE);
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            for (key, _) in page.records {
                if small(erased) >= budget {
                    return Ok(erased);
                }
                let Row::PassedOver(place) = Row::parse(&key.sort)? else {
                    continue;
                };
                let (count, all) = self.retain_one(channel, keys, policy, place, budget - small(erased)).await?;
                erased += count;
                if all {
                    self.engine.write(Batch::new().delete(key)).await?;
                }
            }
            if page.next.is_none() {
                return Ok(erased);
            }
            scan = scan.after(page.next);
        }
    }

    /// Goes on where the channel's walk stands, up to the first message that is young enough.
    async fn retain_next(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        policy: &Policy,
        budget: usize,
    ) -> Result<u64> {
        let mut erased = 0;
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.get(keys.retained()).await?;
            let check = stored.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            let mut position = retained(stored)?.position;
            let start = position;
            let scan = messages_between(keys, None, Some(position), None, MESSAGES_PAGE);
            let found = self.first(scan, MESSAGES_PAGE).await?;
            let (full, mut batch) = (found.len() == MESSAGES_PAGE, Batch::new());
            let mut young = false;
            for (key, record) in found {
                let row: MessageRow = rows::decode(&record.value, "a message")?;
                let Row::Message(place) = Row::parse(&key.sort)? else {
                    continue;
                };
                young = !policy.is_old(&row);
                if young || small(erased) >= budget {
                    break;
                }
                let (count, all) = self.retain_one(channel, keys, policy, place, budget - small(erased)).await?;
                erased += count;
                if !all {
                    batch = batch.put(keys.passed_over(place), bytes::Bytes::new());
                }
                position = place.number();
            }
            if position == start {
                return Ok(erased);
            }
            let row = RetainedRow { position };
            batch = batch.put(keys.retained(), rows::encode(&row)).require(keys.retained(), check);
            match self.engine.write(batch).await {
                Ok(_) if full && !young && small(erased) < budget => {}
                // Another worker is at it.
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                _ => return Ok(erased),
            }
        }
        Ok(erased)
    }

    /// Erases a message and the replies to it, those that are old enough: how many, and whether nothing is left of them.
    async fn retain_one(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        policy: &Policy,
        place: Place,
        budget: usize,
    ) -> Result<(u64, bool)> {
        let (mut erased, mut all) = (0, true);
        if let Place::Channel(parent) = place
            && self.count(keys.stat(place, Stat::Replies)).await? > 0
        {
            let mut wanted = Some(HistoryRequest::oldest(MESSAGES_PAGE));
            while let Some(request) = wanted {
                let page = self.page(channel, keys, Some(parent), request, true).await?;
                for reply in page.messages.iter().filter(|reply| !reply.erased) {
                    if small(erased) >= budget {
                        return Ok((erased, false));
                    }
                    match self.retain_message(channel, keys, policy, reply.place).await? {
                        Some(count) => erased += u64::from(count),
                        None => all = false,
                    }
                }
                wanted = request.following(&page);
            }
        }
        if small(erased) >= budget {
            return Ok((erased, false));
        }
        match self.retain_message(channel, keys, policy, place).await? {
            Some(count) => Ok((erased + u64::from(count), all)),
            None => Ok((erased, false)),
        }
    }

    /// Erases one message: whether it was not erased before; `None` where it is kept.
    async fn retain_message(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        policy: &Policy,
        place: Place,
    ) -> Result<Option<bool>> {
        let Some(record) = self.get(keys.message(place)).await? else {
            return Ok(Some(false));
        };
        let row: MessageRow = rows::decode(&record.value, "a message")?;
        if row.erased != 0 {
            return Ok(Some(false));
        }
        if !policy.is_old(&row) || policy.keeps(&row) {
            return Ok(None);
        }
        let erased = self.erase_if(channel, &row.id, |row| !policy.keeps(row)).await?;
        Ok(erased.then_some(true))
    }
}

fn retained(stored: Option<Record>) -> Result<RetainedRow> {
    stored.map_or_else(|| Ok(RetainedRow::default()), |record| rows::decode(&record.value, "a place of retention"))
}

fn small(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
