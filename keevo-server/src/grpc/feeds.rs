//! `keevo.feeds.v1.Feeds` over `keevo-feeds`.
//!
//! One app, [`APP`], the first one of a cluster. Invariant: the service decides nothing; it translates.

use std::fmt;
use std::str::FromStr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keevo_core::{AnyEngine, Error, ErrorKind, Result};
use keevo_feeds::{
    Activity, ActivityId, ActivityTime, AppId, FeedId, Feeds, FollowCursor, FollowPage, ListRequest, NewActivity,
    PAGE_LIMIT_MAX, PageRequest,
};
use keevo_gateway::Registry;
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_server::{Feeds as FeedsApi, FeedsServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use tonic::{Request, Response, Status};

/// The app that gRPC calls work on.
pub const APP: AppId = AppId(1);
const LIMIT_DEFAULT: usize = 25;
/// The most feeds that one call verifies.
const VERIFY_FEEDS_MAX: usize = 1_000;
/// The most differences that an answer names.
const DIFFERENCES_MAX: usize = 1_000;

/// The feeds service of one node.
pub struct FeedsService {
    registry: Registry,
}

impl fmt::Debug for FeedsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedsService")
    }
}

impl FeedsService {
    /// The service over the feeds of a node.
    pub fn server(registry: Registry) -> FeedsServer<Self> {
        FeedsServer::new(Self { registry })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    async fn feeds(&self) -> Result<Feeds<AnyEngine>, Status> {
        self.registry.open(APP).await.map_err(|error| status_from_error(&error))
    }
}

fn parsed<T: FromStr<Err = Error>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: Error| status_from_error(&error))
}

fn optional<T: FromStr<Err = Error>>(text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { parsed(text).map(Some) }
}

fn answer<T>(result: Result<T>) -> Result<T, Status> {
    result.map_err(|error| status_from_error(&error))
}

fn limit(asked: u32) -> usize {
    if asked == 0 { LIMIT_DEFAULT } else { usize::try_from(asked).unwrap_or(usize::MAX) }
}

fn new_activity(activity: pb::Activity) -> Result<NewActivity, Status> {
    let custom = if activity.custom.is_empty() {
        serde_json::Map::new()
    } else {
        serde_json::from_str(&activity.custom)
            .map_err(|error| status_from_error(&Error::invalid("custom is not a JSON object").with_source(error)))?
    };
    Ok(NewActivity {
        actor: activity.actor,
        verb: activity.verb,
        object: activity.object,
        target: activity.target,
        foreign_id: activity.foreign_id,
        time: optional::<ActivityTime>(&activity.time)?,
        to: activity.to.iter().map(|feed| parsed(feed)).collect::<Result<_, _>>()?,
        custom,
    })
}

/// An activity as `feed` holds it: without another origin it came to this feed itself.
fn held_by(feed: &FeedId, held: Activity) -> pb::Activity {
    let mut told = activity(held);
    if told.origin.is_empty() {
        told.origin = feed.to_string();
    }
    told
}

/// Refuses a request that names more activities than a page may have.
fn check_count(count: usize) -> Result<(), Status> {
    if count <= PAGE_LIMIT_MAX {
        return Ok(());
    }
    let message = format!("the request has {count} activities, more than {PAGE_LIMIT_MAX}");
    Err(status_from_error(&Error::new(ErrorKind::BatchTooLarge, message)))
}

fn activity(activity: Activity) -> pb::Activity {
    let custom =
        if activity.custom.is_empty() { String::new() } else { serde_json::Value::Object(activity.custom).to_string() };
    pb::Activity {
        id: activity.id.to_string(),
        actor: activity.actor,
        verb: activity.verb,
        object: activity.object,
        target: activity.target,
        time: format!("{}Z", activity.time),
        foreign_id: activity.foreign_id,
        to: activity.to.iter().map(ToString::to_string).collect(),
        custom,
        origin: activity.origin.map(|feed| feed.to_string()).unwrap_or_default(),
    }
}

