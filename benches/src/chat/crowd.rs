//! Many sockets on one node: how long they take to come, and what each of them costs in memory.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use keevo_core::{Clock, Error, ErrorKind, Result, SystemClock};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::api::{Api, Kind, user};
use super::socket::{Said, Socket};
use crate::figures::rounded;
use crate::usage;

/// Sockets that connect together.
pub(super) const AT_ONCE: usize = 64;
/// How long the node may settle before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(3);
/// How long a message may take to come to all.
const ARRIVE_WITHIN: Duration = Duration::from_mins(1);

/// What many sockets cost.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Crowd {
    pub(crate) sockets: usize,
    pub(crate) channels: usize,
    /// Until all had subscribed.
    pub(crate) connect_s: f64,
    /// Resident set of the node's process, without sockets and with all of them.
    pub(crate) rss_bytes_before: u64,
    pub(crate) rss_bytes_after: u64,
    pub(crate) rss_bytes_per_socket: u64,
    /// From a message to each channel, all at once, until every socket had its own.
    pub(crate) all_told_ms: f64,
    /// Sockets that had none.
    pub(crate) lost: u64,
}

/// The channel of a socket.
pub(super) fn channel_of(number: usize, per_channel: usize) -> String {
    format!("crowd{}", number / per_channel.max(1))
}

/// Connects so many sockets to a node, `per_channel` of them to each channel.
pub(crate) async fn crowd(api: &Api, sockets: usize, per_channel: usize, pids: &[u32]) -> Result<Crowd> {
    let channels = sockets.div_ceil(per_channel.max(1));
    for number in 0..channels {
        api.channel(Kind::Livestream, &channel_of(number * per_channel, per_channel), 0).await?;
    }
    let node = *api.nodes().first().ok_or_else(|| Error::invalid("there is no node"))?;
    tokio::time::sleep(SETTLE).await;
    let (clock, rss_bytes_before) = (SystemClock::new(), usage::rss_bytes(pids)?);
    let connecting = (0..sockets).map(|number| async move {
        let (mut socket, _) = Socket::open(node, &user(number), None).await?;
        socket.subscribe(&format!("livestream:{}", channel_of(number, per_channel))).await?;
        Ok::<_, Error>(socket)
    });
    let connected: Vec<Socket> = futures::stream::iter(connecting).buffer_unordered(AT_ONCE).try_collect().await?;
    let connect_s = rounded(clock.monotonic().as_secs_f64(), 100.0);
    let told = Arc::new(tokio::sync::Semaphore::new(0));
    let mut listening = JoinSet::new();
    for socket in connected {
        listening.spawn(listen(socket, Arc::clone(&told)));
    }
    tokio::time::sleep(SETTLE).await;
    let rss_bytes_after = usage::rss_bytes(pids)?;
    let began = clock.monotonic();
    let sending = (0..channels).map(|number| async move {
        let id = channel_of(number * per_channel, per_channel);
        api.send(None, Kind::Livestream, &id, &json!({ "id": "one", "text": "to all" })).await
    });
    futures::stream::iter(sending).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let count = u32::try_from(sockets).unwrap_or(u32::MAX);
    let all = tokio::time::timeout(ARRIVE_WITHIN, told.acquire_many(count)).await;
    let all_told_ms = rounded(clock.monotonic().saturating_sub(began).as_secs_f64() * 1_000.0, 10.0);
    let lost = if all.is_ok() { 0 } else { sockets.saturating_sub(told.available_permits()) };
    if let Some(ended) = listening.try_join_next() {
        return Err(ended.unwrap_or_else(|error| Error::new(ErrorKind::Closed, format!("a socket failed: {error}"))));
    }
    let per_socket = rss_bytes_after.saturating_sub(rss_bytes_before) / u64::from(count.max(1));
    Ok(Crowd {
        sockets,
        channels,
        connect_s,
        rss_bytes_before,
        rss_bytes_after,
        rss_bytes_per_socket: per_socket,
        all_told_ms,
        lost: u64::try_from(lost).unwrap_or(u64::MAX),
    })
}

/// Listens, and tells of the first message.
async fn listen(mut socket: Socket, told: Arc<tokio::sync::Semaphore>) -> Error {
    let mut first = true;
    loop {
        let frame = match socket.next().await {
            Ok(frame) => frame,
            Err(error) => return error,
        };
        let is_message = serde_json::from_str::<Said<'_>>(&frame).is_ok_and(|said| said.kind == "message.new");
        if is_message && std::mem::take(&mut first) {
            told.add_permits(1);
        }
    }
}
