//! Users: what an application keeps about a person, under an id of its own.
//!
//! A user is one partition, so each change is one batch. Activities refer to it as `SU:‹id›`.

use futures::{StreamExt, TryStreamExt};
use keevo_core::{Batch, Consistency, Engine, Error, ErrorKind, Key, Record, Result};
use prost::Message;
use serde_json::{Map, Value};

use crate::audit::Action;
use crate::change::Change;
use crate::feeds::Feeds;
use crate::json::{DATA_BYTES_MAX, decode_object, encode_bounded};
use crate::keys::ENTITY;
use crate::names::{check_count, check_name};
use crate::rows::{decode, encode};
use crate::time::{ActivityTime, time_of_us};

/// The most users that one call adds.
pub const ADD_USERS_MAX: usize = 100;
/// The most users, entries or reactions that one call reads or deletes.
pub const GET_MANY_MAX: usize = 1_000;

/// A user.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// The application's own id.
    pub id: String,
    /// What the application keeps.
    pub data: Map<String, Value>,
    /// When it was added.
    pub created_at: ActivityTime,
    /// When its data was last replaced.
    pub updated_at: ActivityTime,
}

impl User {
    /// As the API shows it: `id, data, created_at, updated_at`.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("id".to_owned(), self.id.clone().into());
        out.insert("data".to_owned(), self.data.clone().into());
        out.insert("created_at".to_owned(), self.created_at.to_zoned().into());
        out.insert("updated_at".to_owned(), self.updated_at.to_zoned().into());
        out
    }

    pub(crate) fn from_record(id: &str, record: &Record) -> Result<Self> {
        let row: UserRow = decode(record)?;
        Ok(Self {
            id: id.to_owned(),
            data: decode_object(&row.data)?,
            created_at: time_of_us(row.created_us)?,
            updated_at: time_of_us(row.updated_us)?,
        })
    }
}

/// A user as it is stored.
#[derive(Clone, PartialEq, Eq, Message)]
struct UserRow {
    /// A JSON object; empty = `{}`.
    #[prost(bytes = "bytes", tag = "1")]
    data: bytes::Bytes,
    /// Microseconds since the epoch.
    #[prost(uint64, tag = "2")]
    created_us: u64,
    #[prost(uint64, tag = "3")]
    updated_us: u64,
}

/// What to do where the user exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Refuse,
    Keep,
    Replace,
}

impl<E: Engine> Feeds<E> {
    pub(crate) fn user_key(&self, id: &str) -> Key {
        self.layout().key(self.layout().user(id), ENTITY)
    }

    /// Adds a user; `Conflict` when there is one with that id.
    pub async fn add_user(&self, id: &str, data: Map<String, Value>) -> Result<User> {
        self.put_user(id, &data, Existing::Refuse).await
    }

    /// The user with that id as it is, or a new one with `data`.
    pub async fn get_or_create_user(&self, id: &str, data: Map<String, Value>) -> Result<User> {
        self.put_user(id, &data, Existing::Keep).await
    }

    /// Adds up to 100 users. Those that exist are left as they are, or get the new data where `replace` says so.
    /// Returns them in the order given; a failure midway leaves some of them added.
    pub async fn add_users(&self, users: Vec<(String, Map<String, Value>)>, replace: bool) -> Result<Vec<User>> {
        check_count("users", users.len(), ADD_USERS_MAX)?;
        for (id, data) in &users {
            check_name("a user's id", id)?;
            encode_bounded(data, "a user's data", DATA_BYTES_MAX)?;
        }
        let existing = if replace { Existing::Replace } else { Existing::Keep };
        let put = |(id, data): (String, Map<String, Value>)| async move { self.put_user(&id, &data, existing).await };
        futures::stream::iter(users.into_iter().map(put)).buffered(self.options().concurrency).try_collect().await
    }

