//! Moderation in the services: what is sent, masked, refused and shadowed, and what late verdicts take back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keevo_chat::{AppId, Chat, ChatOptions, NewChannel, NewMember, NewMessage};
use keevo_core::MemoryEngine;
use keevo_feeds::{FeedId, FeedsOptions, NewActivity, NewReaction, ReactTo};
use keevo_gateway::apps::EngineMeta;
use keevo_moderation_policy::{Action, Policy, Term, TextKind, Verdict};
use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::chat_server::Chat as ChatApi;
use serde_json::json;
use tonic::{Code, Request, Status};

use super::*;
use crate::grpc::chat::ChatService;

mod erased;
mod queue;

/// Finds `bad` in texts, while it is up.
#[derive(Default)]
struct TestJudge {
    down: AtomicBool,
}

impl Judge for TestJudge {
    fn judge(&self, texts: Vec<String>, _asking: Asking) -> BoxFuture<'_, Result<Vec<Scores>>> {
        let toxic = |text: &String| if text.contains("bad") { 0.9 } else { 0.1 };
        let scores = |text| Scores { model: "test".into(), labels: BTreeMap::from([("toxic".into(), toxic(text))]) };
        let answer = if self.down.load(Ordering::SeqCst) {
            Err(Error::new(ErrorKind::Unavailable, "it is down"))
        } else {
            Ok(texts.iter().map(scores).collect())
        };
        futures::future::ready(answer).boxed()
    }
}

struct World {
    engine: MemoryEngine,
    judge: Arc<TestJudge>,
    registry: Registry,
    moderation: Moderation<MemoryEngine>,
    chat: ChatService<MemoryEngine>,
}

async fn world() -> World {
    let engine = MemoryEngine::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let policies = Policies::new(EngineMeta::open(engine.clone()).await.expect("opened"), Arc::clone(&clock));
    for (list, word) in [("mild", "darn"), ("hard", "zork"), ("sly", "psst"), ("odd", "hmpf")] {
        policies.set_blocklist(1, list, vec![Term::word(word)]).await.expect("set");
    }
    let lists = |actions: [(&str, &str); 4]| {
        actions.iter().map(|(name, action)| json!({"name": name, "action": action})).collect::<Vec<_>>()
    };
    let lists = lists([("mild", "mask"), ("hard", "block"), ("sly", "shadow"), ("odd", "bounce")]);
    let rules = json!([{"label": "toxic", "threshold": 0.5, "action": "flag"}]);
    let holds = json!([{"label": "toxic", "threshold": 0.5, "action": "hold"}]);
    let policy = json!({
        "default": {"rules": rules, "blocklists": lists},
        "scopes": {
            "chat:strict": {"rules": rules, "when_late": "refuse", "budget_ms": 50},
            "chat:held": {"rules": holds, "blocklists": lists, "when_late": "hold", "budget_ms": 50},
            "feeds:held": {"rules": holds},
        },
    });
    policies.set_policy(1, Policy::from_json(&policy.to_string()).expect("valid")).await.expect("set");
    let registry = Registry::new(engine.clone(), FeedsOptions::default());
    let judge = Arc::new(TestJudge::default());
    let moderator = Moderator::new(engine.clone(), policies, Arc::clone(&judge) as _, clock);
    let effects = Arc::new(LayerEffects::new(engine.clone(), registry.clone()));
    let config = ModerationConfig { chat: true, feeds: true, ..ModerationConfig::default() };
    let sources = sources::of(&config, &engine);
    let moderation =
        Moderation { moderator: moderator.clone(), effects, pool: None, sources, queues: Vec::new(), store: None };
    let chat = ChatService::new(engine.clone(), Some(Gate::new(moderator)), CancellationToken::new());
    for channel in ["team:x", "strict:x", "held:x"] {
        let request = pb::CreateChannelRequest { id: channel.into(), created_by: "alice".into(), ..Default::default() };
        chat.create_channel(Request::new(request)).await.expect("created");
    }
    World { engine, judge, registry, moderation, chat }
}

impl World {
    async fn send(&self, channel: &str, id: &str, text: &str) -> Result<pb::Message, Status> {
        let request = pb::SendMessageRequest {
            channel: channel.into(),
            id: id.into(),
            user: "alice".into(),
            text: text.into(),
            ..Default::default()
        };
        Ok(self.chat.send_message(Request::new(request)).await?.into_inner().message.expect("a message"))
    }

    async fn stored(&self, channel: &str, id: &str) -> Option<String> {
        let request = pb::GetMessageRequest { channel: channel.into(), id: id.into() };
        let found = self.chat.get_message(Request::new(request)).await.ok()?;
        Some(found.into_inner().message.expect("a message").text)
    }

