//! Rate limits and CORS.

use axum::body::Body;
use axum::http::{Method, Request, header};

use super::support::{Lab, activity, server};

#[tokio::test]
async fn limits_are_told_and_kept() {
    let lab = Lab::new().await;
    lab.change(|app| app.rates.extend([("add".to_owned(), 3)])).await;
    let header = |answer: &super::support::Answer, name: &str| -> u64 {
        answer.headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).expect("a number")
    };
    for left in [2, 1, 0] {
        let answer = lab.post("feed/user/1/", &server(), activity("o")).await;
        assert_eq!((answer.status.as_u16(), header(&answer, "x-ratelimit-remaining")), (201, left));
        assert_eq!(header(&answer, "x-ratelimit-limit"), 3);
        assert_eq!(header(&answer, "x-ratelimit-reset") % 60, 0, "the end of a minute");
    }
    let refused = lab.post("feed/user/1/", &server(), activity("o")).await;
    // A minute may end in between; then all counts anew.
    if refused.status != 201 {
        assert_eq!(refused.refused(), (429, 9));
        assert_eq!(header(&refused, "x-ratelimit-remaining"), 0);
        assert!((1..=60).contains(&header(&refused, "retry-after")));
    }
    assert_eq!(lab.get("feed/user/1/", &server()).await.status, 200, "reads have a limit of their own");
}

#[tokio::test]
async fn browsers_may_call_from_any_page() {
    let lab = Lab::new().await;
    let request = Request::builder()
        .method(Method::OPTIONS)
        .uri("/api/v1.0/feed/user/1/")
        .header(header::ORIGIN, "https://page.example")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type,stream-auth-type,x-stream-client")
        .body(Body::empty());
    let answer = lab.send(request.expect("a request")).await;
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!((answer.status.as_u16(), header("access-control-allow-origin")), (200, "*"));
    for name in ["authorization", "content-type", "stream-auth-type", "x-stream-client"] {
        assert!(header("access-control-allow-headers").contains(name), "{name}");
    }
    for name in ["GET", "POST", "PUT", "DELETE"] {
        assert!(header("access-control-allow-methods").contains(name), "{name}");
    }
    assert_eq!(header("access-control-allow-credentials"), "", "tokens are no cookies");
    let request = Request::builder().uri("/api/v1.0/feed/user/1/").header(header::ORIGIN, "https://page.example");
    let refused = lab.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(refused.refused(), (401, 2));
    assert!(refused.headers.contains_key("access-control-allow-origin"), "errors can be read too");
}
