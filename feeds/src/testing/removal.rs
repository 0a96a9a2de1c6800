//! Scenarios: removing, by id and by foreign id, and adding again.

use keevo_core::Engine;

use super::{Scene, feed, post};
use crate::ids::ActivityId;

pub(crate) async fn run<E: Engine>(engine: &E) {
    a_removal_cascades(engine).await;
    a_removal_from_a_target_stays_there(engine).await;
    a_foreign_id_removes_all_its_times(engine).await;
    a_removed_activity_can_come_back(engine).await;
    a_removal_reaches_kept_history(engine).await;
}

async fn a_removal_cascades<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, fan, board, member) = (feed("user:1"), feed("timeline:1"), feed("board:b"), feed("timeline:m"));
    scene.feeds.follow(&fan, &user, None).await.expect("a follow");
    scene.feeds.follow(&member, &board, None).await.expect("a follow");
    let gone = scene.feeds.add_activity(&user, post("gone", 1).to([board.clone()])).await.expect("an add").id;
    let kept = scene.feeds.add_activity(&user, post("kept", 2).to([board.clone()])).await.expect("an add").id;
    assert!(scene.feeds.remove_activity(&user, gone).await.expect("a removal"));
    assert!(!scene.feeds.remove_activity(&user, gone).await.expect("nothing to do"));
    assert!(!scene.feeds.remove_activity(&feed("user:9"), kept).await.expect("it is not there"));
    assert!(scene.feeds.activities(&[gone]).await.expect("a look-up").is_empty());
    let all = [&user, &fan, &board, &member];
    for reader in all {
        assert_eq!(scene.ids(reader).await, [kept], "{reader}");
    }
    let report = scene.feeds.verify(all.map(Clone::clone)).await.expect("a verification");
    assert!(report.is_clean() && report.stale_rows == 0, "the rows are gone too: {report:?}");
    assert!(scene.feeds.metrics().entries_fanned_out >= 6);
}

async fn a_removal_from_a_target_stays_there<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, board, member) = (feed("user:1"), feed("board:b"), feed("timeline:m"));
    scene.feeds.follow(&member, &board, None).await.expect("a follow");
    let id =
        scene.feeds.add_activity(&user, post("p", 1).to([board.clone(), feed("board:c")])).await.expect("an add").id;
    assert!(scene.feeds.remove_activity(&board, id).await.expect("a removal"));
    assert!(scene.ids(&board).await.is_empty() && scene.ids(&member).await.is_empty());
    assert_eq!(scene.ids(&user).await, [id]);
    let left = scene.feeds.activities(&[id]).await.expect("a look-up");
    assert_eq!(left.first().expect("it is still there").to, [feed("board:c")]);
}

async fn a_foreign_id_removes_all_its_times<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, other, fan) = (feed("user:1"), feed("user:2"), feed("timeline:1"));
    scene.feeds.follow(&fan, &user, None).await.expect("a follow");
    let series = (0..300).map(|n| post("series", n)).collect();
    scene.feeds.add_activities(&user, series).await.expect("adds");
    let kept = scene.feeds.add_activity(&user, post("series2", 1)).await.expect("an add").id;
    let elsewhere = scene.feeds.add_activity(&other, post("series", 900)).await.expect("an add").id;
    assert_eq!(scene.ids(&fan).await.len(), 301);
    assert_eq!(scene.feeds.remove_by_foreign_id(&user, "series").await.expect("a removal"), 300);
    assert_eq!(scene.feeds.remove_by_foreign_id(&user, "series").await.expect("nothing to do"), 0);
    assert_eq!(scene.ids(&user).await, [kept]);
    assert_eq!(scene.ids(&fan).await, [kept]);
    assert_eq!(scene.ids(&other).await, [elsewhere], "only in the feed that was named");
}

async fn a_removed_activity_can_come_back<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, fan) = (feed("user:1"), feed("timeline:1"));
    scene.feeds.follow(&fan, &user, None).await.expect("a follow");
    for _ in 0..3 {
        let id = scene.feeds.add_activity(&user, post("p", 1)).await.expect("an add").id;
        assert_eq!(scene.ids(&user).await, [id]);
        assert_eq!(scene.ids(&fan).await, [id], "the tombstone of the removal does not hold it back");
        assert!(scene.feeds.remove_activity(&user, id).await.expect("a removal"));
        assert_eq!(scene.ids(&fan).await, [] as [ActivityId; 0]);
    }
    scene.drain().await;
    let report = scene.feeds.verify([user, fan]).await.expect("a verification");
    assert!(report.is_clean() && report.shown == 0 && report.stale_rows == 0, "{report:?}");
}

async fn a_removal_reaches_kept_history<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, fan) = (feed("user:1"), feed("timeline:1"));
    let id = scene.feeds.add_activity(&user, post("p", 1)).await.expect("an add").id;
    scene.feeds.follow(&fan, &user, None).await.expect("a follow");
    scene.feeds.unfollow(&fan, &user, true).await.expect("an unfollow");
    assert_eq!(scene.ids(&fan).await, [id]);
    scene.feeds.remove_activity(&user, id).await.expect("a removal");
    assert!(scene.ids(&fan).await.is_empty(), "what is removed is shown nowhere");
}
