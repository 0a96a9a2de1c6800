//! Activities and follow relations.

use keevo_proto::feeds::v1 as pb;
use serde_json::{Value, json};

use super::{object, put_custom, table};
use crate::output::Answer;
use crate::text::{count, line, time};

/// An activity on one line and as an object; empty fields are left out.
impl Answer for pb::Activity {
    fn table(&self) -> String {
        let (actor, verb, object) = (line(&self.actor), line(&self.verb), line(&self.object));
        format!("published: {actor} {verb} {object} at {} (id {})", line(&self.time), line(&self.id))
    }

    fn json(&self) -> Value {
        let mut object = object(json!({
            "id": self.id,
            "time": self.time,
            "actor": self.actor,
            "verb": self.verb,
            "object": self.object,
            "origin": self.origin,
        }));
        for (name, value) in [("target", &self.target), ("foreign_id", &self.foreign_id)] {
            if !value.is_empty() {
                object.insert(name.to_owned(), value.as_str().into());
            }
        }
        if !self.to.is_empty() {
            object.insert("to".to_owned(), self.to.clone().into());
        }
        put_custom(&mut object, &self.custom);
        object.into()
    }
}

impl Answer for pb::GetFeedResponse {
    fn table(&self) -> String {
        let rows = self.activities.iter().map(|one| {
            let object =
                if one.target.is_empty() { one.object.clone() } else { format!("{} → {}", one.object, one.target) };
            [line(&one.time), line(&one.actor), line(&one.verb), line(&object), line(&one.origin), line(&one.id)]
        });
        let text = table(["Time", "Actor", "Verb", "Object", "Origin", "Id"], rows.collect(), "no activities");
        match self.activities.last() {
            Some(last) if self.more => format!("{text}\nthere are older ones: --before {}", line(&last.id)),
            _ => text,
        }
    }

    fn json(&self) -> Value {
        let activities: Vec<Value> = self.activities.iter().map(Answer::json).collect();
        json!({ "activities": activities, "more": self.more })
    }
}

/// Follow relations.
#[derive(Debug)]
pub(crate) struct Relations {
    pub(crate) relations: Vec<pb::Relation>,
    /// Whether there are more behind the limit.
    pub(crate) more: bool,
}

impl Answer for Relations {
    fn table(&self) -> String {
        let rows = self.relations.iter().map(|one| [line(&one.feed), line(&one.target), time(one.since_ms)]);
        let text = table(["Feed", "Follows", "Since"], rows.collect(), "no relations");
        if !self.more {
            return text;
        }
        format!("{text}\n{}; there are more: raise --limit", count(self.relations.len(), "relation"))
    }

    fn json(&self) -> Value {
        let relations = self
            .relations
            .iter()
            .map(|one| json!({ "feed": one.feed, "target": one.target, "since_ms": one.since_ms }));
        json!({ "relations": relations.collect::<Vec<_>>(), "more": self.more })
    }
}