    async fn verdicts(&self, kind: TextKind, id: &str) -> Vec<Verdict> {
        let verdicts = self.moderation.moderator.verdicts().await.expect("opened");
        verdicts.of_text(1, kind, id, 100).await.expect("read")
    }

    /// Runs the pipeline until `done` holds.
    async fn run_until(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let stop = CancellationToken::new();
        let options = PipelineOptions { sweep_every: Duration::from_millis(20), ..PipelineOptions::default() };
        let Moderation { moderator, effects, sources, queues, .. } = self.moderation.clone();
        let pipeline = Pipeline::new(moderator, effects, sources, &OsRandom, options).with_queues(queues);
        let running = tokio::spawn(pipeline.run(stop.clone()));
        let waiting = async {
            while !done().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok(), "waited in vain until {what}");
        stop.cancel();
        running.await.expect("it ends");
    }
}

#[tokio::test]
async fn messages_go_the_way_that_the_policy_says() {
    let world = world().await;
    assert_eq!(world.send("team:x", "1", "fine").await.expect("sent").text, "fine");
    assert_eq!(world.send("team:x", "2", "so bad").await.expect("sent").text, "so bad");
    assert_eq!(world.send("team:x", "3", "oh darn").await.expect("sent").text, "oh ****");
    let refused = world.send("team:x", "4", "z0rk").await.expect_err("blocked");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("a blocked term") && !refused.message().contains("zork"), "{refused}");
    assert_eq!(world.send("team:x", "5", "hmpf").await.expect_err("bounced").code(), Code::InvalidArgument);
    let shadowed = world.send("team:x", "6", "psst").await.expect("it looks sent");
    assert_eq!((shadowed.text.as_str(), shadowed.sequence), ("psst", 4));
    for (id, text) in [("1", Some("fine")), ("3", Some("oh ****")), ("4", None), ("5", None), ("6", Some("psst"))] {
        assert_eq!(world.stored("team:x", id).await.as_deref(), text, "{id}");
    }
    let actions = [Action::Allow, Action::Flag, Action::Mask, Action::Block, Action::Bounce, Action::Shadow];
    for (id, action) in (1..).zip(actions) {
        let verdicts = world.verdicts(TextKind::Message, &format!("team:x\0{id}")).await;
        assert!(verdicts.iter().any(|one| one.action == action), "{id}: {verdicts:?}");
    }
    let edit = |text: &str| pb::EditMessageRequest {
        channel: "team:x".into(),
        id: "1".into(),
        user: "alice".into(),
        text: text.into(),
        custom: None,
    };
    let refused = world.chat.edit_message(Request::new(edit("zork"))).await.expect_err("blocked");
    assert_eq!(refused.code(), Code::PermissionDenied);
    world.chat.edit_message(Request::new(edit("darn"))).await.expect("edited");
    world.chat.edit_message(Request::new(edit("psst"))).await.expect("it looks edited");
    assert_eq!(world.stored("team:x", "1").await.as_deref(), Some("****"));
    // The message, three edits, and the masked text.
    assert_eq!(world.verdicts(TextKind::Message, "team:x\u{0}1").await.len(), 5);
}

#[tokio::test]
async fn without_a_worker_messages_wait_or_are_refused_as_the_policy_says() {
    let world = world().await;
    world.judge.down.store(true, Ordering::SeqCst);
    world.send("team:x", "1", "so bad").await.expect("sent, to be judged later");
    assert_eq!(world.send("strict:x", "1", "fine").await.expect_err("refused").code(), Code::Unavailable);
    world.send("team:x", "2", "darn").await.expect("sent as it is");
    assert_eq!(world.stored("team:x", "2").await.as_deref(), Some("darn"));
    assert_eq!(
        world.send("team:x", "3", "zork").await.expect_err("lists need no worker").code(),
        Code::PermissionDenied
    );
    world.judge.down.store(false, Ordering::SeqCst);
    let all = ["team:x\u{0}1", "strict:x\u{0}1", "team:x\u{0}2"];
    world
        .run_until("all are judged and masked", async || {
            let mut judged = 0;
            for id in all {
                judged += usize::from(!world.verdicts(TextKind::Message, id).await.is_empty());
            }
            judged == all.len() && world.stored("team:x", "2").await.as_deref() == Some("****")
        })
        .await;
    assert_eq!(world.verdicts(TextKind::Message, all[0]).await[0].action, Action::Flag);
}

impl World {
    /// What others see: the texts of the channel's history, newest first.
    async fn seen(&self, channel: &str) -> Vec<String> {
        let request = pb::HistoryRequest { channel: channel.into(), limit: 100, ..Default::default() };
        let page = self.chat.history(Request::new(request)).await.expect("read").into_inner();
        page.messages.into_iter().map(|message| message.text).collect()
    }

