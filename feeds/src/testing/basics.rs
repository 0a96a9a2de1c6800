//! Scenarios: identity, fan-out, follow and unfollow, paging.

use keevo_core::{Engine, ErrorKind};
use serde_json::json;

use super::{Scene, at, feed, post};
use crate::activity::NewActivity;
use crate::ids::ActivityId;
use crate::read::PageRequest;

pub(crate) async fn run<E: Engine>(engine: &E) {
    the_same_activity_is_one(engine).await;
    a_post_reaches_followers_and_targets_one_hop(engine).await;
    a_follow_copies_the_newest(engine).await;
    an_unfollow_takes_out_what_came_through_it(engine).await;
    pages_are_stable_under_inserts(engine).await;
    bounds_and_offsets_of_pages(engine).await;
    limits_are_refused_with_their_kind(engine).await;
    apps_do_not_meet(engine).await;
}

async fn the_same_activity_is_one<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, other, reader) = (feed("user:1"), feed("user:2"), feed("timeline:r"));
    for target in [&user, &other] {
        scene.feeds.follow(&reader, target, None).await.expect("a follow");
    }
    let first = scene.feeds.add_activity(&user, post("p", 1)).await.expect("an add");
    let mut changed = post("p", 1);
    changed.verb = "edit".into();
    changed.custom.insert("score".into(), json!({"n": 1.5, "list": [1, null, "x"]}));
    let second = scene.feeds.add_activity(&user, changed.clone()).await.expect("an add");
    assert_eq!(first.id, second.id, "same time and foreign id: same activity");
    scene.feeds.add_activity(&other, changed.clone()).await.expect("an add to a second feed");
    for seen in [&user, &other, &reader] {
        let page = scene.feeds.page(seen, PageRequest::default()).await.expect("a page");
        assert_eq!(page.activities.len(), 1, "{seen} shows it once");
        let shown = page.activities.first().expect("one");
        assert_eq!((shown.verb.as_str(), &shown.custom), ("edit", &changed.custom), "{seen} shows the last fields");
    }
    let later = scene.feeds.add_activity(&user, post("p", 2)).await.expect("an add");
    assert_ne!(first.id, later.id, "another time: another activity");

    let content = |object: &str| NewActivity { time: Some(at(9)), ..NewActivity::new("a", "like", object) };
    let one = scene.feeds.add_activity(&user, content("x")).await.expect("an add");
    let same = scene.feeds.add_activity(&user, content("x")).await.expect("an add");
    let different = scene.feeds.add_activity(&user, content("y")).await.expect("an add");
    assert_eq!(one.id, same.id);
    assert_ne!(one.id, different.id);
    assert_eq!(one.id, ActivityId::compute(scene.app, at(9), content("x").identity()), "a look-up is computed");
    let found = scene.feeds.activities(&[different.id, scene.id(77), first.id]).await.expect("activities");
    assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [different.id, first.id]);
    let dated = scene.feeds.add_activity(&user, NewActivity::new("a", "b", "c")).await.expect("an add");
    assert_eq!(dated.time.to_string(), "2026-05-01T12:00:00.0000".to_owned() + &dated.time.to_string()[24..]);
}

async fn a_post_reaches_followers_and_targets_one_hop<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, fan, second, board, member) =
        (feed("user:1"), feed("timeline:1"), feed("timeline:2"), feed("board:b"), feed("timeline:m"));
    scene.feeds.follow(&fan, &user, None).await.expect("a follow");
    scene.feeds.follow(&second, &fan, None).await.expect("a follow");
    scene.feeds.follow(&member, &board, None).await.expect("a follow");
    let added = scene.feeds.add_activity(&user, post("p", 1).to([board.clone()])).await.expect("an add");
    assert_eq!(added.to, std::slice::from_ref(&board));
    let origin_in = |page: crate::read::FeedPage| page.activities.into_iter().map(|one| one.origin).collect::<Vec<_>>();
    for (reader, origins) in [
        (&user, vec![None]),
        (&fan, vec![Some(user.clone())]),
        (&second, vec![]),
        (&board, vec![None]),
        (&member, vec![Some(board.clone())]),
    ] {
        let page = scene.feeds.page(reader, PageRequest::default()).await.expect("a page");
        assert_eq!(origin_in(page), origins, "{reader}");
    }
    // A reader that holds it and receives it too sees its own row.
    scene.feeds.follow(&board, &user, None).await.expect("a follow");
    let page = scene.feeds.page(&board, PageRequest::default()).await.expect("a page");
    assert_eq!(origin_in(page), [None]);
    // Another add brings it to further targets.
    let more = scene.feeds.add_activity(&user, post("p", 1).to([feed("board:c")])).await.expect("an add");
    assert_eq!(more.to, [board, feed("board:c")]);
    assert_eq!(scene.ids(&feed("board:c")).await, [added.id]);
}

