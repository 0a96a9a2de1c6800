//! The feeds inspector: apps, the feeds of one, the activities of a feed.

use axum::extract::State;
use bytes::{BufMut, Bytes, BytesMut};
use keevo_core::{Engine, Error, ErrorKind, Result};
use keevo_feeds::{Activity, AppId, FeedId, PageRequest};
use keevo_gateway::apps::App;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bytes::hex;
use super::guard::Caller;
use super::reply::{Answer, Asked, Reply};
use super::{Console, PAGE_MAX, keys, page_size};
use crate::auth::grant::{Action, Target};

/// What the partition of every feed begins with, before the app.
const FEED_TAG: u8 = b'f';
/// The app of feeds and chat that is there before it is made.
const FIRST_APP: u32 = 1;

/// The apps whose feeds or chat the caller may read.
pub(super) async fn apps(State(console): State<Console>, caller: Caller) -> Answer {
    let mut rows = Vec::new();
    let found = console.parts().gateway.apps().list().await?;
    for app in &found {
        rows.extend(row(&caller, app.id, Some(app))?);
    }
    if found.iter().all(|app| app.id != FIRST_APP) {
        rows.extend(row(&caller, FIRST_APP, None)?);
    }
    Ok(Reply(json!({ "apps": rows })))
}

/// An app; `None` where the caller may read nothing of it. One without an entry is what gRPC reaches without any.
fn row(caller: &Caller, id: u32, app: Option<&App>) -> Result<Option<Value>> {
    let feeds = caller.could(Action::Read, Target::Feeds(id))?;
    let chat = caller.could(Action::Read, Target::Chat(id))?;
    let row = json!({
        "id": id,
        "name": app.map_or("", |app| app.name.as_str()),
        "created_ms": app.map(|app| app.created_ms),
        "suspended": app.is_some_and(|app| app.suspended),
        "groups": app.map(|app| app.groups.keys().collect::<Vec<_>>()),
        "feeds": feeds,
        "chat": chat,
    });
    Ok((feeds || chat).then_some(row))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedsOf {
    app: u32,
    /// What the feeds' names, `group:id`, begin with.
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<usize>,
}

/// What the partitions of an app's feeds begin with.
fn feeds_of(app: u32, prefix: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(prefix.len() + 6);
    out.put_u8(FEED_TAG);
    let mut rest = app;
    // The app as a varint: seven bits a byte, the lowest first.
    while rest >= 0x80 {
        out.put_u8(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest.to_le_bytes()[0]);
    out.put_slice(prefix.as_bytes());
    out.freeze()
}

/// A page of an app's feeds, in the order of their hashes, as this node has them.
pub(super) async fn list(State(console): State<Console>, caller: Caller, Asked(asked): Asked<FeedsOf>) -> Answer {
    let limit = page_size(asked.limit)?;
    caller.may(Action::Read, Target::Feeds(asked.app))?;
    let keyspace = match console.parts().engine.find_keyspace(keevo_feeds::KEYSPACE).await {
        Ok(keyspace) => keyspace,
        Err(error) if error.kind() == ErrorKind::UnknownKeyspace => {
            return Ok(Reply(json!({ "feeds": [], "next": null, "done_permille": 1_000 })));
        }
        Err(error) => return Err(error.into()),
    };
    let start = feeds_of(asked.app, "").len();
    let page =
        keys::list(&console, keyspace, feeds_of(asked.app, &asked.prefix), asked.after.as_deref(), limit).await?;
    let name =
        |partition: &Bytes| partition.get(start..).and_then(|name| std::str::from_utf8(name).ok()).map(str::to_owned);
    Ok(Reply(json!({
        "feeds": page.partitions.iter().filter_map(name).collect::<Vec<_>>(),
        "next": page.next.as_deref().map(hex),
        "done_permille": page.done_permille,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActivitiesOf {
    app: u32,
    feed: String,
    /// The id of the last activity of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

/// A page of a feed's activities, newest first, and who follows whom in numbers.
pub(super) async fn activities(
    State(console): State<Console>,
    caller: Caller,
    Asked(asked): Asked<ActivitiesOf>,
) -> Answer {
    let limit = page_size(asked.limit)?;
    caller.may(Action::Read, Target::Feeds(asked.app))?;
    let feed: FeedId = asked.feed.parse()?;
    let feeds = console.parts().gateway.feeds(AppId(asked.app)).await?;
    let request = match asked.after {
        None => PageRequest::first(limit),
        Some(last) => PageRequest::after(last.parse()?, limit),
    };
    let page = feeds.page(&feed, request).await?;
    let stats = feeds.follow_stats(&feed, &[], &[]).await?;
    Ok(Reply(json!({
        "feed": feed.as_str(),
        "activities": page.activities.iter().map(activity).collect::<Vec<_>>(),
        "next": page.next.map(|id| id.to_string()),
        "followers": stats.followers,
        "following": stats.following,
    })))
}

fn activity(one: &Activity) -> Value {
    let to: Vec<&str> = one.to.iter().map(FeedId::as_str).take(PAGE_MAX).collect();
    json!({
        "id": one.id.to_string(),
        "actor": one.actor,
        "verb": one.verb,
        "object": one.object,
        "target": one.target,
        "foreign_id": one.foreign_id,
        "time": format!("{}Z", one.time),
        "origin": one.origin.as_ref().map(FeedId::as_str),
        "to": to,
        "custom": one.custom,
    })
}

/// The app of that id as the layers take it; `NotFound` where there is none.
pub(super) async fn known(console: &Console, app: u32) -> Result<()> {
    if app == FIRST_APP || console.parts().gateway.apps().list().await?.iter().any(|one| one.id == app) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotFound, format!("there is no app {app}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_of_feeds_begin_with_tag_and_app() {
        assert_eq!(feeds_of(1, "user:").as_ref(), b"f\x01user:");
        assert_eq!(feeds_of(300, "").as_ref(), b"f\xac\x02");
        assert_eq!(feeds_of(u32::MAX, "").as_ref(), b"f\xff\xff\xff\xff\x0f");
    }
}
