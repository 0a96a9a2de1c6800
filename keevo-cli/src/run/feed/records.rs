//! Lines of an import or export: one JSON object each, with one field that says what it is.
//!
//! ```text
//! {"activity": {"feed": "user:alice", "actor": …, "verb": …, "object": …, "time": …, "foreign_id": …, "to": […], …}}
//! {"follow": {"feed": "timeline:bob", "target": "user:alice", "copy_limit": 100}}
//! {"user": {"id": "alice", "data": {…}}}
//! {"collection": {"collection": "food", "id": "brie", "data": {…}, "user_id": "alice"}}
//! {"reaction": {"id": …, "kind": "like", "activity_id": …, "parent": …, "user_id": "bob", "data": {…}, "target_feeds": […]}}
//! ```
//!
//! Invariant: a record that is taken names all that identifies it, so that importing it again changes nothing.

use keevo_proto::feeds::v1 as pb;
use serde_json::{Map, Value, json};

/// The longest line, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;
/// What a line can hold.
const KINDS: &str = "\"activity\", \"follow\", \"user\", \"collection\" or \"reaction\"";

/// What one line says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// An activity of a feed.
    Activity(String, Box<pb::Activity>),
    /// A follow relation.
    Follow(pb::FollowRequest),
    /// A user.
    User(pb::User),
    /// An entry of a collection.
    Entry(pb::Entry),
    /// A reaction.
    Reaction(Box<pb::Reaction>),
}

/// The record on a line; an error is a sentence about the line.
pub(super) fn parse(line: &str) -> Result<Record, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("it is no JSON: {error}"))?;
    let Value::Object(mut record) = value else { return Err("it is no JSON object".to_owned()) };
    let kind = record.keys().next().cloned().filter(|_| record.len() == 1);
    let kind = kind.ok_or_else(|| format!("it must have one field, {KINDS}, that holds the record"))?;
    let Some(Value::Object(fields)) = record.remove(&kind) else {
        return Err(format!("{kind:?} must hold a JSON object"));
    };
    match kind.as_str() {
        "activity" => activity(fields),
        "follow" => follow(fields).map(Record::Follow),
        "user" => user(fields).map(Record::User),
        "collection" => entry(fields).map(Record::Entry),
        "reaction" => reaction(fields).map(|reaction| Record::Reaction(Box::new(reaction))),
        other => Err(format!("{other:?} is no kind of record: {KINDS}")),
    }
}

fn activity(mut fields: Map<String, Value>) -> Result<Record, String> {
    let feed = required(&mut fields, "feed")?;
    let mut time = required(&mut fields, "time").map_err(|_missing| {
        "an activity needs its \"time\": without one, importing it again would add it again".to_owned()
    })?;
    // The REST API writes times in UTC without saying so.
    if !time.ends_with('Z') && !time.get(10..).is_some_and(|clock| clock.contains(['+', '-'])) {
        time.push('Z');
    }
    let to = feeds(&mut fields, "to")?;
    let activity = pb::Activity {
        actor: required(&mut fields, "actor")?,
        verb: required(&mut fields, "verb")?,
        object: required(&mut fields, "object")?,
        target: optional(&mut fields, "target")?,
        foreign_id: optional(&mut fields, "foreign_id")?,
        time,
        to,
        ..pb::Activity::default()
    };
    // Assigned by the server, or told of where it was read.
    for name in ["id", "origin"] {
        fields.remove(name);
    }
    let custom = if fields.is_empty() { String::new() } else { Value::Object(fields).to_string() };
    Ok(Record::Activity(feed, Box::new(pb::Activity { custom, ..activity })))
}

fn follow(mut fields: Map<String, Value>) -> Result<pb::FollowRequest, String> {
    let (feed, target) = (required(&mut fields, "feed")?, required(&mut fields, "target")?);
    let copy_limit = match fields.remove("copy_limit") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let limit = value.as_u64().and_then(|limit| u32::try_from(limit).ok()).filter(|limit| *limit <= 1_000);
            Some(limit.ok_or("\"copy_limit\" must be a whole number from 0 to 1000")?)
        }
    };
    nothing_else("a follow", fields, &["since_ms"])?;
    Ok(pb::FollowRequest { feed, target, copy_limit })
}

/// What other exports tell beside a record, and a node says anew.
const TOLD: [&str; 8] = [
    "created_at",
    "updated_at",
    "deleted_at",
    "foreign_id",
    "user",
    "latest_children",
    "children_counts",
    "own_children",
];

fn user(mut fields: Map<String, Value>) -> Result<pb::User, String> {
    let user = pb::User { id: required(&mut fields, "id")?, data: data(&mut fields, "data")?, ..Default::default() };
    nothing_else("a user", fields, &TOLD).map(|()| user)
}

