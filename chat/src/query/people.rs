//! Queries over users and over the members of a channel.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use keevo_core::{Engine, Error, Result, Scan, ScanRange};
use serde_json::{Value, json};

use super::{Collect, EXAMINED_MAX, Page, Query, custom};
use crate::chat::Chat;
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, USER_BUCKETS};
use crate::member::{Member, behind};
use crate::rows;
use crate::users::User;

const USER_FIELDS: &[&str] = &["id", "role", "teams", "created_at", "updated_at", "deactivated", "custom."];
const MEMBER_FIELDS: &[&str] = &["user_id", "role", "joined_at", "grants", "custom."];
/// The most ids that one call asks for by name.
const IDS_MAX: usize = EXAMINED_MAX;

impl<E: Engine> Chat<E> {
    /// Users that were put, by id. Fields: `id`, `role`, `teams` (a list), `created_at`, `updated_at` (milliseconds),
    /// `deactivated`, `custom.…`.
    pub async fn query_users(&self, query: &Query) -> Result<Page<User>> {
        let filter = query.read(USER_FIELDS)?;
        query.order(&["id"]).and_then(forwards)?;
        let (ids, more) = match filter.one_of("id") {
            Some(ids) => (named(ids, query)?, false),
            None => self.directory(query.cursor.as_deref()).await?,
        };
        let mut found = Collect::new(query.limit);
        let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
        let count = wanted.len();
        for (number, (id, user)) in ids.iter().zip(self.users(&wanted).await?).enumerate() {
            let Some(user) = user else {
                found.last = Some(id.clone());
                continue;
            };
            let document = user_document(&user);
            if !found.take(&filter, &document, id.clone(), user) {
                return Ok(found.finish(more || number + 1 < count));
            }
        }
        Ok(found.finish(more))
    }

    /// Members of a channel, by user id. Fields: `user_id`, `role`, `joined_at` (milliseconds), `grants` (a list),
    /// `custom.…`.
    pub async fn query_members(&self, channel: &ChannelId, query: &Query) -> Result<Page<Member>> {
        let filter = query.read(MEMBER_FIELDS)?;
        query.order(&["user_id"]).and_then(forwards)?;
        let (members, more) = if let Some(ids) = filter.one_of("user_id") {
            (self.named_members(channel, &named(ids, query)?).await?, false)
        } else {
            let members = self.members(channel, query.cursor.as_deref(), EXAMINED_MAX).await?;
            let more = members.len() == EXAMINED_MAX;
            (members, more)
        };
        let mut found = Collect::new(query.limit);
        let count = members.len();
        for (number, member) in members.into_iter().enumerate() {
            let document = member_document(&member);
            let id = member.user_id.clone();
            if !found.take(&filter, &document, id, member) {
                return Ok(found.finish(more || number + 1 < count));
            }
        }
        Ok(found.finish(more))
    }

    async fn named_members(&self, channel: &ChannelId, ids: &[String]) -> Result<Vec<Member>> {
        let keys = self.keys(channel).await?;
        let records = self.multi_get(ids.iter().map(|id| keys.member(id)).collect()).await?;
        let mut members = Vec::new();
        for (id, record) in ids.iter().zip(records) {
            if let Some(record) = record {
                members.push(Member::from_row(id, rows::decode(&record.value, "a member")?));
            }
        }
        Ok(members)
    }

    /// The next ids of the directory, all buckets merged, and whether there may be more.
    async fn directory(&self, after: Option<&str>) -> Result<(Vec<String>, bool)> {
        after.map_or(Ok(()), |id| validate_name("the cursor", id))?;
        let keyspace = self.keyspace().await?;
        let mut ids = BTreeSet::new();
        let mut cut: Option<String> = None;
        for bucket in 0..USER_BUCKETS {
            let partition = keys::directory_bucket(self.app, bucket);
            let mut scan = Scan::partition(keyspace, partition.clone(), EXAMINED_MAX);
            if let Some(after) = after {
                let start = behind(&BytesMut::from(after.as_bytes()).freeze());
                scan.range = ScanRange::Partition { keyspace, partition, start, end: Bytes::new() };
            }
            let entries = self.first(scan, EXAMINED_MAX).await?;
            let full = entries.len() == EXAMINED_MAX;
            let mut last = None;
            for (key, _) in entries {
                let id = String::from_utf8_lossy(&key.sort).into_owned();
                last = Some(id.clone());
                ids.insert(id);
            }
            // What lies behind the end of a full bucket is not known, so nothing behind it may be told of any.
            if let Some(last) = last.filter(|_| full) {
                cut = Some(match cut {
                    Some(cut) => cut.min(last),
                    None => last,
                });
            }
        }
        let known = ids.len();
        let ids: Vec<String> =
            ids.into_iter().filter(|id| cut.as_ref().is_none_or(|cut| id <= cut)).take(EXAMINED_MAX).collect();
        let more = cut.is_some() || ids.len() < known;
        Ok((ids, more))
    }
}

fn forwards((field, order): (&str, crate::Order)) -> Result<()> {
    if order == crate::Order::OldestFirst {
        return Ok(());
    }
    Err(Error::invalid(format!("there is no index to order by '-{field}': use '{field}'")))
}

/// The ids that a filter names, behind the cursor, in order.
fn named(ids: Vec<String>, query: &Query) -> Result<Vec<String>> {
    for id in &ids {
        validate_name("a user id", id)?;
    }
    let ids: BTreeSet<String> =
        ids.into_iter().filter(|id| query.cursor.as_ref().is_none_or(|last| id > last)).collect();
    Ok(ids.into_iter().take(IDS_MAX).collect())
}

fn user_document(user: &User) -> Value {
    json!({
        "id": user.id,
        "role": user.role,
        "teams": user.teams,
        "created_at": user.created_at_ms,
        "updated_at": user.updated_at_ms,
        "deactivated": user.deactivated_at_ms.is_some(),
        "custom": custom(user.custom.as_deref()),
    })
}

fn member_document(member: &Member) -> Value {
    let grants: Vec<&str> = member.grants.iter().map(|grant| grant.name()).collect();
    json!({
        "user_id": member.user_id,
        "role": member.role,
        "joined_at": member.joined_at_ms,
        "grants": grants,
        "custom": custom(member.custom.as_deref()),
    })
}
