//! One authenticated request on its way through an endpoint.

use std::sync::Arc;

use bytes::Bytes;
use keevo_core::AnyEngine;
use keevo_feeds::{ActivityTime, FeedId, Feeds};
use serde_json::{Map, Value};

use crate::apps::App;
use crate::auth::rights::{self, FeedUse};
use crate::auth::{Principal, Scopes};
use crate::error::{ApiError, ApiResult};
use crate::gateway::Inner;
use crate::query::Query;
use crate::route::Found;

/// A request that was let in.
pub(crate) struct Call {
    pub(crate) gateway: Arc<Inner>,
    pub(crate) app: Arc<App>,
    /// The key that it came with.
    pub(crate) key: String,
    pub(crate) feeds: Feeds<AnyEngine>,
    pub(crate) principal: Principal,
    pub(crate) found: Found,
    pub(crate) query: Query,
    pub(crate) body: Bytes,
    /// `http://host:port` as the client reached us, for absolute links.
    pub(crate) origin: String,
}

impl Call {
    /// The feed that the path names.
    pub(crate) fn feed(&self) -> ApiResult<FeedId> {
        let feed = FeedId::new(self.found.part("slug"), self.found.part("id"))?;
        self.known_group(feed)
    }

    /// The feed `slug:id`; what comes after a blank is a signature of old clients and is cut.
    pub(crate) fn feed_named(&self, text: &str) -> ApiResult<FeedId> {
        let name = text.split_once(' ').map_or(text, |(name, _signature)| name);
        self.known_group(name.parse()?)
    }

    fn known_group(&self, feed: FeedId) -> ApiResult<FeedId> {
        if self.app.groups.contains_key(feed.slug()) {
            return Ok(feed);
        }
        Err(ApiError::feed_group(format!(
            "the app has no feed group '{}'; `keevo-cli app group set` makes one",
            feed.slug()
        )))
    }

    /// Checks that the caller may use a feed so.
    pub(crate) fn may(&self, feed: &FeedId, how: FeedUse) -> ApiResult<()> {
        rights::feed(&self.app, &self.principal, feed, how)
    }

    /// The user whom a request is about: named in it, or who calls. A user's token stands for that user alone.
    pub(crate) fn user(&self, named: Option<&str>) -> ApiResult<Option<String>> {
        let own = match &self.principal {
            Principal::User(user) | Principal::Server(Scopes { user: Some(user), .. }) if user != "*" => Some(user),
            _ => None,
        };
        match named.filter(|named| !named.is_empty()) {
            Some(named) => {
                rights::user(&self.principal, named)?;
                Ok(Some(named.to_owned()))
            }
            None => Ok(own.cloned()),
        }
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> ApiResult<Value> {
        if self.body.is_empty() {
            return Ok(Value::Object(Map::new()));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| ApiError::input(format!("the body is no JSON that can be read: {error}")))
    }

    /// The body as a JSON object.
    pub(crate) fn object(&self) -> ApiResult<Map<String, Value>> {
        match self.json()? {
            Value::Object(map) => Ok(map),
            _ => Err(ApiError::input("the body is a JSON object")),
        }
    }

    /// The body as a JSON list; the empty object that clients send for an empty list is one.
    pub(crate) fn list(&self, what: &str, max: usize) -> ApiResult<Vec<Value>> {
        match self.json()? {
            Value::Array(list) => bounded(list, what, max),
            Value::Object(map) if map.is_empty() => Ok(Vec::new()),
            _ => Err(ApiError::input(format!("the body is a JSON list of {what}"))),
        }
    }

    /// Now, in milliseconds since the epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.gateway.options.clock.now_ms()
    }
}

/// A list of at most `max`.
pub(crate) fn bounded<T>(list: Vec<T>, what: &str, max: usize) -> ApiResult<Vec<T>> {
    if list.len() > max {
        return Err(ApiError::input(format!("at most {max} {what} at once, not {}", list.len())));
    }
    Ok(list)
}

