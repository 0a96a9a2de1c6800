//! What activities and reactions say, read from the engine's changes: for whoever watches the keyspace of all feeds,
//! such as moderation.
//!
//! A text is every string among the custom fields of an activity, or in the data of a reaction, in the order of their
//! names, a line each. References, times and the like are no words of people and stay out: actor, verb, object, target.
//!
//! Invariant: a change is a pure function of one commit, so every watcher is told the same.

use keevo_core::{Change, CommitEvent, Error, Record, Result, Revision};
use serde_json::{Map, Value};

use crate::ids::{ActivityId, AppId};
use crate::json::decode_object;
use crate::keys::ACTIVITY;
use crate::reactions::ReactionRow;
use crate::rows::{ActivityRow, decode};

/// How deep in the fields strings are looked for.
const DEPTH_MAX: usize = 8;

/// What says a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// An activity, by its id.
    Activity(ActivityId),
    /// A reaction, by its id.
    Reaction(String),
}

/// A text as a commit left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextChange {
    /// The app.
    pub app: AppId,
    /// What says it.
    pub said: Said,
    /// The actor of the activity, or the user of the reaction.
    pub author: String,
    /// The group of the first feed that holds the activity, or the kind of the reaction; empty where no feed has it.
    pub place: String,
    /// When it was written, in milliseconds since the epoch; an activity is as old as its time says.
    pub at_ms: u64,
    /// What it says; not empty.
    pub text: String,
}

impl TextChange {
    /// The text that a commit in the keyspace of feeds leaves, or `None`: most commits are bookkeeping, and many
    /// activities say nothing.
    ///
    /// # Errors
    /// `Corrupt` where the row is an activity's or a reaction's and does not decode.
    pub fn of(event: &CommitEvent) -> Result<Option<Self>> {
        let (Change::Put { value, .. }, Some((&tag, rest))) = (&event.change, event.key.partition.split_first()) else {
            return Ok(None);
        };
        if event.key.sort != ACTIVITY || !matches!(tag, b'a' | b'x') {
            return Ok(None);
        }
        let bad = || Error::corrupt("the partition of a text is malformed");
        let mut name = rest;
        let app = prost::encoding::decode_varint(&mut name).map_err(|error| bad().with_source(error))?;
        let app = AppId(u32::try_from(app).map_err(|error| bad().with_source(error))?);
        let record = Record { revision: Revision(0), expires_at_ms: None, value: value.clone() };
        let change = if tag == b'a' {
            let row: ActivityRow = decode(&record)?;
            if row.is_removed() {
                return Ok(None);
            }
            let feed = row.entries.first().map_or("", |entry| entry.feed.as_str());
            Self {
                app,
                said: Said::Activity(ActivityId::from_bytes(name)?),
                author: row.actor.clone(),
                place: feed.split_once(':').map_or_else(String::new, |(group, _)| group.to_owned()),
                at_ms: u64::try_from(row.time_us / 1_000).unwrap_or_default(),
                text: strings(&Value::Object(decode_object(&row.custom)?)),
            }
        } else {
            let row: ReactionRow = decode(&record)?;
            if !row.is_live() {
                return Ok(None);
            }
            let id = std::str::from_utf8(name).map_err(|error| bad().with_source(error))?;
            Self {
                app,
                said: Said::Reaction(id.to_owned()),
                author: row.user.clone(),
                place: row.kind.clone(),
                at_ms: row.updated_us / 1_000,
                text: strings(&Value::Object(decode_object(&row.data)?)),
            }
        };
        Ok(Some(change).filter(|change| !change.text.is_empty()))
    }
}

/// All strings in a value, a line each, in the order of the names.
pub(crate) fn strings(value: &Value) -> String {
    let mut lines = Vec::new();
    gather(value, 0, &mut lines);
    lines.join("\n")
}

fn gather<'a>(value: &'a Value, depth: usize, lines: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if !text.is_empty() => lines.push(text),
        Value::Array(all) if depth < DEPTH_MAX => all.iter().for_each(|one| gather(one, depth + 1, lines)),
        Value::Object(all) if depth < DEPTH_MAX => all.values().for_each(|one| gather(one, depth + 1, lines)),
        _ => {}
    }
}

/// The same fields with the strings of `text` in their places: a text that has as many characters as [`strings`] gives,
/// with line ends where those are. `None` for any other.
pub(crate) fn with_strings(fields: &Map<String, Value>, text: &str) -> Option<Map<String, Value>> {
    let mut fields = Value::Object(fields.clone());
    let mut rest = text.chars();
    let mut first = true;
    scatter(&mut fields, 0, &mut |old: &str| {
        if !std::mem::take(&mut first) && rest.next() != Some('\n') {
            return None;
        }
        let count = old.chars().count();
        let new: String = rest.by_ref().take(count).collect();
        (new.chars().count() == count).then_some(new)
    })?;
    match fields {
        Value::Object(fields) if rest.next().is_none() => Some(fields),
        _ => None,
    }
}