    async fn decide(&self, text: &str, ruling: keevo_moderation_policy::Ruling) {
        let verdicts = self.moderation.moderator.verdicts().await.expect("opened");
        let entries = verdicts.queue(1, 100, None).await.expect("listed").entries;
        let entry = entries.iter().find(|entry| entry.verdict.version.text == text).expect("it waits for a person");
        let decision = keevo_moderation_policy::Decision {
            ruling,
            reviewer: "eve".into(),
            labels: Vec::new(),
            note: String::new(),
        };
        verdicts.decide(1, &entry.id, decision, self.moderation.effects()).await.expect("decided");
    }
}

#[tokio::test]
async fn what_is_held_is_sent_once_it_is_judged_or_reviewed() {
    use keevo_moderation_policy::Ruling;
    let world = world().await;
    let chat = Chat::new(world.engine.clone(), AppId(1), ChatOptions::default());
    let channel = "held:x".parse().expect("a name");
    let send = async |id: &str, text: &str| {
        let request = pb::SendMessageRequest {
            channel: "held:x".into(),
            id: id.into(),
            user: "alice".into(),
            text: text.into(),
            ..Default::default()
        };
        world.chat.send_message(Request::new(request)).await.map(|answer| answer.into_inner().held)
    };
    // While no worker answers, everything waits.
    world.judge.down.store(true, Ordering::SeqCst);
    for (id, text) in [("1", "fine"), ("2", "oh darn"), ("3", "so bad"), ("4", "too bad")] {
        assert_eq!(send(id, text).await.ok(), Some(true), "{text}");
        assert_eq!(send(id, text).await.ok(), Some(true), "a retry of {text}");
    }
    assert_eq!(send("5", "zork").await.expect_err("lists need no worker").code(), Code::PermissionDenied);
    assert!(world.seen("held:x").await.is_empty());
    assert_eq!(chat.held(&channel, Some("alice"), None, 10).await.expect("listed").held.len(), 4);
    world.judge.down.store(false, Ordering::SeqCst);
    world
        .run_until("what may stand is sent", async || {
            let held = chat.held(&channel, None, None, 10).await.expect("listed").held.len();
            world.seen("held:x").await.len() == 2 && held == 2
        })
        .await;
    let mut seen = world.seen("held:x").await;
    seen.sort();
    assert_eq!(seen, ["fine", "oh ****"]);
    // With a worker the answer says at once that a person has to look.
    assert_eq!(send("6", "bad again").await.ok(), Some(true));
    assert_eq!(send("7", "fine too").await.ok(), Some(false));
    world
        .run_until("the three wait for a person", async || {
            let verdicts = world.moderation.moderator.verdicts().await.expect("opened");
            let queue = verdicts.queue(1, 100, None).await.expect("listed").entries;
            queue.iter().filter(|entry| entry.verdict.action == Action::Hold).count() == 3
        })
        .await;
    world.decide("so bad", Ruling::Allow).await;
    world.decide("too bad", Ruling::Remove).await;
    world.decide("bad again", Ruling::Allow).await;
    let mut seen = world.seen("held:x").await;
    seen.sort();
    assert_eq!(seen, ["bad again", "fine", "fine too", "oh ****", "so bad"]);
    assert!(chat.held(&channel, None, None, 10).await.expect("listed").held.is_empty());
    assert_eq!(send("3", "so bad").await.ok(), Some(false), "a late retry finds it sent");
    assert_eq!(send("4", "too bad").await.expect_err("refused").code(), Code::PermissionDenied);
    assert!(chat.verify(&channel).await.expect("verified").problems.is_empty());
    // An edit is held likewise.
    let edit = |text: &str| pb::EditMessageRequest {
        channel: "held:x".into(),
        id: "1".into(),
        user: "alice".into(),
        text: text.into(),
        custom: None,
    };
    let answer = world.chat.edit_message(Request::new(edit("bad words"))).await.expect("held").into_inner();
    assert!(answer.held && answer.message.is_some_and(|message| message.text == "bad words"));
    assert_eq!(world.stored("held:x", "1").await.as_deref(), Some("fine"));
    world.decide("bad words", Ruling::Allow).await;
    assert_eq!(world.stored("held:x", "1").await.as_deref(), Some("bad words"));
}