/// A member that is text; absent, `null` and empty are `None`.
pub(crate) fn text<'a>(map: &'a Map<String, Value>, name: &str) -> ApiResult<Option<&'a str>> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(ApiError::field(name, "is text")),
    }
}

/// A member that is text, and must be there.
pub(crate) fn needed<'a>(map: &'a Map<String, Value>, name: &str) -> ApiResult<&'a str> {
    text(map, name)?.ok_or_else(|| ApiError::field(name, "is missing"))
}

/// A member that is a list of texts; absent and `null` are `None`.
pub(crate) fn texts(map: &Map<String, Value>, name: &str, max: usize) -> ApiResult<Option<Vec<String>>> {
    let list = match map.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(ApiError::field(name, "is a list of texts")),
    };
    if list.len() > max {
        return Err(ApiError::field(name, format!("has at most {max} entries, not {}", list.len())));
    }
    let text = |one: &Value| one.as_str().map(str::to_owned).ok_or_else(|| ApiError::field(name, "is a list of texts"));
    list.iter().map(text).collect::<ApiResult<_>>().map(Some)
}

/// A member that is an object; absent and `null` are `None`.
pub(crate) fn object<'a>(map: &'a Map<String, Value>, name: &str) -> ApiResult<Option<&'a Map<String, Value>>> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(ApiError::field(name, "is a JSON object")),
    }
}

/// A member that is a truth, in the spellings of the clients; absent is false.
pub(crate) fn flag(map: &Map<String, Value>, name: &str) -> ApiResult<bool> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(truth)) => Ok(*truth),
        Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(true),
        Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(false),
        Some(Value::String(text)) => crate::query::truth(text).ok_or_else(|| ApiError::field(name, "is true or false")),
        Some(_) => Err(ApiError::field(name, "is true or false")),
    }
}

/// A member that is a time; absent and `null` are `None`.
pub(crate) fn time(map: &Map<String, Value>, name: &str) -> ApiResult<Option<ActivityTime>> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            text.parse().map(Some).map_err(|error: keevo_core::Error| ApiError::field(name, error.message()))
        }
        Some(_) => Err(ApiError::field(name, "is a time such as 2026-05-01T12:00:00")),
    }
}

/// A member that becomes text when it is a number or a truth, as actors, verbs and objects do.
pub(crate) fn scalar(map: &Map<String, Value>, name: &str) -> ApiResult<String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Bool(truth)) => Ok(truth.to_string()),
        // A reference that an enriched answer resolved comes back as the object.
        Some(Value::Object(object)) if object.get("id").is_some_and(Value::is_string) => reference(name, object),
        Some(_) => Err(ApiError::field(name, "is text or a number")),
    }
}

/// The reference that a resolved object stood for.
fn reference(name: &str, object: &Map<String, Value>) -> ApiResult<String> {
    let id = object.get("id").and_then(Value::as_str).unwrap_or_default();
    if let Some(collection) = object.get("collection").and_then(Value::as_str) {
        return Ok(format!("SO:{collection}:{id}"));
    }
    if object.contains_key("verb") {
        return Ok(format!("SA:{id}"));
    }
    if object.contains_key("kind") {
        return Ok(format!("SR:{id}"));
    }
    if object.contains_key("data") {
        return Ok(format!("SU:{id}"));
    }
    Err(ApiError::field(name, "is text, a number, or an object that was read before"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_in_bodies_are_bounded() {
        let Value::Object(map) = json!({ "two": ["a", "b"], "three": ["a", "b", "c"], "mixed": ["a", 7] }) else {
            panic!("an object")
        };
        assert_eq!(texts(&map, "two", 2).expect("a list"), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(texts(&map, "none", 2).expect("no list"), None);
        for bad in ["three", "mixed"] {
            assert!(texts(&map, bad, 2).is_err(), "{bad}");
        }
        assert!(bounded(vec![1, 2], "things", 2).is_ok() && bounded(vec![1, 2, 3], "things", 2).is_err());
    }
}
