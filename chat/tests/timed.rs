//! What ends by itself: bans, pins and the waits of slow mode, under a clock that a test moves.

use std::sync::Arc;

use keevo_chat::{
    AppId, ChannelId, Chat, ChatOptions, Denied, DeniedCode, NewBan, NewChannel, NewMember, NewMessage, Rights,
};
use keevo_core::{Clock, ManualClock, MemoryEngine, Result};

async fn room() -> (Arc<ManualClock>, Chat<MemoryEngine>, ChannelId) {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let engine = MemoryEngine::with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let options =
        ChatOptions { clock: Arc::clone(&clock) as Arc<dyn Clock>, rights: Rights::Members, ..ChatOptions::default() };
    let chat = Chat::new(engine, AppId(1), options);
    let room: ChannelId = "team:a".parse().expect("a name");
    let members = vec![NewMember::new("ada").with_role("moderator"), NewMember::new("bob")];
    let new = NewChannel { created_by: "ada".into(), members, ..NewChannel::default() };
    chat.create_channel(&room, new).await.expect("created");
    (clock, chat, room)
}

fn denied<T: std::fmt::Debug>(result: Result<T>) -> Denied {
    let error = result.expect_err("should be denied");
    Denied::of(&error).unwrap_or_else(|| panic!("no refusal: {error}")).clone()
}

#[tokio::test]
async fn a_ban_ends() {
    let (clock, chat, room) = room().await;
    let ban = NewBan { banned_by: "ada".into(), for_ms: Some(10_000), ..NewBan::default() };
    chat.ban(&room, "bob", ban.clone()).await.expect("banned");
    clock.advance_ms(4_000);
    let refusal = denied(chat.send(&room, NewMessage::new("bob", "x")).await);
    assert_eq!((refusal.code, refusal.retry_ms), (DeniedCode::Banned, Some(6_000)));
    clock.advance_ms(7_000);
    chat.send(&room, NewMessage::new("bob", "x")).await.expect("its time is over");
    assert!(chat.bans(&room, None, 10).await.expect("listed").is_empty());
    chat.ban_from_app("bob", ban).await.expect("banned");
    assert_eq!(denied(chat.send(&room, NewMessage::new("bob", "x")).await).code, DeniedCode::Banned);
    clock.advance_ms(11_000);
    chat.send(&room, NewMessage::new("bob", "x")).await.expect("its time is over");
}

#[tokio::test]
async fn slow_mode_lets_each_send_again_after_the_wait() {
    let (clock, chat, room) = room().await;
    chat.set_slow_mode(&room, Some(10_000)).await.expect("slow");
    for _ in 0..3 {
        chat.send(&room, NewMessage::new("bob", "x")).await.expect("in time");
        let refusal = denied(chat.send(&room, NewMessage::new("bob", "y")).await);
        assert_eq!((refusal.code, refusal.retry_ms), (DeniedCode::SlowMode, Some(10_000)));
        clock.advance_ms(10_001);
    }
    assert_eq!(chat.verify(&room).await.expect("verified").problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_pin_ends() {
    let (clock, chat, room) = room().await;
    chat.send(&room, NewMessage::new("ada", "x").with_id("m")).await.expect("sent");
    chat.pin(&room, "m", "ada", true, Some(1_700_000_010_000)).await.expect("pinned");
    assert_eq!(chat.pinned(&room, 10).await.expect("listed").len(), 1);
    clock.advance_ms(10_001);
    assert!(chat.pinned(&room, 10).await.expect("listed").is_empty());
}
