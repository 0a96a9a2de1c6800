//! Scenarios: lists and counts of follows.

use keevo_core::{Engine, ErrorKind};

use super::{Scene, feed};
use crate::feed_id::FeedId;
use crate::lists::{FollowStats, ListRequest};

pub(crate) async fn run<E: Engine>(engine: &E) {
    lists_are_newest_first(engine).await;
    counts_follow_the_edges(engine).await;
}

async fn lists_are_newest_first<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (star, fan) = (feed("user:star"), feed("timeline:fan"));
    let others: Vec<FeedId> = (0..12).map(|n| feed(&format!("user:{}", (n * 7) % 12))).collect();
    for (n, other) in others.iter().enumerate() {
        if n == 6 {
            scene.clock.advance_ms(1);
        }
        scene.feeds.follow(&fan, other, None).await.expect("a follow");
        scene.feeds.follow(other, &star, None).await.expect("a follow");
    }
    let newest: Vec<FeedId> = others.iter().rev().cloned().collect();
    let mut request = ListRequest { limit: 5, ..ListRequest::default() };
    let (mut following, mut followers) = (Vec::new(), Vec::new());
    loop {
        let page = scene.feeds.following(&fan, request.clone()).await.expect("a list");
        assert!(page.follows.iter().all(|follow| follow.follower == fan));
        following.extend(page.follows.into_iter().map(|follow| follow.target));
        let Some(next) = page.next else { break };
        request.after = Some(next);
    }
    for offset in [0, 5, 10, 15] {
        let page = scene.feeds.followers(&star, ListRequest { limit: 5, offset, ..ListRequest::default() }).await;
        let page = page.expect("a list");
        assert_eq!(page.next.is_some(), offset < 10 && offset + 5 < 12);
        followers.extend(page.follows.into_iter().map(|follow| follow.follower));
    }
    assert_eq!(following, newest);
    assert_eq!(followers, newest);
    let filter = ListRequest { filter: vec![feed("user:3"), feed("user:99")], ..ListRequest::default() };
    let found = scene.feeds.following(&fan, filter.clone()).await.expect("a list").follows;
    assert_eq!(found.iter().map(|follow| follow.target.as_str()).collect::<Vec<_>>(), ["user:3"]);
    let found = scene.feeds.followers(&star, filter).await.expect("a list").follows;
    assert_eq!(found.iter().map(|follow| follow.follower.as_str()).collect::<Vec<_>>(), ["user:3"]);
    let bad = ListRequest { limit: 0, ..ListRequest::default() };
    assert_eq!(scene.feeds.followers(&star, bad).await.expect_err("refused").kind(), ErrorKind::Invalid);
}

async fn counts_follow_the_edges<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let star = feed("user:star");
    let stats = async |followers: &[&str], following: &[&str]| {
        scene.feeds.follow_stats(&star, followers, following).await.expect("counts")
    };
    assert_eq!(stats(&[], &[]).await, FollowStats::default());
    for n in 0..5 {
        let name = if n < 3 { format!("timeline:{n}") } else { format!("user:{n}") };
        for _ in 0..2 {
            scene.feeds.follow(&feed(&name), &star, None).await.expect("a follow, counted once");
        }
        scene.feeds.follow(&star, &feed(&name), Some(0)).await.expect("a follow");
    }
    assert_eq!(stats(&[], &[]).await, FollowStats { followers: 5, following: 5 });
    assert_eq!(stats(&["timeline"], &["user"]).await, FollowStats { followers: 3, following: 2 });
    assert_eq!(stats(&["timeline", "user", "user"], &["none"]).await, FollowStats { followers: 5, following: 0 });
    for keep in [true, false] {
        scene.feeds.unfollow(&feed("timeline:0"), &star, keep).await.expect("an unfollow, counted once");
    }
    scene.feeds.unfollow(&star, &feed("user:3"), false).await.expect("an unfollow");
    assert_eq!(stats(&[], &[]).await, FollowStats { followers: 4, following: 4 });
    assert_eq!(stats(&["timeline"], &["user"]).await, FollowStats { followers: 2, following: 1 });
    let left = scene.feeds.followers(&star, ListRequest::default()).await.expect("a list").follows;
    assert!(left.len() == 4 && left.iter().all(|follow| follow.follower.as_str() != "timeline:0"));
}