fn entry(mut fields: Map<String, Value>) -> Result<pb::Entry, String> {
    let entry = pb::Entry {
        collection: required(&mut fields, "collection")?,
        id: required(&mut fields, "id")?,
        data: data(&mut fields, "data")?,
        user_id: optional(&mut fields, "user_id")?,
        ..Default::default()
    };
    nothing_else("an entry", fields, &TOLD).map(|()| entry)
}

fn reaction(mut fields: Map<String, Value>) -> Result<pb::Reaction, String> {
    let reaction = pb::Reaction {
        id: required(&mut fields, "id").map_err(|_missing| {
            "a reaction needs its \"id\": without one, importing it again would add it again".to_owned()
        })?,
        kind: required(&mut fields, "kind")?,
        activity_id: required(&mut fields, "activity_id")?,
        parent: optional(&mut fields, "parent")?,
        user_id: required(&mut fields, "user_id")?,
        data: data(&mut fields, "data")?,
        target_feeds: feeds(&mut fields, "target_feeds")?,
        target_feeds_extra_data: data(&mut fields, "target_feeds_extra_data")?,
        ..Default::default()
    };
    nothing_else("a reaction", fields, &TOLD).map(|()| reaction)
}

/// Refuses fields that are left, but for some.
fn nothing_else(what: &str, fields: Map<String, Value>, but: &[&str]) -> Result<(), String> {
    match fields.into_iter().find(|(name, _)| !but.contains(&name.as_str())) {
        Some((name, _)) => Err(format!("{what} has no field {name:?}")),
        None => Ok(()),
    }
}

/// A JSON object as text; none where there is none.
fn data(fields: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::Object(data)) if data.is_empty() => Ok(String::new()),
        Some(Value::Object(data)) => Ok(Value::Object(data).to_string()),
        Some(_) => Err(format!("{name:?} must be a JSON object")),
    }
}

fn feeds(fields: &mut Map<String, Value>, name: &str) -> Result<Vec<String>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(feeds)) => feeds.into_iter().map(|feed| string(feed, name)).collect(),
        Some(_) => Err(format!("{name:?} must be a list of feeds")),
    }
}

fn required(fields: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    let text = optional(fields, name)?;
    if text.is_empty() { Err(format!("it has no {name:?}")) } else { Ok(text) }
}

fn optional(fields: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(value) => string(value, name),
    }
}

fn string(value: Value, name: &str) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(format!("{name:?} must be text")),
    }
}

/// The line of an activity that `feed` holds.
pub(super) fn activity_line(feed: &str, activity: pb::Activity) -> String {
    let custom = serde_json::from_str::<Map<String, Value>>(&activity.custom).unwrap_or_default();
    let mut fields = custom;
    let known = [
        ("feed", feed.to_owned()),
        ("actor", activity.actor),
        ("verb", activity.verb),
        ("object", activity.object),
        ("target", activity.target),
        ("foreign_id", activity.foreign_id),
        ("time", activity.time),
    ];
    put(&mut fields, known);
    if !activity.to.is_empty() {
        fields.insert("to".to_owned(), activity.to.into());
    }
    json!({ "activity": fields }).to_string()
}

/// The line of a follow relation.
pub(super) fn follow_line(relation: &pb::Relation) -> String {
    json!({ "follow": { "feed": relation.feed, "target": relation.target } }).to_string()
}

/// The line of a user.
pub(super) fn user_line(user: &pb::User) -> String {
    json!({ "user": { "id": user.id, "data": object(&user.data) } }).to_string()
}

/// The line of an entry.
pub(super) fn entry_line(entry: pb::Entry) -> String {
    let data = object(&entry.data);
    let mut fields = Map::from_iter([("data".to_owned(), data)]);
    let known = [("collection", entry.collection), ("id", entry.id), ("user_id", entry.user_id)];
    put(&mut fields, known);
    json!({ "collection": fields }).to_string()
}

/// The line of a reaction.
pub(super) fn reaction_line(reaction: pb::Reaction) -> String {
    let mut fields = Map::new();
    for (name, data) in [("data", reaction.data), ("target_feeds_extra_data", reaction.target_feeds_extra_data)] {
        if !data.is_empty() {
            fields.insert(name.to_owned(), object(&data));
        }
    }
    if !reaction.target_feeds.is_empty() {
        fields.insert("target_feeds".to_owned(), reaction.target_feeds.into());
    }
    let known = [
        ("id", reaction.id),
        ("kind", reaction.kind),
        ("activity_id", reaction.activity_id),
        ("parent", reaction.parent),
        ("user_id", reaction.user_id),
    ];
    put(&mut fields, known);
    json!({ "reaction": fields }).to_string()
}