/// Puts what `new` says in the place of each string that [`gather`] finds, in its order.
fn scatter(value: &mut Value, depth: usize, new: &mut impl FnMut(&str) -> Option<String>) -> Option<()> {
    match value {
        Value::String(text) if !text.is_empty() => *text = new(text.as_str())?,
        Value::Array(all) if depth < DEPTH_MAX => {
            for one in all {
                scatter(one, depth + 1, new)?;
            }
        }
        Value::Object(all) if depth < DEPTH_MAX => {
            for one in all.values_mut() {
                scatter(one, depth + 1, new)?;
            }
        }
        _ => {}
    }
    Some(())
}

impl crate::Activity {
    /// Its custom fields saying `text` instead, such as a masked one: as many characters, and line ends where they are.
    /// `None` for a text of another shape.
    pub fn saying(&self, text: &str) -> Option<Map<String, Value>> {
        with_strings(&self.custom, text)
    }

    /// What it says, as [`TextChange`] tells it; empty where it says nothing.
    pub fn text(&self) -> String {
        strings(&Value::Object(self.custom.clone()))
    }
}

impl crate::Reaction {
    /// Its data saying `text` instead, as [`Activity::saying`](crate::Activity::saying).
    pub fn saying(&self, text: &str) -> Option<Map<String, Value>> {
        with_strings(&self.data, text)
    }

    /// What it says, as [`TextChange`] tells it; empty where it says nothing.
    pub fn text(&self) -> String {
        strings(&Value::Object(self.data.clone()))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use keevo_core::{Engine, KeyspaceKind, MemoryEngine, WatchFrom, WatchRange};
    use serde_json::json;

    use super::*;
    use crate::{FeedId, Feeds, FeedsOptions, KEYSPACE, NewActivity, NewReaction, ReactTo};

    #[tokio::test]
    async fn activities_and_reactions_are_told_with_their_words() {
        let engine = MemoryEngine::new();
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await.expect("made");
        let watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await.expect("watched");
        let feeds = Feeds::open(engine, AppId(300), FeedsOptions::default()).await.expect("opened");
        let feed: FeedId = "user:alice".parse().expect("a feed");
        let custom = json!({"text": "hello", "n": 5, "more": {"title": "there", "tags": ["a", ""]}});
        let mut new = NewActivity::new("alice", "post", "note:1");
        new.custom = custom.as_object().cloned().expect("an object");
        let posted = feeds.add_activity(&feed, new).await.expect("added");
        feeds.add_activity(&feed, NewActivity::new("alice", "like", "note:2")).await.expect("added");
        let mut reaction = NewReaction::new("comment", ReactTo::Activity(posted.id.to_string()), "bob");
        reaction.data = json!({"text": "nice"}).as_object().cloned().expect("an object");
        let reaction = feeds.add_reaction(reaction).await.expect("added");
        feeds.delete_reaction(&reaction.id, false).await.expect("deleted");
        let told = watch.filter_map(async |event| TextChange::of(&event.expect("an event")).expect("it decodes"));
        let mut told: Vec<TextChange> =
            Box::pin(told).take_until(tokio::time::sleep(std::time::Duration::from_millis(200))).collect().await;
        told.dedup();
        let activity = TextChange {
            app: AppId(300),
            said: Said::Activity(posted.id),
            author: "alice".into(),
            place: "user".into(),
            at_ms: told[0].at_ms,
            text: posted.text(),
        };
        assert_eq!(activity.text, "a\nthere\nhello");
        let reacted = TextChange {
            said: Said::Reaction(reaction.id.clone()),
            author: "bob".into(),
            place: "comment".into(),
            at_ms: told[1].at_ms,
            text: "nice".into(),
            ..activity.clone()
        };
        assert_eq!(told, [activity, reacted]);
        assert_eq!(reaction.text(), "nice");
        let masked = posted.saying("a\n*****\nhello").expect("the same shape");
        assert_eq!(masked["more"], json!({"title": "*****", "tags": ["a", ""]}));
        assert_eq!((&masked["text"], &masked["n"]), (&json!("hello"), &json!(5)));
        for other in ["", "a\n*****\nhell", "a\n*****\nhello!", "a *****\nhello"] {
            assert_eq!(posted.saying(other), None, "{other}");
        }
    }

    #[test]
    fn words_are_looked_for_so_deep_and_no_deeper() {
        let within = |levels| (0..levels).fold(json!("deep"), |inner, _| json!([inner]));
        assert_eq!((strings(&within(8)).as_str(), strings(&within(9)).as_str()), ("deep", ""));
    }
}
