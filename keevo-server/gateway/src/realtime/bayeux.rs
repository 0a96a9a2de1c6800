//! Bayeux 1.0, as Faye's clients speak it: long polling over HTTP POST, and the same messages over a WebSocket.
//!
//! A client shakes hands, subscribes to channels `/site-APP-feed-SLUGID` with a token for the feed, and connects again
//! and again; each connect waits until there is news.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode};
use axum::response::IntoResponse;
use keevo_feeds::{AppId, FeedId};
use serde_json::{Map, Value, json};

use super::{Client, websocket};
use crate::apps::App;
use crate::auth::rights::{self, FeedUse};
use crate::auth::{Principal, verify_feed};
use crate::error::{ApiError, ApiResult};
use crate::gateway::Gateway;
use crate::query::Query;
use crate::serve::plain;

/// The largest body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;
/// The most messages of one body.
const MESSAGES_MAX: usize = 100;

/// A reply, and the client whose connect it ends when there is one.
pub(super) struct Replied {
    pub(super) reply: Value,
    pub(super) waits: Option<Waiting>,
}

/// A connect that waits for news.
pub(super) struct Waiting {
    pub(super) client: Arc<Client>,
    pub(super) for_ms: u64,
    pub(super) number: u64,
}

/// Takes the messages of a POST, of a GET with `message=`, or of a WebSocket.
pub(crate) async fn serve(
    State(gateway): State<Gateway>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response<Body> {
    if let Ok(upgrade) = upgrade {
        return websocket::accept(gateway, upgrade);
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let is_get = request.method() == Method::GET;
    if !is_get && request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "messages come by POST\n");
    }
    let body = match to_bytes(request.into_body(), BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(_too_long) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body has more than 64 KiB\n"),
    };
    // Old browsers send the messages as a field of a form.
    let field = |form: &str| Query::parse(form).ok().and_then(|form| form.get("message").map(str::to_owned));
    let text = if is_get {
        field(&query)
    } else {
        let text = String::from_utf8_lossy(&body).into_owned();
        if text.starts_with("message=") { field(&text) } else { Some(text) }
    };
    let messages = text.and_then(|text| parse(&text));
    let Some(messages) = messages else {
        return plain(StatusCode::BAD_REQUEST, "the body is a JSON list of messages\n");
    };
    let replies = poll(&gateway, messages).await;
    let callback = Query::parse(&query).ok().and_then(|query| query.get("jsonp").map(str::to_owned));
    match callback.filter(|name| is_get && is_name(name)) {
        Some(name) => {
            let script = format!("/**/{name}({});", Value::Array(replies));
            let kind = [("content-type", "text/javascript; charset=utf-8"), ("x-content-type-options", "nosniff")];
            (kind, script).into_response()
        }
        None => Json(replies).into_response(),
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
}

/// The messages of a body: a list, or one.
pub(super) fn parse(text: &str) -> Option<Vec<Map<String, Value>>> {
    let messages = match serde_json::from_str(text).ok()? {
        Value::Array(list) if list.len() <= MESSAGES_MAX => list,
        one @ Value::Object(_) => vec![one],
        _ => return None,
    };
    let object = |one| if let Value::Object(map) = one { Some(map) } else { None };
    messages.into_iter().map(object).collect()
}

/// Replies to messages; waits for news where one of them is a connect that may.
async fn poll(gateway: &Gateway, messages: Vec<Map<String, Value>>) -> Vec<Value> {
    let mut replies = Vec::new();
    let mut waiting = None;
    for message in messages {
        let replied = respond(gateway, &message).await;
        replies.push(replied.reply);
        waiting = replied.waits.or(waiting);
    }
    if let Some(waiting) = waiting {
        wait(gateway, &waiting).await;
        // What had come before the connect goes first.
        replies.splice(0..0, waiting.client.take());
    }
    replies
}

/// Waits until a client has news, another connect of it came, or time is up.
async fn wait(gateway: &Gateway, waiting: &Waiting) {
    let client = &waiting.client;
    let until_news = async {
        loop {
            let news = client.news.notified();
            if client.has_news() || client.connects.load(Ordering::SeqCst) != waiting.number {
                return;
            }
            news.await;
        }
    };
    let bounded = tokio::time::timeout(Duration::from_millis(waiting.for_ms), until_news);
    if let Some(Err(_elapsed)) = gateway.inner.stop.run_until_cancelled(bounded).await {
        tracing::trace!("a poll brought no news");
    }
}

/// Replies to one message.
pub(super) async fn respond(gateway: &Gateway, message: &Map<String, Value>) -> Replied {
    let channel = text(message, "channel");
    let answer = match channel {
        "/meta/handshake" => handshake(gateway, message).map(|reply| (reply, None)),
        "/meta/connect" => connect(gateway, message),
        "/meta/subscribe" => subscribe(gateway, message).await.map(|reply| (reply, None)),
        "/meta/unsubscribe" => unsubscribe(gateway, message).map(|reply| (reply, None)),
        "/meta/disconnect" => disconnect(gateway, message).map(|reply| (reply, None)),
        other => Err(Refused::new(403, other, "clients publish through the API")),
    };
    let (mut reply, waits, successful) = match answer {
        Ok((reply, waits)) => (reply, waits, true),
        Err(refused) => (refused.reply(), None, false),
    };
    reply.insert("channel".to_owned(), json!(channel));
    reply.insert("successful".to_owned(), json!(successful));
    for copied in ["id", "clientId", "subscription"] {
        if let (Some(value), false) = (message.get(copied), reply.contains_key(copied)) {
            reply.insert(copied.to_owned(), value.clone());
        }
    }
    Replied { reply: Value::Object(reply), waits }
}

/// Why a message is refused.
struct Refused {
    code: u16,
    about: String,
    why: String,
    again: bool,
}

impl Refused {
    fn new(code: u16, about: &str, why: impl Into<String>) -> Self {
        Self { code, about: about.chars().take(300).collect(), why: why.into(), again: false }
    }

    /// The client is unknown: it is told to shake hands again.
    fn unknown(id: &str) -> Self {
        Self { again: true, ..Self::new(401, id, "Unknown client") }
    }

    fn reply(self) -> Map<String, Value> {
        let mut reply = Map::new();
        reply.insert("error".to_owned(), json!(format!("{}:{}:{}", self.code, self.about, self.why)));
        if self.again {
            reply.insert("advice".to_owned(), json!({ "reconnect": "handshake", "interval": 0 }));
        }
        reply
    }
}

fn text<'a>(message: &'a Map<String, Value>, name: &str) -> &'a str {
    message.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn advice(gateway: &Gateway) -> Value {
    json!({ "reconnect": "retry", "interval": 0, "timeout": gateway.inner.options.poll_ms })
}

