//! Bodies that are posted to addresses which apps named: signed, bounded in time, and never to private addresses.

use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use keevo_core::Result;

use crate::apps::Secret;
use crate::files::hex;
use crate::gateway::Gateway;

/// A body on its way.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Where to: an `http` or `https` address.
    pub url: &'a str,
    /// Signs it: `X-Signature` is the hexadecimal HMAC-SHA-256 of the body.
    pub secret: &'a Secret,
    /// The app's key, so that the other side knows whose secret to take.
    pub api_key: &'a str,
    /// The same for each try of one body.
    pub id: &'a str,
    /// Which try it is, from 1.
    pub attempt: u32,
    /// How long all of it may take.
    pub within: Duration,
    /// JSON.
    pub body: Bytes,
}

impl Gateway {
    /// Posts a body once, and gives the answer where it was taken (any 2xx), up to 256 KiB of it. Redirects are not followed.
    ///
    /// # Errors
    /// `Invalid` where the address cannot be asked, is private, or does not answer in time; `Unavailable` where it refuses.
    pub async fn post(&self, outgoing: Outgoing<'_>) -> Result<Bytes> {
        let Outgoing { url, secret, api_key, id, attempt, within, body } = outgoing;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let headers = [
            ("x-signature", hex(hmac::sign(&key, &body).as_ref())),
            ("x-api-key", api_key.to_owned()),
            ("x-webhook-id", id.to_owned()),
            ("x-webhook-attempt", attempt.to_string()),
        ];
        self.inner.fetcher.post(url, body, &headers, within).await
    }
}
