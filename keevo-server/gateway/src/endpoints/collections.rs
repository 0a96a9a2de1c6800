//! Collections: entries that activities refer to.

use keevo_feeds::Entry;
use serde_json::{Map, Value, json};

use super::data_of;
use crate::auth::{Principal, rights};
use crate::call::{Call, bounded, object, text};
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;

/// The most entries at once.
const ENTRIES_MAX: usize = 1_000;

/// An entry to write: its id, and its data.
type NewEntry = (String, Map<String, Value>);

fn shown(entry: &Entry) -> Value {
    Value::Object(entry.to_json())
}

/// Refuses a user who would change an entry that is not his.
async fn own(call: &Call, collection: &str, id: &str) -> ApiResult<()> {
    let Principal::User(user) = &call.principal else { return Ok(()) };
    let entry = call.feeds.entry(collection, id).await?;
    if entry.user_id.as_ref() == Some(user) {
        return Ok(());
    }
    Err(ApiError::not_allowed(format!("the entry {collection}:{id} belongs to somebody else")))
}

/// Adds an entry; what a user adds is that user's.
pub(super) async fn add(call: &Call) -> ApiResult<Reply> {
    let body = call.object()?;
    let owner = call.user(text(&body, "user_id")?)?;
    let data = data_of(&body)?;
    let id = match body.get("id") {
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => text(&body, "id")?.map(str::to_owned),
    };
    let entry = call.feeds.add_entry(call.found.part("name"), id.as_deref(), data, owner.as_deref()).await?;
    Ok(Reply::created(shown(&entry)))
}

/// Reads an entry.
pub(super) async fn get(call: &Call) -> ApiResult<Reply> {
    let entry = call.feeds.entry(call.found.part("name"), call.found.part("id")).await?;
    Ok(Reply::ok(shown(&entry)))
}

/// Replaces an entry's data.
pub(super) async fn update(call: &Call) -> ApiResult<Reply> {
    let (collection, id) = (call.found.part("name"), call.found.part("id"));
    let data = data_of(&call.object()?)?;
    own(call, collection, id).await?;
    let entry = call.feeds.update_entry(collection, id, data).await?;
    Ok(Reply::created(shown(&entry)))
}

/// Deletes an entry.
pub(super) async fn delete(call: &Call) -> ApiResult<Reply> {
    let (collection, id) = (call.found.part("name"), call.found.part("id"));
    own(call, collection, id).await?;
    call.feeds.delete_entry(collection, id).await?;
    Ok(Reply::empty())
}

/// Adds or replaces entries of several collections.
pub(super) async fn upsert(call: &Call) -> ApiResult<Reply> {
    rights::server_only(&call.principal)?;
    let body = call.object()?;
    let data = object(&body, "data")?.ok_or_else(|| ApiError::field("data", "is missing"))?;
    let mut parsed: Vec<(&String, Vec<NewEntry>)> = Vec::new();
    let mut count = 0;
    for (collection, list) in data {
        // One entry may stand for a list of one.
        let list = match list {
            Value::Array(list) => list.iter().collect(),
            one @ Value::Object(_) => vec![one],
            _ => return Err(ApiError::field("data", "is an object of lists of entries")),
        };
        count += list.len();
        parsed.push((collection, list.into_iter().map(entry).collect::<ApiResult<_>>()?));
    }
    if count > ENTRIES_MAX {
        return Err(ApiError::input(format!("at most {ENTRIES_MAX} entries at once, not {count}")));
    }
    let mut written = Map::new();
    for (collection, entries) in parsed {
        let entries = call.feeds.upsert_entries(collection, entries).await?;
        written.insert(collection.clone(), json!(entries.iter().map(shown).collect::<Vec<_>>()));
    }
    Ok(Reply::created(json!({ "data": written })))
}

/// An entry as a list holds it: its id among its data.
fn entry(value: &Value) -> ApiResult<NewEntry> {
    let Value::Object(map) = value else { return Err(ApiError::field("data", "is an object of lists of entries")) };
    let mut data = map.clone();
    let id = match data.remove("id") {
        Some(Value::String(id)) => id,
        Some(Value::Number(id)) => id.to_string(),
        _ => return Err(ApiError::field("id", "is missing in an entry")),
    };
    Ok((id, data))
}

/// Reads entries.
pub(super) async fn get_many(call: &Call) -> ApiResult<Reply> {
    let names = bounded(call.query.list("foreign_ids"), "foreign_ids", ENTRIES_MAX)?;
    let split = |name: &String| {
        let parts = name.split_once(':').map(|(collection, id)| (collection.to_owned(), id.to_owned()));
        parts.ok_or_else(|| ApiError::field("foreign_ids", format!("{name:?} is not collection:id")))
    };
    let names = names.iter().map(split).collect::<ApiResult<Vec<_>>>()?;
    let entries = call.feeds.entries(&names).await?;
    Ok(Reply::ok(json!({ "response": { "data": entries.iter().map(shown).collect::<Vec<_>>() } })))
}

/// Deletes entries of one collection.
pub(super) async fn delete_many(call: &Call) -> ApiResult<Reply> {
    rights::server_only(&call.principal)?;
    let collection = call.query.get("collection_name");
    let collection = collection.ok_or_else(|| ApiError::field("collection_name", "is missing"))?;
    let ids = bounded(call.query.list("ids"), "ids", ENTRIES_MAX)?;
    call.feeds.delete_entries(collection, &ids).await?;
    Ok(Reply::empty())
}