fn client(gateway: &Gateway, message: &Map<String, Value>) -> Result<Arc<Client>, Refused> {
    let id = text(message, "clientId");
    gateway.inner.hub.clients().get(id).ok_or_else(|| Refused::unknown(id))
}

fn handshake(gateway: &Gateway, message: &Map<String, Value>) -> Result<Map<String, Value>, Refused> {
    let offered = message.get("supportedConnectionTypes").and_then(Value::as_array);
    let known = ["long-polling", "callback-polling", "websocket"];
    if !offered.is_none_or(|types| types.iter().any(|one| known.iter().any(|kind| one == kind))) {
        return Err(Refused::new(301, "", "Connection types not supported: long-polling is"));
    }
    let id = format!("{:032x}", gateway.inner.options.random.next_u128());
    let client = gateway.inner.hub.clients().add(id).map_err(|error| Refused::new(429, "", error.detail()))?;
    let mut reply = Map::new();
    reply.insert("version".to_owned(), json!("1.0"));
    reply.insert("clientId".to_owned(), json!(client.id));
    reply.insert("supportedConnectionTypes".to_owned(), json!(known));
    reply.insert("advice".to_owned(), advice(gateway));
    Ok(reply)
}

fn connect(gateway: &Gateway, message: &Map<String, Value>) -> Result<(Map<String, Value>, Option<Waiting>), Refused> {
    let client = client(gateway, message)?;
    let asked = message.get("advice").and_then(|advice| advice.get("timeout")).and_then(Value::as_u64);
    let for_ms = asked.unwrap_or(u64::MAX).min(gateway.inner.options.poll_ms);
    let number = client.connects.fetch_add(1, Ordering::SeqCst) + 1;
    // A connect before this one waits no longer.
    client.news.notify_waiters();
    let mut reply = Map::new();
    reply.insert("advice".to_owned(), advice(gateway));
    Ok((reply, Some(Waiting { client, for_ms, number })))
}

