//! Channels that are erased: nothing stays of what was refused or held in them, or stood beside their messages.

use std::sync::atomic::Ordering;

use super::erased::{decision, left};
use super::sweep_all;
use crate::testing::{Fault, FaultyEngine, World, version};
use crate::text::{TextKind, TextVersion};

const IDS: [&str; 5] = ["team:x\0refused", "team:x\0poll/1", "team:x\0late", "team:x\0held", "team:x\0new"];

fn said(id: &str, text: &str) -> TextVersion {
    version(&format!("team:x\0{id}"), text)
}

#[tokio::test]
async fn erasing_a_channel_takes_what_was_refused_held_waits_and_stands_beside_messages() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    moderator.check(said("refused", "zork")).await.expect("checked");
    world.clock.advance_ms(1);
    moderator.check(said("poll/1", "oh darn")).await.expect("a poll is refused as what is masked");
    moderator.check(said("poll/1", "fine")).await.expect("and then made");
    for other in ["team:y\0refused", "refused"] {
        world.clock.advance_ms(1);
        moderator.check(version(other, "zork")).await.expect("checked");
    }
    world.judge.down.store(true, Ordering::SeqCst);
    moderator.check(said("late", "fine")).await.expect("left");
    moderator.held(&said("held", "fine")).await.expect("left");
    let verdicts = moderator.verdicts().await.expect("opened");
    let entry = verdicts.queue(1, 1, None).await.expect("listed").entries.remove(0);
    assert_eq!(entry.verdict.version.id, IDS[0]);
    verdicts.decide(1, &entry.id, decision(), world.effects.as_ref()).await.expect("decided");
    assert!(left(verdicts, &IDS).await >= 8);
    for _ in 0..2 {
        verdicts.erase_channel(1, "team:x").await.expect("erased");
    }
    verdicts.erase_channel(2, "team:y").await.expect("that of another app");
    // What is late, or comes in by a queue, leaves nothing either.
    moderator.held(&said("new", "fine")).await.expect("it is answered");
    world.judge.down.store(false, Ordering::SeqCst);
    moderator.check(said("new", "zork")).await.expect("it is answered");
    sweep_all(&world.pipeline(FaultyEngine::sound(&world.engine), 1).await).await;
    assert_eq!(left(verdicts, &IDS).await, 2, "two of other places wait for a person");
    let others = ["team:y\0refused", "refused"];
    assert_eq!(left(verdicts, &others).await, 4, "and these have their verdicts");
    verdicts.erase_author(1, "alice", &[TextKind::Activity], None).await.expect("of other kinds");
    assert_eq!(left(verdicts, &others).await, 4);
    verdicts.erase_author(1, "alice", &TextKind::ALL, None).await.expect("erased");
    assert_eq!(left(verdicts, &others).await, 0);
}

#[tokio::test]
async fn the_texts_of_polls_and_commands_go_with_their_author_too() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    for (id, text) in [("poll/1", "fine"), ("command/2", "so bad"), ("message", "fine")] {
        moderator.check(said(id, text)).await.expect("checked");
    }
    let verdicts = moderator.verdicts().await.expect("opened");
    verdicts.erase_author(1, "alice", &TextKind::ALL, None).await.expect("erased");
    assert_eq!(left(verdicts, &["team:x\0poll/1", "team:x\0command/2"]).await, 0);
    assert_eq!(left(verdicts, &["team:x\0message"]).await, 1, "the message says itself when it goes");
}

#[tokio::test]
async fn a_crash_at_any_write_of_a_channels_erasure_is_mended_by_the_next_try() {
    for fault in Fault::ALL {
        for at in 0.. {
            let world = World::new().await.with_lists().await;
            let sound = world.moderator(FaultyEngine::sound(&world.engine)).await;
            sound.check(said("refused", "zork")).await.expect("checked");
            sound.check(said("poll/1", "fine")).await.expect("checked");
            let verdicts = sound.verdicts().await.expect("opened");
            let faulty = FaultyEngine::at(&world.engine, fault, at);
            let broken = world.moderator(faulty.clone()).await;
            if broken.verdicts().await.expect("opened").erase_channel(1, "team:x").await.is_err() {
                verdicts.erase_channel(1, "team:x").await.expect("erased");
            }
            assert_eq!(left(verdicts, &IDS).await, 0, "{fault:?} at {at}");
            if !faulty.fired() {
                assert!(at >= 5);
                break;
            }
        }
    }
}

/// A text that is judged while its channel is erased, at every place where the erasure may come between.
#[tokio::test]
async fn a_text_that_is_refused_while_its_channel_is_erased_leaves_nothing() {
    for fault in [Fault::Refused, Fault::AnswerLost] {
        for at in 0.. {
            let world = World::new().await.with_lists().await;
            let faulty = FaultyEngine::at(&world.engine, fault, at);
            let broken = world.moderator(faulty.clone()).await;
            let first = broken.check(said("refused", "zork")).await;
            let sound = world.moderator(FaultyEngine::sound(&world.engine)).await;
            let verdicts = sound.verdicts().await.expect("opened");
            verdicts.erase_channel(1, "team:x").await.expect("erased");
            // The caller tries again, or never knew.
            sound.check(said("refused", "zork")).await.expect("it is answered");
            sweep_all(&world.pipeline(FaultyEngine::sound(&world.engine), 1).await).await;
            assert_eq!(left(verdicts, &IDS).await, 0, "{fault:?} at {at}, {first:?}");
            if !faulty.fired() {
                assert!(at >= 3);
                break;
            }
        }
    }
}

/// A reaction's id may be used again: what is said then is judged as any other text.
#[tokio::test]
async fn what_is_said_anew_under_an_erased_id_is_judged() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let text = TextVersion::new(1, TextKind::Reaction, "r1", "so bad").expect("valid").by("bob", "feeds:reaction:x", 1);
    moderator.check(text.clone()).await.expect("checked");
    let verdicts = moderator.verdicts().await.expect("opened");
    verdicts.erase(&text.text_id()).await.expect("erased");
    moderator.check(text.clone()).await.expect("answered");
    let of_it = async || verdicts.of_text(1, TextKind::Reaction, "r1", 10).await.expect("read").len();
    assert_eq!(of_it().await, 0);
    for _ in 0..2 {
        verdicts.say_again(&text.text_id()).await.expect("it is said anew");
    }
    moderator.check(text.clone()).await.expect("checked");
    assert_eq!(of_it().await, 1);
}
