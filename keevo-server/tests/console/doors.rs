//! Who is let in: keys, sessions, sites, and the headers of the page.

use std::time::Duration;

use keevo_core::ErrorKind;
use keevo_proto::chat::v1::SearchMessagesRequest;
use keevo_proto::error_from_status;
use serde_json::{Value, json};

use super::support::{ADMIN_KEY, Answered, Node, http};

/// Everything that the API answers, by a question that is right.
const QUESTIONS: [&str; 18] = [
    "session",
    "cluster",
    "metrics",
    "keyspaces",
    "partitions?keyspace=orders",
    "rows?keyspace=orders&partition=eu",
    "value?keyspace=orders&partition=eu&sort=1",
    "apps",
    "feeds?app=1",
    "activities?app=1&feed=user:alice",
    "channels?app=1",
    "messages?app=1&channel=team:a",
    "members?app=1&channel=team:a",
    "search?app=1&query=message",
    "moderation",
    "moderation/queue?app=1",
    "audit",
    "apilog",
];

async fn login(node: &Node, key: &str) -> Answered {
    let headers = ["x-keevo-console: 1", "content-type: application/json"];
    let body = json!({ "key": key }).to_string();
    http(node.daemon.http(), "POST", "/console/api/login", &headers, Some(&body)).await
}

/// The cookie of a session, as a browser sends it back.
fn cookie(answer: &Answered) -> String {
    let set = answer.header("set-cookie");
    format!("cookie: other=1; {}", set.split(';').next().expect("a cookie"))
}

