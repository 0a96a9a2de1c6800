//! Scenarios: reactions under faults and races. Each ends with the outbox empty and a plain recount.
//!
//! Invariant checked: for every subject, `tally(S) = count { R : R is live and on S }` by kind, its newest and its
//! lists are those reactions in order, each user's lists hold what is live of that user, a target feed holds the
//! activity of exactly the live reactions that name it, and no live reaction has a parent that is gone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use keevo_core::{Consistency, Engine, ErrorKind, ManualClock, Random, Result, SeededRandom};

use super::reactions::{ACTIVITY, all_pages, child, on_activity};
use super::{Fault, Scene, TestEngine, feed};
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::reactions::{
    NewReaction, ReactionChange, ReactionQuery, ReactionRow, ReactionsOf, RefRow, State, Subject, TallyRow,
};
use crate::rows::decode;

const IDS: u64 = 8;
const USERS: [&str; 2] = ["alice", "bob"];
const TARGETS: u64 = 3;
/// The first two are enough for a quick run.
const FAULTS: [Fault; 5] = [Fault::StopAfter, Fault::AnswerLost, Fault::StopBefore, Fault::StopHalfway, Fault::Refused];

pub(crate) async fn run<E: Engine>(engine: &E, every: usize, seeds: u64) {
    let mut points = 0;
    for call in CALLS {
        for fault in if every == 1 { &FAULTS[..] } else { &FAULTS[..2] } {
            for then in [None, Some(opposite(call))].into_iter().take(if every == 1 { 2 } else { 1 }) {
                let mut at = 0;
                while broken(engine, call, *fault, at, then).await {
                    points += 1;
                    at += i64::try_from(every).expect("small");
                    assert!(at < 300, "{call:?} does not end");
                }
            }
        }
    }
    assert!(points > if every == 1 { 200 } else { 10 }, "the faults do happen: {points}");
    for seed in 0..seeds {
        history(engine, seed).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Add,
    AddChild,
    Move,
    Hide,
    Restore,
    Delete,
}

const CALLS: [Call; 6] = [Call::Add, Call::AddChild, Call::Move, Call::Hide, Call::Restore, Call::Delete];

/// What another process does before the outbox is finished.
fn opposite(call: Call) -> Call {
    match call {
        Call::Add | Call::AddChild | Call::Move | Call::Restore | Call::Hide => Call::Delete,
        Call::Delete => Call::Add,
    }
}

fn target(number: u64) -> FeedId {
    feed(&format!("inbox:{}", number % TARGETS))
}

fn numbered(number: u64, new: NewReaction) -> NewReaction {
    let target_feeds = if number.is_multiple_of(3) { Vec::new() } else { vec![target(number)] };
    NewReaction { id: Some(format!("r{number}")), target_feeds, ..new }
}

async fn play<E: Engine>(feeds: &Feeds<E>, call: Call) -> Result<()> {
    match call {
        Call::Add => feeds.add_reaction(numbered(1, on_activity("like", "alice"))).await.map(|_| ()),
        Call::AddChild => feeds.add_reaction(numbered(4, child("like", "r1", "bob"))).await.map(|_| ()),
        Call::Move => {
            let change = ReactionChange { target_feeds: Some(vec![target(2)]), ..ReactionChange::default() };
            feeds.update_reaction("r1", change).await.map(|_| ())
        }
        Call::Hide => feeds.delete_reaction("r1", true).await,
        Call::Restore => feeds.restore_reaction("r1").await.map(|_| ()),
        Call::Delete => feeds.delete_reaction("r1", false).await,
    }
}

/// Plays one fault; false when the call was over before it could happen.
async fn broken<E: Engine>(engine: &E, call: Call, fault: Fault, at: i64, then: Option<Call>) -> bool {
    let scene = Scene::new(engine).await;
    let said = format!("{call:?} then {then:?}, {fault:?} at {at}");
    scene.feeds.follow(&feed("timeline:f"), &target(1), None).await.expect("a follow");
    if call != Call::Add {
        play(&scene.feeds, Call::Add).await.expect("an add");
        scene.feeds.add_reaction(numbered(5, child("comment", "r1", "alice"))).await.expect("a child");
        scene.feeds.add_reaction(numbered(7, child("like", "r5", "bob"))).await.expect("a grandchild");
    }
    if call == Call::Restore {
        play(&scene.feeds, Call::Hide).await.expect("a soft deletion");
    }
    scene.feeds.flush_finished().await;
    let faulty = TestEngine::faulty(engine.clone(), fault, at);
    let caller = scene.other(faulty.clone()).await;
    let answer = play(&caller, call).await;
    caller.flush_finished().await;
    if let Err(error) = &answer {
        let kinds = [ErrorKind::Closed, ErrorKind::OutcomeUnknown, ErrorKind::Unavailable];
        assert!(kinds.contains(&error.kind()), "{said}: {error}");
    }
    let mut undone = false;
    if let Some(then) = then {
        match play(&scene.feeds, then).await {
            Ok(()) => undone = true,
            // The first call had not taken effect: there is nothing to delete, or nothing was deleted.
            Err(error) => {
                assert!([ErrorKind::NotFound, ErrorKind::Conflict].contains(&error.kind()), "{said}: {error}");
            }
        }
    }
    scene.drain().await;
    assert_recounted(&scene, &said).await;
    if answer.is_ok() && !undone {
        let row = row_of(&scene, if call == Call::AddChild { "r4" } else { "r1" }).await;
        let state = row.as_ref().map(ReactionRow::state);
        let expected = match call {
            Call::Add | Call::AddChild | Call::Restore | Call::Move => State::Live,
            Call::Hide => State::Hidden,
            Call::Delete => State::Gone,
        };
        assert_eq!(state, Some(expected), "{said}: answered, so it has happened");
        let moved = row.is_some_and(|row| row.target_feeds == [target(2).to_string()]);
        assert!(call != Call::Move || moved, "{said}: answered, so it is moved");
    }
    faulty.fired()
}

async fn row_of<E: Engine>(scene: &Scene<E>, id: &str) -> Option<ReactionRow> {
    scene.feeds.reaction_rows(&[id.to_owned()]).await.expect("a read").into_iter().next().flatten()
}

/// Random calls by concurrent tasks, with a worker that drives every job at once.
async fn history<E: Engine>(engine: &E, seed: u64) {
    let scene = Scene::new(engine).await;
    let feeds = scene.other(TestEngine::yielding(engine.clone(), seed)).await;
    let another = scene.eager(TestEngine::yielding(engine.clone(), seed ^ 0xff)).await;
    let tasks = (0..5).map(|task| {
        let feeds = if task % 2 == 0 { feeds.clone() } else { another.clone() };
        tokio::spawn(calls(feeds, Arc::clone(&scene.clock), SeededRandom::new(seed * 1_000 + task)))
    });
    for task in join_all(tasks.collect::<Vec<_>>()).await {
        task.expect("no call of a concurrent history fails in an unforeseen way");
    }
    feeds.flush_finished().await;
    another.flush_finished().await;
    scene.drain().await;
    assert_recounted(&scene, &format!("seed {seed}")).await;
}

async fn calls<E: Engine>(feeds: Feeds<E>, clock: Arc<ManualClock>, random: SeededRandom) {
    let below = |bound: u64| random.next_u64() % bound;
    for _ in 0..14 {
        let (number, other) = (below(IDS), below(IDS));
        let (id, user) = (format!("r{number}"), if below(2) == 0 { "alice" } else { "bob" });
        let kind = if below(2) == 0 { "like" } else { "comment" };
        let done = match below(10) {
            0..=1 => feeds.add_reaction(numbered(number, on_activity(kind, user))).await.map(|_| ()),
            2..=3 => feeds.add_reaction(numbered(number, child(kind, &format!("r{other}"), user))).await.map(|_| ()),
            4 => {
                let target_feeds = Some(vec![target(below(TARGETS))]);
                let change = ReactionChange { target_feeds, ..ReactionChange::default() };
                feeds.update_reaction(&id, change).await.map(|_| ())
            }
            5 => feeds.delete_reaction(&id, true).await,
            6 => feeds.restore_reaction(&id).await.map(|_| ()),
            7..=8 => feeds.delete_reaction(&id, false).await,
            _ => {
                clock.advance_ms(1);
                feeds.run_outbox_once(5).await.map(|_| ())
            }
        };
        if let Err(error) = done {
            let kinds = [ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Invalid, ErrorKind::Unavailable];
            let foreseen = kinds.contains(&error.kind()) || error.kind() == ErrorKind::OutcomeUnknown;
            assert!(foreseen, "{error}");
        }
    }
}

/// Compares tallies, lists and target feeds with what the reactions themselves say.
async fn assert_recounted<E: Engine>(scene: &Scene<E>, said: &str) {
    let ids: Vec<String> = (0..IDS).map(|number| format!("r{number}")).collect();
    let rows = scene.feeds.reaction_rows(&ids).await.expect("reactions");
    let rows: BTreeMap<&String, ReactionRow> = ids.iter().zip(rows).filter_map(|(id, row)| Some((id, row?))).collect();
    let live: BTreeMap<&String, &ReactionRow> =
        rows.iter().filter(|(_, row)| row.is_live()).map(|(id, row)| (*id, row)).collect();
    for (id, row) in &live {
        let parent = rows.get(&row.parent).filter(|parent| parent.state() != State::Gone);
        assert!(row.parent.is_empty() || parent.is_some(), "{said}: {id} has lost its parent");
    }
    let subjects = ids.iter().map(|id| Subject::Reaction(id.clone())).chain([Subject::Activity(ACTIVITY.to_owned())]);
    for subject in subjects {
        let here: BTreeMap<&String, &ReactionRow> =
            live.iter().filter(|(_, row)| row.subject() == subject).map(|(id, row)| (*id, *row)).collect();
        assert_tally(scene, &subject, None, &here, said).await;
        for user in USERS {
            let own = here.iter().filter(|(_, row)| row.user == user).map(|(id, row)| (*id, *row)).collect();
            assert_tally(scene, &subject, Some(user), &own, said).await;
        }
        let of = match &subject {
            Subject::Activity(id) => ReactionsOf::Activity(id.clone()),
            Subject::Reaction(id) => ReactionsOf::Parent(id.clone()),
        };
        let listed = all_pages(scene, ReactionQuery { limit: 3, ..ReactionQuery::of(of) }).await;
        assert_eq!(listed, in_order(&here), "{said}: the list of {subject:?}");
    }
    for user in USERS {
        let own = live.iter().filter(|(_, row)| row.user == user).map(|(id, row)| (*id, *row)).collect();
        let listed = all_pages(scene, ReactionQuery::of(ReactionsOf::User(user.into()))).await;
        assert_eq!(listed, in_order(&own), "{said}: the list of {user}");
    }
    let feeds: Vec<FeedId> = (0..TARGETS).map(target).collect();
    for feed in &feeds {
        let page = scene.feeds.page(feed, crate::read::PageRequest::first(100)).await.expect("a page");
        let shown: BTreeSet<String> = page.activities.iter().map(|one| one.foreign_id.clone()).collect();
        let named = live.iter().filter(|(_, row)| row.target_feeds.contains(&feed.to_string()));
        let expected: BTreeSet<String> = named.map(|(id, _)| format!("reaction:{id}")).collect();
        assert_eq!(shown, expected, "{said}: what {feed} shows");
        assert_eq!(page.activities.len(), expected.len(), "{said}: each once");
    }
    let report = scene.feeds.verify(feeds).await.expect("a verification");
    assert!(report.is_clean(), "{said}: {report:?}");
}

fn in_order(rows: &BTreeMap<&String, &ReactionRow>) -> Vec<String> {
    let mut all: Vec<(&&String, &&ReactionRow)> = rows.iter().collect();
    all.sort_by_key(|(id, row)| (Reverse(row.created_us), **id));
    all.into_iter().map(|(id, _)| (*id).clone()).collect()
}

/// Compares a tally with a recount; kinds that are not among the rows may only stand with 0.
async fn assert_tally<E: Engine>(
    scene: &Scene<E>,
    subject: &Subject,
    user: Option<&str>,
    rows: &BTreeMap<&String, &ReactionRow>,
    said: &str,
) {
    let layout = scene.feeds.layout();
    let key = user.map_or_else(|| subject.tally(layout), |user| subject.own_tally(layout, user));
    let record = scene.engine.get(key, Consistency::Linearizable).await.expect("a read");
    let tally: TallyRow = record.map(|record| decode(&record).expect("a tally")).unwrap_or_default();
    for kind in ["like", "comment"] {
        let of_kind = rows.iter().filter(|(_, row)| row.kind == kind).map(|(id, row)| (*id, *row)).collect();
        let latest: Vec<RefRow> = in_order(&of_kind)
            .into_iter()
            .map(|id| RefRow { created_us: rows.get(&id).expect("it is one of them").created_us, id })
            .collect();
        let found = tally.kind(kind).cloned().unwrap_or_default();
        let keep = if user.is_some() { 5 } else { 25 };
        assert_eq!(found.count, u64::try_from(latest.len()).expect("small"), "{said}: {kind} of {subject:?} {user:?}");
        assert_eq!(found.latest, latest.into_iter().take(keep).collect::<Vec<_>>(), "{said}: {subject:?} {user:?}");
    }
}
