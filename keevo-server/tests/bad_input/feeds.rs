//! The feeds service.

use bytes::Bytes;
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use tonic::transport::Channel;

use super::golden::Golden;
use super::wire::Wire;

type Client = FeedsClient<Channel>;

pub(crate) async fn run(golden: &mut Golden, wire: &Wire) {
    let mut feeds = FeedsClient::new(wire.channel.clone());
    golden.section("other: feeds");
    names(golden, &mut feeds).await;
    activities(golden, &mut feeds).await;
    reads(golden, &mut feeds).await;
    relations(golden, &mut feeds).await;
    golden.section("Oversized batches");
    sizes(golden, &mut feeds).await;
}

fn activity() -> pb::Activity {
    pb::Activity {
        actor: "user:alice".to_owned(),
        verb: "post".to_owned(),
        object: "picture:1".to_owned(),
        foreign_id: "picture:1".to_owned(),
        time: "2026-01-31T12:00:00Z".to_owned(),
        ..pb::Activity::default()
    }
}

fn add(activity: pb::Activity) -> pb::AddActivityRequest {
    pb::AddActivityRequest { feed: "user:alice".to_owned(), activity: Some(activity) }
}

fn read(feed: &str) -> pb::GetFeedRequest {
    pb::GetFeedRequest { feed: feed.to_owned(), ..pb::GetFeedRequest::default() }
}

async fn names(golden: &mut Golden, feeds: &mut Client) {
    for name in ["", "alice", ":alice", "user:", "user:al ice", "us/er:alice"] {
        golden.call(&format!("a feed named {name:?}"), feeds.get_feed(read(name))).await;
    }
    for (slug, id) in [(64, 255), (65, 1), (1, 256)] {
        let name = format!("{}:{}", "s".repeat(slug), "i".repeat(id));
        golden.call(&format!("a slug of {slug} and an id of {id} bytes"), feeds.get_feed(read(&name))).await;
    }
    golden.call("a feed that nobody has used", feeds.get_feed(read("user:nobody"))).await;
}

async fn activities(golden: &mut Golden, feeds: &mut Client) {
    let none = pb::AddActivityRequest { feed: "user:alice".to_owned(), activity: None };
    golden.call("an add without an activity", feeds.add_activity(none)).await;
    golden.call("an activity", feeds.add_activity(add(activity()))).await;
    for (case, bad) in [
        ("an activity without an actor", pb::Activity { actor: String::new(), ..activity() }),
        ("an activity without a verb", pb::Activity { verb: String::new(), ..activity() }),
        ("an activity without an object", pb::Activity { object: String::new(), ..activity() }),
        ("a verb of 256 bytes", pb::Activity { verb: "v".repeat(256), ..activity() }),
        ("a foreign id of 1,024 bytes", pb::Activity { foreign_id: "f".repeat(1_024), ..activity() }),
        ("a foreign id of 1,025 bytes", pb::Activity { foreign_id: "f".repeat(1_025), ..activity() }),
        ("a time that is none", pb::Activity { time: "yesterday".to_owned(), ..activity() }),
        ("a time in the year 9000", pb::Activity { time: "9000-01-01T00:00:00Z".to_owned(), ..activity() }),
        ("custom fields that are no JSON", pb::Activity { custom: "{".to_owned(), ..activity() }),
        ("custom fields that are a list", pb::Activity { custom: "[1]".to_owned(), ..activity() }),
        ("a target that is no feed", pb::Activity { to: vec!["bob".to_owned()], ..activity() }),
        ("101 targets", pb::Activity { to: vec!["user:bob".to_owned(); 101], ..activity() }),
    ] {
        golden.call(case, feeds.add_activity(add(bad))).await;
    }
    let remove = |which| pb::RemoveActivityRequest { feed: "user:alice".to_owned(), which };
    golden.call("the removal of nothing", feeds.remove_activity(remove(None))).await;
    let id = |text: &str| Some(pb::remove_activity_request::Which::Id(text.to_owned()));
    golden.call("the removal of an id that is none", feeds.remove_activity(remove(id("picture:1")))).await;
    let version_4 = id("00000000-0000-4000-8000-000000000000");
    golden.call("the removal of a UUID of version 4", feeds.remove_activity(remove(version_4))).await;
    let absent = id("13814000-1dd2-11b2-8080-808080808080");
    golden.call("the removal of an activity that nobody added", feeds.remove_activity(remove(absent))).await;
}

async fn reads(golden: &mut Golden, feeds: &mut Client) {
    for limit in [0, 1_000, 1_001] {
        let answer = feeds.get_feed(pb::GetFeedRequest { limit, ..read("user:alice") });
        golden.call(&format!("a page of {limit}, where 0 means 25"), answer).await;
    }
    let garbage = pb::GetFeedRequest { id_lt: "picture:1".to_owned(), ..read("user:alice") };
    golden.call("a page before an id that is none", feeds.get_feed(garbage)).await;
    let ids = vec!["picture:1".to_owned()];
    let request = pb::GetActivitiesRequest { ids, ..Default::default() };
    golden.call("activities by an id that is none", feeds.get_activities(request)).await;
    let foreign = vec![pb::ForeignId { foreign_id: "picture:1".to_owned(), time: String::new() }];
    let request = pb::GetActivitiesRequest { foreign, ..Default::default() };
    golden.call("activities by a foreign id without a time", feeds.get_activities(request)).await;
}

async fn relations(golden: &mut Golden, feeds: &mut Client) {
    let follow = |target: &str, copy_limit| pb::FollowRequest {
        feed: "timeline:alice".to_owned(),
        target: target.to_owned(),
        copy_limit,
    };
    golden.call("a follow of nobody", feeds.follow(follow("", None))).await;
    golden.call("a follow of oneself", feeds.follow(follow("timeline:alice", None))).await;
    golden.call("a follow that copies 1,000", feeds.follow(follow("user:bob", Some(1_000)))).await;
    golden.call("a follow that copies 1,001", feeds.follow(follow("user:bob", Some(1_001)))).await;
    let list = |limit, after| pb::FollowersRequest { feed: "user:bob".to_owned(), limit, after };
    golden.call("a list of 1,001 followers", feeds.followers(list(1_001, Bytes::new()))).await;
    golden.call("a list after three bytes", feeds.followers(list(1, Bytes::from_static(b"abc")))).await;
    golden.call("a list after noise", feeds.followers(list(1, Bytes::from_static(&[0xff; 20])))).await;
}

async fn sizes(golden: &mut Golden, feeds: &mut Client) {
    let texts = activity();
    let rest: usize = [&texts.actor, &texts.verb, &texts.object, &texts.foreign_id].iter().map(|text| text.len()).sum();
    for total in [10 * 1_024, 10 * 1_024 + 1] {
        let big = pb::Activity { target: "t".repeat(total - rest), ..activity() };
        golden.call(&format!("an activity of {total} bytes"), feeds.add_activity(add(big))).await;
    }
    for count in [1, 1_001] {
        let one = |number| pb::Activity { foreign_id: format!("picture:{number}"), ..activity() };
        let activities = (0..count).map(one).collect();
        let request = pb::AddActivitiesRequest { feed: "user:alice".to_owned(), activities };
        golden.call(&format!("{count} activities in one request"), feeds.add_activities(request)).await;
    }
    for count in [1_000, 1_001] {
        let ids = vec!["13814000-1dd2-11b2-8080-808080808080".to_owned(); count];
        let request = pb::GetActivitiesRequest { ids, ..Default::default() };
        golden.call(&format!("{count} activities asked for"), feeds.get_activities(request)).await;
    }
}
