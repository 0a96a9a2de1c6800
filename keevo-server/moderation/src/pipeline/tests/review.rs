//! The review queue: decisions are made once, kept as labels, and finished whatever happens.

use keevo_core::{Engine, ErrorKind};

use crate::testing::{Fault, FaultyEngine, World, version};
use crate::verdicts::{Decision, QUEUE_PAGE_MAX, Ruling, Verdicts};

fn decision(ruling: Ruling) -> Decision {
    Decision { ruling, reviewer: "eve".into(), labels: vec!["toxic".into()], note: "clear".into() }
}

async fn first<E: Engine>(verdicts: &Verdicts<E>) -> String {
    verdicts.queue(1, 10, None).await.expect("listed").entries.first().expect("an entry").id.clone()
}

#[tokio::test]
async fn a_decision_ends_the_entry_and_becomes_labelled_data() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    for (id, text) in [("a", "so bad"), ("b", "oh darn"), ("c", "zork")] {
        world.clock.advance_ms(10);
        moderator.check(version(id, text)).await.expect("checked");
    }
    let verdicts = moderator.verdicts().await.expect("opened");
    let effects = world.effects.as_ref();
    for ruling in [Ruling::Allow, Ruling::Remove, Ruling::Ban] {
        world.clock.advance_ms(10);
        let id = first(verdicts).await;
        let decided = verdicts.decide(1, &id, decision(ruling), effects).await.expect("decided");
        assert_eq!(decided.decision, decision(ruling));
        let again = verdicts.decide(1, &id, decision(ruling), effects).await.expect_err("it is gone");
        assert_eq!(again.kind(), ErrorKind::NotFound);
    }
    assert!(verdicts.queue(1, 10, None).await.expect("listed").entries.is_empty());
    let page = verdicts.labels(1, 2, None).await.expect("listed");
    let rest = verdicts.labels(1, 2, page.next.as_deref()).await.expect("listed");
    let labels: Vec<_> = page.labels.iter().chain(&rest.labels).collect();
    assert_eq!((labels.len(), rest.next), (3, None));
    assert_eq!(labels[1].verdict.version.text, "oh darn");
    assert_eq!(labels[2].decided.decision.ruling, Ruling::Ban);
    assert_eq!(world.effects.seen(), ["ban c", "take back b", "take back c"]);
    // The text comes in again: it has its verdict and its decision, and is not asked about again.
    moderator.check(version("a", "so bad")).await.expect("checked");
    assert!(verdicts.queue(1, 10, None).await.expect("listed").entries.is_empty());
}

#[tokio::test]
async fn a_crash_in_a_decision_is_finished_by_the_next_try() {
    for fault in Fault::ALL {
        for at in 0.. {
            let world = World::new().await.with_lists().await;
            let sound = world.moderator(FaultyEngine::sound(&world.engine)).await;
            sound.check(version("a", "so bad")).await.expect("checked");
            let id = first(sound.verdicts().await.expect("opened")).await;
            let faulty = FaultyEngine::at(&world.engine, fault, at);
            let broken = world.moderator(faulty.clone()).await;
            let effects = world.effects.as_ref();
            let tried =
                broken.verdicts().await.expect("opened").decide(1, &id, decision(Ruling::Remove), effects).await;
            world.clock.advance_ms(1_000);
            if tried.is_err() {
                match sound.verdicts().await.expect("opened").decide(1, &id, decision(Ruling::Remove), effects).await {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{fault:?} at {at}"),
                }
            }
            let labels = sound.verdicts().await.expect("opened").labels(1, 10, None).await.expect("listed").labels;
            assert_eq!(labels.len(), 1, "{fault:?} at {at}");
            assert!(
                sound.verdicts().await.expect("opened").queue(1, 10, None).await.expect("listed").entries.is_empty()
            );
            assert_eq!(world.effects.seen(), ["take back a"]);
            if !faulty.fired() {
                assert!(at >= 3);
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_second_of_two_decisions_hears_of_the_first() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    moderator.check(version("a", "so bad")).await.expect("checked");
    let verdicts = moderator.verdicts().await.expect("opened");
    let id = first(verdicts).await;
    let effects = world.effects.as_ref();
    let one = verdicts.decide(1, &id, decision(Ruling::Allow), effects);
    let two = verdicts.decide(1, &id, decision(Ruling::Remove), effects);
    let (one, two) = tokio::join!(one, two);
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    assert_eq!(verdicts.labels(1, 10, None).await.expect("listed").labels.len(), 1);
}

#[tokio::test]
async fn what_is_no_page_id_or_decision_is_refused() {
    let world = World::new().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let verdicts = moderator.verdicts().await.expect("opened");
    let effects = world.effects.as_ref();
    for (limit, after) in [(0, None), (QUEUE_PAGE_MAX + 1, None), (1, Some("xyz")), (1, Some("00"))] {
        assert_eq!(verdicts.queue(1, limit, after).await.expect_err("refused").kind(), ErrorKind::Invalid);
    }
    let unknown = "0".repeat(48);
    let error = verdicts.decide(1, &unknown, decision(Ruling::Allow), effects).await.expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    for bad in [
        Decision { reviewer: String::new(), ..decision(Ruling::Allow) },
        Decision { labels: vec!["x".into(); 33], ..decision(Ruling::Allow) },
        Decision { labels: vec!["a b".into()], ..decision(Ruling::Allow) },
        Decision { note: "x".repeat(4_097), ..decision(Ruling::Allow) },
    ] {
        let error = verdicts.decide(1, &unknown, bad, effects).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert!(Ruling::from_name("delete").is_err());
}
