//! What is erased in chat and in feeds is erased in moderation too, also what stood nowhere.

use super::*;

fn fields(text: &str) -> serde_json::Map<String, serde_json::Value> {
    json!({"text": text}).as_object().cloned().expect("an object")
}

#[tokio::test]
async fn an_erased_channel_takes_along_what_was_refused_held_or_asked_in_a_poll() {
    let world = world().await;
    let chat = Chat::new(world.engine.clone(), AppId(1), ChatOptions::default());
    world.send("held:x", "sent", "fine").await.expect("sent");
    assert_eq!(world.send("held:x", "refused", "zork").await.expect_err("blocked").code(), Code::PermissionDenied);
    let request = pb::SendMessageRequest {
        channel: "held:x".into(),
        id: "held".into(),
        user: "alice".into(),
        text: "so bad".into(),
        ..Default::default()
    };
    assert!(world.chat.send_message(Request::new(request)).await.expect("held").into_inner().held);
    let channel = "held:x".parse().expect("a name");
    let gate = Gate::new(world.moderation.moderator.clone());
    assert_eq!(gate.pass(1, &channel, "poll/1", "alice", "tea or coffee").await.expect("passed"), Way::Through);
    world.send("team:x", "refused", "zork").await.expect_err("blocked");
    let ids = ["sent", "refused", "held", "poll/1"].map(|id| format!("held:x\0{id}"));
    for id in &ids {
        assert_eq!(world.verdicts(TextKind::Message, id).await.len(), 1, "{id:?}");
    }
    chat.delete_channel(&channel, "alice", true).await.expect("begun");
    world
        .run_until("nothing of the channel is left", async || {
            chat.run_outbox_once().await.expect("the worker runs");
            let mut left = 0;
            for id in &ids {
                left += world.verdicts(TextKind::Message, id).await.len();
            }
            left == 0
        })
        .await;
    let verdicts = world.moderation.moderator.verdicts().await.expect("opened");
    let queue = verdicts.queue(1, 100, None).await.expect("listed").entries;
    let queued: Vec<&str> = queue.iter().map(|entry| entry.verdict.version.id.as_str()).collect();
    assert_eq!(queued, ["team:x\0refused"], "what is of another channel stays");
    // Somebody whose message was on its way all the while.
    gate.pass(1, &channel, "late", "alice", "zork").await.expect_err("refused as before");
    assert!(world.verdicts(TextKind::Message, "held:x\0late").await.is_empty());
}

#[tokio::test]
async fn what_is_erased_in_feeds_is_erased_in_moderation_and_what_is_deleted_is_not() {
    let world = world().await;
    let feeds = world.registry.open(keevo_feeds::AppId(1)).await.expect("opened");
    let feed: FeedId = "user:bob".parse().expect("a feed");
    feeds.add_user("bob", serde_json::Map::new()).await.expect("added");
    let post = async |number: usize, text: &str| {
        let mut new = NewActivity::new("SU:bob", "post", format!("note:{number}"));
        new.custom = fields(text);
        feeds.add_activity(&feed, new).await.expect("added").id
    };
    let (erased, deleted, taken) = (post(1, "fine").await, post(2, "so bad").await, post(3, "zork").await);
    let comment = |text: &str| {
        let on = ReactTo::Activity(erased.to_string());
        NewReaction { id: Some("r1".into()), data: fields(text), ..NewReaction::new("comment", on, "bob") }
    };
    feeds.add_reaction(comment("nice")).await.expect("added");
    let of = async |id: &str| world.verdicts(TextKind::Activity, id).await.len();
    let reacted = async || world.verdicts(TextKind::Reaction, "r1").await;
    let ids = [erased, deleted, taken].map(|id| id.to_string());
    world
        .run_until("all are judged, and one is taken back", async || {
            of(&ids[0]).await == 1
                && of(&ids[1]).await == 1
                && of(&ids[2]).await == 1
                && reacted().await.len() == 1
                && feeds.activities(&[taken]).await.expect("read").is_empty()
        })
        .await;
    feeds.delete_activities(&[deleted]).await.expect("deleted");
    feeds.erase_reactions(&["r1".to_owned()]).await.expect("erased");
    feeds.erase_activities(&[erased]).await.expect("erased");
    world.run_until("two are erased", async || of(&ids[0]).await == 0 && reacted().await.is_empty()).await;
    assert_eq!((of(&ids[1]).await, of(&ids[2]).await), (1, 1), "one was deleted, and one was taken back");
    // The id is used again: what is said then is judged.
    feeds.add_reaction(comment("so bad")).await.expect("added");
    world
        .run_until("it is judged", async || reacted().await.first().is_some_and(|one| one.action == Action::Flag))
        .await;
    // Nobody knows the ids of what was taken back: it goes with its user.
    feeds.delete_user("bob").await.expect("deleted");
    world.run_until("it goes", async || of(&ids[2]).await == 0).await;
    assert_eq!((of(&ids[1]).await, reacted().await.len()), (1, 1), "what stood where changes tell of it stays");
    feeds.erase_activities(&[deleted]).await.expect("one that is gone can be erased too");
    world.run_until("it goes", async || of(&ids[1]).await == 0).await;
}
