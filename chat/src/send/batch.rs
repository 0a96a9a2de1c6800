//! The one write of a few messages: the messages themselves, and every count that they change.
//!
//! Invariant: appends come before merges of counts, so the numbers that the engine assigns lie right behind the version.

use std::collections::BTreeMap;

use keevo_core::{Batch, Check};

use super::Outgoing;
use crate::ids::Place;
use crate::keys::{self, ChannelKeys, Mentioned, Stat};
use crate::rows::{self, MentionRow, MessageRow};

/// What messages of one batch add to counts.
#[derive(Default)]
struct Counts<'a> {
    /// Countable messages of the channel's own sequence, by sender, who may have none.
    own: BTreeMap<&'a str, i64>,
    /// Countable replies by thread.
    replies: BTreeMap<u64, i64>,
    /// Countable replies by thread and participant, who may have none.
    participants: BTreeMap<(u64, &'a str), i64>,
}

impl<'a> Counts<'a> {
    fn add(&mut self, message: &'a Outgoing) {
        let row = &message.row;
        // Adding nothing makes the row of the sender, by which a channel is known to hold something of it.
        let own = self.own.entry(&row.user_id).or_default();
        let Some(parent) = &message.parent else {
            *own += i64::from(row.countable());
            return;
        };
        if row.system || row.audience != 0 {
            return;
        }
        let counts = i64::from(row.counts());
        *self.replies.entry(parent.number).or_default() += counts;
        *self.participants.entry((parent.number, &row.user_id)).or_default() += counts;
        self.participants.entry((parent.number, &parent.author)).or_default();
    }

    fn write(self, keys: &ChannelKeys, mut batch: Batch) -> Batch {
        let all: i64 = self.own.values().sum();
        if all > 0 {
            batch = batch.merge(keys.countable(), all);
        }
        for (user, count) in self.own {
            batch = batch.merge(keys.own(user), count);
        }
        for (parent, count) in self.replies {
            batch = batch.merge(keys.stat(Place::Channel(parent), Stat::CountableReplies), count);
        }
        // Adding nothing makes the row of who takes part, and leaves one that is there as it is.
        for ((parent, user), count) in self.participants {
            batch = batch.merge(keys.participant(parent, user), count).merge(keys.followed(user, parent), count);
        }
        batch
    }
}

/// The write of these messages: each where its id is absent, in the order given, and what they count.
pub(super) fn of(keys: &ChannelKeys, pending: &[(usize, Outgoing)]) -> Batch {
    let mut batch = Batch::new().merge(keys.version(), 1).require(keys.channel(), Check::Exists);
    let mut counts = Counts::default();
    for (_, message) in pending {
        let row = &message.row;
        let index = keys.index(&row.id);
        batch = batch.require(index.clone(), Check::Absent);
        let value = rows::encode(row);
        batch = match &message.parent {
            None => batch.append(keys.sequence(), keys::prefix::messages(), value, Some(index.sort)),
            Some(parent) => batch
                .append(
                    keys.stat(Place::Channel(parent.number), Stat::Replies),
                    keys::prefix::replies(parent.number),
                    value,
                    Some(index.sort),
                )
                .put(keys.parent_of(&row.id), parent.number.to_be_bytes().to_vec()),
        };
        if let Some(poll_id) = &row.poll_id {
            batch = batch.require(keys.poll(poll_id), Check::Exists);
        }
        if let Some(location) = &message.location {
            let for_ms = location.ends_at_ms.saturating_sub(location.started_at_ms);
            batch = batch.put_ttl(keys.location(&row.id), rows::encode(location), for_ms);
        }
        counts.add(message);
    }
    batch = counts.write(keys, batch);
    pending.iter().fold(batch, |batch, (_, message)| mention(keys, batch, message))
}

/// Tells those whom a message that counts mentions, each in a sequence of its own: mentions are in the order of the messages.
fn mention(keys: &ChannelKeys, mut batch: Batch, message: &Outgoing) -> Batch {
    let row = &message.row;
    if !row.counts() {
        return batch;
    }
    let parent = message.parent.as_ref().map(|parent| parent.number);
    let value = rows::encode(&MentionRow { message_id: row.id.clone() });
    for whom in mentioned(row) {
        let prefix = keys::prefix::mentions_of(whom, parent);
        batch = batch.append(keys.mention_counter(whom, parent), prefix, value.clone(), None);
        if parent.is_some() {
            // So that one look tells whether the channel holds any mention of somebody.
            batch = batch.merge(keys.mention_counter(whom, None), 0);
        }
    }
    batch
}

fn mentioned(row: &MessageRow) -> impl Iterator<Item = Mentioned<'_>> {
    let users = row.mentions.iter().map(|user| Mentioned::User(user));
    let groups = row.mentioned_groups.iter().map(|group| Mentioned::Group(group));
    users.chain(groups).chain(row.mentions_channel.then_some(Mentioned::Everybody))
}
