//! Scenarios: how much a page reads of marks and sources, and how much of a timeline that is limited it shows.

use keevo_core::{Batch, Engine, ErrorKind};

use super::super::{Fault, Scene, TestEngine, at, feed, post};
use super::{groups, merge, scene, star};
use crate::feed_id::FeedId;
use crate::ids::ActivityId;
use crate::keys;
use crate::merge::MERGED_SOURCES_MAX;
use crate::read::PageRequest;

pub(super) async fn run<E: Engine>(engine: &E) {
    many_marks_are_read_in_few_steps(engine).await;
    too_many_sources_are_refused(engine).await;
    a_source_that_is_older_is_not_read(engine).await;
    a_limited_timeline(engine).await;
    what_is_gone_takes_no_room(engine).await;
}

/// Marks of sources that post nothing, as follows of them would leave.
async fn mark_silent<E: Engine>(scene: &Scene<E>, follower: &FeedId, count: usize) {
    let layout = scene.feeds.layout();
    let value = crate::rows::encode(&crate::merge::MergeRow { since_us: 1, ..Default::default() });
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(1_000) {
        let mark = |number| layout.key(layout.feed(follower), keys::mark(&feed(&format!("user:s{number:05}")), 1));
        let batch = some.iter().fold(Batch::new(), |batch, number| batch.put(mark(*number), value.clone()));
        scene.engine.write(batch).await.expect("marks are written");
    }
}

/// Catches marks that are read as many at a time as the page has activities.
async fn many_marks_are_read_in_few_steps<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let fan = feed("timeline:0");
    let own = scene.feeds.add_activity(&fan, post("own", 1)).await.expect("an add").id;
    mark_silent(&scene, &fan, 300).await;
    let counted = TestEngine::yielding(engine.clone(), 1);
    let feeds = scene.other(counted.clone()).await;
    let before = counted.reads();
    let page = feeds.page(&fan, PageRequest::first(2)).await.expect("a page");
    assert_eq!(page.activities.iter().map(|one| one.id).collect::<Vec<_>>(), [own]);
    let reads = counted.reads() - before;
    assert!(
        reads <= 6,
        "three scans, what was copied, the activities, and once to see that there are no more: {reads}"
    );
}

/// Catches a source that is read without a bound: what it holds is older than all that the page shows.
async fn a_source_that_is_older_is_not_read<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let fan = feed("timeline:0");
    merge(&scene, 1).await;
    for seconds in 0..30 {
        scene.feeds.add_activity(&star(), post(&format!("old{seconds}"), 10 + seconds)).await.expect("an add");
        scene.feeds.add_activity(&fan, post(&format!("new{seconds}"), 1_000 + seconds)).await.expect("an add");
    }
    let counted = TestEngine::yielding(engine.clone(), 1);
    let feeds = scene.other(counted.clone()).await;
    let source = scene.feeds.layout().feed(&star());
    let page = feeds.page(&fan, PageRequest::first(10)).await.expect("a page");
    assert_eq!((page.activities.len(), page.activities.last().map(|one| one.time)), (10, Some(at(1_020))));
    assert_eq!(counted.scanned(&source), 0, "no row of it can be on the page");
    let last = page.activities.last().map(|one| one.id);
    let request = PageRequest { id_lt: last, ..PageRequest::first(25) };
    let page = feeds.page(&fan, request).await.expect("a page");
    assert_eq!(page.activities.last().map(|one| one.time), Some(at(35)), "twenty of its own, and five of the source");
    let read = counted.scanned(&source);
    assert!((6..=26).contains(&read), "as many as the page may show: {read}");
}

