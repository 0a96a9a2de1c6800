//! The rows of policies and blocklists, and the store they lie in.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::keyspaces::MetaStore;
use keevo_core::limits::VALUE_BYTES_MAX;
use keevo_core::{Batch, Error, ErrorKind, Key, Keyspace, Record, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::blocklist::Term;
use crate::policy::Policy;

const PARTITION: &[u8] = b"moderation";

/// [`MetaStore`] behind a pointer.
pub(super) trait ErasedMeta: Send + Sync {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>>>;
    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<()>>;
}

impl<M: MetaStore + Send> ErasedMeta for M {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>>> {
        MetaStore::get(self, key).boxed()
    }

    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<()>> {
        MetaStore::write(self, batch).map(|written| written.map(drop)).boxed()
    }
}

/// An app's policy and the names of its lists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct AppRow {
    pub(super) policy: Policy,
    pub(super) lists: BTreeSet<String>,
}

/// A blocklist: terms that count as whole words, and those that count inside words too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ListRow {
    words: Vec<String>,
    parts: Vec<String>,
}

impl ListRow {
    pub(super) fn new(terms: &[Term]) -> Self {
        let of = |whole_word| {
            terms.iter().filter(|term| term.whole_word == whole_word).map(|term| term.text.clone()).collect()
        };
        Self { words: of(true), parts: of(false) }
    }

    pub(super) fn terms(self) -> Vec<Term> {
        self.words.into_iter().map(Term::word).chain(self.parts.into_iter().map(Term::part)).collect()
    }
}

pub(super) fn app_key(app: u32) -> Key {
    Keyspace::META.key(PARTITION, [b"p/".as_slice(), &app.to_be_bytes()].concat())
}

pub(super) fn list_key(app: u32, name: &str) -> Key {
    Keyspace::META.key(PARTITION, [b"b/".as_slice(), &app.to_be_bytes(), b"/", name.as_bytes()].concat())
}

pub(super) fn encode(value: &impl Serialize) -> Result<Bytes> {
    let value = serde_json::to_vec(value)
        .map_err(|error| Error::invalid("the policy cannot be written as JSON").with_source(error))?;
    if value.len() > VALUE_BYTES_MAX {
        let message = format!("it has {} bytes, more than {VALUE_BYTES_MAX}: split it in several", value.len());
        return Err(Error::new(ErrorKind::BatchTooLarge, message));
    }
    Ok(value.into())
}

pub(super) fn decode<T: DeserializeOwned>(record: &Record, what: &str) -> Result<T> {
    serde_json::from_slice(&record.value)
        .map_err(|error| Error::corrupt(format!("the row of {what} is malformed")).with_source(error))
}
