//! Rate limits and CORS.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, header};
use keevo_core::ManualClock;
use keevo_gateway::GatewayOptions;

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

/// How many of `count` requests a minute, for some minutes, are let in; and how long the last one was told to wait.
async fn minutes(lab: &Lab, clock: &ManualClock, minutes: u32, count: u32) -> (u32, u64) {
    let (mut let_in, mut wait_s) = (0, 0);
    for _ in 0..minutes {
        for _ in 0..count {
            let answer = lab.get("feed/user/1/", &server()).await;
            if answer.status == 200 {
                let_in += 1;
                continue;
            }
            assert_eq!(answer.refused(), (429, 9));
            let told = answer.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            wait_s = told.expect("how long to wait");
        }
        clock.advance_ms(60_000);
    }
    (let_in, wait_s)
}

#[tokio::test]
async fn a_minute_a_quarter_of_an_hour_and_an_hour_have_limits_of_their_own() {
    let clock = Arc::new(ManualClock::new(1_000 * 3_600_000));
    let lab = Lab::with(GatewayOptions { clock: Arc::<ManualClock>::clone(&clock), ..GatewayOptions::default() }).await;
    lab.change(|app| app.rates.extend([("read".to_owned(), 2)])).await;
    // Two a minute; ten times that in a quarter of an hour; thirty times that in an hour.
    assert_eq!(minutes(&lab, &clock, 1, 3).await, (2, 60), "the third of a minute waits for the next");
    assert_eq!(minutes(&lab, &clock, 9, 2).await, (18, 0));
    assert_eq!(minutes(&lab, &clock, 5, 1).await, (0, 60), "twenty in ten minutes are all of a quarter");
    assert_eq!(minutes(&lab, &clock, 15, 2).await.0, 20);
    assert_eq!(minutes(&lab, &clock, 15, 2).await.0, 20);
    assert_eq!(minutes(&lab, &clock, 15, 2).await, (0, 60), "sixty in three quarters are all of an hour");
    assert_eq!(minutes(&lab, &clock, 1, 3).await, (2, 60), "and the next hour begins anew");
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
