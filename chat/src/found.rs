//! For an index over messages: what a commit means for it, what is stored, and what of it is still to be found.
//!
//! An index is built from [`StoredChange`]s and [`Chat::stored_messages`], and lags behind. So whoever passes hits on asks
//! [`Chat::messages_at`], which reads them as they are now: what it gives is exact, however old the index is.
//!
//! Invariant: what is deleted, erased or truncated is never given, nor is a reply whose thread is truncated, nor anything of a
//! channel that is deleted.

use bytes::{BufMut, Bytes, BytesMut};
use keevo_core::{Change, CommitEvent, Engine, Error, Result, prefix_end};

use crate::chat::{Chat, range};
use crate::history::decode;
use crate::ids::{AppId, ChannelId, Place};
use crate::keys::{self, Row, Setting, parse_channel};
use crate::message::Message;
use crate::rows::{self, ChannelRow};
use crate::text_change::MessageChange;

/// The most places that one call of [`Chat::messages_at`] looks at.
pub const PLACES_MAX: usize = 1_000;
/// The most messages on a page of [`Chat::stored_messages`].
const STORED_MAX: usize = 1_000;

/// What a commit means for an index over messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredChange {
    /// A message is as it says: new, changed, or deleted.
    Message(Box<MessageChange>),
    /// What a channel said up to this number is not shown any more, with the threads of it.
    Truncated {
        /// The app.
        app: AppId,
        /// The channel.
        channel: ChannelId,
        /// The number of the last message that is hidden.
        up_to: u64,
    },
}

impl StoredChange {
    /// What a commit in [`KEYSPACE`](crate::KEYSPACE) means, or `None`: most commits are of other rows.
    ///
    /// # Errors
    /// `Corrupt` where a row of a message or of a channel does not decode.
    pub fn of(event: &CommitEvent) -> Result<Option<Self>> {
        let Some((app, channel)) = parse_channel(&event.key.partition) else { return Ok(None) };
        let Change::Put { value, .. } = &event.change else { return Ok(None) };
        match Row::parse(&event.key.sort)? {
            Row::Message(_) => Ok(MessageChange::of(event)?.map(|change| Self::Message(Box::new(change)))),
            Row::Channel => {
                let row: ChannelRow = rows::decode(value, "a channel")?;
                Ok((row.truncated > 0).then_some(Self::Truncated { app, channel, up_to: row.truncated }))
            }
            _ => Ok(None),
        }
    }
}

impl<E: Engine> Chat<E> {
    /// The messages at these places, up to [`PLACES_MAX`], in their order and without counts; `None` where there is none to be
    /// shown. Asks nobody's rights: whoever calls leaves out what a viewer must not see.
    pub async fn messages_at(&self, channel: &ChannelId, places: &[Place]) -> Result<Vec<Option<Message>>> {
        if places.len() > PLACES_MAX {
            return Err(Error::invalid(format!("a call looks at up to {PLACES_MAX} places, not {}", places.len())));
        }
        let keys = self.keys(channel).await?;
        let of_channel = [keys.channel(), keys.setting(Setting::Truncated)];
        let wanted = places.iter().map(|place| keys.message(*place)).chain(of_channel);
        let mut records = self.multi_get(wanted.collect()).await?;
        let truncated = match records.pop().flatten() {
            Some(record) => rows::decode_count(&record.value)?,
            None => 0,
        };
        // A deleted channel has its row elsewhere.
        let exists = records.pop().flatten().is_some();
        let mut found = Vec::with_capacity(places.len());
        for (place, record) in places.iter().zip(records) {
            let (Place::Channel(number) | Place::Thread { parent: number, .. }) = *place;
            let shown = record.filter(|_| exists && number > truncated);
            let message = shown.map(|record| decode(&keys.message(*place).sort, &record)).transpose()?;
            found.push(message.filter(|message| message.deleted_at_ms.is_none()));
        }
        Ok(found)
    }