async fn a_follow_copies_the_newest<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let posts = (0..120).map(|n| post(&format!("p{n}"), n)).collect();
    let added = scene.feeds.add_activities(&user, posts).await.expect("adds");
    let newest: Vec<ActivityId> = added.iter().rev().map(|one| one.id).collect();
    assert_eq!(scene.ids(&user).await, newest, "newest first, in the order of their times");
    for (name, limit, copied) in
        [("a", Some(0), 0), ("b", Some(7), 7), ("c", None, 100), ("d", Some(1_000), 120), ("e", Some(120), 120)]
    {
        let reader = feed(&format!("timeline:{name}"));
        scene.feeds.follow(&reader, &user, limit).await.expect("a follow");
        assert_eq!(scene.ids(&reader).await, newest.get(..copied).expect("enough"), "limit {limit:?}");
    }
    let late = scene.feeds.add_activity(&user, post("late", 500)).await.expect("an add");
    assert_eq!(scene.ids(&feed("timeline:a")).await, [late.id], "what is posted after the follow comes in any case");
    scene.feeds.follow(&feed("timeline:a"), &user, Some(2)).await.expect("a second follow");
    assert_eq!(scene.ids(&feed("timeline:a")).await.len(), 2, "following again copies again");
    let report = scene.feeds.verify(["a", "b", "c", "d", "e"].map(|name| feed(&format!("timeline:{name}")))).await;
    let report = report.expect("a verification");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.feeds, report.shown, report.stale_rows), (5, 2 + 8 + 101 + 121 + 121, 0));
    for (follower, limit) in [(&user, None), (&feed("timeline:z"), Some(1_001))] {
        let refused = scene.feeds.follow(follower, &user, limit).await.expect_err("an invalid follow");
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
}

async fn an_unfollow_takes_out_what_came_through_it<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (one, two, reader) = (feed("user:1"), feed("user:2"), feed("timeline:r"));
    let shared = scene.feeds.add_activity(&one, post("shared", 1)).await.expect("an add").id;
    scene.feeds.add_activity(&two, post("shared", 1)).await.expect("an add");
    let only_one = scene.feeds.add_activity(&one, post("only", 2)).await.expect("an add").id;
    let own = scene.feeds.add_activity(&reader, post("own", 3)).await.expect("an add").id;
    for target in [&one, &two] {
        scene.feeds.follow(&reader, target, None).await.expect("a follow");
    }
    assert_eq!(scene.ids(&reader).await, [own, only_one, shared]);
    assert!(scene.feeds.unfollow(&reader, &one, false).await.expect("an unfollow"));
    assert_eq!(scene.ids(&reader).await, [own, shared], "it still comes through the other feed");
    assert!(!scene.feeds.unfollow(&reader, &one, false).await.expect("nothing to do"));
    assert!(scene.feeds.unfollow(&reader, &two, true).await.expect("an unfollow"));
    assert_eq!(scene.ids(&reader).await, [own, shared], "history is kept");
    let late = scene.feeds.add_activity(&two, post("late", 9)).await.expect("an add").id;
    assert_eq!(scene.ids(&reader).await, [own, shared], "nothing new comes");
    assert!(scene.feeds.verify([reader.clone()]).await.expect("a verification").is_clean());
    scene.feeds.follow(&reader, &two, None).await.expect("a follow");
    assert_eq!(scene.ids(&reader).await, [late, own, shared]);
    scene.feeds.unfollow(&reader, &two, false).await.expect("an unfollow");
    assert_eq!(scene.ids(&reader).await, [own]);
    scene.drain().await;
    assert_eq!(scene.ids(&reader).await, [own]);
}