async fn subscribe(gateway: &Gateway, message: &Map<String, Value>) -> Result<Map<String, Value>, Refused> {
    let client = client(gateway, message)?;
    let channels: Vec<&str> = match message.get("subscription") {
        Some(Value::String(channel)) => vec![channel],
        Some(Value::Array(channels)) => channels.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if channels.is_empty() || channels.len() > super::client::SUBSCRIPTIONS_MAX {
        return Err(Refused::new(403, "", "subscription is a channel, or a list of up to 100"));
    }
    for channel in channels {
        let listened = listen(gateway, &client, channel, message.get("ext")).await;
        listened.map_err(|error| Refused::new(403, channel, error.detail()))?;
    }
    Ok(Map::new())
}

/// Lets a client hear of the feed of `channel`, if `ext` holds a token for it.
async fn listen(gateway: &Gateway, client: &Client, channel: &str, ext: Option<&Value>) -> ApiResult<()> {
    let ext = |name: &str| ext.and_then(|ext| ext.get(name)).and_then(Value::as_str).unwrap_or_default();
    let (app_id, name) = channel
        .strip_prefix("/site-")
        .and_then(|rest| rest.split_once("-feed-"))
        .ok_or_else(|| ApiError::input("a channel is /site-APP-feed-SLUGID"))?;
    let app = gateway.inner.apps.by_key(ext("api_key")).await?.ok_or_else(ApiError::api_key)?;
    if app.suspended {
        return Err(ApiError::suspended());
    }
    if app_id != app.id.to_string() {
        return Err(ApiError::not_allowed("the channel belongs to another app than the key"));
    }
    let secret = app.secret(ext("api_key")).ok_or_else(ApiError::api_key)?;
    let now_ms = gateway.inner.options.clock.now_ms();
    let principal = verify_feed(ext("signature"), name, secret, now_ms)?;
    let feed = feed_of(&app, name)?;
    may_hear(&app, &principal, &feed)?;
    gateway.inner.registry.of(&app).await?;
    gateway.inner.hub.clients().subscribe(client, AppId(app.id), feed, channel)?;
    gateway.inner.hub.listen(&gateway.inner.stop).await;
    Ok(())
}

fn may_hear(app: &App, principal: &Principal, feed: &FeedId) -> ApiResult<()> {
    rights::feed(app, principal, feed, FeedUse::Read)
}

/// The feed that a name without a colon means: of the groups that it begins with, the longest.
fn feed_of(app: &App, name: &str) -> ApiResult<FeedId> {
    let slugs = app.groups.keys().filter(|slug| name.len() > slug.len() && name.starts_with(slug.as_str()));
    let slug = slugs.max_by_key(|slug| slug.len());
    let slug =
        slug.ok_or_else(|| ApiError::feed_group(format!("the app has no feed group that {name} begins with")))?;
    let id = name.get(slug.len()..).unwrap_or_default();
    Ok(FeedId::new(slug, id)?)
}

fn unsubscribe(gateway: &Gateway, message: &Map<String, Value>) -> Result<Map<String, Value>, Refused> {
    let client = client(gateway, message)?;
    gateway.inner.hub.clients().unsubscribe(&client, text(message, "subscription"));
    Ok(Map::new())
}

fn disconnect(gateway: &Gateway, message: &Map<String, Value>) -> Result<Map<String, Value>, Refused> {
    let client = client(gateway, message)?;
    gateway.inner.hub.clients().remove(&client.id);
    Ok(Map::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::default_groups;

    #[test]
    fn the_feed_of_a_channel_is_of_a_group_that_exists() {
        let mut app = App { groups: default_groups(), ..App::default() };
        app.groups.insert("user_x".to_owned(), crate::apps::GroupSetting::default());
        let feed = |name| feed_of(&app, name).map(|feed| feed.to_string()).unwrap_or_default();
        assert_eq!(feed("user11"), "user:11");
        assert_eq!(feed("user_x1"), "user_x:1");
        assert_eq!(feed("user"), "");
        assert_eq!(feed("nobody1"), "");
        assert_eq!(feed("user a"), "");
    }

    #[test]
    fn messages_are_bounded() {
        assert_eq!(parse("[{},{}]").map(|list| list.len()), Some(2));
        assert_eq!(parse("{}").map(|list| list.len()), Some(1));
        for bad in ["", "7", "[7]", "[[]]", "[{}", &format!("[{}{{}}]", "{},".repeat(100))] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
