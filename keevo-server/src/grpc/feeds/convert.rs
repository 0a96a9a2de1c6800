//! Feeds' messages and types, one into the other.
//!
//! Invariant: what does not parse is `Invalid` with a sentence, never a default.

use std::str::FromStr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keevo_core::{AnyEngine, Error, ErrorKind, Result};
use keevo_feeds::{
    Activity, ActivityId, ActivityTime, AppId, FeedId, Feeds, FollowCursor, FollowPage, Identity, ListRequest,
    NewActivity,
};
use keevo_gateway::{FIRST_APP, Gateway};
use keevo_proto::feeds::v1 as pb;
use keevo_proto::status_from_error;
use serde_json::{Map, Value};
use tonic::codegen::http::HeaderMap;
use tonic::{Request, Status};

/// The metadata that names the app of a call.
const APP_METADATA: &str = "keevo-app";
const LIMIT_DEFAULT: usize = 25;

/// A refusal of the request.
pub(in crate::grpc) fn invalid(message: impl Into<String>) -> Status {
    status_from_error(&Error::invalid(message.into()))
}

pub(in crate::grpc) fn answer<T>(result: Result<T>) -> Result<T, Status> {
    result.map_err(|error| status_from_error(&error))
}

pub(in crate::grpc) fn parsed<T: FromStr<Err = Error>>(text: &str) -> Result<T, Status> {
    answer(text.parse())
}

pub(super) fn optional<T: FromStr<Err = Error>>(text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { parsed(text).map(Some) }
}

/// Several of them.
pub(in crate::grpc) fn all<T: FromStr<Err = Error>>(texts: &[String]) -> Result<Vec<T>, Status> {
    texts.iter().map(|text| parsed(text)).collect()
}

/// A number of the wire, or the default where it is 0.
pub(in crate::grpc) fn count_or(asked: u32, default: usize) -> usize {
    if asked == 0 { default } else { usize::try_from(asked).unwrap_or(usize::MAX) }
}

pub(super) fn limit(asked: u32) -> usize {
    count_or(asked, LIMIT_DEFAULT)
}

pub(in crate::grpc) fn told(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A JSON object as text; empty text is an empty one.
pub(in crate::grpc) fn object(text: &str, what: &str) -> Result<Map<String, Value>, Status> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(text)
        .map_err(|error| status_from_error(&Error::invalid(format!("{what} is not a JSON object")).with_source(error)))
}

/// The text of an object; none of an empty one.
pub(in crate::grpc) fn text_of(object: Map<String, Value>) -> String {
    if object.is_empty() { String::new() } else { Value::Object(object).to_string() }
}

/// The text of objects in the shape of the REST API.
pub(in crate::grpc) fn texts_of(objects: Vec<Map<String, Value>>) -> Vec<String> {
    objects.into_iter().map(|one| Value::Object(one).to_string()).collect()
}

/// The feeds that a call is about, and what it asks for.
pub(in crate::grpc) async fn open<T>(gateway: &Gateway, request: Request<T>) -> Result<(Feeds<AnyEngine>, T), Status> {
    let app = answer(app_of(request.metadata().as_ref()))?;
    Ok((answer(gateway.feeds(app).await)?, request.into_inner()))
}

/// The app that a call is about, by its metadata. Whether the caller may is decided by the same function.
pub(crate) fn app_of(headers: &HeaderMap) -> Result<AppId> {
    let Some(value) = headers.get(APP_METADATA) else { return Ok(FIRST_APP) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    let number =
        number.ok_or_else(|| Error::invalid(format!("the metadata {APP_METADATA} is the number of an app")))?;
    Ok(AppId(number))
}

pub(super) fn new_activity(activity: pb::Activity) -> Result<NewActivity, Status> {
    Ok(NewActivity {
        custom: object(&activity.custom, "custom")?,
        actor: activity.actor,
        verb: activity.verb,
        object: activity.object,
        target: activity.target,
        foreign_id: activity.foreign_id,
        time: optional::<ActivityTime>(&activity.time)?,
        to: all(&activity.to)?,
    })
}

pub(super) fn activity(activity: Activity) -> pb::Activity {
    pb::Activity {
        id: activity.id.to_string(),
        actor: activity.actor,
        verb: activity.verb,
        object: activity.object,
        target: activity.target,
        time: format!("{}Z", activity.time),
        foreign_id: activity.foreign_id,
        to: names(&activity.to),
        custom: text_of(activity.custom),
        origin: activity.origin.map(|feed| feed.to_string()).unwrap_or_default(),
    }
}

/// An activity as `feed` holds it: without another origin it came to this feed itself.
pub(super) fn held_by(feed: &FeedId, held: Activity) -> pb::Activity {
    let mut told = activity(held);
    if told.origin.is_empty() {
        told.origin = feed.to_string();
    }
    told
}

pub(in crate::grpc) fn names(feeds: &[FeedId]) -> Vec<String> {
    feeds.iter().map(ToString::to_string).collect()
}

/// Refuses a request that names more of something than it may.
pub(super) fn check_count(what: &str, count: usize, max: usize) -> Result<(), Status> {
    if count <= max {
        return Ok(());
    }
    let message = format!("the request has {count} {what}, more than {max}");
    Err(status_from_error(&Error::new(ErrorKind::BatchTooLarge, message)))
}

/// The id that follows from a foreign id and a time.
pub(super) fn foreign_id(app: AppId, foreign: &pb::ForeignId) -> Result<ActivityId, Status> {
    let time = parsed::<ActivityTime>(&foreign.time)?;
    Ok(ActivityId::compute(app, time, Identity::ForeignId(&foreign.foreign_id)))
}

pub(super) fn list_request(asked: u32, after: &Bytes) -> Result<ListRequest, Status> {
    let after = if after.is_empty() { None } else { Some(cursor(after)?) };
    Ok(ListRequest { limit: limit(asked), after, ..ListRequest::default() })
}

fn cursor(bytes: &Bytes) -> Result<FollowCursor, Status> {
    let wrong = || invalid("after is not the next of a page before");
    let mut rest = bytes.clone();
    if rest.len() < 9 {
        return Err(wrong());
    }
    let created_us = rest.get_u64();
    let feed = std::str::from_utf8(&rest).map_err(|_not_utf8| wrong())?;
    Ok(FollowCursor { created_us, feed: parsed(feed)? })
}

pub(super) fn relations(page: FollowPage) -> (Vec<pb::Relation>, Bytes) {
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
