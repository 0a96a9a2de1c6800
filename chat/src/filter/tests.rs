//! What filters accept, and what they refuse to be.

use keevo_core::ErrorKind;
use serde_json::json;

use super::*;

const FIELDS: &[&str] = &["a", "b", "list", "custom."];

fn matches(filter: &str, document: &Value) -> bool {
    Filter::parse(filter, FIELDS).expect(filter).matches(document)
}

#[test]
fn operators_do_what_they_say() {
    let document =
        json!({"a": 5, "b": "Grace Hopper", "list": ["x", "y"], "custom": {"deep": {"n": 1.5}}, "none": null});
    for (filter, expected) in [
        (r"{}", true),
        (r#"{"a": 5}"#, true),
        (r#"{"a": 5.0}"#, true),
        (r#"{"a": "5"}"#, false),
        (r#"{"a": {"$ne": 5}}"#, false),
        (r#"{"custom.x": {"$ne": 5}}"#, true),
        (r#"{"a": {"$in": [1, 5]}}"#, true),
        (r#"{"a": {"$nin": [1, 5]}}"#, false),
        (r#"{"custom.x": {"$nin": [1]}}"#, true),
        (r#"{"a": {"$gt": 4, "$lte": 5}}"#, true),
        (r#"{"a": {"$lt": 5}}"#, false),
        (r#"{"a": {"$gte": "4"}}"#, false),
        (r#"{"b": {"$gt": "Grace"}}"#, true),
        (r#"{"custom.deep.n": {"$gt": 1}}"#, true),
        (r#"{"custom.deep": {"n": 1.5}}"#, true),
        (r#"{"custom.deep.m": {"$exists": false}}"#, true),
        (r#"{"list": {"$exists": true}}"#, true),
        (r#"{"list": {"$contains": "x"}}"#, true),
        (r#"{"list": {"$contains": "z"}}"#, false),
        (r#"{"list": ["x", "y"]}"#, true),
        (r#"{"b": {"$contains": "Hop"}}"#, true),
        (r#"{"b": {"$autocomplete": "hop"}}"#, true),
        (r#"{"b": {"$autocomplete": "grace h"}}"#, true),
        (r#"{"b": {"$autocomplete": "opper"}}"#, false),
        (r#"{"$or": [{"a": 1}, {"b": {"$exists": true}}]}"#, true),
        (r#"{"$and": [{"a": 5}, {"a": 6}]}"#, false),
        (r#"{"$nor": [{"a": 6}, {"list": {"$contains": "z"}}]}"#, true),
    ] {
        assert_eq!(matches(filter, &document), expected, "{filter}");
    }
}

#[test]
fn what_is_no_filter_is_refused() {
    let deep = (0..10).fold(r#"{"a":1}"#.to_owned(), |inner, _| format!(r#"{{"$and":[{inner}]}}"#));
    let wide = format!(r#"{{"$and":[{}]}}"#, vec![r#"{"a":1}"#; 101].join(","));
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(FILTER_BYTES_MAX));
    let values = format!(r#"{{"a":{{"$in":[{}]}}}}"#, vec!["1"; 1_001].join(","));
    let bad = [
        "",
        "[]",
        "1",
        "{",
        r#"{"c":1}"#,
        r#"{"customs":1}"#,
        r#"{"$not":[]}"#,
        r#"{"$and":{}}"#,
        r#"{"$or":[]}"#,
        r#"{"a":{"$regex":"x"}}"#,
        r#"{"a":{"$gt":[1]}}"#,
        r#"{"a":{"$in":1}}"#,
        r#"{"a":{"$exists":1}}"#,
        r#"{"b":{"$autocomplete":""}}"#,
        r#"{"a":{"$gt":1,"x":2}}"#,
        &deep,
        &wide,
        &long,
        &values,
    ];
    for filter in bad {
        let error = Filter::parse(filter, FIELDS).expect_err(filter);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{filter}");
    }
}

#[test]
fn what_an_index_can_use_is_found_only_where_all_must_meet_it() {
    let of = |filter: &str| Filter::parse(filter, FIELDS).expect(filter);
    assert_eq!(of(r#"{"a": "x"}"#).one_of("a"), Some(vec!["x".to_owned()]));
    assert_eq!(of(r#"{"$and": [{"a": {"$in": ["x", "y"]}}]}"#).one_of("a").map(|found| found.len()), Some(2));
    assert_eq!(of(r#"{"$or": [{"a": "x"}, {"b": 1}]}"#).one_of("a"), None);
    assert_eq!(of(r#"{"list": {"$contains": "x"}}"#).contained_in("list").as_deref(), Some("x"));
}
