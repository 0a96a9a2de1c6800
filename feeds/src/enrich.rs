//! Enrichment: references replaced by what they refer to, and reactions shown with what they are on.
//!
//! A page is rendered from what is known; what the renderer missed is fetched in one `multi_get`, and it renders
//! again, until nothing is missing. So the number of engine reads follows from how deep things refer to each other,
//! not from how many there are: at most [`ROUNDS_MAX`] rounds.
//!
//! Invariant: a page is bounded. Beyond [`OBJECTS_MAX`] objects, and below [`DEPTH_MAX`] activities within each
//! other, references stay the texts that they are.

mod plain;
mod reference;
mod render;
mod store;

use keevo_core::{Engine, Error, Result};
use serde_json::{Map, Value};

use crate::activity::Activity;
use crate::feeds::Feeds;
use crate::names::{check_count, check_name};
use crate::reactions::{REACTIONS_PAGE_MAX, Reaction};
use crate::read::PAGE_LIMIT_MAX;
use render::Renderer;
use store::Store;

/// How often a page is rendered, and what it missed fetched, at most.
pub const ROUNDS_MAX: usize = 16;
/// How many activities may lie within each other.
pub const DEPTH_MAX: usize = 3;
/// How many objects a page may hold: activities, reactions, users, entries.
pub const OBJECTS_MAX: usize = 20_000;

/// What to show with activities and reactions. The default replaces references and shows no reactions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own in the API")]
pub struct EnrichOptions {
    /// Whether references are replaced.
    pub references: bool,
    /// Whether those to activities are, too: whoever may not read activities by their ids would read them so.
    pub activities: bool,
    /// Whose reactions are own ones.
    pub user_id: Option<String>,
    /// `withOwnReactions`: up to five of each kind.
    pub own_reactions: bool,
    /// `withRecentReactions`.
    pub recent_reactions: bool,
    /// How many of each kind, 1 to 25.
    pub recent_reactions_limit: usize,
    /// `withReactionCounts`.
    pub reaction_counts: bool,
    /// `withOwnChildren`: with each reaction, up to five children of each kind.
    pub own_children: bool,
    /// `reactionKindsFilter`; empty = all kinds.
    pub kinds: Vec<String>,
    /// What links to further reactions begin with, as `http://localhost:8000/api/v1.0/`.
    pub link_base: String,
}

impl Default for EnrichOptions {
    fn default() -> Self {
        Self {
            references: true,
            activities: true,
            user_id: None,
            own_reactions: false,
            recent_reactions: false,
            recent_reactions_limit: 5,
            reaction_counts: false,
            own_children: false,
            kinds: Vec::new(),
            link_base: String::new(),
        }
    }
}

impl EnrichOptions {
    fn check(&self) -> Result<()> {
        if self.recent_reactions_limit == 0 || self.recent_reactions_limit > REACTIONS_PAGE_MAX {
            let limit = self.recent_reactions_limit;
            return Err(Error::invalid(format!("recentReactionsLimit is 1 to {REACTIONS_PAGE_MAX}, not {limit}")));
        }
        if (self.own_reactions || self.own_children) && self.user_id.is_none() {
            return Err(Error::invalid("own reactions and own children need a user_id"));
        }
        self.user_id.as_ref().map_or(Ok(()), |user| check_name("a user's id", user))?;
        self.kinds.iter().try_for_each(|kind| check_name("a reaction's kind", kind))
    }
}

impl<E: Engine> Feeds<E> {
    /// Activities as the API shows them when enriched, in their order.
    ///
    /// ```
    /// # use keevo_core::MemoryEngine;
    /// # use keevo_feeds::{AppId, EnrichOptions, Feeds, FeedsOptions, NewActivity};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let feeds = Feeds::open(MemoryEngine::new(), AppId(1), FeedsOptions::default()).await.unwrap();
    /// let feed = "user:alice".parse().unwrap();
    /// feeds.add_user("alice", serde_json::Map::new()).await.unwrap();
    /// let posted = feeds.add_activity(&feed, NewActivity::new("SU:alice", "eat", "SO:food:soup")).await.unwrap();
    /// let shown = feeds.enrich_activities(&[posted], &EnrichOptions::default()).await.unwrap();
    /// assert_eq!(shown[0]["actor"]["id"], "alice");
    /// assert_eq!(shown[0]["object"]["error"], "ReferenceNotFound");
    /// # });
    /// ```
    pub async fn enrich_activities(
        &self,
        activities: &[Activity],
        options: &EnrichOptions,
    ) -> Result<Vec<Map<String, Value>>> {
        self.enriched(options, |renderer| activities.iter().map(|one| renderer.activity(one, 0)).collect()).await
    }

    /// Reactions as the API shows them, in their order: each with its user, its newest children and their counts.
    pub async fn render_reactions(
        &self,
        reactions: &[Reaction],
        options: &EnrichOptions,
    ) -> Result<Vec<Map<String, Value>>> {
        check_count("reactions", reactions.len(), PAGE_LIMIT_MAX)?;
        self.enriched(options, |renderer| reactions.iter().map(|one| renderer.reaction(one)).collect()).await
    }

    /// Renders until nothing is missing.
    async fn enriched<T: Send>(
        &self,
        options: &EnrichOptions,
        render: impl Fn(&mut Renderer<'_>) -> Result<T> + Send + Sync,
    ) -> Result<T> {
        options.check()?;
        let mut store = Store::default();
        for _ in 0..ROUNDS_MAX {
            let missing = {
                let mut renderer = Renderer::new(&store, options);
                let rendered = render(&mut renderer)?;
                if renderer.missing.is_empty() {
                    return Ok(rendered);
                }
                renderer.missing
            };
            self.fetch(missing, &mut store).await?;
        }
        render(&mut Renderer::new(&store, options))
    }
}
