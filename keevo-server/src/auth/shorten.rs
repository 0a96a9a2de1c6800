//! Requests that are too long for an entry of the audit log: what is short in them, and a hash of the whole.
//!
//! Invariant: what comes out has at most the bytes that are asked for, and names the length and SHA-256 of what went in.

use serde_json::{Value, json};

use super::audit::hash;

/// How much of a request is kept, tried in this order: the bytes of a text, and the entries of a list or an object.
const KEPT: [(usize, usize); 3] = [(256, 64), (64, 16), (32, 4)];

/// The request, or its short parts beside its length and the SHA-256 of its JSON, which hold no secrets if it holds none.
pub(super) fn shortened(request: Value, bytes_max: usize) -> Value {
    let text = request.to_string();
    if text.len() <= bytes_max {
        return request;
    }
    let sha256 = hash(text.as_bytes());
    for (text_bytes, entries) in KEPT {
        let parts = cut(&request, text_bytes, entries);
        let short = json!({ "bytes": text.len(), "sha256": sha256, "parts": parts });
        if short.to_string().len() <= bytes_max {
            return short;
        }
    }
    json!({ "bytes": text.len(), "sha256": sha256 })
}

fn cut(value: &Value, text_bytes: usize, entries: usize) -> Value {
    match value {
        Value::String(text) if text.len() > text_bytes => {
            json!({ "bytes": text.len(), "sha256": hash(text.as_bytes()) })
        }
        Value::Array(items) if items.len() > entries => {
            json!({ "entries": items.len(), "sha256": hash(value.to_string().as_bytes()) })
        }
        Value::Array(items) => items.iter().map(|item| cut(item, text_bytes, entries)).collect(),
        Value::Object(fields) if fields.len() > entries => {
            json!({ "entries": fields.len(), "sha256": hash(value.to_string().as_bytes()) })
        }
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (name.clone(), cut(field, text_bytes, entries))).collect()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_fields_survive_beside_a_long_one() {
        let request =
            json!({ "name": "spam", "words": vec!["x"; 5_000], "text": "y".repeat(20_000), "of": { "id": 7 } });
        let whole = request.to_string();
        let short = shortened(request.clone(), 4_096);
        assert_eq!(short["bytes"], whole.len());
        assert_eq!(short["sha256"], hash(whole.as_bytes()));
        assert_eq!((&short["parts"]["name"], &short["parts"]["of"]["id"]), (&json!("spam"), &json!(7)));
        assert_eq!(
            (&short["parts"]["words"]["entries"], &short["parts"]["text"]["bytes"]),
            (&json!(5_000), &json!(20_000))
        );
        assert!(short.to_string().len() <= 4_096);
        assert_eq!(shortened(request.clone(), whole.len()), request, "what fits stays");
    }

    #[test]
    fn nothing_gets_longer_than_asked_for() {
        let wide = json!((0..60).map(|_| vec!["z".repeat(200); 60]).collect::<Vec<_>>());
        for bytes_max in [150, 1_000, 10_000, 100_000] {
            let short = shortened(wide.clone(), bytes_max);
            assert!(short.to_string().len() <= bytes_max, "{bytes_max}: {short}");
            assert_eq!(short["sha256"], hash(wide.to_string().as_bytes()));
        }
    }
}