async fn pages_are_stable_under_inserts<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let posts = (0..90).map(|n| post(&format!("p{n}"), n * 10)).collect();
    let added = scene.feeds.add_activities(&user, posts).await.expect("adds");
    let newest: Vec<ActivityId> = added.iter().rev().map(|one| one.id).collect();
    let mut request = PageRequest::first(20);
    let mut read = Vec::new();
    let mut pages = 0;
    loop {
        // Each page sees new activities before it and, on places already read, after it.
        let page = scene.feeds.page(&user, request).await.expect("a page");
        read.extend(page.activities.iter().map(|one| one.id));
        pages += 1;
        scene.feeds.add_activity(&user, post(&format!("new{pages}"), 10_000 + pages)).await.expect("an add");
        scene.feeds.add_activity(&user, post(&format!("between{pages}"), 895 - pages)).await.expect("an add");
        match page.next {
            Some(last) => request = PageRequest::after(last, 20),
            None => break,
        }
    }
    assert_eq!(read, newest, "nothing twice, nothing left out");
    assert_eq!(pages, 5);
}

async fn bounds_and_offsets_of_pages<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let posts = (0..30).map(|n| post(&format!("p{n}"), n)).collect();
    let mut added = scene.feeds.add_activities(&user, posts).await.expect("adds");
    added.reverse();
    let ids: Vec<ActivityId> = added.iter().map(|one| one.id).collect();
    let id = |place: usize| ids.get(place).copied();
    let request = PageRequest::default;
    for (request, from, to, more) in [
        (PageRequest::first(30), 0, 30, false),
        (PageRequest::first(29), 0, 29, true),
        (request(), 0, 25, true),
        (PageRequest { id_lt: id(9), ..request() }, 10, 30, false),
        (PageRequest { id_lte: id(9), limit: 3, ..request() }, 9, 12, true),
        (PageRequest { id_gt: id(9), ..request() }, 0, 9, false),
        (PageRequest { id_gte: id(9), limit: 4, ..request() }, 0, 4, true),
        (PageRequest { id_lte: id(5), id_gte: id(5), limit: 1, ..request() }, 5, 6, false),
        (PageRequest { id_lt: id(5), id_gt: id(6), ..request() }, 0, 0, false),
        (PageRequest { id_lt: id(5), id_gt: id(9), ..request() }, 6, 9, false),
        (PageRequest { offset: 27, ..request() }, 27, 30, false),
        (PageRequest { offset: 3, limit: 2, id_lt: id(3), ..request() }, 7, 9, true),
        (PageRequest { offset: 99, ..request() }, 0, 0, false),
    ] {
        let shown = format!("{request:?}");
        let page = scene.feeds.page(&user, request).await.expect("a page");
        let read: Vec<ActivityId> = page.activities.iter().map(|one| one.id).collect();
        assert_eq!(read, ids.get(from..to).expect("in range"), "{shown}");
        assert_eq!(page.next, more.then(|| id(to - 1)).flatten(), "{shown}");
    }
    for bad in [PageRequest::first(0), PageRequest::first(1_001), PageRequest { offset: 10_001, ..request() }] {
        assert_eq!(scene.feeds.page(&user, bad).await.expect_err("refused").kind(), ErrorKind::Invalid);
    }
}

async fn limits_are_refused_with_their_kind<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let user = feed("user:1");
    let new = |actor: &str, verb: &str, object: &str| NewActivity::new(actor, verb, object);
    let targets = (0..101).map(|n| feed(&format!("board:{n}")));
    for (bad, kind) in [
        (new("", "v", "o"), ErrorKind::Invalid),
        (new("a", "", "o"), ErrorKind::Invalid),
        (new("a", "v", ""), ErrorKind::Invalid),
        (new("a", &"v".repeat(256), "o"), ErrorKind::Invalid),
        (new("a", "v", "o").to(targets), ErrorKind::Invalid),
        (new("a", "v", "o").identified("f".repeat(1_025), at(0)), ErrorKind::Invalid),
        (new("a", "v", &"o".repeat(11_000)), ErrorKind::BatchTooLarge),
    ] {
        let refused = scene.feeds.add_activities(&user, vec![post("good", 1), bad]).await.expect_err("refused");
        assert_eq!(refused.kind(), kind);
    }
    assert!(scene.ids(&user).await.is_empty(), "one bad activity refuses them all");
}

async fn apps_do_not_meet<E: Engine>(engine: &E) {
    let (one, other) = (Scene::new(engine).await, Scene::new(engine).await);
    let (user, reader) = (feed("user:1"), feed("timeline:1"));
    one.feeds.follow(&reader, &user, None).await.expect("a follow");
    other.feeds.add_activity(&user, post("p", 1)).await.expect("an add");
    assert!(one.ids(&user).await.is_empty());
    assert!(one.ids(&reader).await.is_empty());
    assert_eq!(other.ids(&user).await.len(), 1);
}
