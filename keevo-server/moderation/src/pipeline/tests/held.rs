//! Texts that are kept back: a verdict or a person lets them go or refuses them, whatever comes in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::sweep_all;
use crate::moderator::Checked;
use crate::policies::Policies;
use crate::policy::{Action, Policy, WhenLate};
use crate::testing::{Fault, FaultyEngine, World, version};
use crate::verdicts::{Decision, Ruling};

async fn world() -> World {
    let world = World::new().await.with_lists().await;
    let policies = Policies::new(world.meta.clone(), Arc::clone(&world.clock) as _);
    let text = r#"{"default": {"rules": [{"label": "toxic", "threshold": 0.5, "action": "hold"}],
        "blocklists": [{"name": "mild", "action": "mask"}, {"name": "hard", "action": "block"}], "when_late": "hold"}}"#;
    policies.set_policy(1, Policy::from_json(text).expect("valid")).await.expect("set");
    world
}

impl World {
    /// Does what a caller does with a text that is to be held.
    async fn hold(&self, id: &str, text: &str) {
        let moderator = self.moderator(FaultyEngine::sound(&self.engine)).await;
        let checked = moderator.check(version(id, text)).await.expect("checked");
        let holds = match checked {
            Checked::Judged(verdict) => verdict.action == Action::Hold,
            Checked::Late(late) => late == WhenLate::Hold,
        };
        assert!(holds, "{id} is to be held");
        self.effects.held.lock().expect("no panic").insert(id.to_owned());
        moderator.held(&version(id, text)).await.expect("left");
    }

    async fn decide(&self, ruling: Ruling) {
        let moderator = self.moderator(FaultyEngine::sound(&self.engine)).await;
        let verdicts = moderator.verdicts().await.expect("opened");
        let id = verdicts.queue(1, 1, None).await.expect("listed").entries.remove(0).id;
        let decision = Decision { ruling, reviewer: "eve".into(), labels: Vec::new(), note: String::new() };
        verdicts.decide(1, &id, decision, self.effects.as_ref()).await.expect("decided");
    }

    fn held(&self) -> Vec<String> {
        self.effects.held.lock().expect("no panic").iter().cloned().collect()
    }
}

#[tokio::test]
async fn a_verdict_that_comes_late_lets_go_or_refuses() {
    let world = world().await;
    world.judge.down.store(true, Ordering::SeqCst);
    for (id, text) in [("a", "fine"), ("b", "oh darn"), ("c", "so bad")] {
        world.hold(id, text).await;
    }
    let pipeline = world.pipeline(FaultyEngine::sound(&world.engine), 1).await;
    assert!(pipeline.sweep().await.expect("a sweep").stalled);
    assert_eq!(world.held(), ["a", "b", "c"], "nothing goes without a verdict");
    world.judge.down.store(false, Ordering::SeqCst);
    sweep_all(&pipeline).await;
    assert_eq!(world.held(), ["c"], "what a person is to decide on stays");
    // The one that stays is hidden, in case that it stood already.
    assert_eq!(world.effects.seen(), ["release a", "release b", "replace b", "replace c"]);
    world.decide(Ruling::Allow).await; // the masked one's
    world.decide(Ruling::Allow).await;
    assert!(world.held().is_empty());
}

#[tokio::test]
async fn a_person_lets_go_what_the_policy_holds_or_takes_it_back() {
    let world = world().await;
    world.hold("a", "so bad").await;
    world.clock.advance_ms(10);
    world.hold("b", "very bad").await;
    let pipeline = world.pipeline(FaultyEngine::sound(&world.engine), 1).await;
    sweep_all(&pipeline).await;
    assert_eq!(world.held(), ["a", "b"]);
    world.decide(Ruling::Allow).await;
    world.decide(Ruling::Remove).await;
    assert_eq!(world.held(), ["b"], "effects of tests take back by name alone");
    let seen = world.effects.seen();
    assert!(seen.contains(&"release a".to_owned()) && seen.contains(&"take back b".to_owned()), "{seen:?}");
    // A caller that dies after it held the text and before it said so: the change stream says it.
    world.effects.held.lock().expect("no panic").insert("a".to_owned());
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    moderator.held(&version("a", "so bad")).await.expect("left");
    sweep_all(&pipeline).await;
    assert_eq!(world.held(), ["b"], "the decision holds for what comes after it");
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_nothing_held_for_ever() {
    for fault in Fault::ALL {
        for at in 0.. {
            let world = world().await;
            world.judge.down.store(true, Ordering::SeqCst);
            let faulty = FaultyEngine::at(&world.engine, fault, at);
            let moderator = world.moderator(faulty.clone()).await;
            for (id, text) in [("a", "fine"), ("b", "oh darn")] {
                if moderator.check(version(id, text)).await.is_ok() {
                    // Held where the text lies; then the caller says so, or dies, and the stream does.
                    world.effects.held.lock().expect("no panic").insert(id.to_owned());
                    if moderator.held(&version(id, text)).await.is_err() {
                        world
                            .moderator(FaultyEngine::sound(&world.engine))
                            .await
                            .held(&version(id, text))
                            .await
                            .expect("left");
                    }
                }
            }
            world.judge.down.store(false, Ordering::SeqCst);
            drop(world.pipeline_of(moderator, 1).sweep().await);
            sweep_all(&world.pipeline(FaultyEngine::sound(&world.engine), 2).await).await;
            assert!(world.held().is_empty(), "{fault:?} at {at}: {:?}", world.held());
            assert_eq!(world.waiting().await, 0, "{fault:?} at {at}");
            if !faulty.fired() {
                assert!(at >= 4);
                break;
            }
        }
    }
}
