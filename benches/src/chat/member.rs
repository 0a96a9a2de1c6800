//! What members ask beside the socket: pages of history, and unread counts of a large channel.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use keevo_core::{Error, Random, Result, SeededRandom};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::api::{Api, Kind};
use crate::figures::{Figures, Total};
use crate::load::{Measured, Tally, gather};
use crate::window::Window;

/// The messages of a page.
const PAGE: u64 = 25;
/// Sends under way while a history is written.
const WRITERS: usize = 16;

/// How something is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) clients: u32,
    pub(crate) text_bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
}

/// What an unread count costs, in a channel with many members.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Unread {
    /// A message, by which the counts of all members change.
    pub(crate) send: Figures,
    /// One member's count.
    pub(crate) count: Figures,
    /// One member's mark, by which its count falls.
    pub(crate) mark: Figures,
}

/// Pages of a channel with so many messages, by clients that each ask for the next when they have one.
pub(crate) async fn history(api: &Api, messages: u64, asked: Asked, pids: &[u32]) -> Result<Figures> {
    let id = "history";
    api.channel(Kind::Team, id, 1).await?;
    let text = "x".repeat(asked.text_bytes);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (api, text) = (api.clone(), text.clone());
        writers.spawn(async move {
            for number in (0..messages).skip(writer).step_by(WRITERS) {
                let body = json!({ "id": format!("h{number}"), "text": text });
                api.send(None, Kind::Team, id, &body).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.map_err(|error| Error::invalid(format!("a writer failed: {error}")))??;
    }
    let window = Arc::new(Window::after(asked.warm_up, asked.measure));
    let mut clients = JoinSet::new();
    for client in 0..asked.clients {
        let (api, window) = (api.clone(), Arc::clone(&window));
        let random = SeededRandom::new(u64::from(client));
        clients.spawn(async move {
            let mut tally = Tally::new()?;
            while !window.has_ended_at(window.now()) {
                let before = 1 + PAGE.min(messages) + random.next_u64() % (messages.saturating_sub(PAGE) + 1);
                let began = window.now();
                let path = format!("channels/team/{id}/messages?user_id=u0&limit={PAGE}&before={before}");
                let page = api.ask(None, &Method::GET, &path, &Value::Null).await;
                let page = page.and_then(|page| is_full(&page, PAGE.min(messages)));
                tally.note(&window, began, window.now(), page);
            }
            Ok::<_, Error>(tally)
        });
    }
    let measured = gather(clients, None, &window, pids).await?;
    Ok(Total::from(measured).figures())
}

/// Refuses a page that has not all of its messages.
fn is_full(page: &Value, count: u64) -> Result<()> {
    let there = page.get("messages").and_then(Value::as_array).map_or(0, Vec::len);
    if u64::try_from(there) == Ok(count) {
        return Ok(());
    }
    Err(Error::corrupt(format!("a page has {there} messages instead of {count}")))
}

/// What unread counts of a channel with `members` cost: clients that each send, then ask for the count of a member that has
/// read everything before, which must be one or more, and mark it as read.
pub(crate) async fn unread(api: &Api, members: usize, asked: Asked, pids: &[u32]) -> Result<Unread> {
    let id = "unread";
    api.channel(Kind::Team, id, members).await?;
    let window = Arc::new(Window::after(asked.warm_up, asked.measure));
    let mut clients = JoinSet::new();
    for client in 0..asked.clients {
        let (api, window, text) = (api.clone(), Arc::clone(&window), "x".repeat(asked.text_bytes));
        let random = SeededRandom::new(u64::from(client));
        clients.spawn(async move {
            let mut tallies = [Tally::new()?, Tally::new()?, Tally::new()?];
            let mut number = 0_u64;
            while !window.has_ended_at(window.now()) {
                number += 1;
                let count = u64::try_from(members).unwrap_or(u64::MAX);
                let member = format!("u{}", random.next_u64() % count.max(1));
                let body = json!({ "id": format!("c{client}-{number}"), "text": text });
                let [send, ask, mark] = &mut tallies;
                let began = window.now();
                let sent = api.send(None, Kind::Team, id, &body).await;
                send.note(&window, began, window.now(), sent.map(drop));
                let began = window.now();
                let path = format!("channels/team/{id}/unread?user_id={member}");
                let counted = api.ask(None, &Method::GET, &path, &Value::Null).await.and_then(|answer| {
                    let unread = answer.pointer("/unread/unread").and_then(Value::as_u64);
                    // Another client may have had the same member mark it meanwhile.
                    unread.map(drop).ok_or_else(|| Error::corrupt(format!("{answer} holds no count")))
                });
                ask.note(&window, began, window.now(), counted);
                let began = window.now();
                let path = format!("channels/team/{id}/read?user_id={member}");
                let marked = api.ask(None, &Method::POST, &path, &json!({})).await;
                mark.note(&window, began, window.now(), marked.map(drop));
            }
            Ok::<_, Error>(tallies)
        });
    }
    let mut sums = [Tally::new()?, Tally::new()?, Tally::new()?];
    let all = async {
        while let Some(client) = clients.join_next().await {
            let own = client.map_err(|error| Error::invalid(format!("a client failed: {error}")))??;
            for (sum, own) in sums.iter_mut().zip(&own) {
                sum.add(own)?;
            }
        }
        Ok::<_, Error>(())
    };
    let (usage, done) = tokio::join!(crate::usage::over(pids, &window), all);
    done?;
    let usage = usage?;
    let figures = |tally| Total::from(Measured { tally, elapsed: window.measured(), usage }).figures();
    let [send, count, mark] = sums.map(figures);
    Ok(Unread { send, count, mark })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_lacks_messages_is_a_failure() {
        assert!(is_full(&json!({ "messages": [1, 2] }), 2).is_ok());
        assert!(is_full(&json!({ "messages": [1] }), 2).is_err());
        assert!(is_full(&json!({}), 1).is_err());
    }
}
