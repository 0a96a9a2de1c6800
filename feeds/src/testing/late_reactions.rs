//! Scenario: steps of an old version of a reaction that come after those of a newer one. A driver that was held up
//! between reading the reaction and writing what follows from it must change nothing any more: neither bring its
//! activity back to a feed, nor take it out of one, nor count it again.

use keevo_core::{Consistency, Engine};

use super::{Scene, feed};
use crate::feed_id::FeedId;
use crate::reactions::{NewReaction, ReactTo, ReactionChange, ReactionRow, Subject, TallyRow};
use crate::rows::decode;

const ID: &str = "r1";
const ON: &str = "13814000-1dd2-11b2-8080-808080808080";

pub(crate) async fn run<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (first, second, fan) = (feed("user:first"), feed("user:second"), feed("timeline:fan"));
    for target in [&first, &second] {
        scene.feeds.follow(&fan, target, None).await.expect("a follow");
    }
    let mut new = NewReaction::new("like", ReactTo::Activity(ON.to_owned()), "bob");
    (new.id, new.target_feeds) = (Some(ID.to_owned()), vec![first.clone()]);
    scene.feeds.add_reaction(new).await.expect("an add");
    let mut old = vec![row(&scene).await];
    assert_shown(&scene, [(&first, 1), (&second, 0), (&fan, 1)], "added").await;
    let change = ReactionChange { target_feeds: Some(vec![second.clone()]), ..ReactionChange::default() };
    scene.feeds.update_reaction(ID, change).await.expect("an update");
    come_late(&scene, &old).await;
    assert_shown(&scene, [(&first, 0), (&second, 1), (&fan, 1)], "moved").await;
    assert_eq!(likes(&scene).await, 1);
    old.push(row(&scene).await);
    scene.feeds.delete_reaction(ID, true).await.expect("a soft deletion");
    come_late(&scene, &old).await;
    assert_shown(&scene, [(&first, 0), (&second, 0), (&fan, 0)], "deleted").await;
    assert_eq!(likes(&scene).await, 0);
    old.push(row(&scene).await);
    scene.feeds.restore_reaction(ID).await.expect("a restoration");
    come_late(&scene, &old).await;
    assert_shown(&scene, [(&first, 0), (&second, 1), (&fan, 1)], "restored").await;
    assert_eq!(likes(&scene).await, 1);
    scene.drain().await;
    let report = scene.feeds.verify([first, second, fan]).await.expect("a verification");
    assert!(report.is_clean(), "{report:?}");
}

/// The steps that a driver takes which has read these versions of the reaction.
async fn come_late<E: Engine>(scene: &Scene<E>, versions: &[ReactionRow]) {
    let other = scene.other(scene.engine.clone()).await;
    for version in versions {
        other.place_reaction(ID, version).await.expect("a late placing");
        other.count(ID, version).await.expect("a late count");
    }
    scene.drain().await;
}

async fn row<E: Engine>(scene: &Scene<E>) -> ReactionRow {
    let rows = scene.feeds.reaction_rows(&[ID.to_owned()]).await.expect("a read");
    rows.into_iter().flatten().next().expect("the reaction")
}

async fn likes<E: Engine>(scene: &Scene<E>) -> u64 {
    let tally = Subject::Activity(ON.to_owned()).tally(scene.feeds.layout());
    let record = scene.engine.get(tally, Consistency::Linearizable).await.expect("a read").expect("a tally");
    decode::<TallyRow>(&record).expect("a tally").kind("like").map_or(0, |kind| kind.count)
}

async fn assert_shown<E: Engine>(scene: &Scene<E>, expected: [(&FeedId, usize); 3], said: &str) {
    for (feed, count) in expected {
        assert_eq!(scene.ids(feed).await.len(), count, "{said}: {feed}");
    }
}
