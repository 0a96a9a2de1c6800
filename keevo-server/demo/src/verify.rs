//! Verification: everything that was loaded is read back and compared with the plan.
//!
//! Invariant: every difference counts; only the first few are kept in words.

mod feeds;
mod readers;

use std::sync::{Mutex, PoisonError};

use futures::StreamExt;
use keevo_chat::{Chat, HistoryRequest, Message, Place};
use keevo_core::{AnyEngine, Result};

use crate::bars::Bars;
use crate::load::{Loader, persist, total};
use crate::mails::Mail;
use crate::plan::{ChannelPlan, Plan, message};

/// Differences that are kept in words.
const SHOWN_MAX: usize = 20;
/// Reads that are under way at once.
const READS: usize = 32;
const PAGE: usize = 500;

/// Differences between what is stored and what must be.
#[derive(Debug, Default)]
pub struct Mismatches {
    found: Mutex<(u64, Vec<String>)>,
}

impl Mismatches {
    /// Counts a difference.
    pub fn add(&self, what: impl Into<String>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.0 += 1;
        if found.1.len() < SHOWN_MAX {
            found.1.push(what.into());
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The first of them, in words.
    pub fn shown(&self) -> Vec<String> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    fn unless(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.add(what());
        }
    }
}

/// What was read and compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Follows read from the lists of those who follow.
    pub follows: usize,
    /// Activities read from the feeds that they were published to.
    pub activities: usize,
    /// Entries read from timelines, and from the aggregated and notification feeds of readers.
    pub timeline_entries: usize,
    /// Groups read from aggregated and notification feeds.
    pub groups: usize,
    /// Entries read from ranked timelines.
    pub ranked: usize,
    /// Messages read from channels and threads.
    pub messages: usize,
}

/// Reads everything back and compares; every reader must have read its notifications. Errors are those of reading; differences go into `mismatches`.
pub async fn verify(loader: &Loader, plan: &Plan<'_>, bars: &Bars, mismatches: &Mismatches) -> Result<Verified> {
    let timelines = feeds::timelines(&loader.feeds, plan, bars, mismatches).await?;
    let gathered = readers::gathered(&loader.feeds, plan, mismatches).await?;
    let ranked = readers::ranked(&loader.feeds, plan, mismatches).await?;
    let activities = feeds::own_feeds(&loader.feeds, plan, bars, mismatches).await?;
    let follows = feeds::follows(&loader.feeds, plan, bars, mismatches).await?;
    let channels = plan.channels()?;
    let bar = bars.bar("verified channels", channels.len());
    let mut messages = 0;
    for channel in &channels {
        messages += verify_channel(&loader.chat, channel, mismatches).await?;
        bar.inc(1);
    }
    bar.finish();
    let timeline_entries = timelines + gathered.entries;
    Ok(Verified { follows, activities, timeline_entries, groups: gathered.groups, ranked, messages })
}

/// Reads many things at once, and adds up what each of them counted.
async fn sum(reads: impl Iterator<Item = impl Future<Output = Result<usize>>>) -> Result<usize> {
    total(futures::stream::iter(reads).buffer_unordered(READS)).await
}

async fn verify_channel(chat: &Chat<AnyEngine>, channel: &ChannelPlan<'_>, mismatches: &Mismatches) -> Result<usize> {
    let id = &channel.id;
    let own = read_all(chat, channel, None).await?;
    compare(id.as_str(), &own, &channel.own, mismatches)?;
    let mut messages = own.len();
    for message in &own {
        let replies = channel.replies.get(message.id.as_str());
        let counted = message.stats.as_ref().map_or(0, |stats| stats.reply_count);
        let expected = replies.map_or(0, Vec::len);
        mismatches.unless(u64::try_from(expected) == Ok(counted), || {
            format!("{} in {id} counts {counted} replies, not {expected}", message.id)
        });
        if let Some(replies) = replies {
            let stored = read_all(chat, channel, Some(&message.id)).await?;
            compare(&format!("the thread of {} in {id}", message.id), &stored, replies, mismatches)?;
            messages += stored.len();
        }
    }
    for sender in channel.senders() {
        mismatches
            .unless(persist(|| chat.member(id, sender)).await.is_ok(), || format!("{sender} is no member of {id}"));
    }
    Ok(messages)
}

/// Everything of a channel, or of a thread, oldest first.
async fn read_all(chat: &Chat<AnyEngine>, channel: &ChannelPlan<'_>, parent: Option<&str>) -> Result<Vec<Message>> {
    let mut request = HistoryRequest::oldest(PAGE);
    let mut messages = Vec::new();
    loop {
        let page = persist(|| async {
            match parent {
                Some(parent) => chat.thread(&channel.id, parent, request).await,
                None => chat.history(&channel.id, request).await,
            }
        })
        .await?;
        let following = request.following(&page);
        messages.extend(page.messages);
        match following {
            Some(next) => request = next,
            None => return Ok(messages),
        }
    }
}

/// Compares numbers, ids, senders, texts and times.
fn compare(place: &str, stored: &[Message], expected: &[&Mail], mismatches: &Mismatches) -> Result<()> {
    mismatches.unless(stored.len() == expected.len(), || {
        format!("{place} has {} messages, not {}", stored.len(), expected.len())
    });
    for (number, (stored, mail)) in (1u64..).zip(stored.iter().zip(expected)) {
        let new = message(mail)?;
        let same = stored.place.number() == number
            && matches!(stored.place, Place::Thread { .. }) == mail.parent.is_some()
            && stored.id == mail.id
            && stored.user_id == mail.from
            && stored.text == mail.text
            && stored.parent_id == mail.parent
            && Some(stored.created_at_ms) == new.created_at_ms
            && stored.custom == new.custom;
        mismatches.unless(same, || {
            format!("{place} has at number {} the message {}, not {number} {}", stored.place, stored.id, mail.id)
        });
    }
    Ok(())
}
