//! Sending: one write per message, or one per few hundred when many come at once.
//!
//! Invariant: a batch stores a message only where its id is absent, so whatever is repeated (a client's
//! retry, an import that was cut off) is stored once and keeps its number.

use std::collections::{BTreeMap, BTreeSet};

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Result, Written};

use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel, no_member};
use crate::ids::{ChannelId, Place};
use crate::keys::{self, ChannelKeys, Stat};
use crate::message::{Message, NewMessage};
use crate::options::Rights;
use crate::rows::{self, MessageRow};

/// The most messages in one batch.
const CHUNK_MESSAGES_MAX: usize = 256;
/// The most bytes of messages in one batch: a quarter of what a batch may hold, so that entries stay small.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A message that passed its checks. `parent` is the number of the message that it replies to.
struct Outgoing {
    row: MessageRow,
    parent: Option<u64>,
}

impl Outgoing {
    fn place(&self, number: u64) -> Place {
        self.parent.map_or(Place::Channel(number), |parent| Place::Thread { parent, reply: number })
    }
}

impl<E: Engine> Chat<E> {
    /// Sends a message. Sending the same id again returns the stored message; the same id with another text,
    /// sender, parent or custom data is a `Conflict`. `NotFound` without the channel or the message replied
    /// to, `Invalid` for a reply to a reply. After `OutcomeUnknown`, send it again with the same id.
    pub async fn send(&self, channel: &ChannelId, message: NewMessage) -> Result<Message> {
        let mut sent = self.send_many(channel, vec![message]).await?;
        sent.pop().ok_or_else(|| Error::corrupt("a send answered nothing"))
    }

    /// Sends many messages of one channel, hundreds to a write, for imports. Answers in the order given. The
    /// channel's own messages go first, then the replies, each in the order given, so a reply's parent may
    /// stand anywhere in the list. On an error some may have been stored: repeat the call.
    pub async fn send_many(&self, channel: &ChannelId, messages: Vec<NewMessage>) -> Result<Vec<Message>> {
        let keys = self.keys(channel).await?;
        let mut distinct: BTreeMap<String, usize> = BTreeMap::new();
        let (mut own, mut replies, mut order) = (Vec::new(), Vec::new(), Vec::with_capacity(messages.len()));
        let mut fingerprints = Vec::new();
        for message in messages {
            let row = message.prepare(&self.options)?;
            if let Some(&slot) = distinct.get(&row.id) {
                if fingerprints.get(slot) != Some(&row.fingerprint) {
                    return Err(another_text(&row.id));
                }
                order.push(slot);
                continue;
            }
            let slot = fingerprints.len();
            distinct.insert(row.id.clone(), slot);
            fingerprints.push(row.fingerprint);
            order.push(slot);
            if row.parent_id.is_some() { replies.push((slot, row)) } else { own.push((slot, row)) }
        }
        let mut sent: BTreeMap<usize, Message> = BTreeMap::new();
        let own = own.into_iter().map(|(slot, row)| (slot, Outgoing { row, parent: None })).collect();
        self.send_chunks(channel, &keys, own, &mut sent).await?;
        let replies = self.resolve_parents(&keys, replies).await?;
        self.send_chunks(channel, &keys, replies, &mut sent).await?;
        order
            .into_iter()
            .map(|slot| sent.get(&slot).cloned().ok_or_else(|| Error::corrupt("a sent message got no answer")))
            .collect()
    }

    async fn resolve_parents(
        &self,
        keys: &ChannelKeys,
        replies: Vec<(usize, MessageRow)>,
    ) -> Result<Vec<(usize, Outgoing)>> {
        let wanted: BTreeSet<&str> = replies.iter().filter_map(|(_, row)| row.parent_id.as_deref()).collect();
        let wanted: Vec<&str> = wanted.into_iter().collect();
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        for ids in wanted.chunks(CHUNK_MESSAGES_MAX) {
            for (id, place) in ids.iter().zip(self.locate(keys, ids).await?) {
                if let Some(place) = place {
                    places.insert((*id).to_owned(), place);
                }
            }
        }
        replies
            .into_iter()
            .map(|(slot, row)| {
                let parent_id = row.parent_id.as_deref().unwrap_or_default();
                match places.get(parent_id) {
                    Some(Place::Channel(parent)) => Ok((slot, Outgoing { parent: Some(*parent), row })),
                    Some(Place::Thread { .. }) => Err(Error::invalid(format!(
                        "message '{parent_id}' is itself a reply, and threads have one level: reply to its parent"
                    ))),
                    None => Err(no_message(parent_id)),
                }
            })
            .collect()
    }

    async fn send_chunks(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        outgoing: Vec<(usize, Outgoing)>,
        sent: &mut BTreeMap<usize, Message>,
    ) -> Result<()> {
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for (slot, message) in outgoing {
            let size = prost::Message::encoded_len(&message.row) + 2 * message.row.id.len() + keys.partition.len() * 8;
            if !chunk.is_empty() && (chunk.len() >= CHUNK_MESSAGES_MAX || bytes + size > CHUNK_BYTES_MAX) {
                self.send_chunk(channel, keys, std::mem::take(&mut chunk), sent).await?;
                bytes = 0;
            }
            bytes += size;
            chunk.push((slot, message));
        }
        self.send_chunk(channel, keys, chunk, sent).await
    }

