//! Collections: objects of an application, each under the name of its collection and an id.
//!
//! An entry is one partition, so each change is one batch. Activities refer to it as `SO:‹collection›:‹id›`.

use futures::{StreamExt, TryStreamExt};
use keevo_core::{Batch, Consistency, Engine, Error, ErrorKind, Key, Record, Result, call};
use prost::Message;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::audit::Action;
use crate::change::Change;
use crate::feeds::Feeds;
use crate::json::{DATA_BYTES_MAX, decode_object, encode_bounded};
use crate::keys::ENTITY;
use crate::names::{check_count, check_name, check_word};
use crate::rows::{decode, encode};
use crate::time::{ActivityTime, time_of_us};
use crate::users::GET_MANY_MAX;

/// The longest name of a collection, in bytes.
pub const COLLECTION_BYTES_MAX: usize = 128;

/// An entry of a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The collection's name.
    pub collection: String,
    /// The entry's id within it.
    pub id: String,
    /// What the application keeps.
    pub data: Map<String, Value>,
    /// Who added it, if the caller said so.
    pub user_id: Option<String>,
    /// When it was added.
    pub created_at: ActivityTime,
    /// When its data was last replaced.
    pub updated_at: ActivityTime,
}

impl Entry {
    /// As the API shows it: `id, collection, foreign_id, data, created_at, updated_at`.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("id".to_owned(), self.id.clone().into());
        out.insert("collection".to_owned(), self.collection.clone().into());
        out.insert("foreign_id".to_owned(), format!("{}:{}", self.collection, self.id).into());
        out.insert("data".to_owned(), self.data.clone().into());
        out.insert("created_at".to_owned(), self.created_at.to_zoned().into());
        out.insert("updated_at".to_owned(), self.updated_at.to_zoned().into());
        out
    }

    pub(crate) fn from_record(collection: &str, id: &str, record: &Record) -> Result<Self> {
        let row: CollectionRow = decode(record)?;
        Ok(Self {
            collection: collection.to_owned(),
            id: id.to_owned(),
            data: decode_object(&row.data)?,
            user_id: (!row.user.is_empty()).then_some(row.user),
            created_at: time_of_us(row.created_us)?,
            updated_at: time_of_us(row.updated_us)?,
        })
    }

    fn row(&self, data: bytes::Bytes) -> CollectionRow {
        let micros = |time: ActivityTime| u64::try_from(time.micros()).unwrap_or_default();
        CollectionRow {
            data,
            user: self.user_id.clone().unwrap_or_default(),
            created_us: micros(self.created_at),
            updated_us: micros(self.updated_at),
        }
    }
}

/// An entry as it is stored.
#[derive(Clone, PartialEq, Eq, Message)]
struct CollectionRow {
    /// A JSON object.
    #[prost(bytes = "bytes", tag = "1")]
    data: bytes::Bytes,
    /// Empty = not known.
    #[prost(string, tag = "2")]
    user: String,
    /// Microseconds since the epoch.
    #[prost(uint64, tag = "3")]
    created_us: u64,
    #[prost(uint64, tag = "4")]
    updated_us: u64,
}

/// What a put of an entry does where there is one already, or none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    Add,
    Update,
    Upsert,
}

impl<E: Engine> Feeds<E> {
    pub(crate) fn entry_key(&self, collection: &str, id: &str) -> Key {
        self.layout().key(self.layout().entry(collection, id), ENTITY)
    }

    /// Adds an entry, under a new UUID where no id is given. `Invalid` for empty data or an id of other than word
    /// characters and `-`; `Conflict` when there is an entry with that id.
    pub async fn add_entry(
        &self,
        collection: &str,
        id: Option<&str>,
        data: Map<String, Value>,
        user_id: Option<&str>,
    ) -> Result<Entry> {
        if data.is_empty() {
            return Err(Error::invalid("the data of an entry must not be empty"));
        }
        user_id.map_or(Ok(()), |user| check_name("a user's id", user))?;
        let made;
        let id = if let Some(id) = id {
            id
        } else {
            made = uuid::Builder::from_random_bytes(call::random_u128(self.options().random.as_ref()).to_be_bytes())
                .into_uuid();
            &Uuid::to_string(&made)
        };
        self.put_entry(collection, id, data, user_id, Put::Add).await
    }

    /// The entry with that id, or `NotFound`.
    pub async fn entry(&self, collection: &str, id: &str) -> Result<Entry> {
        check_entry(collection, id)?;
        let record = self.engine().get(self.entry_key(collection, id), Consistency::Linearizable).await?;
        Entry::from_record(collection, id, &record.ok_or_else(|| no_entry(collection, id))?)
    }

