//! Follows over HTTP.

use serde_json::{Value, json};

use super::support::{Lab, activity, server};

#[tokio::test]
async fn follows_copy_list_count_and_end() {
    let lab = Lab::new().await;
    for number in 0..3 {
        lab.add("user:ann", activity(&number.to_string())).await;
    }
    let follow = |feed: &str, target: &str, limit: Value| {
        let body = json!({ "target": target, "activity_copy_limit": limit });
        let path = format!("feed/{}/following/", feed.replace(':', "/"));
        let lab = &lab;
        async move { lab.post(&path, &server(), body).await }
    };
    follow("timeline:bob", "user:ann", json!(2)).await.good();
    follow("timeline:cid", "user:ann", json!("0")).await.good();
    follow("flat:dan", "user:ann", Value::Null).await.good();
    assert_eq!(lab.page("feed/timeline/bob/").await.0.len(), 2);
    assert_eq!(lab.page("feed/timeline/cid/").await.0.len(), 0);
    assert_eq!(lab.page("feed/flat/dan/").await.0.len(), 3);
    let followers = lab.get("feed/user/ann/followers/?limit=2", &server()).await.good();
    assert_eq!(followers["results"][0]["feed_id"], json!("flat:dan"), "newest first");
    assert_eq!(followers["results"].as_array().map(Vec::len), Some(2));
    let since = followers["results"][0]["created_at"].as_str().expect("a time");
    assert!(since.ends_with('Z') && since.contains('.'), "{since}");
    let filtered = lab.get("feed/timeline/bob/following/?filter=user:ann,user:nobody", &server()).await.good();
    assert_eq!(filtered["results"][0]["target_id"], json!("user:ann"));
    assert_eq!(lab.get("feed/timeline/bob/follows/?limit=0", &server()).await.good()["results"], json!([]));
    let stats = "stats/follow/?followers=user:ann&following=timeline:bob&followers_slugs=timeline";
    let stats = lab.get(stats, &server()).await.good();
    assert_eq!(stats["results"]["followers"], json!({ "feed": "user:ann", "count": 2 }));
    assert_eq!(stats["results"]["following"]["count"], json!(1));
    lab.delete("feed/timeline/bob/follows/user:ann/?keep_history=True", &server()).await.good();
    lab.delete("feed/flat/dan/following/user:ann/", &server()).await.good();
    assert_eq!(lab.page("feed/timeline/bob/").await.0.len(), 2, "kept");
    assert_eq!(lab.page("feed/flat/dan/").await.0.len(), 0);
}

#[tokio::test]
async fn one_bad_follow_refuses_them_all() {
    let lab = Lab::new().await;
    let good = json!({ "source": "timeline:a", "target": "user:b" });
    lab.post("follow_many/?activity_copy_limit=5", &server(), json!([good])).await.good();
    lab.post("unfollow_many/", &server(), json!({})).await.good();
    for bad in [
        json!({ "source": "timeline:a", "target": 42 }),
        json!({ "source": "timeline:a" }),
        json!({ "source": "timeline:a", "target": "timeline:a:b" }),
        json!("timeline:a"),
    ] {
        let body = json!([good, bad]);
        assert_eq!(lab.post("unfollow_many/", &server(), body.clone()).await.refused(), (400, 4), "{bad}");
        assert_eq!(lab.post("follow_many/", &server(), body).await.refused(), (400, 4), "{bad}");
    }
    let following = lab.get("feed/timeline/a/following/", &server()).await.good();
    assert_eq!(following["results"].as_array().map(Vec::len), Some(1), "nothing was ended");
    let many: Vec<Value> = (0..2_501).map(|_| good.clone()).collect();
    assert_eq!(lab.post("follow_many/", &server(), json!(many)).await.refused(), (400, 4));
}
