//! Members of a channel, and the channels of a user: reading them. Joining and leaving is [`crate::membership`].

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use keevo_core::{Engine, Error, ErrorKind, Result, Scan, ScanRange, prefix_end};

use crate::channel_type::Capability;
use crate::chat::{Chat, no_channel, no_member};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, ChannelKeys, Row};
use crate::options::Rights;
use crate::rights::{granted, not_a_member};
use crate::rows::{self, ListingRow, MemberRow};

const PAGE_MAX: usize = 1_000;

/// A member of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user_id: String,
    /// Its role in the channel, such as `member` or `moderator`.
    pub role: String,
    /// When it joined, in milliseconds since the epoch.
    pub joined_at_ms: u64,
    /// What it may do beyond its role.
    pub grants: BTreeSet<Capability>,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
}

/// A member to be added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewMember {
    /// The user.
    pub user_id: String,
    /// Its role.
    pub role: String,
    /// What it may do beyond its role.
    pub grants: BTreeSet<Capability>,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
}

/// A channel in a user's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The channel.
    pub channel: ChannelId,
    /// The user's role there.
    pub role: String,
    /// When the user joined, in milliseconds since the epoch.
    pub joined_at_ms: u64,
}

impl NewMember {
    /// A member with the role `member`.
    pub fn new(user_id: impl Into<String>) -> Self {
        Self { user_id: user_id.into(), role: "member".to_owned(), ..Self::default() }
    }

    /// The same member with a role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.role = role.into();
        self
    }

    /// The same member with a capability beyond its role.
    #[must_use]
    pub fn with_grant(mut self, capability: Capability) -> Self {
        self.grants.insert(capability);
        self
    }
}

impl Member {
    pub(crate) fn from_row(user: &str, row: MemberRow) -> Self {
        let grants = granted(&row);
        Self { user_id: user.to_owned(), role: row.role, joined_at_ms: row.joined_at_ms, grants, custom: row.custom }
    }
}

impl<E: Engine> Chat<E> {
    /// The member. `NotFound` without the channel; for a user who is no member `PermissionDenied` where members are
    /// required, else `NotFound` too.
    pub async fn member(&self, channel: &ChannelId, user: &str) -> Result<Member> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        let Some(record) = self.get(keys.member(user)).await? else {
            return Err(self.not_a_member(channel, &keys, user, self.stranger()).await);
        };
        Ok(Member::from_row(user, rows::decode(&record.value, "a member")?))
    }

    /// Why a user who is no member is refused: `NotFound` without the channel, else `kind`.
    pub(crate) async fn not_a_member(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        user: &str,
        kind: ErrorKind,
    ) -> Error {
        match self.get(keys.channel()).await {
            Ok(Some(_)) if kind == ErrorKind::PermissionDenied => not_a_member(channel, user),
            Ok(Some(_)) => Error::new(kind, no_member(channel, user).message()),
            Ok(None) => no_channel(channel),
            Err(error) => error,
        }
    }

    /// The kind of the error for a user who is no member: where members are required it is a right that lacks.
    pub(crate) fn stranger(&self) -> ErrorKind {
        match self.options.rights {
            Rights::Trusted => ErrorKind::NotFound,
            Rights::Members => ErrorKind::PermissionDenied,
        }
    }

    /// Up to `limit` members by user id, those after `after`.
    pub async fn members(&self, channel: &ChannelId, after: Option<&str>, limit: usize) -> Result<Vec<Member>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let prefix = keys::prefix::members();
        let start = after.map_or_else(|| prefix.clone(), |user| behind(&keys.member(user).sort));
        let mut members = Vec::new();
        for (key, record) in self.first(crate::chat::range(&keys, start, prefix_end(&prefix), limit), limit).await? {
            if let Row::Member(user) = Row::parse(&key.sort)? {
                members.push(Member::from_row(user, rows::decode(&record.value, "a member")?));
            }
        }
        Ok(members)
    }

    /// Up to `limit` channels of a user by name, those after `after`. Follows memberships through the
    /// outbox: at once when nothing fails, else when the worker has run.
    pub async fn channels_of(&self, user: &str, after: Option<&ChannelId>, limit: usize) -> Result<Vec<Listing>> {
        self.listings(user, after, limit, false).await
    }

    /// Up to `limit` listings of a user: of channels that it is in, or that it is `invited` to.
    pub(crate) async fn listings(
        &self,
        user: &str,
        after: Option<&ChannelId>,
        limit: usize,
        invited: bool,
    ) -> Result<Vec<Listing>> {
        validate_name("a user id", user)?;
        validate_limit(limit)?;
        let prefix = keys::prefix::listings();
        let start = after.map_or_else(|| prefix.clone(), |channel| behind(&keys::listing(channel.as_str())));
        let keyspace = self.keyspace().await?;
        let partition = keys::user_partition(self.app, user);
        let mut scan = Scan::partition(keyspace, partition.clone(), limit);
        scan.range = ScanRange::Partition { keyspace, partition, start, end: prefix_end(&prefix) };
        let mut listings = Vec::new();
        self.walk(scan, |page| {
            for (key, record) in page {
                let row: ListingRow = rows::decode(&record.value, "a listing")?;
                if !row.removed && row.invited == invited && listings.len() < limit {
                    let channel = keys::parse_listing(&key.sort)?;
                    listings.push(Listing { channel, role: row.role, joined_at_ms: row.joined_at_ms });
                }
            }
            Ok(listings.len() < limit)
        })
        .await?;
        Ok(listings)
    }
}

/// The first key after `sort`.
pub(crate) fn behind(sort: &Bytes) -> Bytes {
    let mut start = BytesMut::from(sort.as_ref());
    start.put_u8(0);
    start.freeze()
}

pub(crate) fn validate_limit(limit: usize) -> Result<()> {
    if limit == 0 || limit > PAGE_MAX {
        return Err(Error::invalid(format!("a page has 1 to {PAGE_MAX} entries, not {limit}")));
    }
    Ok(())
}