fn kind(body: &Value) -> &str {
    body["error"]["kind"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_asks_anything_without_a_key() {
    let node = Node::start(true, &[]).await;
    let at = node.daemon.http();
    for question in QUESTIONS {
        let path = format!("/console/api/{question}");
        for headers in
            [&[][..], &["cookie: keevo_console_1=00"], &["authorization: Bearer nonsense"], &["authorization: x"]]
        {
            let answer = http(at, "GET", &path, headers, None).await;
            let body = answer.json();
            assert_eq!((answer.status, kind(&body)), (401, "UNAUTHENTICATED"), "{question} {headers:?}: {body}");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    for wrong in ["", " ", "keevo_1_2", &"x".repeat(2_000), "key\r\nwith: lines"] {
        let answer = login(&node, wrong).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (401, ""), "{wrong:?}");
    }
    let decide = json!({ "app": 1, "id": "00", "decision": "allow" });
    assert_eq!(node.send("nonsense", "moderation/decide", &decide).await.0, 401);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lasts_until_it_is_ended_or_its_key_is_revoked() {
    let node = Node::start(true, &[]).await;
    let at = node.daemon.http();
    let admin = login(&node, ADMIN_KEY).await;
    assert_eq!(admin.status, 200);
    let set = admin.header("set-cookie");
    for part in ["keevo_console_1=", "; Path=/console;", "; HttpOnly;", "; SameSite=Strict;", "Max-Age=43200"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Secure") && !set.contains(ADMIN_KEY), "{set}");
    assert_eq!(admin.json()["administers"], json!(true));
    let over_tls = ["x-keevo-console: 1", "content-type: application/json", "x-forwarded-proto: https"];
    let body = json!({ "key": ADMIN_KEY }).to_string();
    let secure = http(at, "POST", "/console/api/login", &over_tls, Some(&body)).await;
    assert!(secure.header("set-cookie").ends_with("; Secure"), "{secure:?}");

    let (id, key) = node.key("sales", &["read kv:orders"]).await;
    let sales = login(&node, &key).await;
    let (admin, sales) = (cookie(&admin), cookie(&sales));
    let asks = async |cookie: &str| http(at, "GET", "/console/api/session", &[cookie], None).await;
    let session = asks(&sales).await.json();
    assert_eq!((&session["role"], &session["administers"]), (&json!("sales"), &json!(false)), "{session}");
    assert_eq!(session["grants"], json!(["read kv:orders"]));
    assert_eq!(asks(&admin).await.json()["principal"], json!("key of auth_admin_key_file"));

    node.revoke(&id).await;
    tokio::time::timeout(Duration::from_secs(10), async {
        while asks(&sales).await.status != 401 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("a revoked key ends its session");

    let out = http(at, "POST", "/console/api/logout", &[&admin, "x-keevo-console: 1"], None).await;
    assert!(out.status == 200 && out.header("set-cookie").contains("Max-Age=0"), "{out:?}");
    assert_eq!(asks(&admin).await.status, 401, "the session has ended");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_sees_what_it_may_and_nothing_else() {
    let node = Node::start(true, &[]).await;
    let (_, sales) = node.key("sales", &["read kv:orders/eu"]).await;
    let (_, support) = node.key("support", &["read feeds:1", "read chat:1"]).await;
    let (_, writer) = node.key("pen", &["write *"]).await;
    let (_, lord) = node.key("lord", &["read,admin *"]).await;
    let (_, clerk) = node.key("clerk", &["read apilog"]).await;
    super::data::fill(&node).await;
    let reached = async |key: &str| {
        let mut reached = Vec::new();
        for question in QUESTIONS {
            let (status, body) = loop {
                let answer = node.ask(key, question).await;
                // The search index is opened beside all else.
                if answer.0 != 503 {
                    break answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            match status {
                200 => reached.push(question),
                // What one may not know of does not exist.
                403 | 404 => {}
                _ => panic!("{question}: {status} {body}"),
            }
        }
        reached
    };
    let everybody = ["session", "metrics", "keyspaces", "apps"];
    let only = |more: &[&'static str]| -> Vec<&str> {
        QUESTIONS.into_iter().filter(|question| everybody.contains(question) || more.contains(question)).collect()
    };
    let (rows, value) = ("rows?keyspace=orders&partition=eu", "value?keyspace=orders&partition=eu&sort=1");
    assert_eq!(reached(&sales).await, only(&[rows, value]));
    assert_eq!(
        reached(&support).await,
        only(&[
            "feeds?app=1",
            "activities?app=1&feed=user:alice",
            "channels?app=1",
            "messages?app=1&channel=team:a",
            "members?app=1&channel=team:a",
            "search?app=1&query=message",
        ])
    );
    assert_eq!(reached(&writer).await, only(&[]), "who may not read reads nothing here either");
    assert_eq!(reached(&lord).await, QUESTIONS.to_vec());
    assert_eq!(reached(&clerk).await, only(&["apilog"]));
    assert_eq!(node.get(&clerk, "session").await["reads_calls"], json!(true));
    assert_eq!(node.get(&sales, "partitions?keyspace=orders&prefix=eu").await["partitions"], json!(["eu"]));
    for hidden in ["partitions?keyspace=chat", "rows?keyspace=feeds&partition=x", "rows?keyspace=nowhere&partition=x"] {
        assert_eq!(node.ask(&sales, hidden).await.0, 404, "{hidden}");
    }
    for denied in ["rows?keyspace=orders&partition=us", "partitions?keyspace=orders&prefix=us"] {
        assert_eq!(node.ask(&sales, denied).await.0, 403, "{denied}");
    }
    let decide = json!({ "app": 1, "id": "00".repeat(24), "decision": "allow" });
    for key in [&sales, &support, &writer] {
        assert_eq!(node.send(key, "moderation/decide", &decide).await.0, 403);
    }
    assert_eq!(node.send(&lord, "moderation/decide", &decide).await.0, 404, "there is no such entry");
    node.stop().await;
}

/// The search over gRPC names its app in the request, so the service asks for the right itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_over_grpc_needs_the_right_to_read_the_chat_of_its_app() {
    let node = Node::start(true, &[]).await;
    let (_, reader) = node.key("reader-of-1", &["read chat:1"]).await;
    let (_, other) = node.key("reader-of-2", &["read chat:2"]).await;
    let (_, writer) = node.key("pen", &["write *"]).await;
    let (_, sales) = node.key("sales", &["read kv:orders", "read feeds:1"]).await;
    super::data::fill(&node).await;
    let ask = async |key: &str, request: SearchMessagesRequest| {
        for _ in 0..200 {
            match node.search(key).search_messages(request.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => match error_from_status(&status).kind() {
                    // The index is opened beside all else.
                    ErrorKind::Unavailable => tokio::time::sleep(Duration::from_millis(50)).await,
                    kind => return Err(kind),
                },
            }
        }
        Err(ErrorKind::Unavailable)
    };
    let of = |app: u32| SearchMessagesRequest { app, query: "message".into(), ..Default::default() };
    for key in [&other, &writer, &sales] {
        for app in [0, 1] {
            assert_eq!(ask(key, of(app)).await.expect_err("denied"), ErrorKind::PermissionDenied);
        }
    }
    assert_eq!(
        ask(&reader, of(2)).await.expect_err("denied"),
        ErrorKind::PermissionDenied,
        "before it is known whether it is"
    );
    assert_eq!(ask(&other, of(2)).await.expect_err("no app"), ErrorKind::NotFound);
    let mut found = 0;
    for _ in 0..200 {
        found = ask(&reader, of(0)).await.expect("answered").messages.len();
        if found == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(found, 5);
    let page = ask(&reader, SearchMessagesRequest { limit: 2, order: 3, ..of(1) }).await.expect("answered");
    assert_eq!((page.messages[0].id.as_str(), page.messages[1].sequence), ("m0", 2));
    let next = SearchMessagesRequest { limit: 2, order: 3, after: page.next.clone(), ..of(1) };
    assert_eq!(ask(&reader, next).await.expect("answered").messages[0].id, "m2");
    for (bad, kind) in [
        (SearchMessagesRequest { query: String::new(), ..of(1) }, ErrorKind::Invalid),
        (SearchMessagesRequest { limit: 201, ..of(1) }, ErrorKind::Invalid),
        (SearchMessagesRequest { order: 9, ..of(1) }, ErrorKind::Invalid),
        (SearchMessagesRequest { after: page.next, order: 2, ..of(1) }, ErrorKind::Invalid),
        (SearchMessagesRequest { channel: "team:nowhere".into(), ..of(1) }, ErrorKind::NotFound),
    ] {
        assert_eq!(ask(&reader, bad.clone()).await.expect_err("refused"), kind, "{bad:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_sites_reach_nothing() {
    let node = Node::start(true, &[]).await;
    let at = node.daemon.http();
    let bearer = format!("authorization: Bearer {ADMIN_KEY}");
    for site in ["cross-site", "same-site"] {
        let answer =
            http(at, "GET", "/console/api/session", &[&bearer, &format!("sec-fetch-site: {site}")], None).await;
        assert_eq!(answer.status, 403, "{site}");
    }
    for site in ["same-origin", "none"] {
        let answer =
            http(at, "GET", "/console/api/session", &[&bearer, &format!("sec-fetch-site: {site}")], None).await;
        assert_eq!(answer.status, 200, "{site}");
    }
    let body = json!({ "key": ADMIN_KEY }).to_string();
    for headers in [&["content-type: application/json"][..], &["content-type: text/plain"]] {
        let answer = http(at, "POST", "/console/api/login", headers, Some(&body)).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (403, ""), "{headers:?}");
    }
    let form = ["x-keevo-console: 1", "content-type: application/x-www-form-urlencoded"];
    assert_eq!(http(at, "POST", "/console/api/login", &form, Some("key=1")).await.status, 400);
    let asked = ["origin: http://evil.example", "access-control-request-method: POST"];
    let preflight = http(at, "OPTIONS", "/console/api/login", &asked, None).await;
    assert!(preflight.status >= 400 && preflight.header("access-control-allow-origin").is_empty(), "{preflight:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_authentication_it_answers_on_loopback_to_no_name() {
    let node = Node::start(false, &[]).await;
    let at = node.daemon.http();
    let asks = async |host: &str| http(at, "GET", "/console/api/session", &[&format!("host: {host}")], None).await;
    let session = asks(&at.to_string()).await;
    assert_eq!((session.status, &session.json()["auth"]), (200, &json!(false)));
    assert_eq!(asks("localhost:1").await.status, 200);
    for name in ["evil.example", "evil.example:8101", ""] {
        let answer = asks(name).await;
        assert_eq!(answer.status, 403, "a name may have been made to point here: {name}");
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains("auth = true")));
    }
    for question in ["cluster", "metrics", "keyspaces", "audit"] {
        assert_eq!(http(at, "GET", &format!("/console/api/{question}"), &[], None).await.status, 200, "{question}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_runs_nothing_but_its_own_script() {
    let node = Node::start(true, &[]).await;
    let at = node.daemon.http();
    let plain = http(at, "GET", "/console", &[], None).await;
    assert_eq!((plain.status, plain.header("location")), (308, "/console/"));
    let document = http(at, "GET", "/console/", &[], None).await;
    let policy = document.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!((document.header("cache-control"), document.header("x-content-type-options")), ("no-store", "nosniff"));
    let html = String::from_utf8(document.body).expect("text");
    let script = html.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a script");
    let packed = http(at, "GET", script, &["accept-encoding: gzip"], None).await;
    assert_eq!((packed.status, packed.header("content-encoding")), (200, "gzip"));
    assert_eq!(packed.header("cache-control"), "public, max-age=31536000, immutable");
    let whole = http(at, "GET", "/console/app.js", &[], None).await;
    assert_eq!((whole.header("content-encoding"), whole.header("cache-control")), ("", "no-cache"));
    assert!(whole.body.len() > packed.body.len() && whole.header("content-type").starts_with("text/javascript"));
    assert_eq!(http(at, "GET", "/console/nothing.js", &[], None).await.status, 404);
    assert_eq!(http(at, "GET", "/console/..%2f..%2fetc%2fpasswd", &[], None).await.status, 404);
    node.stop().await;
}
