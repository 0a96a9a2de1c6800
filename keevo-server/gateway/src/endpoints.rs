//! What the endpoints do, one file per kind of thing.
//!
//! Invariant: an endpoint checks the caller's rights before it reads or writes anything of the app.

mod activities;
mod aggregated;
mod collections;
pub(crate) mod files;
mod follows;
mod moderation;
mod og;
mod privacy;
mod reactions;
mod read;
mod targets;
mod tracking;
mod users;

use crate::call::Call;
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;
use crate::route::Op;

/// Carries out a request. An upload has a way of its own, since its body is not read before.
pub(crate) async fn dispatch(call: &Call) -> ApiResult<Reply> {
    match call.found.row.op {
        Op::ActivitiesAdd => activities::add(call).await,
        Op::ActivitiesGet | Op::EnrichActivities => activities::get(call).await,
        Op::ActivitiesUpdate => activities::update(call).await,
        Op::ActivityPartial => activities::partial(call).await,
        Op::AddToMany => activities::add_to_many(call).await,
        Op::AuditLogs => privacy::audit_logs(call).await,
        Op::CollectionAdd => collections::add(call).await,
        Op::CollectionDelete => collections::delete(call).await,
        Op::CollectionDeleteMany => collections::delete_many(call).await,
        Op::CollectionGet => collections::get(call).await,
        Op::CollectionUpdate => collections::update(call).await,
        Op::CollectionsGet => collections::get_many(call).await,
        Op::CollectionsUpsert => collections::upsert(call).await,
        Op::ActivityRemove => activities::remove(call).await,
        Op::ExportIds => privacy::export_ids(call).await,
        Op::FeedGet | Op::EnrichFeed => read::feed(call).await,
        Op::FileDelete | Op::ImageDelete => files::delete(call).await,
        Op::FileGet | Op::ImageGet => files::get(call).await,
        Op::Flag => moderation::flag(call).await,
        Op::Follow => follows::follow(call).await,
        Op::FollowMany => follows::follow_many(call).await,
        Op::FollowStats => follows::stats(call).await,
        Op::Followers => follows::followers(call).await,
        Op::Following => follows::following(call).await,
        Op::OpenGraph => og::get(call).await,
        Op::Personalization => tracking::personalization(),
        Op::DeleteActivities => privacy::delete_activities(call).await,
        Op::DeleteReactions => privacy::delete_reactions(call).await,
        Op::ReactionAdd => reactions::add(call).await,
        Op::ReactionDelete => reactions::delete(call).await,
        Op::ReactionFilter => reactions::filter(call).await,
        Op::ReactionGet => reactions::get(call).await,
        Op::ReactionMany => reactions::get_many(call).await,
        Op::ReactionRestore => reactions::restore(call).await,
        Op::ReactionUpdate => reactions::update(call).await,
        Op::Targets => targets::change(call).await,
        Op::Redirect => tracking::redirect(call),
        Op::Track => tracking::track(call),
        Op::UserAdd => users::add(call).await,
        Op::UserDelete => users::delete(call).await,
        Op::UserGet => users::get(call).await,
        Op::UserUpdate => users::update(call).await,
        Op::UsersDelete => users::delete_many(call).await,
        Op::UsersGet => users::get_many(call).await,
        Op::UsersUpsert => users::upsert_many(call).await,
        Op::Unfollow => follows::unfollow(call).await,
        Op::UnfollowMany => follows::unfollow_many(call).await,
        Op::FileUpload | Op::ImageUpload => Err(ApiError::internal()),
    }
}

/// The member `data` of a body, which must be an object.
fn data_of(body: &serde_json::Map<String, serde_json::Value>) -> ApiResult<serde_json::Map<String, serde_json::Value>> {
    let data = crate::call::object(body, "data")?.cloned();
    data.ok_or_else(|| ApiError::field("data", "is missing: a JSON object"))
}
