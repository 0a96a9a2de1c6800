//! Every text version ends with exactly one verdict, whatever happens on the way.

mod erased;
mod erased_channel;
mod held;
mod queued;
mod review;
mod streams;

use std::sync::atomic::Ordering;

use keevo_core::ErrorKind;

use super::*;
use crate::moderator::Checked;
use crate::policy::{Action, Reason, WhenLate};
use crate::testing::{Fault, FaultyEngine, World, version};

/// Sweeps until nothing waits.
async fn sweep_all(pipeline: &Pipeline<FaultyEngine>) {
    for _ in 0..20 {
        let sweep = pipeline.sweep().await.expect("a sweep");
        if sweep.finished == 0 && sweep.failed == 0 && !sweep.stalled {
            return;
        }
    }
    panic!("the sweeps do not end");
}

fn action(checked: &Checked) -> Option<Action> {
    match checked {
        Checked::Judged(verdict) => Some(verdict.action),
        Checked::Late(_) => None,
    }
}

#[tokio::test]
async fn a_text_is_judged_once_and_keeps_its_first_verdict() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    for (text, expected) in [
        ("fine", Action::Allow),
        ("so bad", Action::Flag),
        ("oh darn", Action::Mask),
        ("z0rk bad", Action::Block),
        (" \n", Action::Allow),
    ] {
        for _ in 0..2 {
            let checked = moderator.check(version("m1", text)).await.expect("checked");
            assert_eq!(action(&checked), Some(expected), "{text}");
        }
    }
    let verdicts = world.verdicts(&["m1"]).await;
    // Five versions, and the masked one.
    assert_eq!(verdicts.len(), 6);
    let masked = &verdicts[&("m1".into(), "oh ****".into())];
    assert_eq!((masked.action, masked.reasons.clone()), (Action::Allow, vec![Reason::Masked]));
    assert_eq!(verdicts[&("m1".into(), "so bad".into())].model, "test-1");
    assert_eq!(moderator.metrics().verdicts, [2, 1, 1, 0, 0, 0, 1]);
    assert_eq!(world.waiting().await, 0);
    assert_eq!(moderator.verdicts().await.expect("opened").queue(1, 100, None).await.expect("listed").entries.len(), 3);
}

#[tokio::test]
async fn a_crash_at_any_write_loses_no_verdict_and_makes_no_second() {
    let texts = [("a", "fine"), ("b", "so bad"), ("c", "oh darn"), ("d", "zork"), ("e", "huge"), ("a", "edited bad")];
    for fault in Fault::ALL {
        for at in 0.. {
            let world = World::new().await.with_lists().await;
            let faulty = FaultyEngine::at(&world.engine, fault, at);
            let moderator = world.moderator(faulty.clone()).await;
            let mut answered = Vec::new();
            world.judge.down.store(true, Ordering::SeqCst);
            for (id, text) in texts.iter().take(2) {
                if moderator.check(version(id, text)).await.is_ok() {
                    answered.push((*id, *text));
                }
            }
            world.judge.down.store(false, Ordering::SeqCst);
            for (id, text) in texts.iter().skip(2) {
                if moderator.check(version(id, text)).await.is_ok() {
                    answered.push((*id, *text));
                }
            }
            // The node that is hit may die in its sweep; another one takes over.
            drop(world.pipeline_of(moderator, 1).sweep().await);
            let fired = faulty.fired();
            sweep_all(&world.pipeline(FaultyEngine::sound(&world.engine), 2).await).await;
            assert_eq!(world.waiting().await, 0, "{fault:?} at {at}");
            let verdicts = world.verdicts(&["a", "b", "c", "d", "e"]).await;
            for (id, text) in &answered {
                let found = verdicts.get(&((*id).to_owned(), (*text).to_owned()));
                assert!(found.is_some(), "{fault:?} at {at}: {id} {text} was answered and has no verdict");
            }
            let sound = world.moderator(FaultyEngine::sound(&world.engine)).await;
            let queue = sound.verdicts().await.expect("opened").queue(1, 100, None).await.expect("listed").entries;
            let mut queued: Vec<String> = queue.iter().map(|one| one.verdict.version.text.clone()).collect();
            let mut flagged: Vec<String> = verdicts
                .values()
                .filter(|verdict| verdict.needs_review())
                .map(|verdict| verdict.version.text.clone())
                .collect();
            queued.sort();
            flagged.sort();
            assert_eq!(queued, flagged, "{fault:?} at {at}");
            if !fired {
                assert_eq!((answered.len(), verdicts.len()), (6, 7));
                assert!(at > 15, "only {at} writes were tried");
                break;
            }
        }
    }
}

