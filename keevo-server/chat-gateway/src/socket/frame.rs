//! Frames: what clients say, read once and checked; what the server says of itself.

use std::collections::BTreeMap;

use axum::extract::ws::Utf8Bytes;
use keevo_chat::{ChannelId, Position};
use serde_json::{Map, Value, json};

use crate::error::{Answered, Refusal};
use crate::field::{Field, Kind, check_object, may, must};

/// The longest id of a frame, in bytes.
const ID_BYTES_MAX: usize = 64;

/// A frame of a client.
#[derive(Debug)]
pub(super) struct Heard {
    /// What the reply repeats.
    pub(super) id: Value,
    pub(super) asked: Asked,
}

/// What a client asks.
#[derive(Debug)]
pub(super) enum Asked {
    Hello(Hello),
    Subscribe(Vec<Wanted>),
    Unsubscribe(Vec<String>),
    Typing { cid: String, parent_id: Option<String>, typing: bool },
    Token(String),
    Ping,
}

/// Who comes, and from where.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) api_key: String,
    pub(super) token: String,
    pub(super) resume: Option<String>,
    pub(super) seen: BTreeMap<String, Position>,
    pub(super) invisible: bool,
}

/// A channel to subscribe to.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) cid: String,
    pub(super) resume: Option<String>,
}

/// Why a frame is none that can be carried out.
#[derive(Debug)]
pub(super) enum Bad {
    /// It is none of this protocol: the socket ends.
    Alien,
    /// It is refused, with the id that the reply repeats.
    Refused(Value, Box<Refusal>),
}

/// Reads the fields of a frame, which were checked.
type Read = fn(&Map<String, Value>) -> Answered<Asked>;

const HELLO: &[Field] = &[
    must("api_key", Kind::Text),
    must("token", Kind::Text),
    may("resume", Kind::Text),
    may("seen", Kind::Object),
    may("invisible", Kind::Truth),
];
const SUBSCRIBE: &[Field] = &[must("channels", Kind::Objects)];
const WANTED: &[Field] = &[must("cid", Kind::Text), may("resume", Kind::Text)];
const UNSUBSCRIBE: &[Field] = &[must("channels", Kind::Texts)];
const TYPING: &[Field] = &[must("cid", Kind::Text), may("parent_id", Kind::Text), must("typing", Kind::Truth)];
const TOKEN: &[Field] = &[must("token", Kind::Text)];
const PING: &[Field] = &[];

/// Reads a frame.
pub(super) fn parse(text: &str) -> Result<Heard, Bad> {
    let Ok(Value::Object(mut frame)) = serde_json::from_str(text) else { return Err(Bad::Alien) };
    let Some(Value::String(kind)) = frame.remove("type") else { return Err(Bad::Alien) };
    let id = match frame.remove("id") {
        None => Value::Null,
        Some(id @ (Value::Null | Value::Number(_))) => id,
        Some(Value::String(id)) if id.len() <= ID_BYTES_MAX => Value::String(id),
        Some(_) => return Err(Bad::Alien),
    };
    let (fields, read): (&[Field], Read) = match kind.as_str() {
        "hello" => (HELLO, |frame| Ok(Asked::Hello(hello(frame)?))),
        "subscribe" => (SUBSCRIBE, |frame| Ok(Asked::Subscribe(wanted(frame)?))),
        "unsubscribe" => (UNSUBSCRIBE, |frame| Ok(Asked::Unsubscribe(texts(frame, "channels")))),
        "typing" => (TYPING, |frame| {
            let (cid, parent_id) = (text_of(frame, "cid"), optional(frame, "parent_id"));
            Ok(Asked::Typing { cid, parent_id, typing: truth(frame, "typing") })
        }),
        "token" => (TOKEN, |frame| Ok(Asked::Token(text_of(frame, "token")))),
        "ping" => (PING, |_| Ok(Asked::Ping)),
        _ => return Err(Bad::Alien),
    };
    match check_object(&frame, fields).and_then(|()| read(&frame)) {
        Ok(asked) => Ok(Heard { id, asked }),
        Err(refusal) => Err(Bad::Refused(id, Box::new(refusal))),
    }
}

