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
        let activities: Vec<Value> = if self.enriched.is_empty() {
            self.activities.iter().map(Answer::json).collect()
        } else {
            texts(&self.enriched)
        };
        json!({ "activities": activities, "more": self.more })
    }

    fn list(&self) -> Option<&'static str> {
        Some("activities")
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

    fn list(&self) -> Option<&'static str> {
        Some("relations")
    }
}

/// A text that holds JSON, as JSON; other text as it is.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn texts(enriched: &[String]) -> Vec<Value> {
    enriched.iter().map(|one| parsed(one)).collect()
}

impl Answer for pb::GetAggregatedResponse {
    fn table(&self) -> String {
        let rows = self.groups.iter().map(|one| {
            let state = match (one.is_seen, one.is_read) {
                (_, true) => "read",
                (true, false) => "seen",
                (false, false) => "new",
            };
            let (activities, actors) = (one.activity_count.to_string(), one.actor_count.to_string());
            [line(&one.updated_at), line(&one.group), activities, actors, state.to_owned(), line(&one.id)]
        });
        let header = ["Newest", "Group", "Activities", "Actors", "State", "Id"];
        let text = table(header, rows.collect(), "no groups");
        let text = format!("{text}\n{} not seen, {} not read", self.unseen, self.unread);
        match self.groups.last() {
            Some(last) if self.more => format!("{text}\nthere are older ones: --before {}", line(&last.id)),
            _ => text,
        }
    }

    fn json(&self) -> Value {
        let group = |one: &pb::ActivityGroup| {
            json!({
                "id": one.id,
                "group": one.group,
                "verb": one.verb,
                "activities": one.activities.iter().map(Answer::json).collect::<Vec<_>>(),
                "activity_count": one.activity_count,
                "actor_count": one.actor_count,
                "created_at": one.created_at,
                "updated_at": one.updated_at,
                "is_seen": one.is_seen,
                "is_read": one.is_read,
            })
        };
        let groups: Vec<Value> = self.groups.iter().map(group).collect();
        json!({ "groups": groups, "more": self.more, "unseen": self.unseen, "unread": self.unread })
    }

    fn list(&self) -> Option<&'static str> {
        Some("groups")
    }
}

impl Answer for pb::GetRankedResponse {
    fn table(&self) -> String {
        let rows = self.ranked.iter().filter_map(|one| {
            let activity = one.activity.as_ref()?;
            let (actor, verb, object) = (line(&activity.actor), line(&activity.verb), line(&activity.object));
            Some([one.score.to_string(), line(&activity.time), actor, verb, object, line(&activity.id)])
        });
        let text = table(["Score", "Time", "Actor", "Verb", "Object", "Id"], rows.collect(), "no activities");
        if self.more { format!("{text}\nthere are more: raise --limit or --offset") } else { text }
    }

    fn json(&self) -> Value {
        let ranked = self
            .ranked
            .iter()
            .map(|one| json!({ "score": one.score, "activity": one.activity.as_ref().map(Answer::json) }));
        json!({ "activities": ranked.collect::<Vec<_>>(), "more": self.more })
    }

    fn list(&self) -> Option<&'static str> {
        Some("activities")
    }
}

impl Answer for pb::Reaction {
    fn table(&self) -> String {
        let on = if self.parent.is_empty() { &self.activity_id } else { &self.parent };
        format!("{}: {} by {} (id {})", line(on), line(&self.kind), line(&self.user_id), line(&self.id))
    }

    fn json(&self) -> Value {
        let mut object = object(json!({
            "id": self.id,
            "kind": self.kind,
            "activity_id": self.activity_id,
            "user_id": self.user_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }));
        if !self.parent.is_empty() {
            object.insert("parent".to_owned(), self.parent.as_str().into());
        }
        if !self.data.is_empty() {
            object.insert("data".to_owned(), parsed(&self.data));
        }
        if !self.target_feeds.is_empty() {
            object.insert("target_feeds".to_owned(), self.target_feeds.clone().into());
        }
        object.into()
    }
}

impl Answer for pb::ListReactionsResponse {
    fn table(&self) -> String {
        let rows = self
            .reactions
            .iter()
            .map(|one| [line(&one.created_at), line(&one.kind), line(&one.user_id), line(&one.data), line(&one.id)]);
        let text = table(["Time", "Kind", "User", "Data", "Id"], rows.collect(), "no reactions");
        if self.next.is_empty() { text } else { format!("{text}\nthere are older ones") }
    }

    fn json(&self) -> Value {
        let reactions: Vec<Value> = self.reactions.iter().map(Answer::json).collect();
        json!({ "reactions": reactions, "more": !self.next.is_empty() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("reactions")
    }
}

impl Answer for pb::User {
    fn table(&self) -> String {
        let data = if self.data.is_empty() { "{}" } else { &self.data };
        format!("{} {} since {}", line(&self.id), line(data), line(&self.created_at))
    }

    fn json(&self) -> Value {
        let data = if self.data.is_empty() { json!({}) } else { parsed(&self.data) };
        json!({ "id": self.id, "data": data, "created_at": self.created_at, "updated_at": self.updated_at })
    }
}
