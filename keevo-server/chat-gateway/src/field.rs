//! The fields of bodies and the parameters of queries: what each call takes, checked in one place.
//!
//! Invariant: a call never sees a field that its row does not name, nor one of another kind; the OpenAPI document is made
//! from the same rows.

use serde_json::{Map, Value, json};

use crate::error::{Answered, Refusal};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text.
    Text,
    /// `true` or `false`.
    Truth,
    /// A whole number from 0 on.
    Number,
    /// A whole number, either way.
    Signed,
    /// A number, with a fraction or without.
    Decimal,
    /// A JSON object.
    Object,
    /// A list of texts.
    Texts,
    /// A list of JSON objects.
    Objects,
    /// A list of user ids, or of objects `{user_id, role?, grants?, custom?}`.
    Members,
}

/// A field of a body, or a parameter of a query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
}

/// A field that may be missing; `null` is the same.
pub(crate) const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

/// A field that must be there.
pub(crate) const fn must(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

impl Kind {
    fn takes(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Truth => value.is_boolean(),
            Self::Number => value.is_u64(),
            Self::Signed => value.is_i64(),
            Self::Decimal => value.is_number(),
            Self::Object => value.is_object(),
            Self::Texts => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            Self::Objects => value.as_array().is_some_and(|list| list.iter().all(Value::is_object)),
            Self::Members => {
                value.as_array().is_some_and(|list| list.iter().all(|one| one.is_string() || one.is_object()))
            }
        }
    }

    fn is(self) -> &'static str {
        match self {
            Self::Text => "is text",
            Self::Truth => "is true or false",
            Self::Number => "is a whole number from 0 on",
            Self::Signed => "is a whole number",
            Self::Decimal => "is a number",
            Self::Object => "is a JSON object",
            Self::Texts => "is a list of texts",
            Self::Objects => "is a list of JSON objects",
            Self::Members => "is a list of user ids, or of objects with user_id",
        }
    }

    /// Its schema in the OpenAPI document.
    pub(crate) fn schema(self) -> Value {
        match self {
            Self::Text => json!({ "type": "string" }),
            Self::Truth => json!({ "type": "boolean" }),
            Self::Number => json!({ "type": "integer", "minimum": 0 }),
            Self::Signed => json!({ "type": "integer" }),
            Self::Decimal => json!({ "type": "number" }),
            Self::Object => json!({ "type": "object" }),
            Self::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Self::Objects => json!({ "type": "array", "items": { "type": "object" } }),
            Self::Members => json!({
                "type": "array",
                "items": { "anyOf": [{ "type": "string" }, { "$ref": "#/components/schemas/NewMember" }] },
            }),
        }
    }
}

/// The body as an object that holds these fields and no others.
pub(crate) fn check(bytes: &[u8], fields: &[Field]) -> Answered<Map<String, Value>> {
    let value = if bytes.is_empty() {
        Value::Object(Map::new())
    } else {
        serde_json::from_slice(bytes)
            .map_err(|error| Refusal::input(format!("the body is no JSON that can be read: {error}")))?
    };
    let Value::Object(mut body) = value else { return Err(Refusal::input("the body is a JSON object")) };
    check_object(&body, fields)?;
    body.retain(|_, value| !value.is_null());
    Ok(body)
}

/// Whether an object holds these fields and no others.
pub(crate) fn check_object(object: &Map<String, Value>, fields: &[Field]) -> Answered<()> {
    for (name, value) in object {
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
            let problem = if known.is_empty() {
                "is not known: this call takes no fields".to_owned()
            } else {
                format!("is not known: use {}", known.join(", "))
            };
            return Err(Refusal::field(&name.chars().take(100).collect::<String>(), problem));
        };
        if !value.is_null() && !field.kind.takes(value) {
            return Err(Refusal::field(field.name, field.kind.is()));
        }
    }
    match fields.iter().find(|field| field.required && object.get(field.name).is_none_or(Value::is_null)) {
        Some(missing) => Err(Refusal::field(missing.name, "is missing")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[must("name", Kind::Text), may("count", Kind::Number), may("who", Kind::Members)];

    #[test]
    fn bodies_hold_what_is_known_and_nothing_else() {
        let good = check(br#"{"name": "x", "count": null, "who": ["ann", {"user_id": "bob"}]}"#, FIELDS).expect("good");
        assert_eq!((good.len(), good.get("name")), (2, Some(&json!("x"))), "null is missing");
        for bad in [
            "{}",
            "[]",
            "7",
            "{",
            "\"x\"",
            r#"{"name": 7}"#,
            r#"{"name": null}"#,
            r#"{"name": "x", "more": 1}"#,
            r#"{"name": "x", "count": -1}"#,
            r#"{"name": "x", "count": 1.5}"#,
            r#"{"name": "x", "count": "1"}"#,
            r#"{"name": "x", "who": [7]}"#,
            "{\"name\": \"\u{0}\"}",
        ] {
            assert_eq!(check(bad.as_bytes(), FIELDS).expect_err(bad).code(), 4, "{bad}");
        }
        assert!(check(b"\xff\xfe", FIELDS).is_err(), "no UTF-8");
        assert!(check(b"", &[]).is_ok());
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        assert!(check(format!(r#"{{"name": {deep}}}"#).as_bytes(), FIELDS).is_err(), "nested without end");
    }
}
