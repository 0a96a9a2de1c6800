//! Policies and lists, stored, changed by several at once, and judged by.

use keevo_core::{ManualClock, MemoryEngine};

use super::*;
use crate::policy::{Action, Judgement, Reason};
use crate::testing::Meta;

fn words(words: &[&str]) -> Vec<Term> {
    words.iter().copied().map(Term::word).collect()
}

fn using(list: &str, action: &str) -> Policy {
    let text = format!(r#"{{"default":{{"rules":[],"blocklists":[{{"name":"{list}","action":"{action}"}}]}}}}"#);
    Policy::from_json(&text).expect("valid")
}

#[tokio::test]
async fn a_change_is_seen_here_at_once_and_elsewhere_within_a_second() {
    let meta = Meta::open(MemoryEngine::new()).await;
    let clock = Arc::new(ManualClock::new(1_000_000));
    let here = Policies::new(meta.clone(), Arc::clone(&clock) as Arc<dyn Clock>);
    let there = Policies::new(meta, Arc::clone(&clock) as Arc<dyn Clock>);
    let action = async |policies: &Policies| {
        policies.compiled(1).await.expect("compiled").judge("chat:x", "so fr0bnic!", &BTreeMap::new()).action
    };
    assert_eq!(action(&there).await, Action::Allow);
    here.set_blocklist(1, "swear", words(&["frobnic"])).await.expect("set");
    here.set_policy(1, using("swear", "block")).await.expect("set");
    assert_eq!(action(&here).await, Action::Block);
    assert_eq!(action(&there).await, Action::Allow, "from the cache");
    clock.advance_ms(1_000);
    assert_eq!(action(&there).await, Action::Block);
    // A new list under an old policy row is noticed too.
    here.set_blocklist(1, "swear", words(&["other"])).await.expect("set");
    clock.advance_ms(1_000);
    assert_eq!(action(&there).await, Action::Allow);
    assert_eq!(there.compiled(2).await.expect("another app").scope("chat:x").rules.len(), 4);
}

#[tokio::test]
async fn lists_and_policies_hold_together() {
    let policies = Policies::new(Meta::open(MemoryEngine::new()).await, Arc::new(ManualClock::new(0)));
    let kind = |result: Result<()>| result.expect_err("refused").kind();
    assert_eq!(kind(policies.set_policy(1, using("swear", "mask")).await), ErrorKind::NotFound);
    policies.set_blocklist(1, "swear", words(&["a b", "c"])).await.expect("set");
    policies.set_policy(1, using("swear", "mask")).await.expect("set");
    assert_eq!(kind(policies.remove_blocklist(1, "swear").await), ErrorKind::Conflict);
    assert_eq!(kind(policies.remove_blocklist(2, "swear").await), ErrorKind::NotFound);
    policies.set_policy(1, Policy::default()).await.expect("set");
    assert_eq!(policies.blocklist(1, "swear").await.expect("there"), words(&["a b", "c"]));
    policies.remove_blocklist(1, "swear").await.expect("removed");
    assert!(policies.blocklists(1).await.expect("listed").is_empty());
}

#[tokio::test]
async fn lists_over_the_limits_are_refused() {
    let policies = Policies::new(Meta::open(MemoryEngine::new()).await, Arc::new(ManualClock::new(0)));
    let kind = |result: Result<()>| result.expect_err("refused").kind();
    assert_eq!(kind(policies.set_blocklist(1, "x", Vec::new()).await), ErrorKind::Invalid);
    assert_eq!(kind(policies.set_blocklist(1, "a b", words(&["x"])).await), ErrorKind::Invalid);
    assert_eq!(kind(policies.set_blocklist(1, "x", words(&["ok", "\u{200b}"])).await), ErrorKind::Invalid);
    assert_eq!(kind(policies.set_blocklist(1, "x", words(&[&"x".repeat(257)])).await), ErrorKind::Invalid);
    let many = (0..=TERMS_MAX).map(|n| Term::word(format!("w{n}x"))).collect();
    assert_eq!(kind(policies.set_blocklist(1, "x", many).await), ErrorKind::Invalid);
    let long = (0..10_000).map(|n| Term::word(format!("{n:0200}"))).collect();
    assert_eq!(kind(policies.set_blocklist(1, "x", long).await), ErrorKind::BatchTooLarge);
    for n in 0..BLOCKLISTS_MAX {
        policies.set_blocklist(1, &format!("list{n}"), words(&["x"])).await.expect("set");
    }
    assert_eq!(kind(policies.set_blocklist(1, "more", words(&["x"])).await), ErrorKind::ResourceExhausted);
    policies.set_blocklist(1, "list0", words(&["y"])).await.expect("one that is there may change");
}

#[tokio::test]
async fn changes_at_once_are_all_kept() {
    let policies = Policies::new(Meta::open(MemoryEngine::new()).await, Arc::new(ManualClock::new(0)));
    let sets = (0..8).map(|n| {
        let policies = policies.clone();
        async move { policies.set_blocklist(1, &format!("list{n}"), words(&["x"])).await }
    });
    for set in futures::future::join_all(sets).await {
        set.expect("set");
    }
    assert_eq!(policies.blocklists(1).await.expect("listed").len(), 8);
}

#[test]
fn the_strictest_action_wins_and_every_reason_is_told() {
    let policy = Policy::from_json(
        r#"{"default": {"rules": [{"label": "toxic", "threshold": 0.5, "action": "flag"},
                                  {"label": "toxic", "threshold": 0.9, "action": "bounce"}],
                        "blocklists": [{"name": "mild", "action": "mask"}, {"name": "hard", "action": "block"}]},
            "scopes": {"feeds:user": {"rules": [], "blocklists": [{"name": "mild", "action": "flag"}]}}}"#,
    )
    .expect("valid");
    let lists = vec![("mild".to_owned(), words(&["darn"])), ("hard".to_owned(), vec![Term::part("zork")])];
    let compiled = Compiled::new(policy, lists).expect("compiled");
    let scores = |toxic| BTreeMap::from([("toxic".to_owned(), toxic)]);
    let judge = |scope, text, toxic| compiled.judge(scope, text, &scores(toxic));
    assert_eq!(judge("chat:x", "fine", 0.1), Judgement::default());
    assert_eq!(judge("chat:x", "fine", 0.5).action, Action::Flag);
    let masked = judge("chat:x", "d a r n, darn\nDÁRN", 0.95);
    assert_eq!((masked.action, masked.masked), (Action::Bounce, None));
    let masked = judge("chat:x", "d a r n, darn\nDÁRN", 0.6);
    assert_eq!((masked.action, masked.masked.as_deref()), (Action::Mask, Some("d a r n, ****\n****")));
    assert_eq!(masked.reasons.len(), 3);
    let blocked = judge("chat:x", "bazorkistan darn", 0.0);
    assert_eq!(blocked.action, Action::Block);
    assert!(blocked.reasons.contains(&Reason::Listed {
        list: "hard".into(),
        term: "zork".into(),
        action: Action::Block
    }));
    assert_eq!(judge("feeds:user", "bazorkistan darn", 1.0).action, Action::Flag);
    assert_eq!(judge("chat:x", &"darn ".repeat(1_000), 0.0).reasons.len(), 2 + 16);
}
