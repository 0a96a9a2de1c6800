//! Sending: one write per message, or one per few hundred when many come at once.
//!
//! Invariant: a batch stores a message only where its id is absent, so whatever is repeated (a client's
//! retry, an import that was cut off) is stored once and keeps its number.

mod batch;

use std::collections::{BTreeMap, BTreeSet};

use keevo_core::{Batch, Engine, Error, ErrorKind, Result, Written};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel};
use crate::ids::{ChannelId, Place};
use crate::keys::ChannelKeys;
use crate::message::{Message, NewMessage, fingerprint};
use crate::options::Rights;
use crate::poll::no_poll;
use crate::restrict::Permit;
use crate::rows::{self, LocationRow, MessageRow};

/// The most messages in one batch.
const CHUNK_MESSAGES_MAX: usize = 256;
/// The most mentions in one batch, beside those of its first message.
const CHUNK_MENTIONS_MAX: usize = 500;
/// The most bytes of messages in one batch: a quarter of what a batch may hold, so that entries stay small.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A message that passed its checks.
pub(crate) struct Outgoing {
    pub(crate) row: MessageRow,
    parent: Option<Parent>,
    /// Where a location is shared: how it begins.
    location: Option<LocationRow>,
}

/// The message that another replies to.
pub(crate) struct Parent {
    number: u64,
    author: String,
}

impl Outgoing {
    fn place(&self, number: u64) -> Place {
        match &self.parent {
            None => Place::Channel(number),
            Some(parent) => Place::Thread { parent: parent.number, reply: number },
        }
    }

    /// What its sender must have the right to.
    fn capabilities(&self) -> Vec<Capability> {
        let row = &self.row;
        let mentions = !row.mentions.is_empty() || !row.mentioned_groups.is_empty();
        let wanted = [
            (Capability::SendMessage, self.parent.is_none()),
            (Capability::SendReply, self.parent.is_some()),
            (Capability::Attach, !row.attachments.is_empty()),
            (Capability::Quote, row.quoted_id.is_some()),
            (Capability::Mention, mentions),
            (Capability::MentionChannel, row.mentions_channel),
            (Capability::MakePoll, row.poll_id.is_some()),
            (Capability::ShareLocation, row.location != 0),
        ];
        wanted.into_iter().filter(|(_, used)| *used).map(|(capability, _)| capability).collect()
    }
}

impl<E: Engine> Chat<E> {
    /// Sends a message. Sending the same id again returns the stored message; the same id with another text,
    /// sender, parent, quote, attachments, mentions or custom data is a `Conflict`. `NotFound` without the channel or
    /// the message replied to or quoted, `Invalid` for a reply to a reply. After `OutcomeUnknown`, send it again with
    /// the same id.
    pub async fn send(&self, channel: &ChannelId, message: NewMessage) -> Result<Message> {
        let mut sent = self.send_many(channel, vec![message]).await?;
        sent.pop().ok_or_else(|| Error::corrupt("a send answered nothing"))
    }

    /// Sends many messages of one channel, hundreds to a write, for imports. Answers in the order given. The
    /// channel's own messages go first, then the replies, each in the order given, so a reply's parent may
    /// stand anywhere in the list. On an error some may have been stored: repeat the call.
    pub async fn send_many(&self, channel: &ChannelId, messages: Vec<NewMessage>) -> Result<Vec<Message>> {
        let rows = messages.into_iter().map(|message| message.prepare(&self.options)).collect::<Result<_>>()?;
        self.send_rows(channel, rows).await
    }

