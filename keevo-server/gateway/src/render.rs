//! Objects as the contract writes them.

use keevo_feeds::{Activity, ActivityTime, Follow};
use serde_json::{Map, Value, json};

/// An activity: `to` is there only when it has targets, absent texts are empty, the time has no zone.
pub(crate) fn activity(activity: &Activity) -> Map<String, Value> {
    let mut map = activity.custom.clone();
    map.insert("id".to_owned(), json!(activity.id.to_string()));
    map.insert("actor".to_owned(), json!(activity.actor));
    map.insert("verb".to_owned(), json!(activity.verb));
    map.insert("object".to_owned(), json!(activity.object));
    map.insert("target".to_owned(), json!(activity.target));
    map.insert("foreign_id".to_owned(), json!(activity.foreign_id));
    map.insert("time".to_owned(), json!(activity.time.to_string()));
    map.insert("origin".to_owned(), json!(activity.origin.as_ref().map(ToString::to_string)));
    if activity.to.is_empty() {
        map.remove("to");
    } else {
        let to: Vec<String> = activity.to.iter().map(ToString::to_string).collect();
        map.insert("to".to_owned(), json!(to));
    }
    map
}

/// A follow: the one who follows is `feed_id`.
pub(crate) fn follow(follow: &Follow) -> Value {
    let since = format!("{}Z", follow.created_at);
    json!({
        "feed_id": follow.follower.as_str(),
        "target_id": follow.target.as_str(),
        "created_at": since,
        "updated_at": since,
    })
}

/// A time with a zone, from milliseconds since the epoch.
pub(crate) fn stamp_ms(ms: u64) -> String {
    let micros = i64::try_from(ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
    ActivityTime::from_micros(micros).map_or_else(|_out_of_range| String::new(), |time| format!("{time}Z"))
}
