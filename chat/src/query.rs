//! Queries over channels, users, members and messages: a filter, an order, a cursor, and a bounded cost.
//!
//! | query | answered from | orders |
//! | --- | --- | --- |
//! | channels | the ids that `cid` names, or the list of the user that `members` contains | `cid`; `created_at`, `updated_at`, `last_message_at` over at most 1,000 channels |
//! | users | the ids that `id` names, or the directory | `id` |
//! | members | the ids that `user_id` names, or the channel's members | `user_id` |
//! | messages | the channel's sequence, or the thread that `parent_id` names | `sequence`, both ways |
//!
//! A call looks at up to 1,000 documents. A page that is short, or empty, but has a cursor goes on behind those. What is
//! refused, and why: channels by neither `cid` nor `members`, since there is no list of all of them; other orders, since they
//! would have to read everything first.
//!
//! Invariant: no call costs more than its bound, whatever the filter says and however much is stored.

mod channels;
mod people;

use keevo_core::{Error, Result};
use serde_json::Value;

use crate::filter::Filter;
use crate::history::Order;

pub use channels::{ChannelFound, MessagesQuery};

/// The most documents that one call looks at.
pub const EXAMINED_MAX: usize = 1_000;
const LIMIT_MAX: usize = 300;

/// What is asked for.
///
/// ```
/// # use keevo_chat::{AppId, Chat, ChatOptions, NewChannel, NewMember, Query};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let chat = Chat::new(keevo_core::MemoryEngine::new(), AppId(1), ChatOptions::default());
/// # let members = vec![NewMember::new("ada")];
/// # chat.create_channel(&"team:a".parse()?, NewChannel { created_by: "ada".into(), members, ..Default::default() }).await?;
/// let query = Query::new(r#"{"members": {"$contains": "ada"}, "type": "team"}"#).sorted("-last_message_at");
/// assert_eq!(chat.query_channels(&query).await?.items.len(), 1);
/// # Ok::<(), keevo_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The filter, as JSON; see [`Filter`].
    pub filter: String,
    /// The field to order by, with `-` before it for the other way round; `None` = as each query says.
    pub sort: Option<String>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// The most to return, 1 to 300.
    pub limit: usize,
}

impl Query {
    /// A query for 30.
    pub fn new(filter: impl Into<String>) -> Self {
        Self { filter: filter.into(), sort: None, cursor: None, limit: 30 }
    }

    /// The same query, in another order.
    #[must_use]
    pub fn sorted(mut self, sort: impl Into<String>) -> Self {
        self.sort = Some(sort.into());
        self
    }

    /// The same query, for another number.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The query for the page behind `page`, or `None` at the end.
    pub fn following<T>(mut self, page: &Page<T>) -> Option<Self> {
        self.cursor = Some(page.next.clone()?);
        Some(self)
    }

    fn read(&self, fields: &[&str]) -> Result<Filter> {
        if self.limit == 0 || self.limit > LIMIT_MAX {
            return Err(Error::invalid(format!("a page has 1 to {LIMIT_MAX} entries, not {}", self.limit)));
        }
        Filter::parse(&self.filter, fields)
    }

    /// The field to order by and which way, one of `fields`; the first of them where none is named.
    fn order<'a>(&self, fields: &[&'a str]) -> Result<(&'a str, Order)> {
        let (name, order) = match self.sort.as_deref() {
            None => (fields.first().copied().unwrap_or_default(), Order::OldestFirst),
            Some(sort) => match sort.strip_prefix('-') {
                Some(name) => (name, Order::NewestFirst),
                None => (sort, Order::OldestFirst),
            },
        };
        let known = fields.iter().find(|field| **field == name);
        known.map(|field| (*field, order)).ok_or_else(|| {
            Error::invalid(format!(
                "there is no index to order by '{name}': use one of {}, with '-' for the other way round",
                fields.join(", ")
            ))
        })
    }
}

/// A page of what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What was found, in the order asked for; may be short although there is more.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
    /// How many documents were looked at.
    pub examined: usize,
}

/// Collects a page.
struct Collect<T> {
    page: Page<T>,
    limit: usize,
    /// The place of the last document that was looked at.
    last: Option<String>,
}

impl<T> Collect<T> {
    fn new(limit: usize) -> Self {
        Self { page: Page { items: Vec::new(), next: None, examined: 0 }, limit, last: None }
    }

    /// Takes a document; `false` = the page is full, or cost enough.
    fn take(&mut self, filter: &Filter, document: &Value, place: String, item: T) -> bool {
        self.page.examined += 1;
        self.last = Some(place);
        if filter.matches(document) {
            self.page.items.push(item);
        }
        self.page.items.len() < self.limit && self.page.examined < EXAMINED_MAX
    }

    fn finish(mut self, more: bool) -> Page<T> {
        self.page.next = self.last.filter(|_| more);
        self.page
    }
}

/// Custom data as a value; nothing where there is none.
fn custom(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
}
