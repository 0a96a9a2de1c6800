//! History: pages of a channel or of a thread, in both directions.
//!
//! Invariant: pages are cut by number, so messages that arrive meanwhile shift nothing.

use bytes::{BufMut, Bytes, BytesMut};
use keevo_core::{Engine, Error, ErrorKind, Record, Result, Scan, prefix_end};

use crate::chat::{Chat, no_channel, range};
use crate::ids::{ChannelId, Place};
use crate::keys::{self, ChannelKeys, Row, Setting};
use crate::message::{Audience, Message};
use crate::rows;
use crate::token::ResumeToken;

/// The most messages on one page.
pub(crate) const HISTORY_LIMIT_MAX: usize = 1_000;

/// In which order a page goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Highest number first.
    #[default]
    NewestFirst,
    /// Lowest number first.
    OldestFirst,
}

/// Which page of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRequest {
    /// Only messages with a smaller number.
    pub before: Option<u64>,
    /// Only messages with a greater number.
    pub after: Option<u64>,
    /// The most messages to return, 1 to 1,000.
    pub limit: usize,
    /// From which end of the range, and in which order.
    pub order: Order,
}

impl HistoryRequest {
    /// The newest messages, newest first.
    pub fn newest(limit: usize) -> Self {
        Self { before: None, after: None, limit, order: Order::NewestFirst }
    }

    /// The oldest messages, oldest first.
    pub fn oldest(limit: usize) -> Self {
        Self { before: None, after: None, limit, order: Order::OldestFirst }
    }

    /// The same request, below this number.
    #[must_use]
    pub fn before(mut self, number: u64) -> Self {
        self.before = Some(number);
        self
    }

    /// The same request, above this number.
    #[must_use]
    pub fn after(mut self, number: u64) -> Self {
        self.after = Some(number);
        self
    }

    /// The request for the page that follows `page`, or `None` at the end.
    pub fn following(self, page: &HistoryPage) -> Option<Self> {
        let number = page.next?;
        Some(match self.order {
            Order::NewestFirst => self.before(number),
            Order::OldestFirst => self.after(number),
        })
    }
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// The messages, in the order asked for.
    pub messages: Vec<Message>,
    /// The number to pass as `before` (newest first) or `after` (oldest first) for the next page; `None` at the end.
    pub next: Option<u64>,
    /// A subscription from here continues this page: no gap behind its newest message, and no message of it twice.
    /// Where the page stops short of the channel's newest message, the stored messages in between come first. An
    /// edit, a reaction or a reply made while the page was read may be both on it and in the stream. That of a
    /// thread's page continues with what happens next; the thread's other pages are to be read for themselves.
    pub resume: ResumeToken,
}

impl HistoryPage {
    /// The page as this user sees it.
    #[must_use]
    pub fn visible_to(mut self, user: &str) -> Self {
        self.messages.retain(|message| message.is_visible_to(user));
        self
    }
}

impl HistoryPage {
    /// The page as anybody sees it, who need not have an id.
    #[must_use]
    pub fn visible_to_anybody(mut self) -> Self {
        self.messages.retain(|message| message.audience == Audience::Everybody);
        self
    }
}

impl<E: Engine> Chat<E> {
    /// A page of the channel's own sequence, replies not among it. `NotFound` without the channel.
    pub async fn history(&self, channel: &ChannelId, request: HistoryRequest) -> Result<HistoryPage> {
        let keys = self.keys(channel).await?;
        self.page(channel, &keys, None, request, false).await
    }

    /// A page of the replies to a message of the channel.
    pub async fn thread(&self, channel: &ChannelId, parent_id: &str, request: HistoryRequest) -> Result<HistoryPage> {
        let keys = self.keys(channel).await?;
        match self.place_of(&keys, parent_id).await? {
            Place::Channel(parent) => self.page(channel, &keys, Some(parent), request, false).await,
            Place::Thread { .. } => {
                Err(Error::invalid(format!("message '{parent_id}' is a reply, and has no thread of its own")))
            }
        }
    }

    /// A page of a sequence; `all` = with what is truncated.
    pub(crate) async fn page(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        parent: Option<u64>,
        request: HistoryRequest,
        all: bool,
    ) -> Result<HistoryPage> {
        let HistoryRequest { before, mut after, limit, order } = request;
        if limit == 0 || limit > HISTORY_LIMIT_MAX {
            return Err(Error::invalid(format!("a page has 1 to {HISTORY_LIMIT_MAX} messages, not {limit}")));
        }
        // The head comes before the messages: what happens between the two is in the stream too.
        let head = self.head(keys).await?;
        if !all {
            let stored = self.multi_get(vec![keys.channel(), keys.setting(Setting::Truncated)]).await?;
            let Ok([row, truncated]) = <[Option<Record>; 2]>::try_from(stored) else {
                return Err(Error::corrupt("the engine returned another number of records"));
            };
            if row.is_none() {
                return Err(no_channel(channel));
            }
            let truncated = truncated.map_or(Ok(0), |record| rows::decode_count(&record.value))?;
            if let Some(parent) = parent.filter(|parent| *parent <= truncated) {
                let message =
                    format!("what was said up to {truncated} is not shown any more, nor is the thread of {parent}");
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            if parent.is_none() && truncated > 0 {
                after = Some(after.unwrap_or(0).max(truncated));
            }
        }
        let mut scan = messages_between(keys, parent, after, before, limit + 1);
        if order == Order::NewestFirst {
            scan = scan.backward();
        }
        let mut messages = Vec::with_capacity(limit.min(64));
        for (key, record) in self.first(scan, limit + 1).await? {
            messages.push(decode(&key.sort, &record)?);
        }
        let more = messages.len() > limit;
        messages.truncate(limit);
        let next = if more { messages.last().map(|last| last.place.number()) } else { None };
        self.fill_stats(keys, &mut messages).await?;
        let newest = match parent {
            None => messages.iter().map(|message| message.place.number()).max(),
            Some(_) => None,
        };
        let mut resume = ResumeToken::at_head(self.app, channel, &head, newest.unwrap_or(0));
        let ends_at_head = before.is_none() && (order == Order::NewestFirst || next.is_none());
        if parent.is_none() && !ends_at_head {
            resume.seen_sequence = newest.unwrap_or_else(|| after.unwrap_or(0).min(head.sequence));
            resume.replaying = true;
        }
        Ok(HistoryPage { messages, next, resume })
    }
}

/// A scan of the messages of one sequence with `after < number < before`.
pub(crate) fn messages_between(
    keys: &ChannelKeys,
    parent: Option<u64>,
    after: Option<u64>,
    before: Option<u64>,
    limit: usize,
) -> Scan {
    let prefix = parent.map_or_else(keys::prefix::messages, keys::prefix::replies);
    let at = |number: u64| -> Bytes {
        let mut sort = BytesMut::from(prefix.as_ref());
        sort.put_u64(number);
        sort.freeze()
    };
    let end = before.map_or_else(|| prefix_end(&prefix), at);
    let start = match after {
        None => prefix.clone(),
        Some(number) => number.checked_add(1).map_or_else(|| end.clone(), at),
    };
    range(keys, start, end, limit)
}

/// The message under a message's key.
pub(crate) fn decode(sort: &[u8], record: &Record) -> Result<Message> {
    match Row::parse(sort)? {
        Row::Message(place) => Ok(Message::from_row(rows::decode(&record.value, "a message")?, place)),
        _ => Err(Error::corrupt("a row among the messages is none")),
    }
}
