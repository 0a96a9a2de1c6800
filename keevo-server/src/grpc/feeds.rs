//! `keevo.feeds.v1.Feeds` over `keevo-feeds`.
//!
//! Each call is about one app, which its metadata names. Invariant: the service decides nothing; it translates.

pub(super) mod convert;
mod pages;

use std::fmt;

use keevo_core::Result;
use keevo_feeds::{
    ADD_TO_MANY_MAX, ActivityId, FeedId, NewActivity, NewFollow, PAGE_LIMIT_MAX, PartialUpdate, Targets, Unfollow,
};
use keevo_gateway::Gateway;
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_server::{Feeds as FeedsApi, FeedsServer};
use tonic::{Request, Response, Status};

pub(crate) use convert::app_of;
use convert::{
    activity, all, answer, check_count, foreign_id, held_by, invalid, list_request, names, new_activity, object, open,
    parsed, relations, told,
};

/// The most relations that one call makes or ends.
const FOLLOWS_MAX: usize = 2_500;
/// The most feeds that one call verifies.
const VERIFY_FEEDS_MAX: usize = 1_000;
/// How many rows a call reads before it leaves the rest to the next.
const VERIFY_ROWS: usize = 100_000;
/// The most differences that an answer names.
const DIFFERENCES_MAX: usize = 1_000;
/// The most feed groups that one call names.
const SLUGS_MAX: usize = 100;

/// The feeds service of one node.
pub struct FeedsService {
    gateway: Gateway,
}

impl fmt::Debug for FeedsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedsService")
    }
}

impl FeedsService {
    /// The service over the feeds of a node.
    pub fn server(gateway: Gateway) -> FeedsServer<Self> {
        FeedsServer::new(Self { gateway })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

fn needed(activity: Option<pb::Activity>) -> Result<NewActivity, Status> {
    new_activity(activity.ok_or_else(|| invalid("activity is missing"))?)
}

fn new_activities(activities: Vec<pb::Activity>) -> Result<Vec<NewActivity>, Status> {
    check_count("activities", activities.len(), PAGE_LIMIT_MAX)?;
    activities.into_iter().map(new_activity).collect()
}

fn update(app: keevo_feeds::AppId, update: pb::PartialUpdate) -> Result<PartialUpdate, Status> {
    use pb::partial_update::Which;
    let id = match update.which {
        Some(Which::Id(id)) => parsed(&id)?,
        Some(Which::Foreign(foreign)) => foreign_id(app, &foreign)?,
        None => return Err(invalid("say which activity: by id or by foreign id")),
    };
    Ok(PartialUpdate { id, set: object(&update.set, "set")?, unset: update.unset })
}

#[tonic::async_trait]
impl FeedsApi for FeedsService {
    async fn add_activity(
        &self,
        request: Request<pb::AddActivityRequest>,
    ) -> Result<Response<pb::AddActivityResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let new = needed(request.activity)?;
        let feed = parsed::<FeedId>(&request.feed)?;
        let added = answer(feeds.add_activity(&feed, new).await)?;
        Ok(Response::new(pb::AddActivityResponse { activity: Some(held_by(&feed, added)) }))
    }

    async fn add_activities(
        &self,
        request: Request<pb::AddActivitiesRequest>,
    ) -> Result<Response<pb::AddActivitiesResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let feed = parsed::<FeedId>(&request.feed)?;
        let added = answer(feeds.add_activities(&feed, new_activities(request.activities)?).await)?;
        let activities = added.into_iter().map(|one| held_by(&feed, one)).collect();
        Ok(Response::new(pb::AddActivitiesResponse { activities }))
    }

    async fn remove_activity(
        &self,
        request: Request<pb::RemoveActivityRequest>,
    ) -> Result<Response<pb::RemoveActivityResponse>, Status> {
        use pb::remove_activity_request::Which;
        let (feeds, request) = open(&self.gateway, request).await?;
        let feed = parsed::<FeedId>(&request.feed)?;
        let removed = match request.which {
            Some(Which::Id(id)) => answer(feeds.remove_activity(&feed, parsed::<ActivityId>(&id)?).await)?,
            Some(Which::Foreign(foreign)) if foreign.time.is_empty() => {
                answer(feeds.remove_by_foreign_id(&feed, &foreign.foreign_id).await)? > 0
            }
            Some(Which::Foreign(foreign)) => {
                answer(feeds.remove_activity(&feed, foreign_id(feeds.app(), &foreign)?).await)?
            }
            None => return Err(invalid("say which activity: by id or by foreign id")),
        };
        Ok(Response::new(pb::RemoveActivityResponse { removed }))
    }