/// Sets the fields that are not empty.
fn put<const N: usize>(fields: &mut Map<String, Value>, known: [(&str, String); N]) {
    let known = known.into_iter().filter(|(_, text)| !text.is_empty());
    fields.extend(known.map(|(name, text)| (name.to_owned(), text.into())));
}

/// The object that a node wrote as text.
fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_none| json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_imported_as_it_was() {
        let activity = pb::Activity {
            actor: "alice".to_owned(),
            verb: "post".to_owned(),
            object: "photo:1".to_owned(),
            time: "2026-01-31T12:00:00.000001Z".to_owned(),
            foreign_id: "p1".to_owned(),
            to: vec!["topic:cats".to_owned()],
            custom: r#"{"likes":3,"type":"photo"}"#.to_owned(),
            ..pb::Activity::default()
        };
        let line = activity_line("user:alice", activity.clone());
        assert_eq!(parse(&line), Ok(Record::Activity("user:alice".to_owned(), Box::new(activity))));
        let relation = pb::Relation { feed: "timeline:bob".into(), target: "user:alice".into(), since_ms: 7 };
        let follow = pb::FollowRequest { feed: "timeline:bob".into(), target: "user:alice".into(), copy_limit: None };
        assert_eq!(parse(&follow_line(&relation)), Ok(Record::Follow(follow)));
        let user = pb::User { id: "alice".into(), data: r#"{"name":"Alice"}"#.into(), ..Default::default() };
        assert_eq!(parse(&user_line(&user)), Ok(Record::User(user)));
        let entry = pb::Entry {
            collection: "food".into(),
            id: "brie".into(),
            data: r#"{"fat":45}"#.into(),
            user_id: "alice".into(),
            ..Default::default()
        };
        assert_eq!(parse(&entry_line(entry.clone())), Ok(Record::Entry(entry)));
        let reaction = pb::Reaction {
            id: "r2".into(),
            kind: "comment".into(),
            activity_id: "a".into(),
            parent: "r1".into(),
            user_id: "bob".into(),
            data: r#"{"text":"no"}"#.into(),
            target_feeds: vec!["notification:alice".into()],
            target_feeds_extra_data: r#"{"x":1}"#.into(),
            ..Default::default()
        };
        assert_eq!(parse(&reaction_line(reaction.clone())), Ok(Record::Reaction(Box::new(reaction))));
    }

    #[test]
    fn a_time_of_the_rest_api_is_one_in_utc() {
        let line = |time: &str| {
            let fields = json!({ "feed": "user:a", "actor": "a", "verb": "v", "object": "o", "time": time, "id": "x" });
            match parse(&json!({ "activity": fields }).to_string()) {
                Ok(Record::Activity(_, activity)) => (activity.time, activity.custom),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(line("2026-01-31T12:00:00.5"), ("2026-01-31T12:00:00.5Z".to_owned(), String::new()));
        assert_eq!(line("2026-01-31T12:00:00Z").0, "2026-01-31T12:00:00Z");
        assert_eq!(line("2026-01-31T12:00:00+01:00").0, "2026-01-31T12:00:00+01:00");
    }

    #[test]
    fn a_bad_line_is_told_what_is_wrong_with_it() {
        for (line, says) in [
            ("{", "it is no JSON: "),
            ("[]", "it is no JSON object"),
            (r#"{"activity":{},"follow":{}}"#, "it must have one field"),
            (r#"{"activity":[]}"#, "\"activity\" must hold a JSON object"),
            (r#"{"like":{}}"#, "\"like\" is no kind of record"),
            (r#"{"user":{}}"#, "it has no \"id\""),
            (r#"{"user":{"id":"a","data":[]}}"#, "\"data\" must be a JSON object"),
            (r#"{"user":{"id":"a","name":"b"}}"#, "a user has no field \"name\""),
            (r#"{"collection":{"collection":"food"}}"#, "it has no \"id\""),
            (r#"{"reaction":{"kind":"like"}}"#, "a reaction needs its \"id\""),
            (r#"{"reaction":{"id":"r","kind":"like"}}"#, "it has no \"activity_id\""),
            (r#"{"activity":{}}"#, "it has no \"feed\""),
            (r#"{"activity":{"feed":"user:a","actor":"a"}}"#, "an activity needs its \"time\""),
            (r#"{"activity":{"feed":"user:a","time":"2026-01-31T12:00:00","actor":7}}"#, "\"actor\" must be text"),
            (r#"{"follow":{"feed":"a:b","target":"c:d","copy_limit":1001}}"#, "\"copy_limit\" must be a whole number"),
            (r#"{"follow":{"feed":"a:b","target":"c:d","copy":1}}"#, "a follow has no field \"copy\""),
        ] {
            let said = parse(line).expect_err(line);
            assert!(said.starts_with(says), "{line}: {said}");
        }
    }
}