fn optional(frame: &Map<String, Value>, name: &str) -> Option<String> {
    frame.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn text_of(frame: &Map<String, Value>, name: &str) -> String {
    optional(frame, name).unwrap_or_default()
}

fn truth(frame: &Map<String, Value>, name: &str) -> bool {
    frame.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn texts(frame: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = frame.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn hello(frame: &Map<String, Value>) -> Answered<Hello> {
    let mut seen = BTreeMap::new();
    if let Some(Value::Object(places)) = frame.get("seen") {
        for (cid, place) in places {
            seen.insert(cid.clone(), position(place)?);
        }
    }
    Ok(Hello {
        api_key: text_of(frame, "api_key"),
        token: text_of(frame, "token"),
        resume: optional(frame, "resume"),
        seen,
        invisible: truth(frame, "invisible"),
    })
}

fn position(place: &Value) -> Answered<Position> {
    let bad = || Refusal::field("seen", "holds [version, index] for each cid");
    let pair = place.as_array().map(Vec::as_slice).ok_or_else(bad)?;
    let [version, index] = pair else { return Err(bad()) };
    let index = index.as_u64().and_then(|index| u32::try_from(index).ok()).ok_or_else(bad)?;
    Ok(Position { version: version.as_u64().ok_or_else(bad)?, index })
}

fn wanted(frame: &Map<String, Value>) -> Answered<Vec<Wanted>> {
    let list = frame.get("channels").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_object)
        .map(|one| {
            check_object(one, WANTED)?;
            Ok(Wanted { cid: text_of(one, "cid"), resume: optional(one, "resume") })
        })
        .collect()
}

/// The reply to a frame that is refused.
pub(super) fn error(id: &Value, refusal: &Refusal) -> Utf8Bytes {
    json!({ "type": "error", "id": id, "error": refusal.body() }).to_string().into()
}

/// What became of a channel that was asked for.
pub(super) fn status(cid: &str, outcome: &Outcome) -> Value {
    let (status, error) = match outcome {
        Outcome::On => ("ok", Value::Null),
        Outcome::Reload => ("reload", Value::Null),
        Outcome::Refused(refusal) => ("error", Value::Object(refusal.body())),
    };
    json!({ "cid": cid, "status": status, "error": error })
}

/// What became of a channel that was asked for.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is subscribed.
    On,
    /// It is to be read again first.
    Reload,
    /// It is not subscribed.
    Refused(Refusal),
}

/// A frame of a channel, from one that names none yet.
pub(super) fn of_channel(cid: &str, mut frame: Value) -> Utf8Bytes {
    if let Value::Object(frame) = &mut frame {
        frame.insert("cid".to_owned(), json!(cid));
    }
    frame.to_string().into()
}

/// The events of a channel that were missed cannot be had.
pub(super) fn reload(cid: &str, reason: &str) -> Utf8Bytes {
    json!({ "type": "channel.reload", "cid": cid, "reason": reason }).to_string().into()
}

/// The user may not read the channel any more.
pub(super) fn removed(cid: &str, reason: &str) -> Utf8Bytes {
    json!({ "type": "channel.removed", "cid": cid, "reason": reason }).to_string().into()
}

/// The channel that a client names.
pub(super) fn channel(cid: &str) -> Answered<ChannelId> {
    Ok(cid.parse::<ChannelId>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_or_refused_or_end_the_socket() {
        for good in [
            r#"{"type":"ping"}"#,
            r#"{"type":"ping","id":"x"}"#,
            r#"{"type":"hello","id":1,"api_key":"k","token":"t","seen":{"team:a":[1,2]}}"#,
            r#"{"type":"subscribe","id":2,"channels":[{"cid":"team:a"},{"cid":"team:b","resume":"x"}]}"#,
            r#"{"type":"typing","cid":"team:a","typing":true}"#,
        ] {
            parse(good).expect(good);
        }
        for refused in [
            r#"{"type":"ping","more":1}"#,
            r#"{"type":"hello","id":1}"#,
            r#"{"type":"hello","id":1,"api_key":"k","token":"t","seen":{"team:a":[1]}}"#,
            r#"{"type":"hello","id":1,"api_key":"k","token":"t","seen":{"team:a":[1,-2]}}"#,
            r#"{"type":"hello","id":1,"api_key":"k","token":"t","seen":{"team:a":[1,4294967296]}}"#,
            r#"{"type":"subscribe","channels":["team:a"]}"#,
            r#"{"type":"subscribe","channels":[{"resume":"x"}]}"#,
            r#"{"type":"typing","cid":7,"typing":true}"#,
        ] {
            assert!(matches!(parse(refused), Err(Bad::Refused(..))), "{refused}");
        }
        let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(65));
        for alien in [
            "",
            "7",
            "[]",
            "{",
            r#"{"id":1}"#,
            r#"{"type":7}"#,
            r#"{"type":"send"}"#,
            r#"{"type":"ping","id":{}}"#,
            &long,
        ] {
            assert!(matches!(parse(alien), Err(Bad::Alien)), "{alien}");
        }
    }
}
