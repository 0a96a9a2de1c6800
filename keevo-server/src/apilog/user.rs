//! Which calls are of a user.
//!
//! Invariant: a call that names the user is found, however the id is written: in a path, in JSON, in a message of gRPC. Where
//! the id is a word of somebody's text, that call is taken for one of the user too.

use std::sync::Arc;

use bytes::Buf;
use keevo_archive::erase::IsOf;
use keevo_core::call::{CallDoor, CallRequest, Envelope};
use serde_json::Value;

/// How deep messages are looked into.
const DEPTH_MAX: usize = 16;

/// Finds the calls of an app that a user made, or whose path or request names the user as a word.
pub(crate) fn is_of(app: u32, user: String) -> IsOf {
    Arc::new(move |envelope: &Envelope| envelope.app == Some(app) && names(envelope, &user))
}

fn names(envelope: &Envelope, user: &str) -> bool {
    let by = envelope.principal.strip_prefix("user ").or_else(|| envelope.principal.strip_prefix("server "));
    let CallRequest::Body(body) = &envelope.request else { return by == Some(user) };
    by == Some(user)
        || has_word(&percent_decoded(&envelope.method), user)
        || match envelope.door {
            CallDoor::Grpc => message_names(body, user, DEPTH_MAX),
            CallDoor::FeedsHttp | CallDoor::ChatHttp => match serde_json::from_slice(body) {
                Ok(value) => value_names(&value, user),
                Err(_no_json) => has_word(body, user),
            },
        }
}

fn value_names(value: &Value, user: &str) -> bool {
    match value {
        Value::String(text) => has_word(text.as_bytes(), user),
        Value::Array(items) => items.iter().any(|item| value_names(item, user)),
        Value::Object(fields) => {
            fields.iter().any(|(name, field)| has_word(name.as_bytes(), user) || value_names(field, user))
        }
        // An id may be written as a number.
        Value::Number(number) => number.to_string() == user,
        Value::Null | Value::Bool(_) => false,
    }
}

/// Whether a field of a protobuf message, however deep, holds the word. Its types are not needed: what has a length is a text, a
/// message, or both at once as far as one can tell.
fn message_names(mut message: &[u8], user: &str, depth: usize) -> bool {
    while let Some(key) = varint(&mut message) {
        let rest = match key & 7 {
            0 => varint(&mut message).map(|_number| 0),
            1 => Some(8),
            2 => {
                let bytes = varint(&mut message).and_then(|bytes| usize::try_from(bytes).ok());
                let Some(field) = bytes.and_then(|bytes| message.get(..bytes)) else { return false };
                if has_word(field, user) || (depth > 0 && message_names(field, user, depth - 1)) {
                    return true;
                }
                Some(field.len())
            }
            5 => Some(4),
            _ => None,
        };
        match rest {
            Some(rest) if rest <= message.len() => message.advance(rest),
            _ => return false,
        }
    }
    false
}

/// Takes a varint from the front; `None` = there is none.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Whether a text has the word, between characters that no id goes on with.
fn has_word(text: &[u8], word: &str) -> bool {
    let goes_on =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    text.windows(word.len()).enumerate().any(|(at, part)| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        part == word.as_bytes() && !goes_on(before) && !goes_on(text.get(at + word.len()))
    })
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let digit = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        if let (b'%', Some((high, low))) = (byte, digit(0).zip(digit(1))) {
            out.push(u8::try_from(high * 16 + low).unwrap_or_default());
            rest = behind.get(2..).unwrap_or_default();
        } else {
            out.push(*byte);
            rest = behind;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use keevo_core::call::CallId;
    use keevo_proto::Message;
    use keevo_proto::chat::v1 as chat;

    use super::*;

    fn call(door: CallDoor, principal: &str, method: &str, body: impl Into<Bytes>) -> Envelope {
        Envelope {
            id: CallId::default(),
            at_us: 1,
            seed: 2,
            app: Some(3),
            door,
            principal: principal.to_owned(),
            method: method.to_owned(),
            request: CallRequest::Body(body.into()),
            redacted: false,
            origin: None,
            erased: false,
        }
    }

    #[test]
    fn a_call_is_of_who_made_it_and_of_whom_it_names() {
        let is_of = is_of(3, "al-1".to_owned());
        let http =
            |principal: &str, method: &str, body: &'static str| call(CallDoor::ChatHttp, principal, method, body);
        for (principal, method, body) in [
            ("user al-1", "POST /chat/v1/x", "{}"),
            ("server al-1", "POST /chat/v1/x", "{}"),
            ("server", "DELETE /chat/v1/users/al-1", ""),
            ("server", "POST /feeds/user%3Aal%2D1/follow", ""),
            ("user bob", "POST /chat/v1/x", r#"{"message":{"text":"ask @al-1."}}"#),
            ("user bob", "POST /chat/v1/x", r#"{"members":[{"al\u002d1":true}]}"#),
            ("user bob", "POST /chat/v1/x", "no json of al-1"),
        ] {
            assert!(is_of(&http(principal, method, body)), "{principal} {method} {body}");
        }
        for (principal, method, body) in [
            ("user al-12", "POST /chat/v1/users/al-11", r#"{"text":"xal-1 al-1_ al-"}"#),
            ("user bob", "POST /chat/v1/x", "{}"),
            ("server", "POST /chat/v1/x", r#"{"al":-1}"#),
        ] {
            assert!(!is_of(&http(principal, method, body)), "{principal} {method} {body}");
        }
        let other = Envelope { app: Some(4), ..http("user al-1", "POST /x", "{}") };
        let values = Envelope { app: None, request: CallRequest::Command, ..other.clone() };
        assert!(!is_of(&other) && !is_of(&values));
    }

    #[test]
    fn messages_are_looked_into_whatever_their_types() {
        let send = |user: &str, text: &str| {
            let request = chat::SendMessageRequest {
                user: user.into(),
                text: text.into(),
                ..chat::SendMessageRequest::default()
            };
            call(CallDoor::Grpc, "key k", "keevo.chat.v1.Chat/SendMessage", request.encode_to_vec())
        };
        // As long as a digit's code, so that the length before it looks like a part of the id.
        let long = "u".repeat(usize::from(b'7'));
        for user in ["alice", long.as_str()] {
            let is_of = is_of(3, user.to_owned());
            assert!(is_of(&send(user, "hello")) && is_of(&send("bob", &format!("hello {user}, you"))), "{user}");
            assert!(!is_of(&send("bob", "hello")) && !is_of(&send(&format!("{user}2"), "hello")), "{user}");
        }
        for damaged in [&b"\xff"[..], b"\x0a\x7falice", b"\x0b", b"\x09\x01"] {
            assert!(!message_names(damaged, "alice", DEPTH_MAX));
        }
    }
}