#[tokio::test]
async fn workers_that_are_down_delay_verdicts_and_lose_none() {
    let world = World::new().await.with_lists().await;
    let pipeline = world.pipeline(FaultyEngine::sound(&world.engine), 1).await;
    let moderator = pipeline.moderator.clone();
    world.judge.down.store(true, Ordering::SeqCst);
    for number in 0..200 {
        let text = if number % 10 == 0 { "so bad" } else { "fine" };
        let checked = moderator.check(version(&format!("m{number}"), text)).await.expect("left");
        assert_eq!(checked, Checked::Late(WhenLate::Send));
    }
    world.clock.advance_ms(5_000);
    let sweep = pipeline.sweep().await.expect("a sweep");
    assert!(sweep.stalled && sweep.finished == 0);
    let metrics = moderator.metrics();
    assert_eq!((metrics.pending, metrics.lag_ms, metrics.late), (200, 1_004_000, 200));
    // What a list decides needs no worker.
    let blocked = moderator.check(version("x", "zork")).await.expect("judged");
    assert_eq!(action(&blocked), Some(Action::Block));
    world.judge.down.store(false, Ordering::SeqCst);
    sweep_all(&pipeline).await;
    let metrics = moderator.metrics();
    assert_eq!((metrics.pending, metrics.verdicts.iter().sum::<u64>()), (0, 201));
    assert_eq!(metrics.verdicts[1], 20);
    assert!(world.judge.asked.load(Ordering::SeqCst) < 220, "many texts share a question");
}

#[tokio::test]
async fn two_pipelines_at_once_store_one_verdict_each() {
    let world = World::new().await.with_lists().await;
    let one = world.pipeline(FaultyEngine::sound(&world.engine), 1).await;
    let two = world.pipeline(FaultyEngine::sound(&world.engine), 2).await;
    for number in 0..60 {
        one.moderator.leave(&version(&format!("m{number}"), "so bad")).await.expect("left");
    }
    let (first, second) = tokio::join!(one.sweep(), two.sweep());
    assert!(first.is_ok() && second.is_ok());
    let stored = |pipeline: &Pipeline<FaultyEngine>| pipeline.moderator.metrics().verdicts[1];
    assert_eq!(stored(&one) + stored(&two), 60);
    assert_eq!(world.waiting().await, 0);
    assert_eq!(
        one.moderator.verdicts().await.expect("opened").queue(1, 100, None).await.expect("listed").entries.len(),
        60
    );
}

#[tokio::test]
async fn an_edit_while_its_text_is_judged_is_another_version() {
    let world = World::new().await.with_lists().await;
    let pipeline = world.pipeline(FaultyEngine::sound(&world.engine), 1).await;
    let moderator = pipeline.moderator.clone();
    moderator.leave(&version("m", "so bad")).await.expect("left");
    let (swept, checked) = tokio::join!(pipeline.sweep(), moderator.check(version("m", "better")));
    assert_eq!((swept.expect("a sweep").finished, action(&checked.expect("checked"))), (1, Some(Action::Allow)));
    let verdicts = world.verdicts(&["m"]).await;
    assert_eq!(verdicts.values().map(|one| one.action).collect::<Vec<_>>(), [Action::Allow, Action::Flag]);
}

