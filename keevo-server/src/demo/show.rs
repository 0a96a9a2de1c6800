//! What the demo shows: endpoints, a timeline, a channel, a live message, the cluster's state, rates.
//!
//! Invariant: everything shown was just read from the cluster.

mod readers;

use std::fmt::Write;
use std::time::Duration;

use keevo_chat::{ChannelId, ChatEvent, HistoryRequest, NewChannel, NewMember, NewMessage, ResumeFrom};
use keevo_core::{Error, ErrorKind, Result};
use keevo_demo::{Loaded, Loader, Plan, feed_name};
use keevo_feeds::{FeedId, PageRequest};
use keevo_proto::admin::v1 as pb;

use super::admin;
use super::nodes::Cluster;
use super::process::Process;
use super::report::{Screen, rate};
pub(super) use readers::{aggregated, notifications, ranked};

const PAGE: usize = 5;
const LIVE_WITHIN: Duration = Duration::from_secs(10);

/// Who writes to the channel with the live message.
pub(super) const LIVE_USER: &str = "demo";

/// The channel with the live message.
pub(super) fn live_channel() -> Result<ChannelId> {
    ChannelId::new("demo", "live")
}

/// Where the nodes serve.
pub(super) fn endpoints(screen: Screen, cluster: &Cluster) -> Result<()> {
    for node in &cluster.nodes {
        let (grpc, http, log) = (node.grpc, node.http, node.process.log().display());
        screen.say(&format!("node {}  gRPC {grpc}  console http://{http}/console/  log {log}", node.id))?;
    }
    Ok(())
}

/// How fast the loading was.
pub(super) fn rates(screen: Screen, loaded: &Loaded) -> Result<()> {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    for (what, count, time) in [
        ("follows", count(loaded.follows), loaded.follow_time),
        ("timeline entries by this client", loaded.timeline_entries, loaded.activity_time),
        ("messages", count(loaded.messages), loaded.chat_time),
    ] {
        let second = rate(count, time);
        screen.say(&format!("{count} {what} in {:.1} s: {second} a second", time.as_secs_f64()))?;
    }
    Ok(())
}

/// A page of the longest timeline.
pub(super) async fn timeline(screen: Screen, loader: &Loader, plan: &Plan<'_>) -> Result<()> {
    let Some(package) = plan.longest_timeline() else { return Ok(()) };
    let feed = FeedId::new("timeline", &feed_name(&package.name))?;
    screen.title(&format!("{feed}: what {} depends on, newest first", package.name))?;
    for activity in loader.feeds.page(&feed, PageRequest::first(PAGE)).await?.activities {
        let line = activity.custom.get("line").and_then(serde_json::Value::as_str).unwrap_or_default();
        let (time, actor, object) = (activity.time, activity.actor, activity.object);
        screen.say(&format!("{time}  {actor} released {object}: {}", start_of(line, 70)))?;
    }
    Ok(())
}

/// The newest messages of the channel with the most.
pub(super) async fn history(screen: Screen, loader: &Loader, plan: &Plan<'_>) -> Result<()> {
    let channels = plan.channels()?;
    let Some(channel) = channels.iter().max_by_key(|channel| channel.own.len()) else { return Ok(()) };
    screen.title(&format!("{}: the newest messages", channel.id))?;
    for message in loader.chat.history(&channel.id, HistoryRequest::newest(PAGE)).await?.messages {
        let replies = message.stats.as_ref().map_or(0, |stats| stats.reply_count);
        let text = start_of(&message.text, 70);
        screen.say(&format!("#{}  {}: {text}  [{replies} replies]", message.place, message.user_id))?;
    }
    Ok(())
}

/// Subscribes to a channel of its own, sends to it, and shows what arrives.
pub(super) async fn live_message(screen: Screen, loader: &Loader) -> Result<()> {
    let channel = live_channel()?;
    screen.title(&format!("{channel}: a live message"))?;
    let members = vec![NewMember::new(LIVE_USER)];
    let new = NewChannel { created_by: LIVE_USER.to_owned(), members, ..NewChannel::default() };
    loader.chat.create_channel(&channel, new).await?;
    let mut live = loader.chat.subscribe(&channel, ResumeFrom::Now).await?;
    let began = tokio::time::Instant::now();
    let sent = loader.chat.send(&channel, NewMessage::new(LIVE_USER, "Is anybody listening?")).await?;
    let arriving = async {
        while let Some(delivery) = live.next().await {
            if let ChatEvent::MessageNew(message) = delivery?.event
                && message.id == sent.id
            {
                return Ok(Some(message));
            }
        }
        Ok::<_, Error>(None)
    };
    let arrived = tokio::time::timeout(LIVE_WITHIN, arriving).await.map_err(|elapsed| {
        Error::new(ErrorKind::DeadlineExceeded, "the live message did not arrive").with_source(elapsed)
    })??;
    let message = arrived.ok_or_else(|| Error::new(ErrorKind::Closed, "the subscription ended before the message"))?;
    let took = began.elapsed().as_micros();
    screen.say(&format!("{}: {}  (arrived {took} µs after it was sent)", message.user_id, message.text))
}

/// A table of the shards and their replicas.
pub(super) async fn cluster_status(screen: Screen, cluster: &Cluster) -> Result<()> {
    let status = admin::status(cluster).await?;
    let reachable = status.nodes.iter().filter(|node| node.reachable).count();
    screen.say(&format!("{reachable} of {} nodes answer", status.nodes.len()))?;
    screen.say("shard  leader  applied index by node")?;
    for shard in &status.shards {
        let leader = shard.replicas.iter().find(|replica| replica.role() == pb::Role::Leader);
        let leader = leader.map_or_else(|| "-".to_owned(), |replica| format!("node {}", replica.node_id));
        let mut applied = String::new();
        for replica in &shard.replicas {
            write!(applied, "{}: {}{}  ", replica.node_id, replica.applied_index, replica.fault)
                .map_err(|error| Error::invalid("a line cannot be formatted").with_source(error))?;
        }
        screen.say(&format!("{:>5}  {leader:<6}  {}", shard.id, applied.trim_end()))?;
    }
    Ok(())
}

/// What to try while the cluster serves.
pub(super) fn hints(screen: Screen, cluster: &Cluster) -> Result<()> {
    let Some(node) = cluster.nodes.first() else { return Ok(()) };
    let server = node.grpc;
    screen.title("serving until Ctrl-C; try")?;
    for command in ["cluster status", "shard list", "feed get timeline:bash", "chat history demo:live"] {
        screen.say(&format!("keevo-cli --endpoints {server} {command}"))?;
    }
    if cluster.sidecar.as_ref().is_some_and(Process::is_started) {
        screen.say(&format!("keevo-cli --endpoints {server} moderation queue 1"))?;
    }
    screen.say(&format!("curl http://{}/metrics", node.http))?;
    screen.say(&format!("the console: http://{}/console/", node.http))
}

/// The first line with words, cut to so many characters.
pub(super) fn start_of(text: &str, chars: usize) -> String {
    let line = text.lines().map(str::trim).find(|line| line.chars().any(char::is_alphanumeric)).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_text_is_its_first_line_with_words() {
        assert_eq!(start_of("\n---\n  Hello\tthere \nmore", 80), "Hellothere");
        assert_eq!(start_of("abcdef", 3), "abc");
        assert_eq!(start_of("", 3), "");
    }
}