    async fn send_chunk(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        mut pending: Vec<(usize, Outgoing)>,
        sent: &mut BTreeMap<usize, Message>,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            if pending.is_empty() {
                return Ok(());
            }
            match self.engine.write(self.batch(keys, &pending)).await {
                Ok(written) => return collect(pending, &written, sent),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    pending = self.drop_stored(channel, keys, pending, sent).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(contended("the channel's membership"))
    }

    fn batch(&self, keys: &ChannelKeys, pending: &[(usize, Outgoing)]) -> Batch {
        let mut batch = Batch::new().merge(keys.version(), 1).require(keys.channel(), Check::Exists);
        let mut counted: BTreeMap<&str, i64> = BTreeMap::new();
        let mut senders: BTreeSet<&str> = BTreeSet::new();
        for (_, message) in pending {
            let row = &message.row;
            let index = keys.index(&row.id);
            batch = batch.require(index.clone(), Check::Absent);
            let value = rows::encode(row);
            batch = match message.parent {
                None => batch.append(keys.sequence(), keys::prefix::messages(), value, Some(index.sort)),
                Some(parent) => batch
                    .append(
                        keys.stat(Place::Channel(parent), Stat::Replies),
                        keys::prefix::replies(parent),
                        value,
                        Some(index.sort),
                    )
                    .put(keys.parent_of(&row.id), parent.to_be_bytes().to_vec()),
            };
            if row.countable() {
                *counted.entry(&row.user_id).or_default() += 1;
            }
            if self.options.rights == Rights::Members && !row.system {
                senders.insert(&row.user_id);
            }
        }
        for user in senders {
            batch = batch.require(keys.member(user), Check::Exists);
        }
        let all: i64 = counted.values().sum();
        if all > 0 {
            batch = batch.merge(keys.countable(), all);
        }
        for (user, count) in counted {
            batch = batch.merge(keys.own(user), count);
        }
        batch
    }

    /// Finds out why a batch was refused: answers for messages that are already stored, and returns the others.
    async fn drop_stored(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        pending: Vec<(usize, Outgoing)>,
        sent: &mut BTreeMap<usize, Message>,
    ) -> Result<Vec<(usize, Outgoing)>> {
        if self.get(keys.channel()).await?.is_none() {
            return Err(no_channel(channel));
        }
        let ids: Vec<&str> = pending.iter().map(|(_, message)| message.row.id.as_str()).collect();
        let places = self.locate(keys, &ids).await?;
        let known: Vec<Place> = places.iter().copied().flatten().collect();
        let mut stored = self.rows_at(keys, &known).await?.into_iter();
        let mut rest = Vec::new();
        for ((slot, message), place) in pending.into_iter().zip(places) {
            let Some(place) = place else {
                rest.push((slot, message));
                continue;
            };
            let row = stored.next().ok_or_else(|| no_message(&message.row.id))?;
            if row.fingerprint != message.row.fingerprint {
                return Err(another_text(&message.row.id));
            }
            sent.insert(slot, Message::from_row(row, place));
        }
        if self.options.rights == Rights::Members {
            let senders = rest.iter().map(|(_, message)| &message.row).filter(|row| !row.system);
            let senders: BTreeSet<&str> = senders.map(|row| row.user_id.as_str()).collect();
            let members = self.multi_get(senders.iter().map(|user| keys.member(user)).collect()).await?;
            if let Some((user, _)) = senders.into_iter().zip(members).find(|(_, member)| member.is_none()) {
                return Err(Error::new(ErrorKind::PermissionDenied, no_member(channel, user).message()));
            }
        }
        Ok(rest)
    }

    /// Where the messages with these ids stand; at most 256 ids.
    pub(crate) async fn locate(&self, keys: &ChannelKeys, ids: &[&str]) -> Result<Vec<Option<Place>>> {
        let wanted = ids.iter().flat_map(|id| [keys.index(id), keys.parent_of(id)]).collect();
        let records = self.multi_get(wanted).await?;
        let mut places = Vec::with_capacity(ids.len());
        for pair in records.chunks(2) {
            let [number, parent] = pair else {
                return Err(Error::corrupt("the engine returned an odd number of records"));
            };
            places.push(match (number, parent) {
                (None, _) => None,
                (Some(number), None) => Some(Place::Channel(rows::decode_count(&number.value)?)),
                (Some(number), Some(parent)) => Some(Place::Thread {
                    parent: rows::decode_count(&parent.value)?,
                    reply: rows::decode_count(&number.value)?,
                }),
            });
        }
        Ok(places)
    }

    /// The message rows at these places, all of which must exist; at most 256.
    async fn rows_at(&self, keys: &ChannelKeys, places: &[Place]) -> Result<Vec<MessageRow>> {
        let records = self.multi_get(places.iter().map(|place| keys.message(*place)).collect()).await?;
        let absent = || Error::corrupt("an id leads to a message that is not there");
        records.into_iter().map(|record| rows::decode(&record.ok_or_else(absent)?.value, "a message")).collect()
    }
}

fn collect(pending: Vec<(usize, Outgoing)>, written: &Written, sent: &mut BTreeMap<usize, Message>) -> Result<()> {
    // The first number is the channel's version; then one for each append, in order.
    for ((slot, message), number) in pending.into_iter().zip(1..) {
        let place = message.place(rows::assigned_count(written.assigned.get::<usize>(number))?);
        sent.insert(slot, Message::from_row(message.row, place));
    }
    Ok(())
}

fn another_text(id: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("message '{id}' was sent before with another text, sender, parent or custom data"),
    )
}

pub(crate) fn no_message(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("message '{id}' does not exist in the channel"))
}
