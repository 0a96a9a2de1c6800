//! A channel with its history, and the users of an app, as the JSON lines that an import takes.
//!
//! Invariant: a page costs a bounded number of reads, and its cursor is all that the next one needs; what changes between
//! pages may be in the export as it was or as it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use keevo_core::{Engine, Error, Key, Record, Result, prefix_end};
use serde_json::{Value, json};

use crate::channel::Channel;
use crate::chat::{Chat, no_channel, range};
use crate::ids::{ChannelId, Place};
use crate::json;
use crate::keys::{ChannelKeys, Row};
use crate::member::{Member, behind};
use crate::message::Message;
use crate::query::Query;
use crate::reaction::Reaction;
use crate::rows::{self, BallotRow, MessageRow, PollRow, ReadRow, ThreadReadRow};
use crate::user_export::ExportPage;

/// How many rows one page reads.
const ROWS_PAGE: usize = 500;
/// How many users one page reads.
const USERS_PAGE: usize = 300;

/// A row that names a message by its place.
enum Placed {
    /// A line that is whole.
    Line(Value),
    /// The read state of a user, up to a place.
    Read(String, Place, u64),
    /// The read state of a user in the thread of a message, up to a reply; 0 = none.
    ThreadRead(String, u64, u64),
}

impl<E: Engine> Chat<E> {
    /// A page of a channel: itself, its members, messages, reactions, read states, polls and votes, behind the cursor of the
    /// page before. What was deleted is in it, with its text, and what was erased, without. Votes name their voters, in
    /// anonymous polls too. Not in it: bans, invitations, flags, edits, and where shared locations are. `NotFound`
    /// without the channel.
    pub async fn export_channel(&self, channel: &ChannelId, after: Option<&[u8]>) -> Result<ExportPage> {
        let keys = self.keys(channel).await?;
        if after.is_none() && self.get(keys.channel()).await?.is_none() {
            return Err(no_channel(channel));
        }
        let start = after.map_or_else(Bytes::new, |sort| behind(&Bytes::copy_from_slice(sort)));
        let found = self.first(range(&keys, start, prefix_end(&[]), ROWS_PAGE), ROWS_PAGE).await?;
        let mut placed = Vec::new();
        for (key, record) in &found {
            placed.extend(read_row(channel, key, record)?);
        }
        let lines = self.with_ids(channel, &keys, placed).await?;
        let next = found.last().filter(|_| found.len() == ROWS_PAGE).map(|(key, _)| Bytes::copy_from_slice(&key.sort));
        Ok(ExportPage { lines, next })
    }

    /// A page of the users that were put, by id, behind the cursor of the page before.
    pub async fn export_users(&self, after: Option<&[u8]>) -> Result<ExportPage> {
        let bad = |error| Error::invalid("the cursor is none that an export of users gave").with_source(error);
        let cursor = after.map(std::str::from_utf8).transpose().map_err(bad)?.map(str::to_owned);
        let query = Query { cursor, ..Query::new("{}").limit(USERS_PAGE) };
        let page = self.query_users(&query).await?;
        let lines = page.items.iter().map(|user| json!({ "user": json::user(user) }).to_string()).collect();
        Ok(ExportPage { lines, next: page.next.map(Bytes::from) })
    }

    /// The lines, with places as the ids of the messages there.
    async fn with_ids(&self, channel: &ChannelId, keys: &ChannelKeys, placed: Vec<Placed>) -> Result<Vec<String>> {
        let mut wanted: BTreeMap<Place, Option<String>> = BTreeMap::new();
        for one in &placed {
            match one {
                Placed::Line(_) => {}
                Placed::Read(_, place, _) => drop(wanted.insert(*place, None)),
                Placed::ThreadRead(_, parent, reply) => {
                    wanted.insert(Place::Channel(*parent), None);
                    wanted.insert(Place::Thread { parent: *parent, reply: *reply }, None);
                }
            }
        }
        let records = self.multi_get(wanted.keys().map(|place| keys.message(*place)).collect()).await?;
        for (id, record) in wanted.values_mut().zip(records) {
            if let Some(record) = record {
                *id = Some(rows::decode::<MessageRow>(&record.value, "a message")?.id);
            }
        }
        let id_at = |place: Place| wanted.get(&place).cloned().flatten();
        let at = channel.as_str();
        let line = |one: Placed| match one {
            Placed::Line(line) => Some(line),
            Placed::Read(user, place, read_at_ms) => {
                let message = id_at(place)?;
                Some(json!({ "read": { "channel": at, "user": user, "message": message, "read_at_ms": read_at_ms } }))
            }
            Placed::ThreadRead(user, parent, reply) => {
                let message = id_at(Place::Thread { parent, reply })?;
                let parent = id_at(Place::Channel(parent))?;
                Some(json!({ "thread_read": { "channel": at, "parent": parent, "user": user, "message": message } }))
            }
        };
        Ok(placed.into_iter().filter_map(line).map(|line| line.to_string()).collect())
    }
}

fn read_row(channel: &ChannelId, key: &Key, record: &Record) -> Result<Option<Placed>> {
    let (at, value) = (channel.as_str(), &record.value);
    Ok(Some(match Row::parse(&key.sort)? {
        Row::Channel => {
            let row = rows::decode(value, "a channel")?;
            Placed::Line(json!({ "channel": json::channel(&Channel::from_row(channel.clone(), row)) }))
        }
        Row::Member(user) => {
            let member = Member::from_row(user, rows::decode(value, "a member")?);
            Placed::Line(json!({ "member": json::member(at, &member) }))
        }
        Row::Message(place) => {
            let mut row: MessageRow = rows::decode(value, "a message")?;
            let deleted_at_ms = row.deleted_at_ms.take();
            let message = Message { deleted_at_ms, ..Message::from_row(row, place) };
            Placed::Line(json!({ "message": json::message(at, &message) }))
        }
        Row::Poll(id) => {
            let row: PollRow = rows::decode(value, "a poll")?;
            Placed::Line(json!({ "poll": json::poll(at, id, &row) }))
        }
        Row::Ballot { poll, user } => {
            let row: BallotRow = rows::decode(value, "a ballot")?;
            if !row.votes() {
                return Ok(None);
            }
            Placed::Line(json!({ "vote": json::vote(at, poll, user, &row) }))
        }
        Row::Reaction { kind, user, .. } => {
            let reaction = Reaction::from_row(rows::decode(value, "a reaction")?, kind, user);
            Placed::Line(json!({ "reaction": json::reaction(at, &reaction) }))
        }
        Row::Read(user) => {
            let row: ReadRow = rows::decode(value, "a read state")?;
            Placed::Read(user.to_owned(), Place::Channel(row.position), row.read_at_ms)
        }
        Row::ThreadRead(parent, user) => {
            let row: ThreadReadRow = rows::decode(value, "a thread's read state")?;
            Placed::ThreadRead(user.to_owned(), parent, row.position)
        }
        _ => return Ok(None),
    }))
}
