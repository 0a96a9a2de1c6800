//! Mentions: who was spoken to, and what of that is unread.
//!
//! Mentions are the one thing that is written per user and message: each user, each group and the channel as a whole
//! has a sequence of those that name it, in the order of the messages. Those behind the read position are its newest, so
//! counting them costs what they are many, not what the channel holds.
//!
//! Invariant: a mention counts where the message named the user when it was sent, still does, is not deleted, and is
//! somebody else's, behind the read position. Edits that name somebody later count for nobody.

use std::collections::BTreeSet;

use keevo_core::{Engine, Error, Record, Result, Scan};

use crate::chat::Chat;
use crate::ids::{ChannelId, Place};
use crate::keys::{self, ChannelKeys, Mentioned};
use crate::rows::{self, MentionRow, MessageRow};

const PAGE: usize = 100;
/// The most groups for which one call looks.
const GROUPS_MAX: usize = 100;

impl<E: Engine> Chat<E> {
    /// How many messages of the channel's own sequence mention the member, a group that it is in now, or everybody, and
    /// are not read. Messages are counted once, however many ways they mention it. Errors as those of
    /// [`Chat::read_state`].
    pub async fn unread_mentions(&self, channel: &ChannelId, user: &str) -> Result<u64> {
        let groups = self.groups_of(user).await?;
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        self.unread_mentions_in(channel, user, &groups).await
    }

    /// As [`Chat::unread_mentions`], for a member who is in these groups and no others, at most 100: for callers who keep
    /// groups of their own.
    pub async fn unread_mentions_in(&self, channel: &ChannelId, user: &str, groups: &[&str]) -> Result<u64> {
        let position = self.read_state(channel, user).await?.sequence;
        let keys = self.keys(channel).await?;
        self.count_mentions(&keys, user, groups, None, position).await
    }

    /// How many replies of a thread mention the member, a group that it is in now, or everybody, and are not read.
    pub async fn unread_thread_mentions(&self, channel: &ChannelId, parent_id: &str, user: &str) -> Result<u64> {
        let position = self.thread_unread(channel, parent_id, user).await?.read_sequence;
        let keys = self.keys(channel).await?;
        let parent = match self.place_of(&keys, parent_id).await? {
            Place::Channel(parent) => parent,
            Place::Thread { .. } => return Ok(0),
        };
        let groups = self.groups_of(user).await?;
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        self.count_mentions(&keys, user, &groups, Some(parent), position).await
    }

    async fn count_mentions(
        &self,
        keys: &ChannelKeys,
        user: &str,
        groups: &[&str],
        parent: Option<u64>,
        position: u64,
    ) -> Result<u64> {
        if groups.len() > GROUPS_MAX {
            return Err(Error::invalid(format!(
                "one call looks for at most {GROUPS_MAX} groups, not {}",
                groups.len()
            )));
        }
        let mut found = BTreeSet::new();
        let named = [Mentioned::User(user), Mentioned::Everybody];
        for whom in named.into_iter().chain(groups.iter().map(|group| Mentioned::Group(group))) {
            self.add_mentions(keys, user, whom, parent, position, &mut found).await?;
        }
        Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
    }

    /// Adds the numbers of unread messages that name `whom`, newest first, up to the first that is read.
    async fn add_mentions(
        &self,
        keys: &ChannelKeys,
        user: &str,
        whom: Mentioned<'_>,
        parent: Option<u64>,
        position: u64,
        found: &mut BTreeSet<u64>,
    ) -> Result<()> {
        let prefix = keys::prefix::mentions_of(whom, parent);
        let mut scan = Scan::prefix(keys.keyspace, keys.partition.clone(), prefix, PAGE).backward();
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            let mut ids = Vec::with_capacity(page.records.len());
            for (_, record) in &page.records {
                ids.push(rows::decode::<MentionRow>(&record.value, "a mention")?.message_id);
            }
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let places: Vec<Place> = self.locate(keys, &ids).await?.into_iter().flatten().collect();
            let unread: Vec<Place> = places.iter().copied().filter(|place| place.number() > position).collect();
            let rows = self.multi_get(unread.iter().map(|place| keys.message(*place)).collect()).await?;
            for (place, record) in unread.iter().zip(rows) {
                if counts(record, user, whom)? {
                    found.insert(place.number());
                }
            }
            if unread.len() < places.len() || page.next.is_none() {
                return Ok(());
            }
            scan = scan.after(page.next);
        }
    }
}

/// Whether the message is there, somebody else's, and names `whom`.
fn counts(record: Option<Record>, user: &str, whom: Mentioned<'_>) -> Result<bool> {
    let Some(record) = record else {
        return Ok(false);
    };
    let row: MessageRow = rows::decode(&record.value, "a message")?;
    let named = match whom {
        Mentioned::Everybody => row.mentions_channel,
        Mentioned::User(user) => row.mentions.iter().any(|one| one == user),
        Mentioned::Group(group) => row.mentioned_groups.iter().any(|one| one == group),
    };
    Ok(named && row.deleted_at_ms.is_none() && row.user_id != user)
}
