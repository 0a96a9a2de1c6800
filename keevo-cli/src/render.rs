//! Answers as text and as JSON: pure functions of responses.
//!
//! Invariant: both formats say the same; text that came from a store is escaped before a terminal sees it.

pub(crate) mod apilog;
pub(crate) mod app;
pub(crate) mod auth;
pub(crate) mod backup;
pub(crate) mod cert;
pub(crate) mod chat;
pub(crate) mod cluster;
pub(crate) mod compact;
pub(crate) mod context;
pub(crate) mod doctor;
pub(crate) mod feed;
pub(crate) mod kv;
pub(crate) mod moderation;
pub(crate) mod sink;
pub(crate) mod storage;
pub(crate) mod upgrade;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::Value;

use crate::output::Answer;

/// An answer that is one sentence.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) sentence: String,
    pub(crate) json: Value,
}

impl Answer for Done {
    fn table(&self) -> String {
        self.sentence.clone()
    }

    fn json(&self) -> Value {
        self.json.clone()
    }
}

/// A table with its header, and a sentence in place of an empty one.
fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>, empty: &str) -> String {
    if rows.is_empty() {
        return empty.to_owned();
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header).add_rows(rows);
    table.trim_fmt()
}

/// The `custom` field of a message: the object that it holds, or what is there as text; nothing if it is empty.
fn put_custom(object: &mut serde_json::Map<String, Value>, custom: &str) {
    if !custom.is_empty() {
        let value = serde_json::from_str(custom).unwrap_or_else(|_| Value::from(custom));
        object.insert("custom".to_owned(), value);
    }
}

/// A JSON object from a literal one.
pub(crate) fn object(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => serde_json::Map::new(),
    }
}

#[cfg(test)]
mod tests;