    async fn follow(&self, request: Request<pb::FollowRequest>) -> Result<Response<pb::FollowResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let (feed, target) = (parsed::<FeedId>(&request.feed)?, parsed::<FeedId>(&request.target)?);
        answer(feeds.follow(&feed, &target, request.copy_limit).await)?;
        Ok(Response::new(pb::FollowResponse {}))
    }

    async fn unfollow(&self, request: Request<pb::UnfollowRequest>) -> Result<Response<pb::UnfollowResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let (feed, target) = (parsed::<FeedId>(&request.feed)?, parsed::<FeedId>(&request.target)?);
        answer(feeds.unfollow(&feed, &target, request.keep_history).await)?;
        Ok(Response::new(pb::UnfollowResponse {}))
    }

    async fn get_feed(&self, request: Request<pb::GetFeedRequest>) -> Result<Response<pb::GetFeedResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        pages::flat(&feeds, request).await.map(Response::new)
    }

    async fn followers(
        &self,
        request: Request<pb::FollowersRequest>,
    ) -> Result<Response<pb::FollowersResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let list = list_request(request.limit, &request.after)?;
        let feed = parsed::<FeedId>(&request.feed)?;
        let (relations, next) = relations(answer(feeds.followers(&feed, list).await)?);
        Ok(Response::new(pb::FollowersResponse { relations, next }))
    }

    async fn following(
        &self,
        request: Request<pb::FollowingRequest>,
    ) -> Result<Response<pb::FollowingResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let list = list_request(request.limit, &request.after)?;
        let feed = parsed::<FeedId>(&request.feed)?;
        let (relations, next) = relations(answer(feeds.following(&feed, list).await)?);
        Ok(Response::new(pb::FollowingResponse { relations, next }))
    }

    async fn verify(&self, request: Request<pb::VerifyRequest>) -> Result<Response<pb::VerifyResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let count = request.feeds.len();
        if count == 0 || count > VERIFY_FEEDS_MAX {
            return Err(invalid(format!("a call verifies 1 to {VERIFY_FEEDS_MAX} feeds, not {count}")));
        }
        let (report, done) = answer(feeds.verify_within(&all::<FeedId>(&request.feeds)?, VERIFY_ROWS).await)?;
        Ok(Response::new(pb::VerifyResponse {
            feeds: told(report.feeds),
            shown: told(report.shown),
            reactions: told(report.reactions),
            stale_rows: told(report.stale_rows),
            differing: told(report.differences().count()),
            differences: report.differences().take(DIFFERENCES_MAX).collect(),
            left: told(count - done),
        }))
    }

    async fn get_activities(
        &self,
        request: Request<pb::GetActivitiesRequest>,
    ) -> Result<Response<pb::GetActivitiesResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        check_count("activities", request.ids.len() + request.foreign.len(), PAGE_LIMIT_MAX)?;
        let mut ids = all::<ActivityId>(&request.ids)?;
        for foreign in &request.foreign {
            ids.push(foreign_id(feeds.app(), foreign)?);
        }
        let activities = pages::stored(answer(feeds.activities(&ids).await)?);
        Ok(Response::new(pb::GetActivitiesResponse { activities }))
    }

    async fn get_aggregated(
        &self,
        request: Request<pb::GetAggregatedRequest>,
    ) -> Result<Response<pb::GetAggregatedResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        pages::aggregated(&feeds, request).await.map(Response::new)
    }

    async fn get_ranked(
        &self,
        request: Request<pb::GetRankedRequest>,
    ) -> Result<Response<pb::GetRankedResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        pages::ranked(&feeds, request).await.map(Response::new)
    }

    async fn update_activities(
        &self,
        request: Request<pb::UpdateActivitiesRequest>,
    ) -> Result<Response<pb::UpdateActivitiesResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let updated = answer(feeds.update_activities(new_activities(request.activities)?).await)?;
        Ok(Response::new(pb::UpdateActivitiesResponse { activities: pages::stored(updated) }))
    }

    async fn update_partially(
        &self,
        request: Request<pb::UpdatePartiallyRequest>,
    ) -> Result<Response<pb::UpdatePartiallyResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        check_count("updates", request.updates.len(), PAGE_LIMIT_MAX)?;
        let updates = request.updates.into_iter().map(|one| update(feeds.app(), one)).collect::<Result<_, _>>()?;
        let updated = answer(feeds.update_partially(updates).await)?;
        Ok(Response::new(pb::UpdatePartiallyResponse { activities: pages::stored(updated) }))
    }

    async fn change_targets(
        &self,
        request: Request<pb::ChangeTargetsRequest>,
    ) -> Result<Response<pb::ChangeTargetsResponse>, Status> {
        use pb::change_targets_request::Which;
        let (feeds, request) = open(&self.gateway, request).await?;
        let feed = parsed::<FeedId>(&request.feed)?;
        let id = match request.which {
            Some(Which::Id(id)) => parsed(&id)?,
            Some(Which::Foreign(foreign)) => foreign_id(feeds.app(), &foreign)?,
            None => return Err(invalid("say which activity: by id or by foreign id")),
        };
        let (added, removed) = (all(&request.added)?, all(&request.removed)?);
        let targets = match (request.replace, removed.is_empty()) {
            (true, true) => Targets::Replace(added),
            (true, false) => return Err(invalid("with replace, added are all targets: leave removed empty")),
            (false, _) => Targets::Change { added, removed },
        };
        let changed = answer(feeds.change_targets(&feed, id, &targets).await)?;
        Ok(Response::new(pb::ChangeTargetsResponse {
            activity: Some(held_by(&feed, changed.activity)),
            added: names(&changed.added),
            removed: names(&changed.removed),
        }))
    }

    async fn add_to_many(
        &self,
        request: Request<pb::AddToManyRequest>,
    ) -> Result<Response<pb::AddToManyResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        check_count("feeds", request.feeds.len(), ADD_TO_MANY_MAX)?;
        let added = answer(feeds.add_to_many(needed(request.activity)?, all(&request.feeds)?).await)?;
        Ok(Response::new(pb::AddToManyResponse { activity: Some(activity(added)) }))
    }

    async fn follow_many(
        &self,
        request: Request<pb::FollowManyRequest>,
    ) -> Result<Response<pb::FollowManyResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        check_count("follows", request.follows.len(), FOLLOWS_MAX)?;
        let follow = |one: &pb::FollowRequest| {
            let (follower, target) = (parsed(&one.feed)?, parsed(&one.target)?);
            Ok(NewFollow { follower, target, copy_limit: one.copy_limit })
        };
        let follows = request.follows.iter().map(follow).collect::<Result<_, Status>>()?;
        answer(feeds.follow_many(follows).await)?;
        Ok(Response::new(pb::FollowManyResponse {}))
    }

    async fn unfollow_many(
        &self,
        request: Request<pb::UnfollowManyRequest>,
    ) -> Result<Response<pb::UnfollowManyResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        check_count("unfollows", request.unfollows.len(), FOLLOWS_MAX)?;
        let unfollow = |one: &pb::UnfollowRequest| {
            let (follower, target) = (parsed(&one.feed)?, parsed(&one.target)?);
            Ok(Unfollow { follower, target, keep_history: one.keep_history })
        };
        let unfollows = request.unfollows.iter().map(unfollow).collect::<Result<_, Status>>()?;
        let removed = told(answer(feeds.unfollow_many(unfollows).await)?);
        Ok(Response::new(pb::UnfollowManyResponse { removed }))
    }

    async fn follow_stats(
        &self,
        request: Request<pb::FollowStatsRequest>,
    ) -> Result<Response<pb::FollowStatsResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let feed = parsed::<FeedId>(&request.feed)?;
        check_count("groups", request.follower_slugs.len() + request.following_slugs.len(), SLUGS_MAX)?;
        let by: Vec<&str> = request.follower_slugs.iter().map(String::as_str).collect();
        let of: Vec<&str> = request.following_slugs.iter().map(String::as_str).collect();
        let stats = answer(feeds.follow_stats(&feed, &by, &of).await)?;
        Ok(Response::new(pb::FollowStatsResponse { followers: stats.followers, following: stats.following }))
    }
}
