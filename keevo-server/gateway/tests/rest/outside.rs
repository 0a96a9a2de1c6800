//! What the server asks of others: pages to scrape, and redirects that it gives.

use std::net::SocketAddr;

use axum::Router;
use axum::response::{Html, Redirect};
use axum::routing::get;
use keevo_gateway::GatewayOptions;

use super::support::{Lab, server, token};

/// A site of one page on loopback.
pub(crate) async fn site(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn pages_are_scraped_unless_they_are_private() {
    let page = r#"<head><meta property="og:title" content="A page"><meta property="og:image" content="/i.png"></head>"#;
    let router = Router::new()
        .route("/page", get(move || async move { Html(page) }))
        .route("/moved", get(|| async { Redirect::permanent("/page") }))
        .route("/loop", get(|| async { Redirect::permanent("/loop") }))
        .route("/empty", get(|| async { Html("<p>nothing</p>") }))
        .route("/text", get(|| async { "text" }));
    let address = site(router).await;
    let lab = Lab::with(GatewayOptions { private_fetches: true, ..GatewayOptions::default() }).await;
    for path in ["page", "moved"] {
        let og = lab.get(&format!("og/?url=http://{address}/{path}"), &server()).await.good();
        assert_eq!(og["title"], "A page");
        assert_eq!(og["images"][0]["image"], format!("http://{address}/i.png"));
    }
    for path in ["loop", "empty", "text", "missing"] {
        assert_eq!(lab.get(&format!("og/?url=http://{address}/{path}"), &server()).await.refused(), (400, 4), "{path}");
    }
    let careful = Lab::new().await;
    for host in
        [address.to_string(), format!("localhost:{}", address.port()), format!("[::ffff:127.0.0.1]:{}", address.port())]
    {
        let refused = careful.get(&format!("og/?url=http://{host}/page"), &server()).await;
        assert_eq!(refused.refused(), (400, 4), "{host}");
        assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("private")), "{}", refused.body);
    }
}

#[tokio::test]
async fn a_redirect_needs_a_token_for_it() {
    let lab = Lab::new().await;
    let path = "redirect/?auth_type=jwt&url=http%3A%2F%2Fexample.org%2F%3Fa%3Db&events=%5B%7B%7D%5D";
    let good =
        token(&serde_json::json!({ "resource": "redirect_and_track", "action": "*", "feed_id": "*", "user_id": "a" }));
    let answer = lab.get(path, &good).await;
    assert_eq!(answer.status, 302);
    assert_eq!(answer.headers.get("location").and_then(|to| to.to_str().ok()), Some("http://example.org/?a=b"));
    let other = token(&serde_json::json!({ "resource": "feed", "action": "*", "feed_id": "*" }));
    assert_eq!(lab.get(path, &other).await.refused(), (403, 17));
    assert_eq!(lab.get(path, "forged").await.refused(), (401, 3));
}
