//! Apps. No secret is ever among what is shown, but for one that was made up just now.

use keevo_proto::admin::v1 as pb;
use serde_json::{Map, Value, json};

use super::table;
use crate::output::Answer;
use crate::text::{line, time};

/// All apps.
#[derive(Debug)]
pub(crate) struct Apps(pub(crate) Vec<pb::App>);

impl Answer for Apps {
    fn table(&self) -> String {
        let rows = self.0.iter().map(|app| {
            let keys: Vec<String> = app.keys.iter().map(|one| line(&one.key)).collect();
            let groups: Vec<String> = app.groups.iter().map(|one| line(&one.slug)).collect();
            let state = if app.suspended { "suspended" } else { "served" };
            [app.id.to_string(), line(&app.name), state.to_owned(), keys.join(" "), groups.join(" ")]
        });
        table(["Id", "Name", "State", "Keys", "Feed groups"], rows.collect(), "no apps")
    }

    fn json(&self) -> Value {
        json!({ "apps": self.0.iter().map(Answer::json).collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("apps")
    }
}

/// JSON that a node sent as text; as text where it is none.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

impl Answer for pb::App {
    fn table(&self) -> String {
        let mut rows = vec![
            ["name".to_owned(), line(&self.name)],
            ["created".to_owned(), time(self.created_ms)],
            ["state".to_owned(), if self.suspended { "suspended" } else { "served" }.to_owned()],
        ];
        rows.extend(
            self.keys
                .iter()
                .map(|one| ["key".to_owned(), format!("{} (since {})", line(&one.key), time(one.created_ms))]),
        );
        rows.extend(self.groups.iter().map(|one| [format!("group {}", line(&one.slug)), line(&one.setting)]));
        rows.push(["policies".to_owned(), line(&self.policies)]);
        let mut rates: Vec<_> = self.rates.iter().collect();
        rates.sort();
        rows.extend(
            rates.into_iter().map(|(name, rate)| [format!("limit {}", line(name)), format!("{rate} a minute")]),
        );
        rows.extend(self.webhooks.iter().map(|one| {
            let groups = if one.groups.is_empty() { "all groups".to_owned() } else { line(&one.groups.join(" ")) };
            ["webhook".to_owned(), format!("{} ({groups})", line(&one.url))]
        }));
        table(["App", &self.id.to_string()], rows, "")
    }

    fn json(&self) -> Value {
        let groups: Map<String, Value> =
            self.groups.iter().map(|one| (one.slug.clone(), parsed(&one.setting))).collect();
        json!({
            "id": self.id,
            "name": self.name,
            "created_ms": self.created_ms,
            "suspended": self.suspended,
            "keys": self.keys.iter().map(|one| json!({ "key": one.key, "created_ms": one.created_ms })).collect::<Vec<_>>(),
            "groups": groups,
            "policies": parsed(&self.policies),
            "rates": self.rates,
            "webhooks": self.webhooks.iter().map(|one| json!({ "url": one.url, "groups": one.groups })).collect::<Vec<_>>(),
        })
    }
}

/// A key that was added, with its secret if that was made up.
#[derive(Debug)]
pub(crate) struct AppKeyMade {
    pub(crate) app: u32,
    pub(crate) key: String,
    pub(crate) secret: String,
}

impl Answer for AppKeyMade {
    fn table(&self) -> String {
        let first = format!("app {} has the key {}", self.app, line(&self.key));
        if self.secret.is_empty() {
            return first;
        }
        format!("{first}\nits secret, which is not shown again: {}", line(&self.secret))
    }

    fn json(&self) -> Value {
        let mut object = json!({ "app": self.app, "key": self.key });
        if let (Value::Object(object), false) = (&mut object, self.secret.is_empty()) {
            object.insert("secret".to_owned(), self.secret.as_str().into());
        }
        object
    }
}