#[tokio::test]
async fn a_text_that_cannot_be_judged_is_set_aside_and_holds_nobody_up() {
    let world = World::new().await.with_lists().await;
    let pipeline = world.pipeline(FaultyEngine::sound(&world.engine), 1).await;
    let moderator = pipeline.moderator.clone();
    for (id, text) in [("a", "fine"), ("b", "huge"), ("c", "poison"), ("d", "fine")] {
        moderator.leave(&version(id, text)).await.expect("left");
    }
    let sweep = pipeline.sweep().await.expect("a sweep");
    assert_eq!((sweep.finished, sweep.failed, sweep.stalled), (3, 1, false));
    for _ in 0..3 {
        assert_eq!(pipeline.sweep().await.expect("a sweep").failed, 1);
    }
    assert_eq!(pipeline.sweep().await.expect("a sweep").finished, 1);
    let verdicts = world.verdicts(&["b", "c"]).await;
    assert!(verdicts.len() == 2 && verdicts.values().all(|one| one.action == Action::Flag && one.is_set_aside()));
    assert_eq!(moderator.metrics().set_aside, 2);
    let reason = &verdicts[&("c".into(), "poison".into())].reasons[0];
    assert_eq!(*reason, Reason::Unjudged("it failed 5 times: the model gave no number".into()));
}

/// The demo's mails were left to a sidecar that could not compute a whole question in time: it was asked the same again for
/// ever, and none of 6,046 texts was judged.
#[tokio::test]
async fn questions_that_are_too_much_become_smaller_and_a_text_that_is_holds_nobody_up() {
    let world = World::new().await.with_lists().await;
    let pipeline = world.pipeline(FaultyEngine::sound(&world.engine), 1).await;
    world.judge.bytes_max.store(5_000, Ordering::SeqCst);
    let long = "so bad ".repeat(200);
    for number in 0..100 {
        pipeline.moderator.leave(&version(&format!("m{number}"), &long)).await.expect("left");
    }
    pipeline.moderator.leave(&version("monster", &"word ".repeat(2_000))).await.expect("left");
    for _ in 0..40 {
        pipeline.sweep().await.expect("a sweep");
        if world.waiting().await == 0 {
            break;
        }
    }
    assert_eq!(world.waiting().await, 0);
    let verdicts = world.verdicts(&["m0", "m99", "monster"]).await;
    assert!(verdicts.len() == 3 && verdicts.values().all(|one| one.action == Action::Flag));
    assert_eq!(pipeline.moderator.metrics().set_aside, 1, "the one that is too much alone");
    // Once the workers are fast, questions grow again.
    world.judge.bytes_max.store(0, Ordering::SeqCst);
    for number in 0..400 {
        pipeline.moderator.leave(&version(&format!("n{number}"), &long)).await.expect("left");
    }
    let before = world.judge.asked.load(Ordering::SeqCst);
    sweep_all(&pipeline).await;
    let asked = world.judge.asked.load(Ordering::SeqCst) - before;
    assert!(asked < 30, "{asked} questions of up to 64 texts");
}

#[tokio::test]
async fn late_verdicts_reach_texts_that_stand_already() {
    let world = World::new().await.with_lists().await;
    let pipeline = world.pipeline(FaultyEngine::sound(&world.engine), 1).await;
    for (id, text) in [("a", "fine"), ("b", "so bad"), ("c", "oh darn"), ("d", "zork")] {
        pipeline.moderator.leave(&version(id, text)).await.expect("left");
    }
    sweep_all(&pipeline).await;
    assert_eq!(world.effects.seen(), ["replace c", "take back d"]);
}

#[tokio::test]
async fn without_the_store_nothing_is_let_through() {
    let world = World::new().await;
    let moderator = world.moderator(FaultyEngine::at(&world.engine, Fault::StopBefore, 0)).await;
    let error = moderator.check(version("a", "fine")).await.expect_err("no verdict, no answer");
    assert_eq!(error.kind(), ErrorKind::Closed);
}
