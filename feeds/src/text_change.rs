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
use crate::keys::{ACTIVITY, ENTITY, ERASED};
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
        let Change::Put { value, .. } = &event.change else { return Ok(None) };
        if event.key.sort != ACTIVITY {
            return Ok(None);
        }
        let Some((tag, app, name)) = home(&event.key.partition)? else { return Ok(None) };
        let bad = || Error::corrupt("the partition of a text is malformed");
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

/// A text that a commit says is erased: whoever keeps something of it is to forget it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedText {
    /// The app.
    pub app: AppId,
    /// What said it.
    pub said: Said,
}

impl ErasedText {
    /// The text that a commit in the keyspace of feeds says is erased ([`Feeds::erase_activities`](crate::Feeds::erase_activities)),
    /// or `None`. Something else may be said under the id later.
    ///
    /// # Errors
    /// `Corrupt` where the row is such a mark and its key is malformed.
    pub fn of(event: &CommitEvent) -> Result<Option<Self>> {
        if event.key.sort != ERASED || !matches!(event.change, Change::Put { .. }) {
            return Ok(None);
        }
        let Some((tag, app, name)) = home(&event.key.partition)? else { return Ok(None) };
        let said = if tag == b'a' {
            Said::Activity(ActivityId::from_bytes(name)?)
        } else {
            let bad = |error| Error::corrupt("the partition of an erased reaction is malformed").with_source(error);
            Said::Reaction(std::str::from_utf8(name).map_err(bad)?.to_owned())
        };
        Ok(Some(Self { app, said }))
    }
}

/// A user that a commit deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedUser {
    /// The app.
    pub app: AppId,
    /// The user.
    pub id: String,
}

impl DeletedUser {
    /// The user that a commit in the keyspace of feeds deletes, or `None`.
    ///
    /// # Errors
    /// `Corrupt` where the row is a user's and its key is malformed.
    pub fn of(event: &CommitEvent) -> Result<Option<Self>> {
        let is_user = event.key.partition.first() == Some(&b'u') && event.key.sort == ENTITY;
        if !is_user || !matches!(event.change, Change::Delete) {
            return Ok(None);
        }
        let (app, name) = of_app(event.key.partition.get(1..).unwrap_or_default())?;
        let bad = |error| Error::corrupt("the partition of a user is malformed").with_source(error);
        Ok(Some(Self { app, id: std::str::from_utf8(name).map_err(bad)?.to_owned() }))
    }
}

/// The tag, the app and the name of the home of an activity or a reaction; `None` for other partitions.
fn home(partition: &[u8]) -> Result<Option<(u8, AppId, &[u8])>> {
    match partition.split_first() {
        Some((&tag, rest)) if matches!(tag, b'a' | b'x') => of_app(rest).map(|(app, name)| Some((tag, app, name))),
        _ => Ok(None),
    }
}

/// The app that a partition is of, behind its tag, and what follows.
fn of_app(mut rest: &[u8]) -> Result<(AppId, &[u8])> {
    let bad = || Error::corrupt("the partition of a text is malformed");
    let app = prost::encoding::decode_varint(&mut rest).map_err(|error| bad().with_source(error))?;
    let app = AppId(u32::try_from(app).map_err(|error| bad().with_source(error))?);
    Ok((app, rest))
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

    #[tokio::test]
    async fn what_is_erased_is_told_once_it_is_gone_and_also_when_it_was() {
        let engine = MemoryEngine::new();
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await.expect("made");
        let watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await.expect("watched");
        let feeds = Feeds::open(engine, AppId(300), FeedsOptions::default()).await.expect("opened");
        let feed: FeedId = "user:alice".parse().expect("a feed");
        let posted = feeds.add_activity(&feed, NewActivity::new("SU:alice", "post", "note:1")).await.expect("added");
        let other = feeds.add_activity(&feed, NewActivity::new("SU:alice", "post", "note:2")).await.expect("added");
        let on = ReactTo::Activity(other.id.to_string());
        let like = feeds.add_reaction(NewReaction::new("like", on, "alice")).await.expect("added");
        feeds.add_user("alice", Map::new()).await.expect("added");
        feeds.delete_activities(&[posted.id]).await.expect("deleted");
        assert_eq!(feeds.erase_activities(&[posted.id, other.id]).await.expect("erased"), 1, "one was deleted before");
        assert_eq!(feeds.erase_reactions(std::slice::from_ref(&like.id)).await.expect("erased"), 1);
        feeds.delete_user("alice").await.expect("deleted");
        assert!(feeds.activities(&[posted.id, other.id]).await.expect("read").is_empty());
        let again = feeds.add_activity(&feed, NewActivity::new("SU:alice", "post", "note:1")).await;
        assert!(again.is_ok(), "what is erased may be posted again: {again:?}");
        let events: Vec<CommitEvent> = Box::pin(watch.map(|event| event.expect("an event")))
            .take_until(tokio::time::sleep(std::time::Duration::from_millis(200)))
            .collect()
            .await;
        let mut erased: Vec<ErasedText> =
            events.iter().filter_map(|event| ErasedText::of(event).expect("it decodes")).collect();
        erased.sort_by_key(|one| format!("{one:?}"));
        let app = AppId(300);
        let mut wanted = vec![
            ErasedText { app, said: Said::Activity(posted.id) },
            ErasedText { app, said: Said::Activity(other.id) },
            ErasedText { app, said: Said::Reaction(like.id) },
        ];
        wanted.sort_by_key(|one| format!("{one:?}"));
        assert_eq!(erased, wanted);
        let gone: Vec<DeletedUser> =
            events.iter().filter_map(|event| DeletedUser::of(event).expect("it decodes")).collect();
        assert_eq!(gone, [DeletedUser { app, id: "alice".into() }]);
    }

    #[test]
    fn words_are_looked_for_so_deep_and_no_deeper() {
        let within = |levels| (0..levels).fold(json!("deep"), |inner, _| json!([inner]));
        assert_eq!((strings(&within(8)).as_str(), strings(&within(9)).as_str()), ("deep", ""));
    }
}