fn list_request(asked: u32, after: &Bytes) -> Result<ListRequest, Status> {
    let after = if after.is_empty() { None } else { Some(cursor(after)?) };
    Ok(ListRequest { limit: limit(asked), after, ..ListRequest::default() })
}

fn cursor(bytes: &Bytes) -> Result<FollowCursor, Status> {
    let wrong = || status_from_error(&Error::invalid("after is not the next of a page before"));
    let mut rest = bytes.clone();
    if rest.len() < 9 {
        return Err(wrong());
    }
    let created_us = rest.get_u64();
    let feed = std::str::from_utf8(&rest).map_err(|_not_utf8| wrong())?;
    Ok(FollowCursor { created_us, feed: parsed(feed)? })
}

fn relations(page: FollowPage) -> (Vec<pb::Relation>, Bytes) {
    let relations = page
        .follows
        .into_iter()
        .map(|follow| pb::Relation {
            feed: follow.follower.to_string(),
            target: follow.target.to_string(),
            since_ms: u64::try_from(follow.created_at.micros() / 1_000).unwrap_or(0),
        })
        .collect();
    let next = page.next.map_or_else(Bytes::new, |next| {
        let mut bytes = BytesMut::new();
        bytes.put_u64(next.created_us);
        bytes.put_slice(next.feed.as_str().as_bytes());
        bytes.freeze()
    });
    (relations, next)
}

#[tonic::async_trait]
impl FeedsApi for FeedsService {
    async fn add_activity(
        &self,
        request: Request<pb::AddActivityRequest>,
    ) -> Result<Response<pb::AddActivityResponse>, Status> {
        let request = request.into_inner();
        let new = request.activity.ok_or_else(|| status_from_error(&Error::invalid("activity is missing")))?;
        let feed = parsed::<FeedId>(&request.feed)?;
        let added = answer(self.feeds().await?.add_activity(&feed, new_activity(new)?).await)?;
        Ok(Response::new(pb::AddActivityResponse { activity: Some(held_by(&feed, added)) }))
    }

    async fn add_activities(
        &self,
        request: Request<pb::AddActivitiesRequest>,
    ) -> Result<Response<pb::AddActivitiesResponse>, Status> {
        let request = request.into_inner();
        let feed = parsed::<FeedId>(&request.feed)?;
        check_count(request.activities.len())?;
        let new = request.activities.into_iter().map(new_activity).collect::<Result<_, _>>()?;
        let added = answer(self.feeds().await?.add_activities(&feed, new).await)?;
        let activities = added.into_iter().map(|one| held_by(&feed, one)).collect();
        Ok(Response::new(pb::AddActivitiesResponse { activities }))
    }

    async fn remove_activity(
        &self,
        request: Request<pb::RemoveActivityRequest>,
    ) -> Result<Response<pb::RemoveActivityResponse>, Status> {
        use pb::remove_activity_request::Which;
        let request = request.into_inner();
        let feed = parsed::<FeedId>(&request.feed)?;
        let feeds = self.feeds().await?;
        let removed = match request.which {
            Some(Which::Id(id)) => answer(feeds.remove_activity(&feed, parsed::<ActivityId>(&id)?).await)?,
            Some(Which::Foreign(foreign)) if foreign.time.is_empty() => {
                answer(feeds.remove_by_foreign_id(&feed, &foreign.foreign_id).await)? > 0
            }
            Some(Which::Foreign(foreign)) => answer(feeds.remove_activity(&feed, foreign_id(&foreign)?).await)?,
            None => return Err(status_from_error(&Error::invalid("say which activity: by id or by foreign id"))),
        };
        Ok(Response::new(pb::RemoveActivityResponse { removed }))
    }

    async fn follow(&self, request: Request<pb::FollowRequest>) -> Result<Response<pb::FollowResponse>, Status> {
        let request = request.into_inner();
        let (feed, target) = (parsed::<FeedId>(&request.feed)?, parsed::<FeedId>(&request.target)?);
        answer(self.feeds().await?.follow(&feed, &target, request.copy_limit).await)?;
        Ok(Response::new(pb::FollowResponse {}))
    }

