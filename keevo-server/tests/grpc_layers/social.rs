//! What gRPC offers beside flat feeds: groups and marks, rankings, updates, batches, users, collections, reactions, data
//! privacy; each with a refusal.

use keevo_core::ErrorKind;
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use keevo_proto::feeds::v1::social_client::SocialClient;
use serde_json::{Value, json};
use tonic::Request;
use tonic::transport::Channel;

use crate::{kind, node, objects, page, post};

type Feeds = FeedsClient<Channel>;
type Social = SocialClient<Channel>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feeds_and_what_lies_around_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let (daemon, channel) = node(dir.path()).await;
    let (mut feeds, mut social) = (Feeds::new(channel.clone()), Social::new(channel));
    users_and_entries(&mut social).await;
    let id = updates(&mut feeds).await;
    batches(&mut feeds).await;
    reactions(&mut feeds, &mut social, &id).await;
    groups(&mut feeds).await;
    rankings(&mut feeds).await;
    privacy(&mut feeds, &mut social, &id).await;
    apps(&mut feeds).await;
    daemon.stop().await.expect("it stops");
}

fn data(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

async fn users_and_entries(social: &mut Social) {
    let user = |id: &str, data: &str| pb::User { id: id.to_owned(), data: data.to_owned(), ..Default::default() };
    let put = |keep_existing, data: &str| pb::PutUsersRequest {
        users: vec![user("alice", data), user("bob", "{}")],
        keep_existing,
    };
    social.put_users(put(false, r#"{"name":"Alice"}"#)).await.expect("added");
    social.put_users(put(true, r#"{"name":"Eve"}"#)).await.expect("kept");
    let ids = ["bob", "nobody", "alice"].map(str::to_owned).to_vec();
    let users = social.get_users(pb::GetUsersRequest { ids }).await.expect("read").into_inner().users;
    assert_eq!(users.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["bob", "alice"]);
    assert_eq!(data(&users[1].data), json!({ "name": "Alice" }));
    assert_eq!(kind(social.put_users(put(false, "[]")).await), ErrorKind::Invalid);
    let gone = pb::DeleteUsersRequest { ids: vec!["bob".to_owned(), "nobody".to_owned()] };
    assert_eq!(social.delete_users(gone).await.expect("deleted").into_inner().deleted, 1);

    let entry = |id: &str, data: &str| pb::Entry {
        collection: "food".to_owned(),
        id: id.to_owned(),
        data: data.to_owned(),
        user_id: "alice".to_owned(),
        ..Default::default()
    };
    let add = pb::AddEntryRequest { entry: Some(entry("brie", r#"{"fat":45}"#)) };
    social.add_entry(add.clone()).await.expect("added");
    assert_eq!(kind(social.add_entry(add).await), ErrorKind::Conflict);
    assert_eq!(kind(social.add_entry(pb::AddEntryRequest { entry: None }).await), ErrorKind::Invalid);
    let put = pb::PutEntriesRequest { entries: vec![entry("feta", r#"{"fat":23}"#), entry("brie", r#"{"fat":50}"#)] };
    let put = social.put_entries(put).await.expect("put").into_inner().entries;
    assert_eq!((put[0].id.as_str(), put[1].user_id.as_str()), ("feta", "alice"), "it keeps its owner");
    let id = |id: &str| pb::EntryId { collection: "food".to_owned(), id: id.to_owned() };
    let get = pb::GetEntriesRequest { ids: vec![id("brie"), id("none")] };
    let found = social.get_entries(get).await.expect("read").into_inner().entries;
    assert_eq!((found.len(), data(&found[0].data)), (1, json!({ "fat": 50 })));
    let gone = pb::DeleteEntriesRequest { collection: "food".to_owned(), ids: vec!["feta".to_owned()] };
    assert_eq!(social.delete_entries(gone).await.expect("deleted").into_inner().deleted, 1);
}

/// Adds an activity, updates it in all ways, and gives its id.
async fn updates(feeds: &mut Feeds) -> String {
    use pb::partial_update::Which;
    let add = |activity| pb::AddActivityRequest { feed: "user:alice".to_owned(), activity: Some(activity) };
    let new = pb::Activity { actor: "SU:alice".to_owned(), object: "SO:food:brie".to_owned(), ..post(1) };
    let id = feeds.add_activity(add(new.clone())).await.expect("added").into_inner().activity.expect("stored").id;
    let changed = pb::Activity { custom: r#"{"size":4}"#.to_owned(), ..new };
    let updated = pb::UpdateActivitiesRequest { activities: vec![changed] };
    let updated = feeds.update_activities(updated).await.expect("updated").into_inner().activities;
    assert_eq!((&updated[0].id, data(&updated[0].custom)), (&id, json!({ "size": 4 })));
    let nameless = pb::Activity { foreign_id: String::new(), ..post(1) };
    let nameless = pb::UpdateActivitiesRequest { activities: vec![nameless] };
    assert_eq!(kind(feeds.update_activities(nameless).await), ErrorKind::Invalid);

    let partial = |which, set: &str| pb::UpdatePartiallyRequest {
        updates: vec![pb::PartialUpdate { which, set: set.to_owned(), unset: vec!["size".to_owned()] }],
    };
    let set = partial(Some(Which::Id(id.clone())), r#"{"shop.name":"x"}"#);
    let set = feeds.update_partially(set).await.expect("updated").into_inner().activities;
    assert_eq!(data(&set[0].custom), json!({ "shop": { "name": "x" } }));
    assert_eq!(kind(feeds.update_partially(partial(None, "{}")).await), ErrorKind::Invalid);
    let absent = Some(Which::Id("3e4b1b80-5c1a-11ef-8000-000000000000".to_owned()));
    assert_eq!(kind(feeds.update_partially(partial(absent, "{}")).await), ErrorKind::NotFound);

    let targets = |replace, added: &[&str], removed: &[&str]| pb::ChangeTargetsRequest {
        feed: "user:alice".to_owned(),
        which: Some(pb::change_targets_request::Which::Id(id.clone())),
        replace,
        added: added.iter().map(ToString::to_string).collect(),
        removed: removed.iter().map(ToString::to_string).collect(),
    };
    let came = feeds.change_targets(targets(true, &["flat:a", "flat:b"], &[])).await.expect("changed").into_inner();
    assert_eq!((came.added.len(), came.removed.len()), (2, 0));
    let went = feeds.change_targets(targets(false, &[], &["flat:a"])).await.expect("changed").into_inner();
    assert_eq!(
        (went.removed, went.activity.expect("stored").to),
        (vec!["flat:a".to_owned()], vec!["flat:b".to_owned()])
    );
    assert_eq!(kind(feeds.change_targets(targets(true, &[], &["flat:b"])).await), ErrorKind::Invalid);
    id
}

async fn batches(feeds: &mut Feeds) {
    let many =
        pb::AddToManyRequest { activity: Some(post(2)), feeds: vec!["flat:one".to_owned(), "flat:two".to_owned()] };
    feeds.add_to_many(many.clone()).await.expect("added");
    let read = feeds.get_feed(page("flat:two", 0)).await.expect("read").into_inner();
    assert_eq!(objects(&read.activities), ["photo:2"]);
    let too_many = pb::AddToManyRequest { feeds: vec!["flat:one".to_owned(); 5_001], ..many };
    assert_eq!(kind(feeds.add_to_many(too_many).await), ErrorKind::BatchTooLarge);
    let follow =
        |feed: &str| pb::FollowRequest { feed: feed.to_owned(), target: "flat:one".to_owned(), copy_limit: None };
    let follows = vec![follow("timeline:a"), follow("timeline:b"), follow("user:c")];
    feeds.follow_many(pb::FollowManyRequest { follows }).await.expect("followed");
    let bad = pb::FollowManyRequest { follows: vec![follow("timeline")] };
    assert_eq!(kind(feeds.follow_many(bad).await), ErrorKind::Invalid);
    let stats = |follower_slugs: Vec<String>| pb::FollowStatsRequest {
        feed: "flat:one".to_owned(),
        follower_slugs,
        following_slugs: Vec::new(),
    };
    let all = feeds.follow_stats(stats(Vec::new())).await.expect("counted").into_inner();
    let some = feeds.follow_stats(stats(vec!["timeline".to_owned()])).await.expect("counted").into_inner();
    assert_eq!((all.followers, all.following, some.followers), (3, 0, 2));
    let unfollow =
        |feed: &str| pb::UnfollowRequest { feed: feed.to_owned(), target: "flat:one".to_owned(), keep_history: false };
    let unfollows = vec![unfollow("timeline:a"), unfollow("timeline:never")];
    let ended = feeds.unfollow_many(pb::UnfollowManyRequest { unfollows }).await.expect("ended").into_inner();
    assert_eq!(ended.removed, 1);
}

async fn reactions(feeds: &mut Feeds, social: &mut Social, id: &str) {
    use pb::list_reactions_request::Of;
    let new = |id: &str, user: &str, on: &str, parent: &str| pb::AddReactionRequest {
        reaction: Some(pb::Reaction {
            id: id.to_owned(),
            kind: "like".to_owned(),
            activity_id: on.to_owned(),
            parent: parent.to_owned(),
            user_id: user.to_owned(),
            target_feeds: vec!["notification:alice".to_owned()],
            ..Default::default()
        }),
    };
    let added = social.add_reaction(new("r1", "alice", id, "")).await.expect("added").into_inner().reaction;
    assert_eq!(added.expect("stored").activity_id, id);
    assert_eq!(kind(social.add_reaction(new("r1", "alice", id, "")).await), ErrorKind::Conflict);
    assert_eq!(kind(social.add_reaction(new("r9", "alice", "", "")).await), ErrorKind::Invalid);
    social.add_reaction(new("r2", "carol", "", "r1")).await.expect("added");
    let list = |of| pb::ListReactionsRequest { of, children_user_id: "carol".to_owned(), ..Default::default() };
    let listed = social.list_reactions(list(Some(Of::ActivityId(id.to_owned())))).await.expect("read").into_inner();
    assert_eq!(listed.reactions.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["r1"]);
    let shown = data(&listed.enriched[0]);
    assert_eq!(
        (&shown["user"]["data"]["name"], &shown["own_children"]["like"][0]["id"]),
        (&json!("Alice"), &json!("r2"))
    );
    assert_eq!(kind(social.list_reactions(list(None)).await), ErrorKind::Invalid);

    let enrich = pb::Enrich { reaction_counts: true, ..Default::default() };
    let read = pb::GetFeedRequest { enrich: Some(enrich), ..page("user:alice", 1) };
    let read = feeds.get_feed(read).await.expect("read").into_inner();
    let shown = data(&read.enriched[0]);
    assert_eq!((&shown["actor"]["id"], &shown["object"]["data"]["fat"]), (&json!("alice"), &json!(50)));
    assert_eq!((&shown["reaction_counts"]["like"], read.activities.len()), (&json!(1), 1));
    let nobody = pb::Enrich { own_reactions: true, ..Default::default() };
    let nobody = pb::GetFeedRequest { enrich: Some(nobody), ..page("user:alice", 1) };
    assert_eq!(kind(feeds.get_feed(nobody).await), ErrorKind::Invalid, "whose own?");

    let change = pb::UpdateReactionRequest {
        id: "r2".to_owned(),
        data: Some(r#"{"much":true}"#.to_owned()),
        target_feeds: Some(pb::FeedList::default()),
        target_feeds_extra_data: None,
    };
    let changed = social.update_reaction(change).await.expect("changed").into_inner().reaction.expect("stored");
    assert_eq!((data(&changed.data), changed.target_feeds.len()), (json!({ "much": true }), 0));
    let delete = |soft| pb::DeleteReactionRequest { id: "r2".to_owned(), soft };
    social.delete_reaction(delete(true)).await.expect("hidden");
    let get =
        |include_deleted| pb::GetReactionsRequest { ids: vec!["r2".to_owned()], include_deleted, ..Default::default() };
    let hidden = social.get_reactions(get(true)).await.expect("read").into_inner().reactions;
    assert!(!hidden[0].deleted_at.is_empty(), "{hidden:?}");
    assert!(social.get_reactions(get(false)).await.expect("read").into_inner().reactions.is_empty());
    social.restore_reaction(pb::RestoreReactionRequest { id: "r2".to_owned() }).await.expect("restored");
    let again = social.restore_reaction(pb::RestoreReactionRequest { id: "r2".to_owned() }).await;
    assert_eq!(kind(again), ErrorKind::NotFound);
    let absent = pb::DeleteReactionRequest { id: "r9".to_owned(), soft: false };
    assert_eq!(kind(social.delete_reaction(absent).await), ErrorKind::NotFound);
}

async fn groups(feeds: &mut Feeds) {
    let read = |mark: bool| pb::GetAggregatedRequest {
        feed: "notification:alice".to_owned(),
        mark_seen: mark.then(|| pb::Mark { all: true, ..Default::default() }),
        enrich: Some(pb::Enrich::default()),
        ..Default::default()
    };
    let first = feeds.get_aggregated(read(true)).await.expect("read").into_inner();
    let group = first.groups.first().expect("the like of r1");
    assert_eq!((group.activity_count, group.is_seen, first.unseen, first.unread), (1, false, 1, 1), "{first:?}");
    assert_eq!(data(&group.enriched[0])["actor"]["data"]["name"], json!("Alice"));
    let second = feeds.get_aggregated(read(false)).await.expect("read").into_inner();
    assert_eq!((second.groups[0].is_seen, second.unseen, second.unread), (true, 0, 1), "{second:?}");
    let flat = pb::GetAggregatedRequest { feed: "user:alice".to_owned(), ..Default::default() };
    assert_eq!(kind(feeds.get_aggregated(flat).await), ErrorKind::Invalid);
}

async fn rankings(feeds: &mut Feeds) {
    let post = |number: u32, likes: u32| pb::Activity { custom: json!({ "likes": likes }).to_string(), ..post(number) };
    let add = pb::AddActivitiesRequest { feed: "flat:ranked".to_owned(), activities: vec![post(3, 9), post(4, 2)] };
    feeds.add_activities(add).await.expect("added");
    let read = |ranking: &str| pb::GetRankedRequest {
        feed: "flat:ranked".to_owned(),
        ranking: ranking.to_owned(),
        ..Default::default()
    };
    let ranked = feeds.get_ranked(read(r#"{"score":"likes * 2"}"#)).await.expect("read").into_inner().ranked;
    let scores: Vec<String> = ranked.iter().map(|one| one.score.to_string()).collect();
    assert_eq!(scores, ["18", "4"], "the older one first");
    assert_eq!(kind(feeds.get_ranked(read(r#"{"score":"likes *"}"#)).await), ErrorKind::Invalid);
}

async fn privacy(feeds: &mut Feeds, social: &mut Social, id: &str) {
    let flag = |entity_type: &str| pb::FlagRequest {
        flag: Some(pb::Flagged {
            entity_type: entity_type.to_owned(),
            entity_id: id.to_owned(),
            user_id: "carol".to_owned(),
            ..Default::default()
        }),
    };
    let flagged = social.flag(flag("stream:feeds:v2:activity")).await.expect("flagged").into_inner().flag;
    assert_eq!(flagged.expect("stored").target_user_id, "alice");
    assert_eq!(kind(social.flag(flag("planet")).await), ErrorKind::Invalid);
    let list =
        pb::ListFlagsRequest { entity_type: "stream:feeds:v2:activity".to_owned(), entity_id: id.to_owned(), limit: 0 };
    assert_eq!(social.list_flags(list).await.expect("read").into_inner().flags.len(), 1);
    let log = |entity_type: &str| pb::AuditLogRequest {
        entity_type: entity_type.to_owned(),
        entity_id: id.to_owned(),
        ..Default::default()
    };
    let entries = social.audit_log(log("activity")).await.expect("read").into_inner().entries;
    assert_eq!(data(entries.last().expect("its creation"))["action"], json!("create"));
    assert_eq!(kind(social.audit_log(log("planet")).await), ErrorKind::Invalid);
    let export = |after: &str| pb::ExportIdsRequest { user_id: "alice".to_owned(), limit: 0, after: after.to_owned() };
    let ids = social.export_ids(export("")).await.expect("read").into_inner();
    assert!(ids.activity_ids.contains(&id.to_owned()) && ids.reaction_ids == ["r1"], "{ids:?}");
    assert_eq!(kind(social.export_ids(export("nowhere")).await), ErrorKind::Invalid);
    let gone = pb::DeleteReactionsRequest { ids: vec!["r1".to_owned(), "r9".to_owned()] };
    assert_eq!(social.delete_reactions(gone).await.expect("deleted").into_inner().deleted, 1);
    let gone = pb::DeleteActivitiesRequest { ids: vec![id.to_owned()] };
    assert_eq!(social.delete_activities(gone).await.expect("deleted").into_inner().deleted, 1);
    assert!(feeds.get_feed(page("user:alice", 0)).await.expect("read").into_inner().activities.is_empty());
    let bad = pb::DeleteActivitiesRequest { ids: vec!["x".to_owned()] };
    assert_eq!(kind(social.delete_activities(bad).await), ErrorKind::Invalid);
}

/// Calls name their app; one that does not exist has no feeds.
async fn apps(feeds: &mut Feeds) {
    for (app, expected) in [("1", None), ("77", Some(ErrorKind::NotFound)), ("one", Some(ErrorKind::Invalid))] {
        let mut request = Request::new(page("user:alice", 0));
        request.metadata_mut().insert("keevo-app", app.parse().expect("ASCII"));
        let answer = feeds.get_feed(request).await;
        match expected {
            None => drop(answer.expect("the first app is there")),
            Some(expected) => assert_eq!(kind(answer), expected, "{app}"),
        }
    }
}
