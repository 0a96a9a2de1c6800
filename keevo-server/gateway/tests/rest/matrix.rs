//! Every endpoint of the API's own list against every kind of token: an endpoint that is added and forgets its rights
//! shows up here.

use std::fmt::Write;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};

use super::support::{Lab, token, user};

/// Every method and path of `/openapi.json`, with the names in paths filled in: feeds and users are Bob's.
async fn endpoints(lab: &Lab) -> Vec<(Method, String, String)> {
    let request = Request::builder().uri("/openapi.json").body(Body::empty()).expect("a request");
    let document = lab.send(request).await.body;
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let Some(path) = path.strip_prefix("/api/v1.0/") else { continue };
        let mut filled = path.to_owned();
        for (name, value) in [
            ("slug", "timeline"),
            ("id", "bob"),
            ("name", "food"),
            ("user", "bob"),
            ("activity", "3e4b1b80-5c1a-11ef-8000-000000000000"),
            ("target", "user:ann"),
            ("by", "user_id"),
            ("value", "bob"),
            ("kind", "like"),
        ] {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        assert!(!filled.contains('{'), "{filled} has a name that this test does not know");
        for method in item.as_object().expect("methods").keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            all.push((method, filled.clone(), path.to_owned()));
        }
    }
    assert!(all.len() > 50, "{} endpoints", all.len());
    all
}

#[tokio::test]
async fn no_endpoint_answers_without_a_token_or_beyond_it() {
    let lab = Lab::new().await;
    let scope = |resource: &str, action: &str, feed: &str| {
        token(&json!({ "resource": resource, "action": action, "feed_id": feed }))
    };
    for (method, path, named) in endpoints(&lab).await {
        let ask = |token: String| {
            let (lab, method, path) = (&lab, method.clone(), path.clone());
            async move { lab.ask(method, &path, &token, &Value::Null).await.refused() }
        };
        for bad in [String::new(), "forged".to_owned(), format!("{}x", scope("*", "*", "*"))] {
            assert_eq!(ask(bad.clone()).await, (401, 3), "{method} {path} {bad}");
        }
        let other = scope("another_resource", "*", "*");
        assert_eq!(ask(other).await, (403, 17), "{method} {path} takes the token of another resource");
        let other = scope("*", if method == Method::GET { "write" } else { "read" }, "*");
        assert_eq!(ask(other).await, (403, 17), "{method} {path} takes the token of another action");
        let other = scope("*", "*", "timelineann");
        assert_eq!(ask(other).await, (403, 17), "{method} {named} takes the token of another feed");
    }
}

/// What a user's token is refused on what is another's, with an empty body. `let in` = judged by what the body says, or
/// free to all.
#[tokio::test]
async fn what_ann_may_ask_about_bob() {
    let lab = Lab::new().await;
    let mut table = String::new();
    let mut endpoints = endpoints(&lab).await;
    endpoints.sort_by(|one, other| (&one.2, one.0.as_str()).cmp(&(&other.2, other.0.as_str())));
    for (method, path, named) in endpoints {
        let answer = lab.ask(method.clone(), &path, &user("ann"), &json!({})).await;
        let told = if answer.status == 403 { "refused" } else { "let in" };
        writeln!(table, "{method} {named} {told}").expect("a string takes all text");
    }
    expect_test::expect_file!["../testdata/rights.txt"].assert_eq(&table);
}
