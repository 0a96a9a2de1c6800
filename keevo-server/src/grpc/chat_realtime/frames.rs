//! The frames of docs/CHAT-API.md, section 8, as messages, and the other way round.
//!
//! Invariant: what a message says its frame says, and nothing is judged here: what is malformed makes a frame that the protocol
//! refuses.

use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::converse_request::Request as Said;
use keevo_proto::chat::v1::converse_response as told;
use keevo_proto::chat::v1::converse_response::Response as Told;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Text that may be left out.
fn some(text: String) -> Value {
    if text.is_empty() { Value::Null } else { Value::String(text) }
}

/// The frame of what a client says.
pub(super) fn said(request: pb::ConverseRequest, api_key: &str, token: &str) -> String {
    let id = some(request.id);
    let frame = match request.request {
        // An unknown type: it ends the conversation.
        None => json!({ "type": "", "id": id }),
        Some(Said::Hello(hello)) => {
            let seen: Map<String, Value> =
                hello.seen.into_iter().map(|seen| (seen.channel, json!([seen.version, seen.index]))).collect();
            json!({
                "type": "hello", "id": id, "api_key": api_key, "token": token, "resume": some(hello.resume),
                "seen": seen, "invisible": hello.invisible,
            })
        }
        Some(Said::Subscribe(subscribe)) => {
            let wanted = subscribe.channels.into_iter();
            let channels: Vec<Value> =
                wanted.map(|one| json!({ "cid": one.channel, "resume": some(one.resume) })).collect();
            json!({ "type": "subscribe", "id": id, "channels": channels })
        }
        Some(Said::Unsubscribe(unsubscribe)) => {
            json!({ "type": "unsubscribe", "id": id, "channels": unsubscribe.channels })
        }
        Some(Said::Typing(typing)) => json!({
            "type": "typing", "id": id, "cid": typing.channel, "parent_id": some(typing.parent), "typing": typing.typing,
        }),
        Some(Said::Renew(renew)) => json!({ "type": "token", "id": id, "token": renew.token }),
        Some(Said::Ping(_)) => json!({ "type": "ping", "id": id }),
    };
    frame.to_string()
}

/// What all frames of a server may hold.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    resume: Option<String>,
    cid: Option<String>,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    index: u32,
}

#[derive(Deserialize)]
struct Welcome {
    connection_id: String,
    user_id: String,
    heartbeat_ms: u64,
    time: u64,
    limits: Limits,
    channels: Vec<Status>,
}

#[derive(Deserialize)]
struct Limits {
    channels: u64,
}

#[derive(Deserialize)]
struct Subscribed {
    channels: Vec<Status>,
}

#[derive(Deserialize)]
struct Status {
    cid: String,
    #[serde(rename = "status")]
    outcome: String,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refused {
    error: Refusal,
}

#[derive(Deserialize)]
struct Refusal {
    code: i32,
    detail: String,
    reason: Option<String>,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Pong {
    time: u64,
}

#[derive(Deserialize)]
struct Presence {
    joined: Vec<String>,
    left: Vec<String>,
    watchers: u64,
    typing: Vec<Typist>,
}

#[derive(Deserialize)]
struct Typist {
    user_id: String,
    parent_id: Option<String>,
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

impl From<Status> for told::Status {
    fn from(one: Status) -> Self {
        let status = match (one.outcome.as_str(), one.error) {
            ("reload", _) => told::status::Status::Reload(told::ReadFirst {}),
            (_, Some(error)) => told::status::Status::Refused(error.into()),
            _ => told::status::Status::Added(told::Added {}),
        };
        Self { channel: one.cid, status: Some(status) }
    }
}

impl From<Refusal> for told::Refusal {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, detail, reason, retry_after_ms } = refusal;
        Self { code, message: detail, reason: reason.unwrap_or_default(), retry_after_ms }
    }
}

impl From<Welcome> for told::Welcome {
    fn from(welcome: Welcome) -> Self {
        Self {
            connection: welcome.connection_id,
            user: welcome.user_id,
            heartbeat_ms: welcome.heartbeat_ms,
            time_ms: welcome.time,
            channels_max: welcome.limits.channels,
            channels: welcome.channels.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Typist> for told::Typist {
    fn from(one: Typist) -> Self {
        Self { user: one.user_id, parent: one.parent_id.unwrap_or_default() }
    }
}

impl Presence {
    fn of(self, channel: String) -> told::Presence {
        let Self { joined, left, watchers, typing } = self;
        told::Presence { channel, joined, left, watchers, typing: typing.into_iter().map(Into::into).collect() }
    }
}

/// What a server says, from its frame.
///
/// # Errors
/// `Io` for what is no frame of this version: a fault of the server.
pub(super) fn told(frame: String) -> Result<pb::ConverseResponse> {
    let head: Head = read(&frame)?;
    let channel = head.cid.unwrap_or_default();
    let response = match head.kind.as_str() {
        "welcome" => Told::Welcome(read::<Welcome>(&frame)?.into()),
        "subscribed" => {
            let channels = read::<Subscribed>(&frame)?.channels.into_iter().map(Into::into).collect();
            Told::Subscribed(told::Subscribed { channels })
        }
        "unsubscribed" => Told::Unsubscribed(told::Unsubscribed {}),
        "ok" => Told::Renewed(told::Renewed {}),
        "pong" => Told::Pong(told::Pong { time_ms: read::<Pong>(&frame)?.time }),
        "error" => Told::Refused(read::<Refused>(&frame)?.error.into()),
        "resume" => Told::Token(told::NewToken {}),
        "heartbeat" => Told::Heartbeat(told::Heartbeat {}),
        "channel.presence" => Told::Presence(read::<Presence>(&frame)?.of(channel)),
        "channel.reload" => Told::Reload(told::Reload { channel, reason: read::<Reason>(&frame)?.reason }),
        "channel.removed" => Told::Removed(told::Removed { channel, reason: read::<Reason>(&frame)?.reason }),
        _ if head.version > 0 => {
            let (version, index) = (head.version, head.index);
            Told::Event(told::Event { r#type: head.kind, channel, version, index, json: frame })
        }
        _ => Told::User(told::UserEvent { r#type: head.kind, json: frame }),
    };
    let (id, resume) = (head.id.unwrap_or_default(), head.resume.unwrap_or_default());
    Ok(pb::ConverseResponse { id, resume, response: Some(response) })
}

fn read<'a, T: Deserialize<'a>>(frame: &'a str) -> Result<T> {
    serde_json::from_str(frame)
        .map_err(|error| Error::new(ErrorKind::Io, "the server said what it can't say").with_source(error))
}

#[cfg(test)]
mod tests;
