//! Activities over HTTP: shapes, identity, targets, paging.

use axum::http::Method;
use serde_json::{Value, json};

use super::support::{Lab, activity, server};

#[tokio::test]
async fn an_activity_has_the_fields_of_the_contract_and_no_others() {
    let lab = Lab::new().await;
    let body =
        json!({ "actor": 1, "verb": "post", "object": true, "time": "2026-05-01T10:00:00+02:00", "x": { "y": [1] } });
    let added = lab.post("feed/user/ann/", &server(), body).await.good();
    let mut keys: Vec<&String> = added.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["actor", "duration", "foreign_id", "id", "object", "origin", "target", "time", "verb", "x"]);
    assert_eq!((added["actor"].as_str(), added["object"].as_str()), (Some("1"), Some("true")));
    assert_eq!((added["time"].as_str(), added["target"].as_str()), (Some("2026-05-01T08:00:00.000000"), Some("")));
    assert_eq!(added["origin"], Value::Null);
    let page = lab.get("feed/user/ann/", &server()).await.good();
    let mut keys: Vec<&String> = page.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["duration", "next", "results"], "a flat feed's page has no further key");
    assert!(page["results"][0].get("duration").is_none());
}

#[tokio::test]
async fn targets_get_it_once_and_lose_it_together() {
    let lab = Lab::new().await;
    lab.post("feed/timeline/bob/follows/", &server(), json!({ "target": "user:ann" })).await.good();
    let body = json!({ "actor": "a", "verb": "post", "object": "o", "to": ["flat:all", "user:ann token", "flat:all"] });
    let added = lab.post("feed/user/ann/", &server(), body).await.good();
    assert_eq!(added["to"], json!(["flat:all"]), "what repeats, or is the feed itself, is no target");
    let id = added["id"].as_str().expect("an id").to_owned();
    for feed in ["feed/user/ann/", "feed/flat/all/", "feed/timeline/bob/"] {
        assert_eq!(lab.page(feed).await.0, std::slice::from_ref(&id), "{feed}");
    }
    let received = lab.get("feed/timeline/bob/", &server()).await.good();
    assert_eq!(received["results"][0]["origin"], json!("user:ann"));
    let removed = lab.delete(&format!("feed/user/ann/{id}/"), &server()).await.good();
    assert_eq!(removed["removed"], json!(id));
    for feed in ["feed/user/ann/", "feed/flat/all/", "feed/timeline/bob/"] {
        assert_eq!(lab.page(feed).await.0, Vec::<String>::new(), "{feed}");
    }
    for again in [&id, "00000000-0000-4000-8000-000000000000"] {
        lab.delete(&format!("feed/user/ann/{again}/"), &server()).await.good();
    }
}

/// Catches a bound that only what comes behind the gateway keeps: the answer names the field.
#[tokio::test]
async fn an_activity_goes_to_a_hundred_targets_at_most() {
    let lab = Lab::new().await;
    let with = |count: usize| {
        let to: Vec<String> = (0..count).map(|number| format!("flat:{number}")).collect();
        json!({ "actor": "a", "verb": "post", "object": "o", "foreign_id": "f", "time": "2026-01-01T00:00:00", "to": to })
    };
    for many in [with(101), json!({ "activities": [with(1), with(101)] })] {
        let refused = lab.post("feed/user/ann/", &server(), many).await;
        assert_eq!(refused.refused(), (400, 4));
        assert_eq!(refused.body["exception_fields"], json!({ "to": ["has at most 100 entries, not 101"] }));
    }
    assert_eq!(lab.page("feed/flat/0/").await.0, Vec::<String>::new(), "nothing of it was added");
    let added = lab.post("feed/user/ann/", &server(), with(100)).await.good();
    assert_eq!(added["to"].as_array().map(Vec::len), Some(100));
    assert_eq!(lab.page("feed/flat/99/").await.0.len(), 1);
}

#[tokio::test]
async fn next_links_lead_through_a_feed_once_while_it_grows() {
    let lab = Lab::new().await;
    let mut expected = Vec::new();
    for number in 0..7 {
        let time = format!("2026-01-01T00:00:0{number}");
        let body = json!({ "actor": "a", "verb": "post", "object": number, "foreign_id": number, "time": time });
        expected.insert(0, lab.add("user:ann", body).await);
    }
    let mut seen = Vec::new();
    let mut path = "feed/user/ann/?limit=3&offset=0&mark_seen=x".to_owned();
    loop {
        let (ids, next) = lab.page(&path).await;
        seen.extend(ids);
        if next.is_empty() {
            break;
        }
        assert_eq!(next.matches('?').count(), 1, "{next}");
        assert!(next.contains("limit=3") && next.contains("api_key=") && !next.contains("mark_seen"), "{next}");
        // Newer ones do not move what comes after.
        lab.add("user:ann", json!({ "actor": "b", "verb": "post", "object": seen.len() })).await;
        let rest = next.strip_prefix("/api/v1.0/").expect("a path of the API");
        path = rest.replace("&api_key=key", "");
    }
    assert_eq!(seen, expected);
    let one = expected.get(3).expect("the fourth");
    let detail = lab.page(&format!("feed/user/ann/?id_lte={one}&id_gte={one}&limit=1")).await;
    assert_eq!(detail, (vec![one.clone()], String::new()));
    assert_eq!(lab.page("feed/user/ann/?limit=0").await, (Vec::new(), String::new()));
}

#[tokio::test]
async fn activities_are_read_by_ids_and_by_foreign_ids() {
    let lab = Lab::new().await;
    let body =
        json!({ "actor": "a", "verb": "v", "object": "o", "foreign_id": "f:1", "time": "2026-01-01T00:00:00.5" });
    let id = lab.add("user:ann", body).await;
    let by = |query: String| {
        let lab = &lab;
        async move { lab.get(&format!("activities/?{query}"), &server()).await }
    };
    let unknown = "3e4b1b80-5c1a-11ef-8000-000000000000";
    let found = by(format!("ids={unknown},{id}")).await.good();
    assert_eq!(found["results"][0]["id"], json!(id));
    assert!(found.get("next").is_none());
    let found = by("foreign_ids=f:1,f:2&timestamps=2026-01-01T00:00:00.500000,2026-01-01T00:00:00Z".to_owned()).await;
    assert_eq!(found.good()["results"].as_array().map(Vec::len), Some(1));
    for bad in ["", "ids=x", "foreign_ids=a", "foreign_ids=a,b&timestamps=2026-01-01T00:00:00", "ids=x&foreign_ids=y"] {
        assert_eq!(by(bad.to_owned()).await.refused(), (400, 4), "{bad}");
    }
}

#[tokio::test]
async fn both_spellings_of_a_path_are_one() {
    let lab = Lab::new().await;
    lab.add("user:ann", activity("o")).await;
    for path in ["feed/user/ann", "feed/user/ann/", "/feed//user/ann//"] {
        assert_eq!(lab.page(path).await.0.len(), 1, "{path}");
    }
    assert_eq!(lab.ask(Method::PUT, "feed/user/ann/", &server(), &json!({})).await.refused(), (405, 17));
    assert_eq!(lab.get("nothing/", &server()).await.refused(), (404, 16));
}
