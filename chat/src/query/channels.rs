//! Queries over channels, and over the messages of one.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use keevo_core::{Engine, Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::{Collect, EXAMINED_MAX, Page, Query, custom};
use crate::channel::Channel;
use crate::chat::Chat;
use crate::filter::compare;
use crate::history::{HistoryRequest, Order};
use crate::ids::{ChannelId, Place, validate_name};
use crate::message::Message;
use crate::rows::{self, ChannelRow, MessageRow};

const CHANNEL_FIELDS: &[&str] = &[
    "cid",
    "id",
    "type",
    "created_by",
    "created_at",
    "updated_at",
    "last_message_at",
    "last_sequence",
    "team",
    "frozen",
    "disabled",
    "members",
    "custom.",
];
const MESSAGE_FIELDS: &[&str] = &[
    "id",
    "user_id",
    "text",
    "sequence",
    "created_at",
    "updated_at",
    "deleted",
    "pinned",
    "system",
    "silent",
    "parent_id",
    "quoted_id",
    "mentions",
    "attachments",
    "custom.",
];

/// A channel that a query found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelFound {
    /// The channel.
    pub channel: Channel,
    /// The number of its newest message; 0 = there is none.
    pub last_sequence: u64,
    /// When its newest message was sent, in milliseconds since the epoch.
    pub last_message_at_ms: Option<u64>,
}

/// A query over the messages of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagesQuery {
    /// Which, in which order, and how many.
    pub query: Query,
    /// Who asks: what only others see is left out. `None` = a trusted caller.
    pub viewer: Option<String>,
}

impl<E: Engine> Chat<E> {
    /// Channels. Fields: `cid` (`type:id`), `id`, `type`, `created_by`, `created_at`, `updated_at`, `last_message_at`
    /// (milliseconds), `last_sequence`, `team`, `frozen`, `disabled`, `custom.…`, and `members`, with `$contains` and one
    /// user alone. Orders: `cid`; `created_at`, `updated_at` and `last_message_at` where the user is in at most 1,000
    /// channels, else `ResourceExhausted`.
    pub async fn query_channels(&self, query: &Query) -> Result<Page<ChannelFound>> {
        let filter = query.read(CHANNEL_FIELDS)?;
        let (field, order) = query.order(&["cid", "created_at", "updated_at", "last_message_at"])?;
        let member = filter.contained_in("members");
        if field == "cid" && order == Order::NewestFirst {
            return Err(Error::invalid("there is no index to order by '-cid': use 'cid'"));
        }
        let after = query.cursor.as_deref().filter(|_| field == "cid").map(str::parse::<ChannelId>).transpose()?;
        let (ids, more) = match (filter.one_of("cid"), &member) {
            (Some(ids), _) => {
                let ids = ids.iter().map(|id| id.parse()).collect::<Result<BTreeSet<ChannelId>>>()?;
                (ids.into_iter().filter(|id| after.as_ref().is_none_or(|after| id > after)).collect::<Vec<_>>(), false)
            }
            (None, Some(user)) => {
                let listings = self.channels_of(user, after.as_ref(), EXAMINED_MAX).await?;
                let more = listings.len() == EXAMINED_MAX;
                (listings.into_iter().map(|listing| listing.channel).collect(), more)
            }
            (None, None) => {
                return Err(Error::invalid(
                    "channels are found by name or by member: demand 'cid', or 'members' with $contains and a user",
                ));
            }
        };
        if field != "cid" && more {
            let message = format!("only up to {EXAMINED_MAX} channels are ordered by '{field}': order by 'cid'");
            return Err(Error::new(ErrorKind::ResourceExhausted, message));
        }
        let mut found = self.channels_found(ids, member.as_deref()).await?;
        if field == "cid" {
            return Ok(page_of(found, &filter, query.limit, more));
        }
        found.retain(|(document, _)| filter.matches(document));
        Ok(sorted(found, field, order, query))
    }

