//! Scenario: a process dies, or an answer is lost, at every mutating call of every operation.
//!
//! Each time another process finishes the outbox. Then timelines equal a plain recomputation, and the operation
//! has happened wholly or not at all; if it was answered, it has happened. Some operations are followed by
//! their opposite before the outbox is finished.

use keevo_core::{Engine, ErrorKind, Result};

use super::races::{assert_recomputed, feeds_of};
use super::{Fault, Scene, TestEngine, feed, numbered};
use crate::activity::NewActivity;
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::follow::NewFollow;
use crate::ids::ActivityId;
use crate::targets::Targets;

/// The feeds user:0 … user:4. In the beginning 1, 2 and 3 follow 0, and 4 follows 3.
const FEEDS: u64 = 5;
/// Activities 0 … 5. In the beginning 0 holds 0, 1 and 4, and 3 holds 2.
const ACTIVITIES: u64 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Add,
    AddElsewhere,
    AddMany,
    Remove,
    RemoveByForeignId,
    Follow,
    FollowMany,
    Unfollow,
    AddToMany,
    ChangeTargets,
    Update,
}

const CALLS: [Call; 11] = [
    Call::Add,
    Call::AddElsewhere,
    Call::AddMany,
    Call::Remove,
    Call::RemoveByForeignId,
    Call::Follow,
    Call::FollowMany,
    Call::Unfollow,
    Call::AddToMany,
    Call::ChangeTargets,
    Call::Update,
];

const FAULTS: [Fault; 5] = [Fault::StopBefore, Fault::StopAfter, Fault::StopHalfway, Fault::AnswerLost, Fault::Refused];

pub(crate) async fn run<E: Engine>(engine: &E, every: usize) {
    let mut points = 0;
    for call in CALLS {
        for fault in FAULTS {
            let thens = std::iter::once(None).chain(opposite(call).map(Some));
            for then in thens {
                let mut at = 0;
                while broken(engine, call, fault, at, then).await {
                    points += 1;
                    at += i64::try_from(every).expect("small");
                    assert!(at < 200, "{call:?} does not end");
                }
            }
        }
    }
    assert!(points > 100 / every, "the faults do happen: {points}");
}

fn opposite(call: Call) -> Option<Call> {
    match call {
        Call::Add => Some(Call::Remove),
        Call::Remove => Some(Call::Add),
        Call::Follow => Some(Call::Unfollow),
        Call::Unfollow => Some(Call::Follow),
        Call::AddElsewhere
        | Call::AddMany
        | Call::RemoveByForeignId
        | Call::FollowMany
        | Call::AddToMany
        | Call::ChangeTargets
        | Call::Update => None,
    }
}

/// Plays one fault; false when the operation was over before it could happen.
async fn broken<E: Engine>(engine: &E, call: Call, fault: Fault, at: i64, then: Option<Call>) -> bool {
    let scene = Scene::new(engine).await;
    let said = format!("{call:?} then {then:?}, {fault:?} at {at}");
    set_up(&scene, call).await;
    let faulty = TestEngine::faulty(engine.clone(), fault, at);
    let caller = scene.other(faulty.clone()).await;
    let answer = play(&caller, call, &ids(&scene)).await;
    // What a process that lives on has finished leaves the outbox; one that died leaves it there.
    caller.flush_finished().await;
    if let Err(error) = &answer {
        let kinds = [ErrorKind::Closed, ErrorKind::OutcomeUnknown, ErrorKind::Unavailable];
        assert!(kinds.contains(&error.kind()), "{said}: {error}");
    }
    if let Some(then) = then {
        play(&scene.feeds, then, &ids(&scene)).await.expect("another process goes on");
    }
    scene.drain().await;
    assert_recomputed(&scene.feeds, &feeds_of(FEEDS), &ids(&scene), &said).await;
    let effect = effects(&scene, call).await;
    if let Some(then) = then {
        let undone = effects(&scene, then).await;
        assert!(undone.iter().all(|done| *done), "{said}: the later call counts");
    } else if answer.is_ok() {
        assert!(effect.iter().all(|done| *done), "{said}: answered, so it has happened: {effect:?}");
    } else if !matches!(call, Call::AddMany | Call::RemoveByForeignId | Call::FollowMany) {
        assert!(effect.iter().all(|done| *done) || effect.iter().all(|done| !done), "{said}: torn: {effect:?}");
    }
    faulty.fired()
}

fn ids<E: Engine>(scene: &Scene<E>) -> Vec<ActivityId> {
    (0..ACTIVITIES).map(|number| scene.id(number)).collect()
}

fn user(number: u64) -> FeedId {
    feed(&format!("user:{number}"))
}