#[tokio::test]
async fn a_post_that_is_to_be_held_is_hidden_until_a_person_decides() {
    use keevo_moderation_policy::Ruling;
    let world = world().await;
    let feeds = world.registry.open(keevo_feeds::AppId(1)).await.expect("opened");
    let feed: FeedId = "held:bob".parse().expect("a feed");
    let post = async |number: usize, text: &str| {
        let mut new = NewActivity::new("bob", "post", format!("note:{number}"));
        new.custom = json!({"text": text}).as_object().cloned().expect("an object");
        feeds.add_activity(&feed, new).await.expect("added").id
    };
    let mut number = 0;
    world
        .run_until("the streams are followed", async || {
            number += 1;
            let posted = post(number, "hello").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            !world.verdicts(TextKind::Activity, &posted.to_string()).await.is_empty()
        })
        .await;
    let (kept, refused) = (post(1_000, "so bad").await, post(1_001, "too bad").await);
    let says = async |id| {
        let found = feeds.activities(&[id]).await.expect("read");
        found.first().map(keevo_feeds::Activity::text)
    };
    world
        .run_until("both are hidden", async || {
            says(kept).await.as_deref() == Some("******") && says(refused).await.as_deref() == Some("*******")
        })
        .await;
    world.decide("so bad", Ruling::Allow).await;
    world.decide("too bad", Ruling::Remove).await;
    assert_eq!(says(kept).await.as_deref(), Some("so bad"));
    assert_eq!(says(refused).await, None);
}

#[tokio::test]
async fn what_comes_past_the_services_is_judged_and_taken_back() {
    let world = world().await;
    let chat = Chat::new(world.engine.clone(), AppId(1), ChatOptions::default());
    let feeds = world.registry.open(keevo_feeds::AppId(1)).await.expect("opened");
    let channel = "team:y".parse().expect("a name");
    let members = vec![NewMember::new("bob")];
    let new = NewChannel { created_by: "bob".into(), members, ..NewChannel::default() };
    chat.create_channel(&channel, new).await.expect("made");
    let feed: FeedId = "user:bob".parse().expect("a feed");
    // The place in the streams is there once a first text has come through.
    let mut number = 0;
    let first = NewMessage::new("bob", "hello");
    world
        .run_until("the streams are followed", async || {
            number += 1;
            let id = format!("probe{number}");
            chat.send(&channel, first.clone().with_id(&id)).await.expect("sent");
            let mut new = NewActivity::new("bob", "post", format!("probe:{number}"));
            new.custom = json!({"text": "hello"}).as_object().cloned().expect("an object");
            let posted = feeds.add_activity(&feed, new).await.expect("added");
            tokio::time::sleep(Duration::from_millis(100)).await;
            let message = world.verdicts(TextKind::Message, &format!("team:y\0{id}")).await;
            let activity = world.verdicts(TextKind::Activity, &posted.id.to_string()).await;
            !message.is_empty() && !activity.is_empty()
        })
        .await;
    let data = |text: &str| json!({"text": text}).as_object().cloned().expect("an object");
    let post = async |text: &str| {
        let mut new = NewActivity::new("bob", "post", format!("note:{}", text.len()));
        new.custom = data(text);
        feeds.add_activity(&feed, new).await.expect("added").id
    };
    chat.send(&channel, NewMessage::new("bob", "zork").with_id("blocked")).await.expect("sent");
    let (gone, masked) = (post("zork").await, post("oh darn it").await);
    let mut reaction = NewReaction::new("comment", ReactTo::Activity(masked.to_string()), "bob");
    reaction.data = data("psst");
    let reaction = feeds.add_reaction(reaction).await.expect("added");
    world
        .run_until("all are taken back or masked", async || {
            let message = chat.message(&channel, "blocked").await.expect("its row stays");
            let left = feeds.activities(&[gone, masked]).await.expect("read");
            let reacted = feeds.reaction(&reaction.id).await;
            message.deleted_at_ms.is_some()
                && left.len() == 1
                && left.iter().all(|one| one.custom["text"] == "oh **** it")
                && reacted.is_err()
        })
        .await;
    let verdicts = world.verdicts(TextKind::Activity, &masked.to_string()).await;
    assert_eq!(verdicts.len(), 2, "the text and what it was masked to: {verdicts:?}");
}

#[test]
fn the_url_of_postgresql_comes_from_a_file_that_can_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("url");
    std::fs::write(&path, "postgresql://keevo@localhost/keevo\n").expect("written");
    let config = |path: &std::path::Path| ModerationConfig {
        postgres_url_file: Some(path.to_owned()),
        ..ModerationConfig::default()
    };
    assert_eq!(postgres_url(&config(&path)).expect("read").as_deref(), Some("postgresql://keevo@localhost/keevo"));
    let missing = postgres_url(&config(&folder.path().join("none"))).expect_err("refused");
    assert!(missing.kind() == ErrorKind::Config && missing.message().contains("none"), "{missing}");
    assert_eq!(postgres_url(&ModerationConfig::default()).expect("nothing is said"), None);
}