    async fn put_user(&self, id: &str, data: &Map<String, Value>, existing: Existing) -> Result<User> {
        check_name("a user's id", id)?;
        let encoded = encode_bounded(data, "a user's data", DATA_BYTES_MAX)?;
        let (key, now_us) = (self.user_key(id), self.stamp_us());
        self.change(&key, "the user", |record| {
            let mut created_us = now_us;
            if let Some(record) = record {
                match existing {
                    Existing::Refuse => {
                        return Err(Error::new(ErrorKind::Conflict, format!("there is a user {id:?} already")));
                    }
                    Existing::Keep => return Ok(Change::Keep(User::from_record(id, record)?)),
                    Existing::Replace => created_us = decode::<UserRow>(record)?.created_us,
                }
            }
            let row = UserRow { data: encoded.clone(), created_us, updated_us: now_us };
            let action = if record.is_some() { Action::Update } else { Action::Create };
            let batch = Batch::new().put(key.clone(), encode(&row));
            let (created_at, updated_at) = (time_of_us(created_us)?, time_of_us(now_us)?);
            let user = User { id: id.to_owned(), data: data.clone(), created_at, updated_at };
            Ok(Change::Write(self.audited(batch, &key.partition, action, id, now_us), user))
        })
        .await
    }

    /// The user with that id, or `NotFound`.
    pub async fn user(&self, id: &str) -> Result<User> {
        check_name("a user's id", id)?;
        let record = self.engine().get(self.user_key(id), Consistency::Linearizable).await?;
        User::from_record(id, &record.ok_or_else(|| no_user(id))?)
    }

    /// The users with these ids, up to 1,000, in their order; unknown ones are left out.
    pub async fn users(&self, ids: &[String]) -> Result<Vec<User>> {
        check_count("users", ids.len(), GET_MANY_MAX)?;
        ids.iter().try_for_each(|id| check_name("a user's id", id))?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = ids.iter().map(|id| self.user_key(id)).collect();
        let records = self.engine().multi_get(keys, Consistency::Linearizable).await?;
        let found = ids.iter().zip(&records).filter_map(|(id, record)| Some((id, record.as_ref()?)));
        found.map(|(id, record)| User::from_record(id, record)).collect()
    }

    /// Replaces a user's data; `NotFound` when there is none with that id.
    pub async fn update_user(&self, id: &str, data: Map<String, Value>) -> Result<User> {
        check_name("a user's id", id)?;
        let encoded = encode_bounded(&data, "a user's data", DATA_BYTES_MAX)?;
        let (key, now_us) = (self.user_key(id), self.stamp_us());
        self.change(&key, "the user", |record| {
            let stored = User::from_record(id, record.ok_or_else(|| no_user(id))?)?;
            let created_us = u64::try_from(stored.created_at.micros()).unwrap_or_default();
            let row = UserRow { data: encoded.clone(), created_us, updated_us: now_us };
            let batch = Batch::new().put(key.clone(), encode(&row));
            let user = User { data: data.clone(), updated_at: time_of_us(now_us)?, ..stored };
            Ok(Change::Write(self.audited(batch, &key.partition, Action::Update, id, now_us), user))
        })
        .await
    }

    /// Deletes a user; `NotFound` when there is none. What refers to it then shows a missing reference.
    pub async fn delete_user(&self, id: &str) -> Result<()> {
        if self.take_user(id).await? { Ok(()) } else { Err(no_user(id)) }
    }

    /// Deletes up to 1,000 users and returns how many there were.
    pub async fn delete_users(&self, ids: &[String]) -> Result<usize> {
        check_count("users", ids.len(), GET_MANY_MAX)?;
        ids.iter().try_for_each(|id| check_name("a user's id", id))?;
        let take = |id: String| async move { self.take_user(&id).await };
        futures::stream::iter(ids.iter().cloned().map(take))
            .buffer_unordered(self.options().concurrency)
            .try_fold(0, |count, taken| async move { Ok(count + usize::from(taken)) })
            .await
    }

    async fn take_user(&self, id: &str) -> Result<bool> {
        check_name("a user's id", id)?;
        let (key, now_us) = (self.user_key(id), self.stamp_us());
        self.change(&key, "the user", |record| {
            if record.is_none() {
                return Ok(Change::Keep(false));
            }
            let batch = Batch::new().delete(key.clone());
            Ok(Change::Write(self.audited(batch, &key.partition, Action::Delete, id, now_us), true))
        })
        .await
    }
}

fn no_user(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no user {id:?}"))
}
