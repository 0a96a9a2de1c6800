//! A small conversation as a transcript: every call with its answer, then the events that a subscriber saw.
//! `UPDATE_EXPECT=1 cargo test -p keevo-chat --test conversation` writes it anew.

use std::fmt::{Debug, Write};
use std::sync::Arc;

use expect_test::expect_file;
use keevo_chat::{
    AppId, ChannelId, Chat, ChatEvent, ChatOptions, Edit, HistoryRequest, Message, NewChannel, NewMember, NewMessage,
    NewReaction, ReadTo, ResumeFrom, Subscription,
};
use keevo_core::{ManualClock, MemoryEngine, Result, SeededRandom};

struct Transcript {
    text: String,
    clock: Arc<ManualClock>,
}

impl Transcript {
    fn call<T>(&mut self, what: &str, result: Result<T>, show: impl FnOnce(&T) -> String) {
        self.clock.advance_ms(1_000);
        let answer = match result {
            Ok(value) => Some(show(&value)).filter(|shown| !shown.is_empty()).unwrap_or_else(|| "(none)".to_owned()),
            Err(error) => error.to_string(),
        };
        writeln!(self.text, "> {what}\n  {}", answer.replace('\n', "\n  ")).expect("a string grows");
    }
}

fn line(message: &Message) -> String {
    let mut line = format!("{} [{}] {}: ", message.place, message.id, message.user_id);
    line.push_str(if message.deleted_at_ms.is_some() { "(deleted)" } else { &message.text });
    if message.version > 1 {
        write!(line, " (version {})", message.version).expect("a string grows");
    }
    let stats = message.stats.clone().unwrap_or_default();
    if stats.reply_count > 0 {
        write!(line, " replies={}", stats.reply_count).expect("a string grows");
    }
    for (kind, count) in stats.reactions {
        write!(line, " {kind}={count}").expect("a string grows");
    }
    line
}

fn lines(messages: &[Message]) -> String {
    messages.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn show(value: &impl Debug) -> String {
    format!("{value:?}")
}

fn describe(event: &ChatEvent) -> String {
    match event {
        ChatEvent::MessageNew(message) | ChatEvent::MessageUpdated(message) | ChatEvent::MessageDeleted(message) => {
            line(message)
        }
        ChatEvent::ReactionNew(reaction) | ChatEvent::ReactionDeleted(reaction) => {
            format!("{} by {} on [{}]", reaction.kind, reaction.user_id, reaction.message_id)
        }
        ChatEvent::Read(state) => format!("{} up to {}", state.user_id, state.sequence),
        ChatEvent::MemberAdded(member) | ChatEvent::MemberUpdated(member) => {
            format!("{} as {}", member.user_id, member.role)
        }
        ChatEvent::MemberRemoved { user_id } => user_id.clone(),
        other => format!("{other:?}"),
    }
}

async fn converse(out: &mut Transcript, chat: &Chat<MemoryEngine>, room: &ChannelId) {
    let text = |message: &Message| line(message);
    let hello = NewMessage::new("ada", "Shall we meet at noon?").with_id("a1");
    out.call("ada sends a1", chat.send(room, hello.clone()).await, text);
    out.call("ada sends a1 again", chat.send(room, hello.clone()).await, text);
    let other = NewMessage { text: "At one?".into(), ..hello };
    out.call("ada sends a1 with another text", chat.send(room, other).await, text);
    let reply = NewMessage::new("grace", "Noon is fine.").with_id("g1").reply_to("a1");
    out.call("grace replies to a1", chat.send(room, reply).await, text);
    out.call("grace likes a1", chat.react(room, "a1", NewReaction::new("grace", "like")).await, show);
    out.call("grace likes a1 again", chat.react(room, "a1", NewReaction::new("grace", "like")).await, show);
    let named = NewMessage::new("grace", "I bring the cake.");
    out.call("grace sends without an id", chat.send(room, named).await, text);
    out.call("unread of ada", chat.unread(room, "ada").await, show);
    out.call("unread of grace", chat.unread(room, "grace").await, show);
    let edit = Edit { user_id: "ada".into(), text: Some("Shall we meet at one?".into()), ..Edit::default() };
    out.call("ada edits a1", chat.edit(room, "a1", edit).await, text);
    out.call("grace reads a1", chat.mark_read(room, "grace", ReadTo::Message("a1".into())).await, show);
    out.call("unread of grace", chat.unread(room, "grace").await, show);
    out.call("grace deletes g1", chat.delete(room, "g1", "grace").await, text);
    out.call("eve sends", chat.send(room, NewMessage::new("eve", "hi").with_id("e1")).await, text);
    out.call("grace leaves", chat.remove_member(room, "grace").await, show);
    out.call("unread of grace", chat.unread(room, "grace").await, show);
    let oldest = chat.history(room, HistoryRequest::oldest(10)).await;
    out.call("history, oldest first", oldest, |page| lines(&page.messages));
    let thread = chat.thread(room, "a1", HistoryRequest::oldest(10)).await;
    out.call("thread of a1", thread, |page| lines(&page.messages));
    out.call("edits of a1", chat.edits(room, "a1").await, show);
    for user in ["ada", "grace"] {
        let channels = chat.channels_of(user, None, 10).await;
        out.call(&format!("channels of {user}"), channels, |found| {
            found.iter().map(|one| format!("{} as {}", one.channel, one.role)).collect::<Vec<_>>().join("\n")
        });
    }
    out.call("verify", chat.verify(room).await, show);
}

async fn drain(live: &mut Subscription<MemoryEngine>, count: usize, out: &mut String) {
    for _ in 0..count {
        let next = tokio::time::timeout(std::time::Duration::from_secs(10), live.next()).await;
        let delivery = next.expect("in time").expect("goes on").expect("no error");
        let what = describe(&delivery.event);
        writeln!(out, "{} {} {what}", delivery.position, delivery.event.name()).expect("a string grows");
    }
}

#[tokio::test]
async fn a_small_conversation() {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let engine = MemoryEngine::with_clock(Arc::clone(&clock) as Arc<dyn keevo_core::Clock>);
    let options = ChatOptions {
        clock: Arc::clone(&clock) as Arc<dyn keevo_core::Clock>,
        random: Arc::new(SeededRandom::new(7)),
        rights: keevo_chat::Rights::Members,
        ..ChatOptions::default()
    };
    let chat = Chat::new(engine, AppId(1), options);
    let room: ChannelId = "team:lunch".parse().expect("a name");
    let mut out = Transcript { text: String::new(), clock };
    let new =
        NewChannel { created_by: "ada".into(), custom: Some(r#"{"name":"Lunch"}"#.into()), ..NewChannel::default() };
    out.call("ada creates the channel", chat.create_channel(&room, new).await, show);
    let mut live = chat.subscribe(&room, ResumeFrom::Now).await.expect("subscribed");
    let members = vec![NewMember::new("ada").with_role("owner"), NewMember::new("grace")];
    out.call("ada and grace join", chat.add_members(&room, members).await, show);
    converse(&mut out, &chat, &room).await;
    out.text.push_str("\nWhat a subscriber saw:\n");
    drain(&mut live, 9, &mut out.text).await;
    expect_file!["../testdata/conversation.txt"].assert_eq(&out.text);
}
