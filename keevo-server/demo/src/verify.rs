//! Verification: everything that was loaded is read back and compared with the plan.
//!
//! Invariant: every difference counts; only the first few are kept in words.

use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use keevo_chat::{Chat, HistoryRequest, Message, Place};
use keevo_core::{Engine, Result};
use keevo_feeds::{Activity, ActivityId, Feeds, PageRequest};

use crate::bars::Bars;
use crate::changelog::Change;
use crate::load::{Loader, persist};
use crate::mails::Mail;
use crate::packages::Package;
use crate::plan::{ChannelPlan, LINE, Plan, VERB, foreign_id, message, time_of, timeline_feed, user_feed};

/// Differences that are kept in words.
const SHOWN_MAX: usize = 20;
/// Feeds whose follower counts are compared, the most followed first.
const COUNTS_COMPARED: usize = 25;
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
    /// Entries read from timelines.
    pub timeline_entries: usize,
    /// Messages read from channels and threads.
    pub messages: usize,
}

/// Reads everything back and compares. Errors are those of reading; differences go into `mismatches`.
pub async fn verify<E: Engine>(
    loader: &Loader<E>,
    plan: &Plan<'_>,
    bars: &Bars,
    mismatches: &Mismatches,
) -> Result<Verified> {
    let packages = &plan.dataset().packages;
    let bar = bars.bar("verified timelines", packages.len());
    let timelines = packages.iter().map(|package| async {
        let entries = verify_timeline(&loader.feeds, plan, package, mismatches).await?;
        bar.inc(1);
        Ok::<_, keevo_core::Error>(entries)
    });
    let counts: Vec<usize> = futures::stream::iter(timelines).buffer_unordered(READS).try_collect().await?;
    bar.finish();
    for (package, followers) in plan.dataset().most_followed(COUNTS_COMPARED) {
        let feed = user_feed(package)?;
        let stats = persist(|| loader.feeds.follow_stats(&feed, &[], &[])).await?;
        mismatches.unless(stats.followers == followers && stats.following == 0, || {
            format!("{feed} has {} followers and follows {}, not {followers} and 0", stats.followers, stats.following)
        });
    }
    let channels = plan.channels()?;
    let bar = bars.bar("verified channels", channels.len());
    let mut messages = 0;
    for channel in &channels {
        messages += verify_channel(&loader.chat, channel, mismatches).await?;
        bar.inc(1);
    }
    bar.finish();
    Ok(Verified { timeline_entries: counts.into_iter().sum(), messages })
}

async fn verify_timeline<E: Engine>(
    feeds: &Feeds<E>,
    plan: &Plan<'_>,
    package: &Package,
    mismatches: &Mismatches,
) -> Result<usize> {
    let feed = timeline_feed(&package.name)?;
    let mut request = PageRequest::first(PAGE);
    let mut stored: Vec<Activity> = Vec::new();
    loop {
        let page = persist(|| feeds.page(&feed, request.clone())).await?;
        stored.extend(page.activities);
        match page.next {
            Some(last) => request = PageRequest::after(last, PAGE),
            None => break,
        }
    }
    let expected = plan.timeline(package)?;
    mismatches.unless(stored.len() == expected.len(), || {
        format!("{feed} has {} entries, not {}", stored.len(), expected.len())
    });
    for (place, (activity, (id, change))) in stored.iter().zip(&expected).enumerate() {
        mismatches.unless(is_of(activity, *id, change)?, || {
            format!("{feed} has at place {place} {} of {}, not {}", activity.object, activity.id, foreign_id(change))
        });
    }
    Ok(stored.len())
}

fn is_of(activity: &Activity, id: ActivityId, change: &Change) -> Result<bool> {
    let line = activity.custom.get(LINE).and_then(serde_json::Value::as_str);
    Ok(activity.id == id
        && activity.actor == change.maintainer
        && activity.verb == VERB
        && activity.object == format!("{} {}", change.package, change.version)
        && activity.foreign_id == foreign_id(change)
        && activity.time == time_of(change)?
        && activity.origin == Some(user_feed(&change.package)?)
        && line == Some(change.line.as_str()))
}

async fn verify_channel<E: Engine>(
    chat: &Chat<E>,
    channel: &ChannelPlan<'_>,
    mismatches: &Mismatches,
) -> Result<usize> {
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
async fn read_all<E: Engine>(chat: &Chat<E>, channel: &ChannelPlan<'_>, parent: Option<&str>) -> Result<Vec<Message>> {
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
