//! Scenario: random histories, one call after the other, against a plain model of what a feed shows.
//!
//! The model keeps rows (activity, source, placement) per feed and says nothing of partitions, jobs or
//! generations. After every call each feed shows exactly what the model holds: a caller reads its writes. It knows of no
//! merging either, so with feeds that are merged and written again in turns it says the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use keevo_core::{Engine, Random, SeededRandom};

use super::{Scene, feed, fid, merged, numbered};
use crate::feed_id::FeedId;
use crate::ids::ActivityId;

const CALLS: usize = 120;
const FEEDS: u64 = 6;
const ACTIVITIES: u64 = 16;

/// A placement: the feed that holds an activity, and the feed whose `to` brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    feed: FeedId,
    via: Option<FeedId>,
    number: u64,
}

/// A row of a timeline: the activity, the followed feed it came through, the placement's number.
type Row = (ActivityId, Option<FeedId>, u64);

#[derive(Debug, Default)]
struct Model {
    held: BTreeMap<ActivityId, Vec<Held>>,
    rows: BTreeMap<FeedId, BTreeSet<Row>>,
    follows: BTreeSet<(FeedId, FeedId)>,
    placements: u64,
}

impl Model {
    fn add(&mut self, feed: &FeedId, id: ActivityId, to: &[FeedId]) {
        let to = to.iter().filter(|target| *target != feed).map(|target| (target, Some(feed.clone())));
        for (holder, via) in std::iter::once((feed, None)).chain(to) {
            let held = self.held.entry(id).or_default();
            if held.iter().any(|held| held.feed == *holder && held.via == via) {
                continue;
            }
            self.placements += 1;
            held.push(Held { feed: holder.clone(), via, number: self.placements });
            self.rows.entry(holder.clone()).or_default().insert((id, None, self.placements));
            for (follower, _) in self.follows.iter().filter(|(_, target)| target == holder) {
                let row = (id, Some(holder.clone()), self.placements);
                self.rows.entry(follower.clone()).or_default().insert(row);
            }
        }
    }

    fn remove(&mut self, feed: &FeedId, id: ActivityId) -> bool {
        let Some(held) = self.held.get_mut(&id) else { return false };
        let goes = |held: &Held| held.feed == *feed || held.via.as_ref() == Some(feed);
        let gone: BTreeSet<u64> = held.iter().filter(|held| goes(held)).map(|held| held.number).collect();
        held.retain(|held| !gone.contains(&held.number));
        self.rows.values_mut().for_each(|rows| rows.retain(|row| !gone.contains(&row.2)));
        !gone.is_empty()
    }

    fn follow(&mut self, follower: &FeedId, target: &FeedId, limit: usize) {
        self.follows.insert((follower.clone(), target.clone()));
        let mut own: Vec<Row> =
            self.rows.get(target).into_iter().flatten().filter(|row| row.1.is_none()).cloned().collect();
        own.sort_by_key(|row| (Reverse(row.0.order_key()), row.2));
        let copies = own.into_iter().take(limit).map(|(id, _, number)| (id, Some(target.clone()), number));
        self.rows.entry(follower.clone()).or_default().extend(copies);
    }

    fn unfollow(&mut self, follower: &FeedId, target: &FeedId, keep: bool) -> bool {
        let was = self.follows.remove(&(follower.clone(), target.clone()));
        if was && !keep {
            let rows = self.rows.entry(follower.clone()).or_default();
            rows.retain(|row| row.1.as_ref() != Some(target));
        }
        was
    }

    fn shown(&self, feed: &FeedId) -> Vec<ActivityId> {
        let ids: BTreeSet<ActivityId> = self.rows.get(feed).into_iter().flatten().map(|row| row.0).collect();
        let mut ids: Vec<ActivityId> = ids.into_iter().collect();
        ids.sort_by_key(|id| Reverse(id.order_key()));
        ids
    }
}

pub(crate) async fn run<E: Engine>(engine: &E, seeds: u64, merging: bool) {
    let mut switches = 0;
    for seed in 0..seeds {
        switches += history(engine, seed, merging).await;
    }
    // A few seeds need not switch.
    assert!(!merging || seeds < 20 || switches >= seeds, "feeds are merged and written again: {switches}");
}

/// Runs a history; how often a feed was written again.
async fn history<E: Engine>(engine: &E, seed: u64, merging: bool) -> u64 {
    let mut scene = Scene::new(engine).await;
    if merging {
        // The model knows of no slack between a follow and a post of the same moment.
        scene.feeds = scene.exact().await;
        scene.feeds.set_groups(merged::groups(Some(1), None));
    }
    let random = SeededRandom::new(seed);
    let below = |bound: u64| random.next_u64() % bound;
    let any_feed = || feed(&format!("user:{}", below(FEEDS)));
    let mut model = Model::default();
    for call in 0..CALLS {
        let (one, other) = (any_feed(), any_feed());
        let number = below(ACTIVITIES);
        let id = scene.id(number);
        let said = match below(10) {
            0..=3 => {
                let to: Vec<FeedId> = (0..below(3)).map(|_| any_feed()).collect();
                model.add(&one, id, &to);
                scene.feeds.add_activity(&one, numbered(number).to(to.clone())).await.expect("an add");
                format!("add {number} to {one} and {to:?}")
            }
            4 => {
                let removed = scene.feeds.remove_activity(&one, id).await.expect("a removal");
                assert_eq!(removed, model.remove(&one, id), "seed {seed}, call {call}");
                format!("remove {number} from {one}")
            }
            5 if number == 0 => {
                let ids = (0..ACTIVITIES).filter(|other| fid(*other) == fid(number)).map(|other| scene.id(other));
                let expected = ids.filter(|id| model.remove(&one, *id)).count();
                let removed = scene.feeds.remove_by_foreign_id(&one, &fid(number)).await.expect("a removal");
                assert_eq!(removed, expected, "seed {seed}, call {call}");
                format!("remove {} from {one}", fid(number))
            }
            5..=7 if one != other => {
                let limit = below(6);
                model.follow(&one, &other, usize::try_from(limit).expect("small"));
                let limit = u32::try_from(limit).expect("small");
                scene.feeds.follow(&one, &other, Some(limit)).await.expect("a follow");
                format!("{one} follows {other}, copy {limit}")
            }
            8 if merging && number < 6 => {
                let above = Some(1).filter(|_| number < 3);
                scene.feeds.set_groups(merged::groups(above, None));
                let run = scene.feeds.run_outbox_once(5).await.expect("a run over the outbox");
                assert_eq!(run.failed, 0, "seed {seed}, call {call}");
                format!("merge above {above:?}")
            }
            8 => {
                let keep = below(2) == 0;
                let was = scene.feeds.unfollow(&one, &other, keep).await.expect("an unfollow");
                assert_eq!(was, model.unfollow(&one, &other, keep), "seed {seed}, call {call}");
                format!("{one} unfollows {other}, keep {keep}")
            }
            _ => {
                scene.clock.advance_ms(below(5_000));
                "time passes".to_owned()
            }
        };
        for number in 0..FEEDS {
            let reader = feed(&format!("user:{number}"));
            assert_eq!(scene.ids(&reader).await, model.shown(&reader), "seed {seed}, call {call} ({said}): {reader}");
        }
    }
    scene.drain().await;
    let report = scene.feeds.verify((0..FEEDS).map(|n| feed(&format!("user:{n}")))).await.expect("a verification");
    assert!(report.is_clean(), "seed {seed}: {report:?}");
    scene.feeds.metrics().sources_unmerged
}