    async fn unfollow(&self, request: Request<pb::UnfollowRequest>) -> Result<Response<pb::UnfollowResponse>, Status> {
        let request = request.into_inner();
        let (feed, target) = (parsed::<FeedId>(&request.feed)?, parsed::<FeedId>(&request.target)?);
        answer(self.feeds().await?.unfollow(&feed, &target, request.keep_history).await)?;
        Ok(Response::new(pb::UnfollowResponse {}))
    }

    async fn get_feed(&self, request: Request<pb::GetFeedRequest>) -> Result<Response<pb::GetFeedResponse>, Status> {
        let request = request.into_inner();
        let page = PageRequest {
            limit: limit(request.limit),
            id_lt: optional(&request.id_lt)?,
            id_lte: optional(&request.id_lte)?,
            id_gt: optional(&request.id_gt)?,
            id_gte: optional(&request.id_gte)?,
            ..PageRequest::default()
        };
        let feed = parsed::<FeedId>(&request.feed)?;
        let page = answer(self.feeds().await?.page(&feed, page).await)?;
        let more = page.next.is_some();
        let activities = page.activities.into_iter().map(|one| held_by(&feed, one)).collect();
        Ok(Response::new(pb::GetFeedResponse { activities, more }))
    }

    async fn followers(
        &self,
        request: Request<pb::FollowersRequest>,
    ) -> Result<Response<pb::FollowersResponse>, Status> {
        let request = request.into_inner();
        let list = list_request(request.limit, &request.after)?;
        let feed = parsed::<FeedId>(&request.feed)?;
        let (relations, next) = relations(answer(self.feeds().await?.followers(&feed, list).await)?);
        Ok(Response::new(pb::FollowersResponse { relations, next }))
    }

    async fn following(
        &self,
        request: Request<pb::FollowingRequest>,
    ) -> Result<Response<pb::FollowingResponse>, Status> {
        let request = request.into_inner();
        let list = list_request(request.limit, &request.after)?;
        let feed = parsed::<FeedId>(&request.feed)?;
        let (relations, next) = relations(answer(self.feeds().await?.following(&feed, list).await)?);
        Ok(Response::new(pb::FollowingResponse { relations, next }))
    }

    async fn verify(&self, request: Request<pb::VerifyRequest>) -> Result<Response<pb::VerifyResponse>, Status> {
        let names = request.into_inner().feeds;
        if names.is_empty() || names.len() > VERIFY_FEEDS_MAX {
            let message = format!("a call verifies 1 to {VERIFY_FEEDS_MAX} feeds, not {}", names.len());
            return Err(status_from_error(&Error::invalid(message)));
        }
        let named = names.iter().map(|name| parsed(name)).collect::<Result<Vec<FeedId>, _>>()?;
        let report = answer(self.feeds().await?.verify(named).await)?;
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Response::new(pb::VerifyResponse {
            feeds: count(report.feeds),
            shown: count(report.shown),
            reactions: count(report.reactions),
            stale_rows: count(report.stale_rows),
            differing: count(report.differences().count()),
            differences: report.differences().take(DIFFERENCES_MAX).collect(),
        }))
    }

    async fn get_activities(
        &self,
        request: Request<pb::GetActivitiesRequest>,
    ) -> Result<Response<pb::GetActivitiesResponse>, Status> {
        let request = request.into_inner();
        check_count(request.ids.len() + request.foreign.len())?;
        let mut ids = request.ids.iter().map(|id| parsed(id)).collect::<Result<Vec<ActivityId>, _>>()?;
        for foreign in &request.foreign {
            ids.push(foreign_id(foreign)?);
        }
        let found = answer(self.feeds().await?.activities(&ids).await)?;
        Ok(Response::new(pb::GetActivitiesResponse { activities: found.into_iter().map(activity).collect() }))
    }
}

/// The id that follows from a foreign id and a time.
fn foreign_id(foreign: &pb::ForeignId) -> Result<ActivityId, Status> {
    let time = parsed::<ActivityTime>(&foreign.time)?;
    Ok(ActivityId::compute(APP, time, keevo_feeds::Identity::ForeignId(&foreign.foreign_id)))
}
