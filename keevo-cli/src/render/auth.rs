//! Roles, keys and the audit log. No key's text is ever among what is shown, but for one that was made just now.

use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::table;
use crate::output::Answer;
use crate::text::{line, time};

impl Answer for pb::WhoAmIResponse {
    fn table(&self) -> String {
        let role = if self.role.is_empty() { String::new() } else { format!(", with the role {}", line(&self.role)) };
        let grants: Vec<String> = self.grants.iter().map(|one| format!("\n  {}", line(one))).collect();
        format!("{}{role}; may:{}", line(&self.principal), grants.concat())
    }

    fn json(&self) -> Value {
        json!({ "principal": self.principal, "role": self.role, "grants": self.grants })
    }
}

impl Answer for pb::ListRolesResponse {
    fn table(&self) -> String {
        let rows = self.roles.iter().map(|role| {
            let grants: Vec<String> = role.grants.iter().map(|one| line(one)).collect();
            let kind = if role.built_in { "built in" } else { "" };
            [line(&role.name), grants.join("\n"), kind.to_owned()]
        });
        table(["Role", "May", ""], rows.collect(), "no roles")
    }

    fn json(&self) -> Value {
        let role = |role: &pb::AuthRole| json!({ "name": role.name, "grants": role.grants, "built_in": role.built_in });
        json!({ "roles": self.roles.iter().map(role).collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("roles")
    }
}

fn key(key: &pb::ApiKey) -> Value {
    let expires = if key.expires_ms == 0 { Value::Null } else { key.expires_ms.into() };
    json!({
        "id": key.id, "role": key.role, "note": key.note, "created_ms": key.created_ms, "expires_ms": expires,
    })
}

impl Answer for pb::ListKeysResponse {
    fn table(&self) -> String {
        let rows = self.keys.iter().map(|key| {
            let expires = if key.expires_ms == 0 { "never".to_owned() } else { time(key.expires_ms) };
            [line(&key.id), line(&key.role), time(key.created_ms), expires, line(&key.note)]
        });
        table(["Key", "Role", "Made", "Ends", "Note"], rows.collect(), "no keys")
    }

    fn json(&self) -> Value {
        json!({ "keys": self.keys.iter().map(key).collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("keys")
    }
}

/// A key that was made just now.
pub(crate) struct KeyMade {
    pub(crate) key: pb::ApiKey,
    pub(crate) secret: String,
}

impl Answer for KeyMade {
    fn table(&self) -> String {
        format!(
            "the key {} has the role {}\nits text, which is not shown again: {}",
            line(&self.key.id),
            line(&self.key.role),
            line(&self.secret)
        )
    }

    fn json(&self) -> Value {
        let mut object = key(&self.key);
        if let Value::Object(fields) = &mut object {
            fields.insert("secret".to_owned(), self.secret.as_str().into());
        }
        object
    }
}

/// Entries of the audit log.
#[derive(Debug)]
pub(crate) struct AuditPage {
    pub(crate) entries: Vec<Value>,
    /// The number of the last entry that there is.
    pub(crate) last: u64,
}

impl Answer for AuditPage {
    fn table(&self) -> String {
        let text = |entry: &Value, name: &str| line(entry.get(name).and_then(Value::as_str).unwrap_or_default());
        let number = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_u64).unwrap_or_default();
        let rows = self.entries.iter().map(|entry| {
            let what = match entry.get("outcome_of").and_then(Value::as_u64) {
                Some(of) => format!("{} ended: {}", of, text(entry, "outcome")),
                None => line(&entry.get("request").map(Value::to_string).unwrap_or_default()),
            };
            let method = text(entry, "method");
            let short = method.strip_prefix("keevo.").unwrap_or(&method).to_owned();
            [number(entry, "number").to_string(), time(number(entry, "at_ms")), text(entry, "who"), short, what]
        });
        let shown = table(["No", "When", "Who", "Method", "What"], rows.collect(), "no entries");
        format!("{shown}\n{} entries in the log", self.last)
    }

    fn json(&self) -> Value {
        json!({ "entries": self.entries, "last": self.last })
    }

    fn list(&self) -> Option<&'static str> {
        Some("entries")
    }
}
