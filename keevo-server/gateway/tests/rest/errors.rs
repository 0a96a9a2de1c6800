//! Bad input: the contract's code and a sentence, never a 500.

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::{Value, json};

use super::support::{KEY, Lab, activity, server};

#[tokio::test]
async fn malformed_activities() {
    let lab = Lab::new().await;
    let with = |name: &str, value: Value| {
        let mut body = activity("o");
        body[name] = value;
        body
    };
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let bad = [
        json!({}),
        json!({ "verb": "v", "object": "o" }),
        json!({ "actor": "", "verb": "v", "object": "o" }),
        with("actor", json!(null)),
        with("verb", json!("v".repeat(256))),
        with("verb", json!(["v"])),
        with("object", json!({ "no": "id" })),
        with("time", json!("yesterday")),
        with("time", json!(1_700_000_000)),
        with("time", json!("2026-02-30T00:00:00")),
        with("to", json!("user:1")),
        with("to", json!([1])),
        with("to", json!(["user"])),
        with("to", json!(["user:1:2"])),
        with("to", json!((0..101).map(|one| format!("user:{one}")).collect::<Vec<_>>())),
        with("foreign_id", json!("f".repeat(1_025))),
        with("big", json!("x".repeat(11 * 1024))),
        json!({ "activities": {} }),
        json!({ "activities": [7] }),
        json!({ "activities": (0..101).map(|_| activity("o")).collect::<Vec<_>>() }),
        json!([activity("o")]),
        json!("text"),
    ];
    for body in bad {
        let shown: String = body.to_string().chars().take(80).collect();
        assert_eq!(lab.post("feed/user/ann/", &server(), body).await.refused(), (400, 4), "{shown}");
    }
    for raw in ["{", "nonsense", "\u{0}", deep.as_str(), "{\"actor\":\"a\" \"verb\":1}", "\u{feff}{}"] {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/api/v1.0/feed/user/ann/?api_key={KEY}"))
            .header(header::AUTHORIZATION, server())
            .body(Body::from(raw.to_owned()));
        assert_eq!(lab.send(request.expect("a request")).await.refused(), (400, 4), "{raw:.20}");
    }
    let unknown_group = with("to", json!(["nobody:1"]));
    assert_eq!(lab.post("feed/user/ann/", &server(), unknown_group).await.refused(), (400, 6));
    assert_eq!(lab.page("feed/user/ann/").await.0, Vec::<String>::new(), "nothing of it was added");
}

