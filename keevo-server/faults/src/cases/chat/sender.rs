//! Who sends, and who marks as read.
//!
//! A sender sends one message after the other, each under an id of its own, and repeats what it has no answer for. Now and
//! then it repeats what was answered, too, and changes or deletes what it has sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use keevo_core::{Random, Result, SeededRandom};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::watcher::Views;

/// The pause between two messages of a sender, and how much may be added to it, in milliseconds. A user has 600 calls a
/// minute.
const PAUSE_MS: u64 = 200;
const PAUSE_MORE_MS: u64 = 1_000;
/// One message in so many is sent once more after its answer, changed, deleted.
const REPEAT_ONE_IN: u64 = 8;
const EDIT_ONE_IN: u64 = 12;
const DELETE_ONE_IN: u64 = 25;

/// A message that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) id: String,
    /// The channel, by its number.
    pub(super) channel: usize,
    pub(super) sequence: u64,
}

/// Somebody who sends.
pub(super) struct Sender {
    pub(super) api: Api,
    pub(super) user: String,
    /// The channels' paths.
    pub(super) channels: Arc<Vec<String>>,
    pub(super) random: SeededRandom,
    pub(super) stop: CancellationToken,
}

impl Sender {
    /// Sends until it is told to stop; what was answered, in the order in which it was sent.
    pub(super) async fn run(self) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut number = 0_u64;
        while !self.stop.is_cancelled() {
            number += 1;
            match self.send(number).await {
                Ok(one) => sent.push(one),
                Err(error) => self.api.complain(error.to_string()),
            }
            let pause = Duration::from_millis(PAUSE_MS + self.below(PAUSE_MORE_MS));
            // Whoever is told to stop meanwhile looks for himself.
            drop(tokio::time::timeout(pause, self.stop.cancelled()).await);
        }
        sent
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.next_u64() % bound.max(1)
    }

    async fn send(&self, number: u64) -> Result<Sent> {
        let count = u64::try_from(self.channels.len()).unwrap_or(u64::MAX);
        let channel = usize::try_from(self.below(count)).unwrap_or(0);
        let path = self.channels.get(channel).map_or("", String::as_str);
        let id = format!("{}-{number}", self.user);
        let body = json!({ "id": id, "text": format!("{} says {number}", self.user) });
        let messages = format!("{path}/messages");
        let answer = self.api.call(&Method::POST, &messages, &self.user, &body).await?;
        let sequence = sequence_of(&answer);
        if self.below(REPEAT_ONE_IN) == 0 {
            let again = self.api.call(&Method::POST, &messages, &self.user, &body).await?;
            if sequence_of(&again) != sequence {
                self.api.complain(format!("message {id} was sent again and has two places: {answer} and {again}"));
            }
        }
        let message = format!("{messages}/{id}");
        if self.below(EDIT_ONE_IN) == 0 {
            let body = json!({ "text": format!("{} meant {number}", self.user) });
            self.api.call(&Method::PATCH, &message, &self.user, &body).await?;
        }
        if self.below(DELETE_ONE_IN) == 0 {
            self.api.call(&Method::DELETE, &message, &self.user, &Value::Null).await?;
        }
        Ok(Sent { id, channel, sequence })
    }
}

fn sequence_of(answer: &Value) -> u64 {
    answer.pointer("/message/sequence").and_then(Value::as_u64).unwrap_or(0)
}

/// Somebody who marks as read what its sockets have heard.
pub(super) struct Reader {
    pub(super) api: Api,
    pub(super) user: String,
    pub(super) channels: Arc<Vec<String>>,
    pub(super) views: Arc<Views>,
    pub(super) random: SeededRandom,
    pub(super) stop: CancellationToken,
}

impl Reader {
    /// Marks until it is told to stop; the last answered sequence of each channel, by its number.
    pub(super) async fn run(self) -> BTreeMap<usize, u64> {
        let below = |bound: u64| self.random.next_u64() % bound.max(1);
        let mut marked: BTreeMap<usize, u64> = BTreeMap::new();
        while !self.stop.is_cancelled() {
            let channel = usize::try_from(below(u64::try_from(self.channels.len()).unwrap_or(u64::MAX))).unwrap_or(0);
            let path = self.channels.get(channel).map_or("", String::as_str);
            let (known, before) = (self.views.last(channel), marked.get(&channel).copied().unwrap_or(0));
            let to = before + below(known.saturating_sub(before) + 1);
            if to > before {
                let body = json!({ "sequence": to });
                match self.api.call(&Method::POST, &format!("{path}/read"), &self.user, &body).await {
                    Ok(_) => drop(marked.insert(channel, to)),
                    Err(error) => self.api.complain(error.to_string()),
                }
            }
            let pause = Duration::from_millis(PAUSE_MS + below(PAUSE_MORE_MS) * 2);
            drop(tokio::time::timeout(pause, self.stop.cancelled()).await);
        }
        marked
    }
}