    /// A page of all messages of a channel, those of threads and deleted ones too, by place: up to `limit`, at most 1,000,
    /// those after `after`. Messages that change meanwhile are told by the changes. Rows that cannot be read are logged and left
    /// out; behind the last message there is an empty page.
    pub async fn stored_messages(
        &self,
        channel: &ChannelId,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Message>> {
        let keys = self.keys(channel).await?;
        let prefix = keys::prefix::all_messages();
        let mut start: Bytes = after.map_or_else(|| prefix.clone(), |place| behind(&keys.message(place).sort));
        let limit = limit.clamp(1, STORED_MAX);
        loop {
            let rows = self.first(range(&keys, start, prefix_end(&prefix), limit), limit).await?;
            let read = rows.iter().filter_map(|(key, record)| match decode(&key.sort, record) {
                Ok(message) => Some(message),
                Err(error) => {
                    tracing::error!(%channel, %error, "a stored message cannot be read");
                    None
                }
            });
            let messages: Vec<Message> = read.collect();
            match rows.last() {
                // An empty page would be the end.
                Some((last, _)) if messages.is_empty() => start = behind(&last.sort),
                _ => return Ok(messages),
            }
        }
    }
}

/// The first sort key behind one.
fn behind(sort: &[u8]) -> Bytes {
    let mut sort = BytesMut::from(sort);
    sort.put_u8(0);
    sort.freeze()
}

#[cfg(test)]
mod tests {
    use keevo_core::{Batch, MemoryEngine};

    use super::*;
    use crate::{ChatOptions, NewChannel, NewMember, NewMessage};

    #[tokio::test]
    async fn what_is_not_to_be_shown_is_not_given() {
        let chat = Chat::new(MemoryEngine::new(), AppId(3), ChatOptions::default());
        let channel: ChannelId = "team:general".parse().expect("a name");
        let members = vec![NewMember::new("alice")];
        let new = NewChannel { created_by: "alice".into(), members, ..NewChannel::default() };
        chat.create_channel(&channel, new).await.expect("made");
        for id in ["a", "b", "c", "d"] {
            chat.send(&channel, NewMessage::new("alice", id).with_id(id)).await.expect("sent");
        }
        for parent in ["a", "c"] {
            let reply = NewMessage::new("alice", "reply").with_id(format!("r{parent}")).reply_to(parent);
            chat.send(&channel, reply).await.expect("sent");
        }
        let page = chat.stored_messages(&channel, None, 4).await.expect("read");
        let rest = chat.stored_messages(&channel, page.last().map(|last| last.place), 4).await.expect("read");
        let places: Vec<Place> = page.iter().chain(&rest).map(|message| message.place).collect();
        assert_eq!(places.len(), 6, "threads are among them");
        chat.delete(&channel, "d", "alice").await.expect("deleted");
        chat.truncate(&channel, Some(2)).await.expect("truncated");
        let found = chat.messages_at(&channel, &places).await.expect("read");
        let ids: Vec<String> = found.into_iter().flatten().map(|message| message.id).collect();
        assert_eq!(ids, ["c", "rc"]);
        chat.delete_channel(&channel, "alice", false).await.expect("deleted");
        assert!(chat.messages_at(&channel, &places).await.expect("read").iter().all(Option::is_none));
        chat.restore_channel(&channel).await.expect("brought back");
        assert_eq!(chat.messages_at(&channel, &places).await.expect("read").iter().flatten().count(), 2);
        let nowhere = [Place::Channel(99), Place::Thread { parent: 3, reply: 7 }];
        assert_eq!(chat.messages_at(&channel, &nowhere).await.expect("read"), [None, None]);
        let too_many = vec![Place::Channel(1); PLACES_MAX + 1];
        chat.messages_at(&channel, &too_many).await.expect_err("refused");
    }

    /// One row that could not be read once kept an index over all messages from ever being built.
    #[tokio::test]
    async fn rows_that_cannot_be_read_hold_up_no_others() {
        let chat = Chat::new(MemoryEngine::new(), AppId(3), ChatOptions::default());
        let channel: ChannelId = "team:general".parse().expect("a name");
        let members = vec![NewMember::new("alice")];
        let new = NewChannel { created_by: "alice".into(), members, ..NewChannel::default() };
        chat.create_channel(&channel, new).await.expect("made");
        for id in ["a", "b", "c", "d", "e"] {
            chat.send(&channel, NewMessage::new("alice", id).with_id(id)).await.expect("sent");
        }
        let keys = chat.keys(&channel).await.expect("keys");
        for number in [2, 3, 5] {
            let key = keys.message(Place::Channel(number));
            chat.engine.write(Batch::new().put(key, b"\xff".to_vec())).await.expect("written");
        }
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = chat.stored_messages(&channel, after, 1).await.expect("read");
            let Some(last) = page.last() else { break };
            after = Some(last.place);
            ids.extend(page.into_iter().map(|message| message.id));
        }
        assert_eq!(ids, ["a", "d"]);
    }
}
