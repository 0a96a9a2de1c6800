//! Aggregated and notification feeds over HTTP.

use serde_json::{Value, json};

use super::support::{Lab, server};

fn act(actor: &str, verb: &str, object: &str, second: u32) -> Value {
    let time = format!("2026-05-01T12:00:{second:02}");
    json!({ "actor": actor, "verb": verb, "object": object, "foreign_id": object, "time": time })
}

async fn read(lab: &Lab, path: &str) -> Value {
    lab.get(path, &server()).await.good()
}

/// The groups' texts with how many activities they have and whether they are seen and read.
fn groups(page: &Value) -> Vec<(String, u64, Value, Value)> {
    let results = page["results"].as_array().expect("results");
    let of = |group: &Value| {
        let text = group["group"].as_str().expect("a text").to_owned();
        let count = group["activity_count"].as_u64().expect("a count");
        assert_eq!(group["activities"].as_array().map(Vec::len), Some(usize::try_from(count).expect("small")));
        (text, count, group["is_seen"].clone(), group["is_read"].clone())
    };
    results.iter().map(of).collect()
}

#[tokio::test]
async fn an_aggregated_feed_gathers_what_it_follows() {
    let lab = Lab::new().await;
    lab.post("feed/aggregated/ann/following/", &server(), json!({ "target": "user:bob" })).await.good();
    lab.add("user:bob", act("bob", "like", "o:1", 1)).await;
    lab.add("user:bob", act("bob", "share", "o:2", 2)).await;
    lab.add("user:bob", act("eve", "like", "o:3", 3)).await;
    let page = read(&lab, "feed/aggregated/ann/?limit=1").await;
    assert_eq!(groups(&page), [("like_2026-05-01".to_owned(), 2, Value::Null, Value::Null)]);
    assert_eq!(page["results"][0]["actor_count"], json!(2));
    assert_eq!(page["results"][0]["activities"][0]["origin"], json!("user:bob"));
    assert_eq!(page["results"][0]["updated_at"], json!("2026-05-01T12:00:03.000000"));
    assert!(page.get("unseen").is_none(), "nothing is seen in it");
    let next = page["next"].as_str().and_then(|next| next.strip_prefix("/api/v1.0/")).expect("a next page").to_owned();
    let rest = read(&lab, &next).await;
    assert_eq!(groups(&rest), [("share_2026-05-01".to_owned(), 1, Value::Null, Value::Null)]);
    assert_eq!(rest["next"], json!(""));
    // It is resolved as flat feeds are.
    lab.post("user/", &server(), json!({ "id": "eve", "data": { "name": "Eve" } })).await.good();
    lab.add("user:bob", act("SU:eve", "like", "o:4", 4)).await;
    let enriched = read(&lab, "enrich/feed/aggregated/ann/").await;
    assert_eq!(enriched["results"][0]["activities"][0]["actor"]["data"]["name"], json!("Eve"));
    let refused = lab.post("feed/timeline/t/following/", &server(), json!({ "target": "aggregated:ann" })).await;
    assert_eq!(refused.refused(), (400, 4));
    assert_eq!(lab.get("feed/aggregated/ann/?id_lt=nothing", &server()).await.refused(), (400, 4));
}

#[tokio::test]
async fn marks_take_effect_with_the_next_read_and_end_with_the_next_activity() {
    let lab = Lab::new().await;
    lab.add("notification:ann", act("bob", "like", "o:1", 1)).await;
    lab.add("notification:ann", act("bob", "share", "o:2", 2)).await;
    let seen = |text: &str, count: u64, seen: bool, read: bool| (text.to_owned(), count, json!(seen), json!(read));
    let first = read(&lab, "feed/notification/ann/?mark_seen=true").await;
    assert_eq!((&first["unseen"], &first["unread"]), (&json!(2), &json!(2)), "the mark comes after the answer");
    let shares = first["results"][0]["id"].as_str().expect("an id").to_owned();
    let second = read(&lab, &format!("feed/notification/ann/?mark_read={shares}")).await;
    assert_eq!((&second["unseen"], &second["unread"]), (&json!(0), &json!(2)));
    let third = read(&lab, "feed/notification/ann/").await;
    let expected = [seen("share_2026-05-01", 1, true, true), seen("like_2026-05-01", 1, true, false)];
    assert_eq!(groups(&third), expected);
    lab.add("notification:ann", act("eve", "share", "o:3", 3)).await;
    let fourth = read(&lab, "feed/notification/ann/?limit=0").await;
    assert_eq!((&fourth["unseen"], &fourth["unread"]), (&json!(1), &json!(2)));
    assert_eq!(fourth["results"], json!([]));
    assert_eq!(lab.get("feed/notification/ann/?mark_read=this,that", &server()).await.refused(), (400, 4));
}

#[tokio::test]
async fn a_groups_template_is_checked_when_it_is_set() {
    let lab = Lab::new().await;
    let apps = lab.gateway.apps();
    let set = |template: &'static str| {
        apps.change(lab.app.id, move |app| {
            app.groups.get_mut("aggregated").expect("the group").aggregation = Some(template.to_owned());
            Ok(())
        })
    };
    let refused = set("{{ verb | upper }}").await.expect_err("a template with a filter");
    assert!(refused.message().contains("group aggregated") && refused.message().contains("at byte 3"), "{refused}");
    set("{{ actor }}").await.expect("a good template");
}
