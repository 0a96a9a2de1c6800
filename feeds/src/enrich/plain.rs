//! Activities as JSON, as they are stored.

use serde_json::{Map, Value};

use crate::activity::Activity;

impl Activity {
    /// As the API shows it: `id, actor, verb, object, target, foreign_id, time, origin`, the custom fields, and `to`
    /// if it has targets. A custom field never hides one of these.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = self.custom.clone();
        let mut set = |name: &str, value: Value| out.insert(name.to_owned(), value);
        set("id", self.id.to_string().into());
        set("actor", self.actor.clone().into());
        set("verb", self.verb.clone().into());
        set("object", self.object.clone().into());
        set("target", self.target.clone().into());
        set("foreign_id", self.foreign_id.clone().into());
        set("time", self.time.to_string().into());
        set("origin", self.origin.as_ref().map_or(Value::Null, |feed| feed.to_string().into()));
        if self.to.is_empty() {
            out.remove("to");
        } else {
            set("to", self.to.iter().map(ToString::to_string).collect::<Vec<_>>().into());
        }
        out
    }
}