    /// The entries with these collections and ids, up to 1,000, in their order; unknown ones are left out.
    pub async fn entries(&self, ids: &[(String, String)]) -> Result<Vec<Entry>> {
        check_count("entries", ids.len(), GET_MANY_MAX)?;
        ids.iter().try_for_each(|(collection, id)| check_entry(collection, id))?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = ids.iter().map(|(collection, id)| self.entry_key(collection, id)).collect();
        let records = self.engine().multi_get(keys, Consistency::Linearizable).await?;
        let found = ids.iter().zip(&records).filter_map(|(name, record)| Some((name, record.as_ref()?)));
        found.map(|((collection, id), record)| Entry::from_record(collection, id, record)).collect()
    }

    /// Replaces an entry's data; `NotFound` when there is none. `Invalid` when the data has an `id`: it is fixed.
    pub async fn update_entry(&self, collection: &str, id: &str, data: Map<String, Value>) -> Result<Entry> {
        if data.contains_key("id") {
            return Err(Error::invalid("the data of an entry has no field id: an entry keeps its id"));
        }
        self.put_entry(collection, id, data, None, Put::Update).await
    }

    /// Adds entries, or replaces the data of those that exist, up to 1,000. A failure midway leaves some done.
    pub async fn upsert_entries(
        &self,
        collection: &str,
        entries: Vec<(String, Map<String, Value>)>,
    ) -> Result<Vec<Entry>> {
        check_count("entries", entries.len(), GET_MANY_MAX)?;
        for (id, data) in &entries {
            check_entry(collection, id)?;
            encode_bounded(data, "an entry's data", DATA_BYTES_MAX)?;
        }
        let put = |(id, data): (String, Map<String, Value>)| async move {
            self.put_entry(collection, &id, data, None, Put::Upsert).await
        };
        futures::stream::iter(entries.into_iter().map(put)).buffered(self.options().concurrency).try_collect().await
    }

    async fn put_entry(
        &self,
        collection: &str,
        id: &str,
        data: Map<String, Value>,
        user_id: Option<&str>,
        put: Put,
    ) -> Result<Entry> {
        check_entry(collection, id)?;
        let encoded = encode_bounded(&data, "an entry's data", DATA_BYTES_MAX)?;
        let (key, now_us) = (self.entry_key(collection, id), self.stamp_us());
        let now = time_of_us(now_us)?;
        self.change(&key, "the entry", |record| {
            let (entry, action) = match (record, put) {
                (Some(_), Put::Add) => {
                    let message = format!("the collection {collection:?} has an entry {id:?} already");
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                (None, Put::Update) => return Err(no_entry(collection, id)),
                (Some(record), _) => {
                    let stored = Entry::from_record(collection, id, record)?;
                    (Entry { data: data.clone(), updated_at: now, ..stored }, Action::Update)
                }
                (None, _) => {
                    let entry = Entry {
                        collection: collection.to_owned(),
                        id: id.to_owned(),
                        data: data.clone(),
                        user_id: user_id.map(str::to_owned),
                        created_at: now,
                        updated_at: now,
                    };
                    (entry, Action::Create)
                }
            };
            let batch = Batch::new().put(key.clone(), encode(&entry.row(encoded.clone())));
            let by = entry.user_id.as_deref().unwrap_or_default();
            Ok(Change::Write(self.audited(batch, &key.partition, action, by, now_us), entry))
        })
        .await
    }

    /// Deletes an entry; `NotFound` when there is none. What refers to it then shows a missing reference.
    pub async fn delete_entry(&self, collection: &str, id: &str) -> Result<()> {
        if self.take_entry(collection, id).await? { Ok(()) } else { Err(no_entry(collection, id)) }
    }

    /// Deletes up to 1,000 entries of a collection and returns how many there were.
    pub async fn delete_entries(&self, collection: &str, ids: &[String]) -> Result<usize> {
        check_count("entries", ids.len(), GET_MANY_MAX)?;
        ids.iter().try_for_each(|id| check_entry(collection, id))?;
        let take = |id: String| async move { self.take_entry(collection, &id).await };
        futures::stream::iter(ids.iter().cloned().map(take))
            .buffer_unordered(self.options().concurrency)
            .try_fold(0, |count, taken| async move { Ok(count + usize::from(taken)) })
            .await
    }

    async fn take_entry(&self, collection: &str, id: &str) -> Result<bool> {
        check_entry(collection, id)?;
        let (key, now_us) = (self.entry_key(collection, id), self.stamp_us());
        self.change(&key, "the entry", |record| {
            let Some(record) = record else { return Ok(Change::Keep(false)) };
            let by = decode::<CollectionRow>(record)?.user;
            let batch = Batch::new().delete(key.clone());
            Ok(Change::Write(self.audited(batch, &key.partition, Action::Delete, &by, now_us), true))
        })
        .await
    }
}

fn check_entry(collection: &str, id: &str) -> Result<()> {
    check_word("a collection's name", collection)?;
    if collection.len() > COLLECTION_BYTES_MAX {
        return Err(Error::invalid(format!("a collection's name has at most {COLLECTION_BYTES_MAX} bytes")));
    }
    check_word("an entry's id", id)
}

fn no_entry(collection: &str, id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("the collection {collection:?} has no entry {id:?}"))
}
