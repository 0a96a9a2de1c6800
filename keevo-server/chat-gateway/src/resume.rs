//! Resume tokens as clients keep them: where a connection stands in all of its channels, signed for one app and user.
//!
//! ```text
//! base64url([format u8 = 1][app u32][expires_s u64][len u8][user][count u16]([len u16][token])… [HMAC-SHA-256])
//! ```
//!
//! A token is no proof of rights: those are looked at again when it is used. The signature keeps clients from making
//! the server read from places of their choice.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BufMut, Bytes};
use keevo_chat::ResumeToken;
use keevo_gateway::apps::App;

use crate::error::{Answered, Refusal};

const FORMAT: u8 = 1;
const TAG_BYTES: usize = 32;
/// How long a token can be used.
const TTL_S: u64 = 24 * 3_600;
/// The longest token, as text.
pub(crate) const TEXT_BYTES_MAX: usize = 96 << 10;

/// A token for `user`, who stands at these places.
pub(crate) fn seal(app: &App, user: &str, places: &[ResumeToken], now_ms: u64) -> String {
    let mut out = Vec::with_capacity(64 + places.len() * 96);
    out.put_u8(FORMAT);
    out.put_u32(app.id);
    out.put_u64(now_ms / 1_000 + TTL_S);
    let user = user.as_bytes();
    out.put_u8(u8::try_from(user.len()).unwrap_or(u8::MAX));
    out.put_slice(user);
    let encoded: Vec<Bytes> = places.iter().map(|place| place.clone().for_nobody().encode()).collect();
    out.put_u16(u16::try_from(encoded.len()).unwrap_or(u16::MAX));
    for place in encoded {
        out.put_u16(u16::try_from(place.len()).unwrap_or(u16::MAX));
        out.put_slice(&place);
    }
    let secret = app.keys.first().map(|key| key.secret.expose()).unwrap_or_default();
    let tag = hmac::sign(&key_of(secret), &signed(&out));
    out.put_slice(tag.as_ref());
    URL_SAFE_NO_PAD.encode(out)
}

/// The places that a token of `user` holds, each as of nobody. A refusal of code 4 for one that is malformed, expired, or
/// of another app or user.
pub(crate) fn open(app: &App, user: &str, text: &str, now_ms: u64) -> Answered<Vec<ResumeToken>> {
    let bad = || Refusal::field("resume", "is no token of this app and user: connect without it");
    if text.len() > TEXT_BYTES_MAX {
        return Err(bad());
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_no_base64| bad())?;
    let (body, tag) = bytes.split_at_checked(bytes.len().saturating_sub(TAG_BYTES)).ok_or_else(bad)?;
    let signed = signed(body);
    if !app.keys.iter().any(|key| hmac::verify(&key_of(key.secret.expose()), &signed, tag).is_ok()) {
        return Err(bad());
    }
    let token = parse(body).ok_or_else(bad)?;
    if token.app != app.id || token.user != user.as_bytes() {
        return Err(bad());
    }
    if token.expires_s < now_ms / 1_000 {
        return Err(Refusal::field("resume", "has expired: connect without it, and read the channels again"));
    }
    token.places.iter().map(|place| ResumeToken::decode(place).map_err(|_foreign| bad())).collect()
}

struct Parsed {
    app: u32,
    expires_s: u64,
    user: Vec<u8>,
    places: Vec<Vec<u8>>,
}

fn parse(mut body: &[u8]) -> Option<Parsed> {
    if body.try_get_u8().ok()? != FORMAT {
        return None;
    }
    let (app, expires_s) = (body.try_get_u32().ok()?, body.try_get_u64().ok()?);
    let len = usize::from(body.try_get_u8().ok()?);
    let user = take(&mut body, len)?;
    let count = body.try_get_u16().ok()?;
    let mut places = Vec::new();
    for _ in 0..count {
        let len = usize::from(body.try_get_u16().ok()?);
        places.push(take(&mut body, len)?);
    }
    body.is_empty().then_some(Parsed { app, expires_s, user, places })
}

fn take(body: &mut &[u8], len: usize) -> Option<Vec<u8>> {
    let (taken, rest) = body.split_at_checked(len)?;
    *body = rest;
    Some(taken.to_vec())
}

fn signed(body: &[u8]) -> Vec<u8> {
    [b"keevo chat resume\n".as_slice(), body].concat()
}

fn key_of(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use keevo_chat::{AppId, Chat, ChatOptions, NewChannel, ResumeFrom};
    use keevo_core::MemoryEngine;
    use keevo_gateway::apps::{AppKey, Secret};

    use super::*;

    fn app(id: u32, secret: &str) -> App {
        let key = AppKey { key: "k".to_owned(), secret: Secret::new(secret), created_ms: 0 };
        App { id, keys: vec![key], ..App::default() }
    }

    #[tokio::test]
    async fn a_token_is_for_one_app_and_user_and_a_day() {
        let chat = Chat::new(MemoryEngine::new(), AppId(1), ChatOptions::default());
        let channel = "team:a".parse().expect("a name");
        chat.create_channel(&channel, NewChannel { created_by: "ann".into(), ..NewChannel::default() })
            .await
            .expect("made");
        let place = chat.subscribe(&channel, ResumeFrom::Now).await.expect("subscribed").resume().clone();
        let one = app(1, "a secret");
        let text = seal(&one, "ann", &[place.clone(), place.clone()], 1_000);
        assert_eq!(open(&one, "ann", &text, 2_000).expect("good"), [place.clone(), place]);
        let code = |app: &App, user: &str, text: &str, now_ms| open(app, user, text, now_ms).expect_err("bad").code();
        assert_eq!(code(&one, "bob", &text, 2_000), 4);
        assert_eq!(code(&app(2, "a secret"), "ann", &text, 2_000), 4);
        assert_eq!(code(&app(1, "another secret"), "ann", &text, 2_000), 4);
        assert_eq!(code(&one, "ann", &text, 2 * TTL_S * 1_000), 4, "expired");
        for at in 0..text.len() {
            let mut cut = text.clone();
            cut.truncate(at);
            assert_eq!(code(&one, "ann", &cut, 2_000), 4);
            let other = if text.as_bytes().get(at) == Some(&b'A') { "B" } else { "A" };
            let mut changed = text.clone();
            changed.replace_range(at..=at, other);
            assert!(open(&one, "ann", &changed, 2_000).is_err() || at + 1 == text.len(), "{at}");
        }
    }
}
