//! Bad input: each is told by a code and a sentence, and never by a failure of the server.

use axum::http::Method;
use serde_json::{Value, json};

use super::support::{Lab, server, token, user};

#[tokio::test]
async fn bodies_that_are_wrong_are_refused() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann"]).await;
    let path = "channels/team/a/messages";
    let ann = user("ann");
    let raw = |body: &[u8]| lab.raw(Method::POST, path, &ann, body.to_vec());
    for body in [&b"{"[..], b"[]", b"7", b"\xff\xfe", b"{\"text\": \"\xff\"}", b"{\"text\": \"\\ud800\"}", b"null"] {
        assert_eq!(raw(body).await.refused(), (400, 4), "{}", String::from_utf8_lossy(body));
    }
    let nested = format!("{{\"custom\": {{\"a\": {}{}}}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(raw(nested.as_bytes()).await.refused(), (400, 4));
    let mut huge = json!({ "text": "x" });
    huge["custom"] = json!({ "a": "y".repeat(1 << 20) });
    assert_eq!(raw(huge.to_string().as_bytes()).await.refused(), (413, 18));
    for body in [
        json!({}),
        json!({ "text": 7 }),
        json!({ "text": "x", "user_id": "bob" }),
        json!({ "text": "x", "id": "" }),
        json!({ "text": "x", "id": "a\nb" }),
        json!({ "text": "x", "id": "y".repeat(200) }),
        json!({ "text": "y".repeat(70_000) }),
        json!({ "text": "x", "custom": [] }),
        json!({ "text": "x", "custom": { "a": "y".repeat(70_000) } }),
        json!({ "text": "x", "attachments": [7] }),
        json!({ "text": "x", "attachments": vec![json!({}); 31] }),
        json!({ "text": "x", "mentions": { "who": [] } }),
        json!({ "text": "x", "mentions": { "users": (0..101).map(|one| one.to_string()).collect::<Vec<_>>() } }),
        json!({ "text": "x", "parent_id": "" }),
    ] {
        let answer = lab.post(path, &user("ann"), body.clone()).await;
        assert_eq!(answer.refused(), (400, 4), "{body}");
    }
    for (body, code) in
        [(json!({ "text": "x", "parent_id": "none" }), 16), (json!({ "text": "x", "quoted_id": "none" }), 16)]
    {
        assert_eq!(lab.post(path, &user("ann"), body).await.refused(), (404, code));
    }
    let field = lab.post(path, &user("ann"), json!({ "text": 7 })).await;
    assert_eq!(field.body["exception_fields"], json!({ "text": ["is text"] }));
    assert_eq!(lab.get(path, &user("ann")).await.good()["messages"], json!([]), "nothing was sent");
}

#[tokio::test]
async fn queries_cursors_and_paths_that_are_wrong_are_refused() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann"]).await;
    for path in [
        "channels/team/a/messages?limit=0",
        "channels/team/a/messages?limit=301",
        "channels/team/a/messages?limit=x",
        "channels/team/a/messages?before=-1",
        "channels/team/a/messages?before=99999999999999999999999",
        "channels/team/a/messages?order=up",
        "channels/team/a/members?limit=2000",
        "channels/team/a?messages=301",
        "channels/te%20am/a",
        "channels/team/%00",
        "channels/team/%ff",
        "channel_types/%20",
        "inbox?cursor=nonsense",
        "unread?limit=101",
    ] {
        assert_eq!(lab.get(path, &user("ann")).await.refused(), (400, 4), "{path}");
    }
    assert_eq!(lab.get(&format!("review?cursor={}", "x".repeat(50)), &server()).await.refused(), (400, 4));
    for path in ["", "nothing", "channels/team", "channels/team/none", "channels/team/a/messages/none", "users/none"] {
        let answer = lab.get(path, &user("ann")).await;
        assert!(matches!(answer.refused(), (404, 16) | (403 | 405, 17)), "{path} {}", answer.body);
    }
    for filter in [
        json!({ "nothing": 1 }),
        json!({ "cid": { "$what": 1 } }),
        json!({ "$where": "1" }),
        json!({ "$and": [] }),
        json!({ "cid": { "$in": "x" } }),
        json!({ "cid": "no name" }),
        json!({ "cid": 7 }),
    ] {
        for caller in [user("ann"), server()] {
            let answer = lab.post("channels/query", &caller, json!({ "filter": filter })).await;
            let good = answer.status == 200 && filter == json!({ "cid": 7 });
            assert!(good || answer.refused() == (400, 4), "{filter} {}", answer.body);
        }
    }
    let none = lab.post("channels/query", &server(), json!({ "filter": { "team": "x" } })).await;
    assert_eq!(none.refused(), (400, 4), "there is no list of all channels");
    let many = json!({ "$and": (0..101).map(|_| json!({ "id": "x" })).collect::<Vec<_>>() });
    assert_eq!(lab.post("users/query", &user("ann"), json!({ "filter": many })).await.refused(), (400, 4));
    assert_eq!(lab.post("users/query", &user("ann"), json!({ "filter": {}, "limit": 301 })).await.refused(), (400, 4));
    assert_eq!(
        lab.post("users/query", &user("ann"), json!({ "filter": {}, "sort": "-age" })).await.refused(),
        (400, 4)
    );
}