async fn too_many_sources_are_refused<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    let fan = feed("timeline:0");
    scene.feeds.add_activity(&fan, post("own", 1)).await.expect("an add");
    mark_silent(&scene, &fan, MERGED_SOURCES_MAX).await;
    assert_eq!(scene.ids(&fan).await.len(), 1);
    let one_more = scene.feeds.layout().key(scene.feeds.layout().feed(&fan), keys::mark(&feed("user:more"), 1));
    scene.engine.write(Batch::new().put(one_more, "")).await.expect("written");
    for request in [PageRequest::default(), PageRequest { id_lt: Some(scene.id(1)), ..PageRequest::default() }] {
        let error = scene.feeds.page(&fan, request).await.expect_err("too many");
        assert_eq!(error.kind(), ErrorKind::BatchTooLarge, "{error}");
        assert!(error.message().contains("4096 feeds"), "{error}");
    }
}

/// Catches a limit that counts rows whose activities are removed, until a worker has cleaned up.
async fn what_is_gone_takes_no_room<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    scene.feeds.set_groups(groups(None, Some(3)));
    let (fan, friend) = (feed("timeline:x"), feed("user:friend"));
    scene.feeds.follow(&fan, &friend, None).await.expect("a follow");
    let mut posted = Vec::new();
    for seconds in 0..6 {
        posted.push(scene.feeds.add_activity(&friend, post(&format!("p{seconds}"), seconds)).await.expect("an add").id);
    }
    // Two of the newest three go; whoever removes them dies when that has taken effect.
    for gone in [5, 3] {
        let dying = TestEngine::faulty(engine.clone(), Fault::StopAfter, 1);
        let id = *posted.get(gone).expect("six");
        scene.other(dying).await.remove_activity(&friend, id).await.expect_err("the process dies");
    }
    let left = [4, 2, 1].map(|number: usize| *posted.get(number).expect("six"));
    for limit in [1, 2, 3, 10] {
        let (mut shown, mut request) = (Vec::new(), PageRequest::first(limit));
        loop {
            let page = scene.feeds.page(&fan, request).await.expect("a page");
            shown.extend(page.activities.into_iter().map(|one| one.id));
            match page.next {
                Some(last) => request = PageRequest::after(last, limit),
                None => break,
            }
        }
        assert_eq!(shown, left, "pages of {limit}");
    }
    scene.drain().await;
    assert_eq!(scene.ids(&fan).await, left, "nor does it when that is cleaned up");
}

async fn a_limited_timeline<E: Engine>(engine: &E) {
    let scene = scene(engine).await;
    scene.feeds.set_groups(groups(Some(4), Some(3)));
    let (fan, friend) = (feed("timeline:0"), feed("user:friend"));
    scene.feeds.follow(&fan, &friend, None).await.expect("a follow");
    merge(&scene, 1).await;
    for seconds in 2..8 {
        let into = if seconds % 2 == 0 { star() } else { friend.clone() };
        scene.feeds.add_activity(&into, post(&format!("p{seconds}"), seconds)).await.expect("an add");
    }
    let time = |id: &ActivityId| id.time();
    for limit in [1, 2, 3, 50] {
        let mut shown = Vec::new();
        let mut request = PageRequest::first(limit);
        loop {
            let page = scene.feeds.page(&fan, request).await.expect("a page");
            shown.extend(page.activities.into_iter().map(|one| one.id));
            match page.next {
                Some(last) => request = PageRequest::after(last, limit),
                None => break,
            }
        }
        assert_eq!(shown.iter().map(time).collect::<Vec<_>>(), [at(7), at(6), at(5)], "pages of {limit}");
    }
    let page = scene.feeds.page(&fan, PageRequest { offset: 2, ..PageRequest::first(5) }).await.expect("a page");
    assert_eq!(page.activities.len(), 1, "the third is the last");
    let below = PageRequest { id_lt: page.activities.first().map(|one| one.id), ..PageRequest::first(5) };
    assert!(scene.feeds.page(&fan, below).await.expect("a page").activities.is_empty());
    scene.feeds.set_groups(groups(Some(4), None));
    assert_eq!(scene.ids(&fan).await.len(), 7, "a limit that is lifted shows what is still there");
}
