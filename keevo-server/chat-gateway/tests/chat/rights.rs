//! Every endpoint of the API's own list against every kind of caller: an endpoint that is added and forgets its rights shows
//! up here.

use std::fmt::Write;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Map, Value, json};

use super::support::{Lab, server, token, user};

/// Every endpoint: its name, method, filled path, and a body with the fields that it demands.
async fn endpoints(lab: &Lab) -> Vec<(String, Method, String, Value)> {
    let request = Request::builder().uri("/chat/v1/openapi.json").body(Body::empty()).expect("a request");
    let document = lab.send(request).await.body;
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let mut filled = path.strip_prefix("/chat/v1/").expect("a path of chat").to_owned();
        for (name, value) in [
            ("type", "team"),
            ("id", "a"),
            ("message", "m"),
            ("user", "bob"),
            ("reaction", "like"),
            ("kind", "team"),
            ("poll", "p"),
            ("option", "1"),
            ("group", "g"),
            ("name", "n"),
        ] {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        assert!(!filled.contains('{'), "{filled} has a name that this test does not know");
        for (method, operation) in item.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("a name").to_owned();
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            all.push((id, method, filled.clone(), body(operation)));
        }
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(all.len() > 70, "{} endpoints", all.len());
    all
}

/// A body with the fields that an operation demands, each of the kind that its schema says.
fn body(operation: &Value) -> Value {
    let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") else { return Value::Null };
    let mut body = Map::new();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let value = match (name, schema["properties"][name]["type"].as_str()) {
            ("verdict", _) => json!("keep"),
            ("type", _) => json!("like"),
            (_, Some("string")) => json!("x"),
            (_, Some("boolean")) => json!(true),
            (_, Some("integer" | "number")) => json!(1),
            (_, Some("array")) => json!([]),
            _ => json!({}),
        };
        body.insert(name.to_owned(), value);
    }
    Value::Object(body)
}

#[tokio::test]
async fn no_endpoint_answers_without_a_token_or_beyond_it() {
    let lab = Lab::new().await;
    let files = |path: &str| path.starts_with("files") || path.starts_with("images");
    for (id, method, path, body) in endpoints(&lab).await {
        for bad in [String::new(), "forged".to_owned(), format!("{}x", server())] {
            let answer = lab.ask(method.clone(), &path, &bad, &body).await;
            assert_eq!(answer.refused(), (401, 43), "{id} {bad}");
        }
        if files(&path) {
            continue;
        }
        for claims in [
            json!({ "resource": "feed", "action": "*" }),
            json!({ "resource": "chat", "action": "other" }),
            json!({ "resource": "*", "action": "*", "feed_id": "user1" }),
        ] {
            let answer = lab.ask(method.clone(), &path, &token(&claims), &body).await;
            assert_eq!(answer.denied(), "scope", "{id} {claims}");
        }
        let other = format!("{path}?user_id=ann");
        let answer = lab.ask(method.clone(), &other, &user("eve"), &body).await;
        let reason = answer.denied();
        assert!(matches!(reason, "another-user" | "server-only"), "{id} lets eve act as ann: {reason}");
        let unknown = format!("{path}?no_such_parameter=1");
        let answer = lab.ask(method.clone(), &unknown, &server(), &body).await;
        assert!(matches!(answer.refused(), (400, 4 | 10)), "{id} {}", answer.body);
        let answer = lab.ask(method, &format!("{path}?user_id=ann"), &server(), &json!({ "no_such_field": 1 })).await;
        assert_eq!(answer.refused(), (400, 4), "{id} takes a field that it does not know");
    }
}

/// What a stranger, a member, the owner and a server are told by each call on Ann's channel, in which Bob is a member and
/// Cat wrote the message.
#[tokio::test]
async fn what_each_may_in_a_channel() {
    let mut table = String::new();
    let count = endpoints(&Lab::new().await).await.len();
    for number in 0..count {
        let mut told = Vec::new();
        let mut name = String::new();
        for who in [user("eve"), user("bob"), user("ann"), server()] {
            let lab = Lab::new().await;
            let (id, method, path, body) = endpoints(&lab).await.swap_remove(number);
            // Search has tests of its own, and a node with an index.
            if path.starts_with("files") || path.starts_with("images") || path == "search" {
                continue;
            }
            lab.channel("a", &["ann", "bob", "cat"]).await;
            lab.post("channels/team/a/messages", &user("cat"), json!({ "id": "m", "text": "x" })).await.good();
            let path = if who == server() { format!("{path}?user_id=boss") } else { path };
            let answer = lab.ask(method, &path, &who, &body).await;
            assert!(answer.status.as_u16() < 500, "{id}: {}", answer.body);
            told.push(match answer.status.as_u16() {
                403 => answer.denied().to_owned(),
                status => status.to_string(),
            });
            name = id;
        }
        if !name.is_empty() {
            writeln!(table, "{name}: {}", told.join(", ")).expect("a string takes all text");
        }
    }
    expect_test::expect_file!["../testdata/rights.txt"].assert_eq(&table);
}