    /// The channels with these ids, with their documents, those that exist.
    async fn channels_found(&self, ids: Vec<ChannelId>, member: Option<&str>) -> Result<Vec<(Value, ChannelFound)>> {
        let mut wanted = Vec::with_capacity(2 * ids.len());
        for id in &ids {
            let keys = self.keys(id).await?;
            let with = member.map_or_else(|| keys.channel(), |user| keys.member(user));
            wanted.extend([keys.channel(), keys.sequence(), with]);
        }
        let mut records = self.multi_get(wanted).await?.into_iter();
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            let (row, sequence, with) = (records.next().flatten(), records.next().flatten(), records.next().flatten());
            let (Some(row), Some(_)) = (row, with) else {
                continue;
            };
            let row: ChannelRow = rows::decode(&row.value, "a channel")?;
            let sequence = sequence.map_or(Ok(0), |record| rows::decode_count(&record.value))?;
            rows.push((id, row, sequence));
        }
        let mut newest = Vec::with_capacity(rows.len());
        for (id, _, sequence) in &rows {
            newest.push(self.keys(id).await?.message(Place::Channel(*sequence)));
        }
        let newest = self.multi_get(newest).await?;
        let mut found = Vec::with_capacity(rows.len());
        for ((id, row, last_sequence), newest) in rows.into_iter().zip(newest) {
            let last_message_at_ms = match newest {
                Some(record) => Some(rows::decode::<MessageRow>(&record.value, "a message")?.created_at_ms),
                None => None,
            };
            let one = ChannelFound { channel: Channel::from_row(id, row), last_sequence, last_message_at_ms };
            found.push((channel_document(&one, member), one));
        }
        Ok(found)
    }

    /// Messages of a channel's own sequence, or of the thread that `parent_id` names; newest first, or with the order
    /// `sequence` oldest first. What is truncated is left out. Fields: `id`, `user_id`, `text`, `sequence`, `created_at`,
    /// `updated_at` (milliseconds), `deleted`, `pinned`, `system`, `silent`, `parent_id`, `quoted_id`, `mentions`,
    /// `attachments` (lists), `custom.…`.
    pub async fn query_messages(&self, channel: &ChannelId, asked: &MessagesQuery) -> Result<Page<Message>> {
        let query = &asked.query;
        let filter = query.read(MESSAGE_FIELDS)?;
        asked.viewer.as_deref().map_or(Ok(()), |user| validate_name("a user id", user))?;
        let order = match &query.sort {
            None => Order::NewestFirst,
            Some(_) => query.order(&["sequence"])?.1,
        };
        let mut request = HistoryRequest { before: None, after: None, limit: EXAMINED_MAX, order };
        if let Some(cursor) = &query.cursor {
            let bad = |error| Error::invalid("the cursor is none that a page of messages gave").with_source(error);
            let number: u64 = cursor.parse().map_err(bad)?;
            request = if order == Order::NewestFirst { request.before(number) } else { request.after(number) };
        }
        let page = match filter.one_of("parent_id").as_deref() {
            Some([parent]) => self.thread(channel, parent, request).await?,
            Some(_) => return Err(Error::invalid("messages are found in one thread at a time: name one 'parent_id'")),
            None => self.history(channel, request).await?,
        };
        let more = page.next.is_some();
        let mut found = Collect::new(query.limit);
        let count = page.messages.len();
        for (number, message) in page.messages.into_iter().enumerate() {
            let place = message.place.number().to_string();
            if asked.viewer.as_deref().is_some_and(|user| !message.is_visible_to(user)) {
                found.last = Some(place);
                continue;
            }
            let document = message_document(&message);
            if !found.take(&filter, &document, place, message) {
                return Ok(found.finish(more || number + 1 < count));
            }
        }
        Ok(found.finish(more))
    }
}

fn page_of(
    found: Vec<(Value, ChannelFound)>,
    filter: &crate::filter::Filter,
    limit: usize,
    more: bool,
) -> Page<ChannelFound> {
    let mut collected = Collect::new(limit);
    let count = found.len();
    for (number, (document, one)) in found.into_iter().enumerate() {
        let place = one.channel.id.to_string();
        if !collected.take(filter, &document, place, one) {
            return collected.finish(more || number + 1 < count);
        }
    }
    collected.finish(more)
}

/// All that was found, in order; the cursor is the number of those that were given already, and the name of the last.
fn sorted(mut found: Vec<(Value, ChannelFound)>, field: &str, order: Order, query: &Query) -> Page<ChannelFound> {
    let by = |one: &(Value, ChannelFound), other: &(Value, ChannelFound)| {
        let value = |document: &Value| document.get(field).cloned().filter(|value| !value.is_null());
        let first = match (value(&one.0), value(&other.0)) {
            (Some(one), Some(other)) => compare(&one, &other).unwrap_or(Ordering::Equal),
            (one, other) => one.is_some().cmp(&other.is_some()),
        };
        let first = if order == Order::NewestFirst { first.reverse() } else { first };
        first.then_with(|| one.1.channel.id.cmp(&other.1.channel.id))
    };
    found.sort_by(by);
    let examined = found.len();
    let behind = query.cursor.as_deref().and_then(|last| {
        found.iter().position(|(_, one)| one.channel.id.as_str() == last).map(|position| position + 1)
    });
    let start = behind.unwrap_or(0);
    let more = found.len() > start + query.limit;
    let items: Vec<ChannelFound> = found.into_iter().skip(start).take(query.limit).map(|(_, one)| one).collect();
    let next = items.last().map(|one| one.channel.id.to_string()).filter(|_| more);
    Page { items, next, examined }
}

fn channel_document(found: &ChannelFound, member: Option<&str>) -> Value {
    let channel = &found.channel;
    json!({
        "cid": channel.id.as_str(),
        "id": channel.id.id(),
        "type": channel.id.kind(),
        "created_by": channel.created_by,
        "created_at": channel.created_at_ms,
        "updated_at": channel.updated_at_ms,
        "last_message_at": found.last_message_at_ms,
        "last_sequence": found.last_sequence,
        "team": channel.team,
        "frozen": channel.frozen_at_ms.is_some(),
        "disabled": channel.disabled_at_ms.is_some(),
        "members": member.into_iter().collect::<Vec<_>>(),
        "custom": custom(channel.custom.as_deref()),
    })
}

fn message_document(message: &Message) -> Value {
    json!({
        "id": message.id,
        "user_id": message.user_id,
        "text": message.text,
        "sequence": message.place.number(),
        "created_at": message.created_at_ms,
        "updated_at": message.updated_at_ms,
        "deleted": message.deleted_at_ms.is_some(),
        "pinned": message.pinned.is_some(),
        "system": message.system,
        "silent": message.silent,
        "parent_id": message.parent_id,
        "quoted_id": message.quoted_id,
        "mentions": message.mentions.users,
        "attachments": message.attachments.iter().map(|one| custom(Some(one))).collect::<Vec<_>>(),
        "custom": custom(message.custom.as_deref()),
    })
}