    /// Sends messages that passed their checks.
    pub(crate) async fn send_rows(&self, channel: &ChannelId, rows: Vec<MessageRow>) -> Result<Vec<Message>> {
        let keys = self.keys(channel).await?;
        let text_bytes_max = self.kind_of(channel)?.text_bytes_max;
        let mut distinct: BTreeMap<String, usize> = BTreeMap::new();
        let (mut own, mut replies, mut order) = (Vec::new(), Vec::new(), Vec::with_capacity(rows.len()));
        let mut fingerprints = Vec::new();
        for row in rows {
            if self.options.rights == Rights::Members && row.text.len() > text_bytes_max {
                return Err(too_long(row.text.len(), text_bytes_max));
            }
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
        // What is quoted may come along; else it has to be there.
        let quoted: BTreeSet<String> =
            own.iter().chain(&replies).filter_map(|(_, row)| row.quoted_id.clone()).collect();
        let quoted: Vec<&str> = quoted.iter().map(String::as_str).filter(|id| !distinct.contains_key(*id)).collect();
        self.check_quoted(&keys, &quoted).await?;
        let own = own.into_iter().map(|(slot, row)| (slot, Outgoing { row, parent: None, location: None })).collect();
        self.send_chunks(channel, &keys, own, &mut sent).await?;
        let replies = self.resolve_parents(&keys, replies).await?;
        self.send_chunks(channel, &keys, replies, &mut sent).await?;
        order
            .into_iter()
            .map(|slot| sent.get(&slot).cloned().ok_or_else(|| Error::corrupt("a sent message got no answer")))
            .collect()
    }

    /// Sends a message that its author alone is to see: it counts for nobody and is shown to nobody else. Errors as those of
    /// [`Chat::send`].
    pub async fn send_shadowed(&self, channel: &ChannelId, message: NewMessage) -> Result<Message> {
        let mut row = message.prepare(&self.options)?;
        row.audience = 1;
        let mut sent = self.send_rows(channel, vec![row]).await?;
        sent.pop().ok_or_else(|| Error::corrupt("a send answered nothing"))
    }

    /// A message with what it answers, if all that it names is there.
    pub(crate) async fn outgoing(&self, channel: &ChannelId, keys: &ChannelKeys, row: MessageRow) -> Result<Outgoing> {
        let text_bytes_max = self.kind_of(channel)?.text_bytes_max;
        if self.options.rights == Rights::Members && row.text.len() > text_bytes_max {
            return Err(too_long(row.text.len(), text_bytes_max));
        }
        let quoted: Vec<&str> = row.quoted_id.as_deref().into_iter().collect();
        self.check_quoted(keys, &quoted).await?;
        if row.parent_id.is_none() {
            return Ok(Outgoing { row, parent: None, location: None });
        }
        let mut resolved = self.resolve_parents(keys, vec![(0, row)]).await?;
        resolved.pop().map(|(_, one)| one).ok_or_else(|| Error::corrupt("a reply was lost"))
    }

    /// Sends one message by a write to which `with` adds. `Conflict` where anything of it no longer holds.
    pub(crate) async fn send_one(
        &self,
        keys: &ChannelKeys,
        outgoing: Outgoing,
        with: impl FnOnce(Batch) -> Batch,
    ) -> Result<Message> {
        let pending = vec![(0, outgoing)];
        let written = self.engine.write(with(batch::of(keys, &pending))).await?;
        let mut sent = BTreeMap::new();
        collect(pending, &written, &mut sent)?;
        sent.remove(&0).ok_or_else(|| Error::corrupt("a send answered nothing"))
    }

    /// Sends a message that shares a location.
    pub(crate) async fn send_sharing(
        &self,
        channel: &ChannelId,
        message: NewMessage,
        location: LocationRow,
    ) -> Result<Message> {
        let keys = self.keys(channel).await?;
        let text_bytes_max = self.kind_of(channel)?.text_bytes_max;
        let mut row = message.prepare_as(&self.options, true)?;
        row.location = 1;
        row.fingerprint = fingerprint(&row);
        if self.options.rights == Rights::Members && row.text.len() > text_bytes_max {
            return Err(too_long(row.text.len(), text_bytes_max));
        }
        let quoted: Vec<&str> = row.quoted_id.as_deref().into_iter().collect();
        self.check_quoted(&keys, &quoted).await?;
        let mut outgoing = match row.parent_id {
            None => vec![(0, Outgoing { row, parent: None, location: None })],
            Some(_) => self.resolve_parents(&keys, vec![(0, row)]).await?,
        };
        for (_, message) in &mut outgoing {
            message.location = Some(location.clone());
        }
        let mut sent = BTreeMap::new();
        self.send_chunks(channel, &keys, outgoing, &mut sent).await?;
        sent.remove(&0).ok_or_else(|| Error::corrupt("a send answered nothing"))
    }

    /// Refuses what [`Chat::send`] would refuse for what it names or for its sender's rights: what a front end asks before it
    /// has others judge the message. `shares` a location: then it may say nothing. The message that is stored under its id passes,
    /// since sending it again is answered.
    pub async fn check_send(&self, channel: &ChannelId, message: &NewMessage, shares: bool) -> Result<()> {
        if self.options.rights == Rights::Trusted {
            return Ok(());
        }
        let keys = self.keys(channel).await?;
        let mut row = message.clone().prepare_as(&self.options, shares)?;
        row.location = u32::from(shares);
        row.fingerprint = fingerprint(&row);
        let (id, sent) = (row.id.clone(), row.fingerprint);
        let checked = match self.outgoing(channel, &keys, row).await {
            Ok(outgoing) => self.permit_senders(channel, &keys, &[(0, outgoing)], true).await.map(drop),
            Err(error) => Err(error),
        };
        let Err(refused) = checked else { return Ok(()) };
        if self.get(keys.channel()).await?.is_none() {
            return Err(no_channel(channel));
        }
        match self.load(&keys, &id).await {
            Ok((_, _, stored)) if stored.fingerprint == sent => Ok(()),
            _ => Err(refused),
        }
    }

    async fn resolve_parents(
        &self,
        keys: &ChannelKeys,
        replies: Vec<(usize, MessageRow)>,
    ) -> Result<Vec<(usize, Outgoing)>> {
        let wanted: BTreeSet<&str> = replies.iter().filter_map(|(_, row)| row.parent_id.as_deref()).collect();
        let wanted: Vec<&str> = wanted.into_iter().collect();
        let mut parents: BTreeMap<String, (Place, String)> = BTreeMap::new();
        for ids in wanted.chunks(CHUNK_MESSAGES_MAX) {
            let found = ids.iter().zip(self.locate(keys, ids).await?);
            let found: Vec<(&str, Place)> = found.filter_map(|(id, place)| place.map(|place| (*id, place))).collect();
            let places: Vec<Place> = found.iter().map(|(_, place)| *place).collect();
            for ((id, place), row) in found.into_iter().zip(self.rows_at(keys, &places).await?) {
                parents.insert(id.to_owned(), (place, row.user_id));
            }
        }
        replies
            .into_iter()
            .map(|(slot, row)| {
                let parent_id = row.parent_id.as_deref().unwrap_or_default();
                match parents.get(parent_id) {
                    Some((Place::Channel(number), author)) => {
                        let parent = Parent { number: *number, author: author.clone() };
                        Ok((slot, Outgoing { parent: Some(parent), row, location: None }))
                    }
                    Some((Place::Thread { .. }, _)) => Err(Error::invalid(format!(
                        "message '{parent_id}' is itself a reply, and threads have one level: reply to its parent"
                    ))),
                    None => Err(no_message(parent_id)),
                }
            })
            .collect()
    }

    /// `NotFound` where one of the messages with these ids does not exist.
    async fn check_quoted(&self, keys: &ChannelKeys, ids: &[&str]) -> Result<()> {
        for ids in ids.chunks(CHUNK_MESSAGES_MAX) {
            for (id, place) in ids.iter().zip(self.locate(keys, ids).await?) {
                place.ok_or_else(|| no_message(id))?;
            }
        }
        Ok(())
    }

    async fn send_chunks(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        outgoing: Vec<(usize, Outgoing)>,
        sent: &mut BTreeMap<usize, Message>,
    ) -> Result<()> {
        let mut chunk = Vec::new();
        let (mut bytes, mut mentions) = (0, 0);
        for (slot, message) in outgoing {
            let row = &message.row;
            let size = prost::Message::encoded_len(row) + 2 * row.id.len() + keys.partition.len() * 8;
            let mentioned = row.mentions.len() + row.mentioned_groups.len() + 1;
            let full = chunk.len() >= CHUNK_MESSAGES_MAX || mentions + mentioned > CHUNK_MENTIONS_MAX;
            if !chunk.is_empty() && (full || bytes + size > CHUNK_BYTES_MAX) {
                self.send_chunk(channel, keys, std::mem::take(&mut chunk), sent).await?;
                (bytes, mentions) = (0, 0);
            }
            bytes += size;
            mentions += mentioned;
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
        for attempt in 0..ATTEMPTS_MAX {
            if pending.is_empty() {
                return Ok(());
            }
            let permit = self.permit_senders(channel, keys, &pending, attempt > 0).await?;
            for (_, message) in &mut pending {
                message.row.audience |= u32::from(permit.shadows(&message.row.user_id));
                if let Some(location) = &mut message.location {
                    location.audience = message.row.audience;
                }
            }
            match self.engine.write(permit.guard(batch::of(keys, &pending))).await {
                Ok(written) => return collect(pending, &written, sent),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    pending = self.drop_stored(channel, keys, pending, sent).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(contended("the channel's membership"))
    }

    /// The right of all senders. What the system writes is nobody's.
    pub(crate) async fn permit_senders(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        pending: &[(usize, Outgoing)],
        look: bool,
    ) -> Result<Permit> {
        let mut permit = Permit::default();
        if self.options.rights == Rights::Trusted {
            return Ok(permit);
        }
        let mut senders: BTreeMap<&str, BTreeSet<Capability>> = BTreeMap::new();
        for (_, message) in pending.iter().filter(|(_, message)| !message.row.system) {
            senders.entry(&message.row.user_id).or_default().extend(message.capabilities());
        }
        for (user, capabilities) in senders {
            let wanted: Vec<Capability> = capabilities.into_iter().collect();
            permit = permit.and(self.permit(channel, keys, user, &wanted, look).await?);
        }
        Ok(permit)
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
        let polls: Vec<&str> = pending.iter().filter_map(|(_, message)| message.row.poll_id.as_deref()).collect();
        for (id, poll) in polls.iter().zip(self.multi_get(polls.iter().map(|id| keys.poll(id)).collect()).await?) {
            poll.ok_or_else(|| no_poll(id))?;
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

fn too_long(bytes: usize, limit: usize) -> Error {
    let message = format!("the text has {bytes} bytes, more than the {limit} of the channel's type");
    Error::new(ErrorKind::BatchTooLarge, message)
}

pub(crate) fn another_text(id: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("message '{id}' was sent before with another text, sender, parent or custom data"),
    )
}

pub(crate) fn no_message(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("message '{id}' does not exist in the channel"))
}
