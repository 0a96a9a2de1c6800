//! Lines of an import or export: one JSON object each, with one field that says what it is.
//!
//! ```text
//! {"activity": {"feed": "user:alice", "actor": …, "verb": …, "object": …, "time": …, "foreign_id": …, "to": […], …}}
//! {"follow": {"feed": "timeline:bob", "target": "user:alice", "copy_limit": 100}}
//! ```
//!
//! Invariant: a record that is taken names all that identifies it, so that importing it again changes nothing.

use keevo_proto::feeds::v1 as pb;
use serde_json::{Map, Value, json};

/// The longest line, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;
/// The kinds of records that other exports have and that come through the REST API instead.
const ELSEWHERE: [&str; 3] = ["user", "collection", "reaction"];

/// What one line says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// An activity of a feed.
    Activity(String, Box<pb::Activity>),
    /// A follow relation.
    Follow(pb::FollowRequest),
}

/// The record on a line; an error is a sentence about the line.
pub(super) fn parse(line: &str) -> Result<Record, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("it is no JSON: {error}"))?;
    let Value::Object(mut record) = value else { return Err("it is no JSON object".to_owned()) };
    let kind = record.keys().next().cloned().filter(|_| record.len() == 1);
    let kind = kind.ok_or("it must have one field, \"activity\" or \"follow\", that holds the record")?;
    let Some(Value::Object(fields)) = record.remove(&kind) else {
        return Err(format!("{kind:?} must hold a JSON object"));
    };
    match kind.as_str() {
        "activity" => activity(fields),
        "follow" => follow(fields).map(Record::Follow),
        other if ELSEWHERE.contains(&other) => {
            Err(format!("a {other} is not imported by this command: send it to the REST API"))
        }
        other => Err(format!("{other:?} is no kind of record: \"activity\" or \"follow\"")),
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
    let to = match fields.remove("to") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(feeds)) => feeds.into_iter().map(|feed| string(feed, "to")).collect::<Result<_, _>>()?,
        Some(_) => return Err("\"to\" must be a list of feeds".to_owned()),
    };
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
    fields.remove("since_ms");
    match fields.keys().next() {
        Some(name) => Err(format!("a follow has no field {name:?}")),
        None => Ok(pb::FollowRequest { feed, target, copy_limit }),
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
    fields.extend(
        known.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name.to_owned(), text.into())),
    );
    if !activity.to.is_empty() {
        fields.insert("to".to_owned(), activity.to.into());
    }
    json!({ "activity": fields }).to_string()
}

/// The line of a follow relation.
pub(super) fn follow_line(relation: &pb::Relation) -> String {
    json!({ "follow": { "feed": relation.feed, "target": relation.target } }).to_string()
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
            (r#"{"user":{}}"#, "a user is not imported by this command"),
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