fn all_of(target: u64, followers: impl IntoIterator<Item = u64>) -> Vec<NewFollow> {
    let follow = |n| NewFollow { follower: user(n), target: user(target), copy_limit: Some(1_000) };
    followers.into_iter().map(follow).collect()
}

async fn set_up<E: Engine>(scene: &Scene<E>, call: Call) {
    let feeds = &scene.feeds;
    feeds.follow_many(all_of(0, [1, 2, 3])).await.expect("follows");
    feeds.follow_many(all_of(3, [4])).await.expect("a follow");
    feeds.add_many([0, 1, 4].map(|n| (user(0), numbered(n).to([user(4)]))).to_vec()).await.expect("adds");
    feeds.add_activity(&user(3), numbered(2)).await.expect("an add");
    if call == Call::Unfollow {
        play(feeds, Call::Follow, &[]).await.expect("a follow");
    }
    if call == Call::Remove {
        play(feeds, Call::Add, &[]).await.expect("an add");
    }
    scene.drain().await;
}

async fn play<E: Engine>(feeds: &Feeds<E>, call: Call, ids: &[ActivityId]) -> Result<()> {
    match call {
        Call::Add => feeds.add_activity(&user(0), numbered(3).to([user(3)])).await.map(|_| ()),
        Call::AddElsewhere => feeds.add_activity(&user(3), numbered(0)).await.map(|_| ()),
        Call::AddMany => {
            let new = vec![(user(0), numbered(3)), (user(3), numbered(5)), (user(0), numbered(5))];
            feeds.add_many(new).await.map(|_| ())
        }
        Call::Remove => feeds.remove_activity(&user(0), *ids.get(3).expect("six ids")).await.map(|_| ()),
        Call::RemoveByForeignId => feeds.remove_by_foreign_id(&user(0), "post:0").await.map(|_| ()),
        Call::Follow => feeds.follow(&user(4), &user(0), Some(1_000)).await,
        Call::FollowMany => feeds.follow_many([all_of(1, [0, 2]), all_of(3, [2, 1]), all_of(0, [4])].concat()).await,
        Call::Unfollow => feeds.unfollow(&user(4), &user(0), false).await.map(|_| ()),
        Call::AddToMany => feeds.add_to_many(numbered(3), vec![user(2), user(4)]).await.map(|_| ()),
        Call::ChangeTargets => {
            let id = *ids.first().expect("six ids");
            feeds.change_targets(&user(0), id, &Targets::Replace(vec![user(1), user(3)])).await.map(|_| ())
        }
        Call::Update => {
            let edited = NewActivity { verb: "edit".to_owned(), ..numbered(0) };
            feeds.update_activities(vec![edited]).await.map(|_| ())
        }
    }
}

/// The things that a call brings about, each with whether it is so.
async fn effects<E: Engine>(scene: &Scene<E>, call: Call) -> Vec<bool> {
    let has = async |reader: u64, number: u64| scene.ids(&user(reader)).await.contains(&scene.id(number));
    let follows = async |follower: u64, target: u64| {
        let request = crate::lists::ListRequest { filter: vec![user(target)], ..Default::default() };
        let found = scene.feeds.following(&user(follower), request).await.expect("a list");
        !found.follows.is_empty()
    };
    match call {
        Call::Add => vec![has(0, 3).await, has(1, 3).await, has(2, 3).await, has(3, 3).await, has(4, 3).await],
        Call::Remove => vec![!has(0, 3).await, !has(1, 3).await, !has(2, 3).await, !has(3, 3).await, !has(4, 3).await],
        Call::AddElsewhere => vec![has(3, 0).await, has(4, 0).await],
        Call::AddMany => vec![has(0, 3).await, has(0, 5).await, has(1, 5).await, has(3, 5).await, has(4, 5).await],
        Call::RemoveByForeignId => vec![!has(0, 0).await, !has(0, 4).await, !has(2, 4).await, !has(4, 0).await],
        Call::Follow => vec![follows(4, 0).await],
        Call::FollowMany => vec![follows(0, 1).await, follows(2, 1).await, follows(2, 3).await, follows(4, 0).await],
        Call::Unfollow => vec![!follows(4, 0).await],
        Call::AddToMany => vec![has(2, 3).await, has(4, 3).await],
        Call::ChangeTargets => {
            let found = scene.feeds.activities(&[scene.id(0)]).await.expect("a look-up");
            vec![found.first().is_some_and(|one| one.to == [user(1), user(3)])]
        }
        Call::Update => {
            let found = scene.feeds.activities(&[scene.id(0)]).await.expect("a look-up");
            vec![found.first().is_some_and(|one| one.verb == "edit")]
        }
    }
}