#[tokio::test]
async fn malformed_paths_and_queries() {
    let lab = Lab::new().await;
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let long = format!("feed/user/{}/", "i".repeat(256));
    for (method, path, body, expected) in [
        (get.clone(), "feed/us%20er/1/", json!(null), (400, 4)),
        (get.clone(), "feed/user/1%3A2/", json!(null), (400, 4)),
        (get.clone(), "feed/user/%00/", json!(null), (400, 4)),
        (get.clone(), "feed/user/%ff/", json!(null), (400, 4)),
        (get.clone(), long.as_str(), json!(null), (400, 4)),
        (get.clone(), "feed/nobody/1/", json!(null), (400, 6)),
        (get.clone(), "feed/user/1/?limit=x", json!(null), (400, 4)),
        (get.clone(), "feed/user/1/?limit=-1", json!(null), (400, 4)),
        (get.clone(), "feed/user/1/?limit=101", json!(null), (400, 4)),
        (get.clone(), "feed/user/1/?offset=10001", json!(null), (400, 4)),
        (get.clone(), "feed/user/1/?id_lt=x", json!(null), (400, 4)),
        (get.clone(), "feed/user/1/?id_gte=54a60c1e-4ee3-494b-a1e3-50c06acb5ed4", json!(null), (400, 4)),
        (get.clone(), "feed/user/1/following/?filter=x", json!(null), (400, 4)),
        (get.clone(), "feed/user/1/followers/?limit=501", json!(null), (400, 4)),
        (get.clone(), "stats/follow/", json!(null), (400, 4)),
        (get.clone(), "stats/follow/?followers=x", json!(null), (400, 4)),
        (delete.clone(), "feed/user/1/not-an-id/", json!(null), (400, 4)),
        (delete.clone(), "feed/user/1/x/?foreign_id=maybe", json!(null), (400, 4)),
        (delete.clone(), "feed/user/1/follows/nobody:1/", json!(null), (400, 6)),
        (delete, "feed/user/1/follows/user:2/?keep_history=perhaps", json!(null), (400, 4)),
        (post.clone(), "feed/user/1/follows/", json!({}), (400, 4)),
        (post.clone(), "feed/user/1/follows/", json!({ "target": 7 }), (400, 4)),
        (post.clone(), "feed/user/1/follows/", json!({ "target": "user:1" }), (400, 4)),
        (post.clone(), "feed/user/1/follows/", json!({ "target": "user:2", "activity_copy_limit": 1_001 }), (400, 4)),
        (post.clone(), "feed/user/1/follows/", json!({ "target": "user:2", "activity_copy_limit": "x" }), (400, 4)),
        (post, "follow_many/?activity_copy_limit=-1", json!([]), (400, 4)),
        (get.clone(), "og/", json!(null), (400, 4)),
        (get.clone(), "og/?url=ftp://example.org/", json!(null), (400, 4)),
        (get.clone(), "og/?url=nonsense", json!(null), (400, 4)),
        (get.clone(), "redirect/", json!(null), (400, 4)),
        (get.clone(), "redirect/?url=javascript:alert(1)", json!(null), (400, 4)),
        (get.clone(), "redirect/?url=http://example.org/&events={}", json!(null), (400, 4)),
        (get, "images/?url=http://example.org/x.png", json!(null), (403, 17)),
    ] {
        assert_eq!(lab.ask(method, path, &server(), &body).await.refused(), expected, "{path} {body}");
    }
}

#[tokio::test]
async fn strangers_are_refused_before_their_body_is_read() {
    let lab = Lab::new().await;
    let ask = |uri: String, token: &'static str| {
        let request = Request::builder().method(Method::POST).uri(uri).header(header::AUTHORIZATION, token);
        let lab = &lab;
        async move { lab.send(request.body(Body::from("{")).expect("a request")).await.refused() }
    };
    let path = "/api/v1.0/feed/user/1/";
    assert_eq!(ask(path.to_owned(), "x").await, (401, 2));
    assert_eq!(ask(format!("{path}?api_key="), "x").await, (401, 2));
    assert_eq!(ask(format!("{path}?api_key=unknown"), "x").await, (401, 2));
    assert_eq!(ask(format!("{path}?api_key={}", "k".repeat(300)), "x").await, (401, 2));
    assert_eq!(ask(format!("{path}?api_key={KEY}"), "x").await, (401, 3));
    assert_eq!(ask(format!("{path}?api_key={KEY}"), "").await, (401, 3));
    assert_eq!(ask(format!("{path}?api_key={KEY}&{}", "a=1&".repeat(1_001)), "x").await, (400, 4));
}

#[tokio::test]
async fn bodies_are_bounded() {
    let options = keevo_gateway::GatewayOptions { body_bytes_max: 1_000, ..Default::default() };
    let lab = Lab::with(options).await;
    let large = json!({ "actor": "a", "verb": "v", "object": "x".repeat(1_000) });
    assert_eq!(lab.post("feed/user/1/", &server(), large).await.refused(), (413, 18));
    // One whose length nobody tells.
    let chunks = futures::stream::iter((0..10).map(|_| Ok::<_, std::io::Error>("x".repeat(200))));
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/api/v1.0/feed/user/1/?api_key={KEY}"))
        .header(header::AUTHORIZATION, server())
        .body(Body::from_stream(chunks));
    assert_eq!(lab.send(request.expect("a request")).await.refused(), (413, 18));
}
