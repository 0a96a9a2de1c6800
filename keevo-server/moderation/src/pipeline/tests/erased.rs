//! Texts that are erased: nothing of them stays, whoever is about to write something of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use keevo_core::ErrorKind;
use tokio_util::sync::CancellationToken;

use super::sweep_all;
use crate::testing::{Fault, FaultyEngine, World, version};
use crate::text::{TextKind, TextVersion};
use crate::verdicts::{Decision, Ruling, Verdicts};

pub(super) fn decision() -> Decision {
    Decision { ruling: Ruling::Remove, reviewer: "eve".into(), labels: vec!["toxic".into()], note: String::new() }
}

/// How many rows of any kind hold something of the texts: verdicts, decisions, entries of the queue, labels.
pub(super) async fn left(verdicts: &Verdicts<FaultyEngine>, ids: &[&str]) -> usize {
    let mut count = 0;
    for id in ids {
        let found = verdicts.of_text(1, TextKind::Message, id, 100).await.expect("read");
        for one in &found {
            count += usize::from(verdicts.decision(&one.version).await.expect("read").is_some());
        }
        count += found.len();
    }
    count += verdicts.queue(1, 100, None).await.expect("listed").entries.len();
    count
        + verdicts.labels(1, 100, None).await.expect("listed").labels.len()
        + verdicts.count_waiting(100).await.expect("read")
}

#[tokio::test]
async fn erasing_takes_verdicts_decisions_the_queue_and_labels() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    for text in ["so bad", "oh darn", "fine", "an edit that is bad"] {
        world.clock.advance_ms(1);
        moderator.check(version("a", text)).await.expect("checked");
    }
    let verdicts = moderator.verdicts().await.expect("opened");
    let entry = verdicts.queue(1, 1, None).await.expect("listed").entries.remove(0).id;
    verdicts.decide(1, &entry, decision(), world.effects.as_ref()).await.expect("decided");
    let entry = verdicts.queue(1, 1, None).await.expect("listed").entries.remove(0).id;
    // One version waits when the text is erased.
    world.judge.down.store(true, Ordering::SeqCst);
    moderator.check(version("a", "late")).await.expect("left");
    assert!(left(verdicts, &["a"]).await > 8);
    let text = version("a", "x").text_id();
    verdicts.erase(&text).await.expect("erased");
    verdicts.erase(&text).await.expect("again");
    sweep_all(&world.pipeline(FaultyEngine::sound(&world.engine), 1).await).await;
    assert_eq!(left(verdicts, &["a"]).await, 0, "also what waited, although no worker answers");
    let gone = verdicts.decide(1, &entry, decision(), world.effects.as_ref()).await.expect_err("it is gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    world.judge.down.store(false, Ordering::SeqCst);
    moderator.check(version("a", "so bad")).await.expect("a late repeat of the send is answered");
    assert_eq!(left(verdicts, &["a"]).await, 0, "and nothing of it is kept");
    moderator.check(version("b", "so bad")).await.expect("others are judged as before");
    assert_eq!(left(verdicts, &["b"]).await, 2);
}

/// Refused and held texts stand nowhere, so no change of theirs tells that they are erased: their author's erasure must.
#[tokio::test]
async fn erasing_an_author_takes_what_was_refused_held_and_waits() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    moderator.check(version("refused", "zork")).await.expect("checked");
    world.clock.advance_ms(1);
    moderator.check(version("of bob", "zork").by("bob", "chat:x", 1_000)).await.expect("checked");
    world.judge.down.store(true, Ordering::SeqCst);
    moderator.check(version("late", "fine")).await.expect("left");
    moderator.held(&version("held", "fine")).await.expect("left");
    let verdicts = moderator.verdicts().await.expect("opened");
    let entry = verdicts.queue(1, 1, None).await.expect("listed").entries.remove(0);
    assert_eq!(entry.verdict.version.id, "refused");
    verdicts.decide(1, &entry.id, decision(), world.effects.as_ref()).await.expect("decided");
    assert!(left(verdicts, &["refused", "late", "held"]).await >= 5);
    for _ in 0..2 {
        verdicts.erase_author(1, "alice", &TextKind::ALL, None).await.expect("erased");
    }
    world.judge.down.store(false, Ordering::SeqCst);
    sweep_all(&world.pipeline(FaultyEngine::sound(&world.engine), 1).await).await;
    assert_eq!(left(verdicts, &["refused", "late", "held"]).await, 1, "what is of bob waits for a person");
    verdicts.erase_author(1, "bob", &TextKind::ALL, Some("deleted-1")).await.expect("renamed");
    let queued = verdicts.queue(1, 10, None).await.expect("listed").entries;
    assert_eq!(queued[0].verdict.version.author, "deleted-1");
    verdicts.erase_author(1, "bob", &TextKind::ALL, None).await.expect("nothing is noted under the name any more");
    assert_eq!(verdicts.queue(1, 10, None).await.expect("listed").entries.len(), 1);
    verdicts.erase_author(1, "deleted-1", &TextKind::ALL, None).await.expect("erased");
    assert_eq!(left(verdicts, &["of bob"]).await, 0);
}

