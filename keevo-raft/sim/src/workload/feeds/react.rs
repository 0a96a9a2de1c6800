//! Reactions on posts, which are told in users' feeds, and marks of what is seen.
//!
//! A few ids for all of them, so that additions, changes, deletions and restorations of one reaction meet.

use keevo_core::Result;
use keevo_feeds::{AggregatedRequest, FeedId, Mark, Marks, NewReaction, ReactTo, ReactionChange};

use super::{Posts, USERS, feed, on_feeds};
use crate::sim::Sim;
use crate::world::lock;

/// Different reactions.
const REACTIONS: u64 = 10;

/// Adds, changes, deletes or restores a reaction.
pub(super) async fn react(sim: &Sim, posts: &Posts) -> Result<()> {
    let known: Vec<_> = lock(posts).keys().map(|(_, id)| *id).collect();
    let Some(post) = sim.dice().pick(&known).copied() else { return Ok(()) };
    let (number, other) = (sim.dice().below(REACTIONS), sim.dice().below(REACTIONS));
    let id = format!("r{number}");
    let targets = vec![feed("user", sim.dice().below(USERS))?];
    match sim.dice().below(8) {
        0..4 => {
            let on = if sim.dice().chance(30) {
                ReactTo::Parent(format!("r{other}"))
            } else {
                ReactTo::Activity(post.to_string())
            };
            let kind = if sim.dice().chance(50) { "like" } else { "comment" };
            let mut new = NewReaction::new(kind, on, format!("u{}", sim.dice().below(USERS)));
            new.id = Some(id);
            if sim.dice().chance(60) {
                new.target_feeds = targets;
            }
            on_feeds(sim, "react", move |feeds| {
                let new = new.clone();
                Box::pin(async move { feeds.add_reaction(new).await.map(drop) })
            })
            .await
        }
        4 => {
            let change = ReactionChange { target_feeds: Some(targets), ..ReactionChange::default() };
            on_feeds(sim, "move reaction", move |feeds| {
                let (id, change) = (id.clone(), change.clone());
                Box::pin(async move { feeds.update_reaction(&id, change).await.map(drop) })
            })
            .await
        }
        5 => {
            on_feeds(sim, "restore reaction", move |feeds| {
                let id = id.clone();
                Box::pin(async move { feeds.restore_reaction(&id).await.map(drop) })
            })
            .await
        }
        _ => {
            let soft = sim.dice().chance(50);
            on_feeds(sim, "delete reaction", move |feeds| {
                let id = id.clone();
                Box::pin(async move { feeds.delete_reaction(&id, soft).await })
            })
            .await
        }
    }
}

/// Marks all that a notification feed shows as seen.
pub(super) async fn mark(sim: &Sim, feed: FeedId) -> Result<()> {
    on_feeds(sim, "mark seen", move |feeds| {
        let feed = feed.clone();
        Box::pin(async move {
            let page = feeds.aggregated_page(&feed, AggregatedRequest::default()).await?;
            feeds.mark(&feed, &Marks { seen: Mark::All, read: Mark::Nothing }, page.seen_to).await
        })
    })
    .await
}