#[tokio::test]
async fn tokens_that_are_wrong_have_codes_of_their_own() {
    let lab = Lab::new().await;
    let now_s = lab.gateway.now_ms() / 1_000;
    let ask = |claims: Value| {
        let (lab, token) = (&lab, token(&claims));
        async move { lab.get("inbox", &token).await.refused() }
    };
    assert_eq!(ask(json!({ "user_id": "ann", "exp": now_s - 100 })).await, (401, 40));
    assert_eq!(ask(json!({ "user_id": "ann", "nbf": now_s + 100 })).await, (401, 41));
    assert_eq!(ask(json!({ "user_id": "ann", "iat": now_s + 100 })).await, (401, 42));
    assert_eq!(ask(json!({ "user_id": 7 })).await, (401, 43));
    assert_eq!(ask(json!({ "user_id": "x".repeat(200) })).await, (400, 4), "no name of a user of chat");
    assert_eq!(ask(json!({ "resource": "chat", "action": "read" })).await, (400, 10), "a server names the user");
    let request = axum::http::Request::builder().uri("/chat/v1/inbox?api_key=none").body(axum::body::Body::empty());
    assert_eq!(lab.send(request.expect("a request")).await.refused(), (401, 2));
    lab.change(|app| app.suspended = true).await;
    assert_eq!(lab.get("inbox", &user("ann")).await.refused(), (401, 7));
}

/// Every endpoint with damaged bodies of the kind that it takes: a code each time, never a failure.
#[tokio::test]
async fn damaged_bodies_never_fail_the_server() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann"]).await;
    lab.post("channels/team/a/messages", &user("ann"), json!({ "id": "m", "text": "x" })).await.good();
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!(1.5e300),
        json!(""),
        json!("\u{0}"),
        json!("x".repeat(5_000)),
        json!([]),
        json!([[]]),
        json!([{}]),
        json!(["", "x"]),
        json!({}),
        json!({ "a.b": { "$in": [1] } }),
        json!({ "": "" }),
    ];
    let request = axum::http::Request::builder().uri("/chat/v1/openapi.json").body(axum::body::Body::empty());
    let document = lab.send(request.expect("a request")).await.body;
    for (path, item) in document["paths"].as_object().expect("paths") {
        let mut filled = path.replace("/chat/v1/", "");
        for (name, value) in [("type", "team"), ("id", "a"), ("message", "m"), ("kind", "team")] {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        let filled = filled.replace("{user}", "bob").replace("{reaction}", "like");
        // Search has tests of its own, and a node with an index.
        if filled.starts_with("files") || filled.starts_with("images") || filled == "search" {
            continue;
        }
        for (method, operation) in item.as_object().expect("methods") {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let schema = operation.pointer("/requestBody/content/application~1json/schema/properties");
            let names: Vec<&String> =
                schema.and_then(Value::as_object).into_iter().flat_map(|all| all.keys()).collect();
            for value in &values {
                let body: Value =
                    names.iter().map(|name| ((*name).clone(), value.clone())).collect::<serde_json::Map<_, _>>().into();
                let answer = lab.ask(method.clone(), &format!("{filled}?user_id=ann"), &server(), &body).await;
                assert!(answer.status.as_u16() < 500, "{method} {filled} {body:.200}: {}", answer.body);
                if !answer.status.is_success() {
                    answer.refused();
                }
            }
        }
    }
}