#[tokio::test]
async fn a_crash_at_any_write_of_an_erasure_is_mended_by_the_next_try() {
    for fault in Fault::ALL {
        for at in 0.. {
            let world = World::new().await.with_lists().await;
            let sound = world.moderator(FaultyEngine::sound(&world.engine)).await;
            for text in ["so bad", "oh darn"] {
                world.clock.advance_ms(1);
                sound.check(version("a", text)).await.expect("checked");
            }
            let verdicts = sound.verdicts().await.expect("opened");
            let entry = verdicts.queue(1, 1, None).await.expect("listed").entries.remove(0).id;
            verdicts.decide(1, &entry, decision(), world.effects.as_ref()).await.expect("decided");
            let faulty = FaultyEngine::at(&world.engine, fault, at);
            let broken = world.moderator(faulty.clone()).await;
            let text = version("a", "x").text_id();
            if broken.verdicts().await.expect("opened").erase(&text).await.is_err() {
                verdicts.erase(&text).await.expect("erased");
            }
            assert_eq!(left(verdicts, &["a"]).await, 0, "{fault:?} at {at}");
            if !faulty.fired() {
                assert!(at >= 3);
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_the_stream_says_is_erased_is_and_what_it_renames_is_renamed() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.pipeline_of(moderator.clone(), 1).run(stop.clone()));
    for id in ["probe", "a"] {
        for _ in 0..400 {
            world.write_text(id, "so bad").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            if world.verdicts(&[id]).await.len() == 1 {
                break;
            }
        }
    }
    world.erase_text("a").await;
    for _ in 0..400 {
        if world.verdicts(&["a"]).await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(world.verdicts(&["a"]).await.is_empty());
    stop.cancel();
    running.await.expect("it ends");
    let verdicts = moderator.verdicts().await.expect("opened");
    let text = version("probe", "x").text_id();
    verdicts.rename_author(&text, "bob", "deleted-1").await.expect("nothing of bob's");
    assert_eq!(verdicts.authors_of(&text).await.expect("read").into_iter().collect::<Vec<_>>(), ["alice"]);
    verdicts.rename_author(&text, "alice", "deleted-1").await.expect("renamed");
    let renamed: Vec<String> = verdicts
        .of_text(1, TextKind::Message, "probe", 10)
        .await
        .expect("read")
        .into_iter()
        .map(|one| one.version)
        .chain(verdicts.queue(1, 10, None).await.expect("listed").entries.into_iter().map(|one| one.verdict.version))
        .map(|version: TextVersion| version.author)
        .collect();
    assert_eq!(renamed, ["deleted-1", "deleted-1"]);
}

/// What a moderator made of a text stays the moderator's when the text's author is erased.
#[tokio::test]
async fn only_who_was_erased_is_renamed() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let by = |text: &str, author: &str| version("a", text).by(author, "chat:x", 1_000);
    moderator.check(by("so bad", "alice")).await.expect("checked");
    world.clock.advance_ms(1);
    moderator.check(by("oh darn", "mod")).await.expect("checked");
    let verdicts = moderator.verdicts().await.expect("opened");
    let text = version("a", "x").text_id();
    verdicts.rename_author(&text, "alice", "deleted-1").await.expect("renamed");
    let authors: Vec<String> = verdicts.authors_of(&text).await.expect("read").into_iter().collect();
    assert_eq!(authors, ["deleted-1", "mod"]);
    let queue = verdicts.queue(1, 10, None).await.expect("listed").entries;
    let mut queued: Vec<&str> = queue.iter().map(|one| one.verdict.version.author.as_str()).collect();
    queued.sort_unstable();
    assert_eq!(queued, ["deleted-1", "mod"]);
}
