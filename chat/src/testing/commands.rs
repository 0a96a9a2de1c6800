//! Cases about commands, and about those who have no id.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{Engine, Error, ErrorKind, Result};

use super::roles::{code, strict};
use super::{Bench, assert_silent, kind_of, take};
use crate::{
    ChannelId, ChannelType, ChannelTypes, CommandCall, CommandHandler, CommandInfo, CommandOutcome, CommandReply,
    Commands, DeniedCode, Feature, HistoryRequest, NewBan, NewMember, NewMessage, ResumeFrom,
};

/// Does what its name says.
struct Doer;

impl CommandHandler for Doer {
    fn run(&self, call: CommandCall) -> BoxFuture<'static, Result<CommandReply>> {
        async move {
            Ok(match call.name.as_str() {
                "shrug" => {
                    CommandReply::Send(Box::new(NewMessage::new("ignored", format!("{} ¯\\_(ツ)_/¯", call.arguments))))
                }
                "tell" => CommandReply::Tell(format!("{} said {}", call.user_id, call.arguments)),
                "slow" => {
                    tokio::time::sleep(Duration::from_mins(1)).await;
                    CommandReply::Nothing
                }
                "fail" => return Err(Error::new(ErrorKind::Unavailable, "the weather is not known")),
                _ => CommandReply::Nothing,
            })
        }
        .boxed()
    }
}

fn info(name: &str) -> CommandInfo {
    CommandInfo { name: name.into(), ..CommandInfo::default() }
}

pub(super) async fn commands<E: Engine>(bench: Bench<E>) {
    let chat = strict(bench.engine.clone(), &bench);
    let room = bench.channel("commands", &["ada"]).await;
    chat.put_members(&room, vec![NewMember::new("gus").with_role("guest")]).await.expect("added");
    let doer: Arc<dyn CommandHandler> = Arc::new(Doer);
    let mut commands = Commands::default().taking_at_most(Duration::from_millis(50));
    for name in ["shrug", "tell", "slow", "fail"] {
        commands = commands.with(None, info(name), Arc::clone(&doer)).expect("a name");
    }
    let commands = commands.with(Some("team"), info("deploy"), Arc::clone(&doer)).expect("a name");
    assert!(commands.clone().with(None, info("No Name"), doer).is_err());
    chat.set_commands(commands);
    let run = |text: &str| chat.run_command(&room, NewMessage::new("ada", text).with_id("c1"));
    let CommandOutcome::Sent(sent) = run("/shrug well").await.expect("run") else { panic!("a message") };
    assert_eq!((sent.text.as_str(), sent.user_id.as_str()), ("well ¯\\_(ツ)_/¯", "ada"));
    let CommandOutcome::Sent(again) = run("/shrug well").await.expect("a repeat") else { panic!("a message") };
    assert_eq!(again.place, sent.place);
    let run = |text: &'static str| {
        let (chat, room) = (chat.clone(), room.clone());
        async move { chat.run_command(&room, NewMessage::new("ada", text)).await }
    };
    assert_eq!(run("/tell it").await.expect("run"), CommandOutcome::Told("ada said it".into()));
    assert_eq!(kind_of(run("/slow").await), ErrorKind::DeadlineExceeded);
    assert_eq!(kind_of(run("/fail").await), ErrorKind::Unavailable);
    assert_eq!(kind_of(run("/deploy").await), ErrorKind::NotFound, "of another type");
    assert_eq!(kind_of(run("no command").await), ErrorKind::Invalid);
    let names: Vec<String> = chat.commands().of("team").into_iter().map(|one| one.name.clone()).collect();
    assert_eq!(names, ["deploy", "fail", "shrug", "slow", "tell"]);
    assert_eq!(code(chat.run_command(&room, NewMessage::new("gus", "/shrug")).await), DeniedCode::NotGranted);
    assert_eq!(code(chat.run_command(&room, NewMessage::new("eve", "/shrug")).await), DeniedCode::NotAMember);
    let quiet = ChannelType::default().without(Feature::Commands);
    chat.set_channel_types(ChannelTypes::default().with("messaging", quiet));
    assert_eq!(code(run("/shrug").await), DeniedCode::FeatureOff);
    assert_eq!(bench.all(&room).await.len(), 1);
    bench.assert_sound(&room).await;
}

pub(super) async fn anonymous<E: Engine>(bench: Bench<E>) {
    let chat = strict(bench.engine.clone(), &bench);
    let stage: ChannelId = "livestream:show".parse().expect("a name");
    let new = crate::NewChannel { created_by: "ada".into(), ..crate::NewChannel::default() };
    chat.create_channel(&stage, new).await.expect("created");
    let mut live = chat.subscribe_anonymous(&stage, ResumeFrom::Now).await.expect("anybody may listen");
    chat.ban(&stage, "bob", NewBan { banned_by: "ada".into(), shadow: true, ..NewBan::default() })
        .await
        .expect("banned");
    chat.send(&stage, NewMessage::new("bob", "unseen").with_id("m1")).await.expect("as if nothing were");
    chat.send(&stage, NewMessage::new("carol", "seen").with_id("m2")).await.expect("sent");
    let seen = take(&mut live, 1).await;
    assert!(matches!(seen.first().map(|one| &one.event), Some(crate::ChatEvent::MessageNew(m)) if m.id == "m2"));
    assert_silent(&mut live).await;
    let token = live.resume().clone();
    chat.send(&stage, NewMessage::new("carol", "more").with_id("m3")).await.expect("sent");
    let mut resumed = chat.subscribe_anonymous(&stage, ResumeFrom::Token(token.clone())).await.expect("resumed");
    assert_eq!(take(&mut resumed, 1).await.first().map(|one| one.event.name()), Some("message.new"));
    assert_eq!(kind_of(chat.subscribe_as(&stage, "ada", ResumeFrom::Token(token)).await), ErrorKind::Invalid);
    let page = chat.history(&stage, HistoryRequest::newest(10)).await.expect("a page").visible_to_anybody();
    assert_eq!(page.messages.iter().map(|message| message.id.as_str()).collect::<Vec<_>>(), ["m3", "m2"]);
    let room = bench.channel("closed", &["ada"]).await;
    assert_eq!(code(chat.subscribe_anonymous(&room, ResumeFrom::Now).await), DeniedCode::NotAMember);
    chat.disable(&stage, true).await.expect("disabled");
    assert_eq!(code(chat.authorize_anonymous(&stage).await), DeniedCode::Disabled);
    let nowhere: ChannelId = "livestream:nowhere".parse().expect("a name");
    assert_eq!(kind_of(chat.authorize_anonymous(&nowhere).await), ErrorKind::NotFound);
}
