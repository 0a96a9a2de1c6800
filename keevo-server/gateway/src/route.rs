//! The one table of endpoints: which path and method mean what, which scope they ask for, which limit they fall under.
//!
//! Paths are matched in parts, so a slash at the end may be missing and `//` counts as one; nothing is redirected,
//! since a redirect loses the body. The OpenAPI document is made from the same table.

use axum::http::Method;
use percent_encoding::percent_decode_str;

use crate::auth::Action;
use crate::error::{ApiError, ApiResult};
use crate::limits::Limit;

/// What an endpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    ActivitiesAdd,
    ActivitiesGet,
    ActivitiesUpdate,
    ActivityPartial,
    ActivityRemove,
    AddToMany,
    AuditLogs,
    CollectionAdd,
    CollectionDelete,
    CollectionDeleteMany,
    CollectionGet,
    CollectionUpdate,
    CollectionsGet,
    CollectionsUpsert,
    DeleteActivities,
    DeleteReactions,
    EnrichActivities,
    EnrichFeed,
    ExportIds,
    FeedGet,
    FileDelete,
    FileGet,
    FileUpload,
    Flag,
    Follow,
    FollowMany,
    FollowStats,
    Followers,
    Following,
    ImageDelete,
    ImageGet,
    ImageUpload,
    OpenGraph,
    Personalization,
    ReactionAdd,
    ReactionDelete,
    ReactionFilter,
    ReactionGet,
    ReactionMany,
    ReactionRestore,
    ReactionUpdate,
    Redirect,
    Targets,
    Track,
    Unfollow,
    UnfollowMany,
    UserAdd,
    UserDelete,
    UserGet,
    UserUpdate,
    UsersDelete,
    UsersGet,
    UsersUpsert,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) op: Op,
    pub(crate) method: Method,
    /// `api`, `analytics` or `personalization`.
    pub(crate) service: &'static str,
    /// Parts with `/` between: a literal, several with `|` between, `{name}`, or `{name*}` for all that is left.
    pub(crate) path: &'static str,
    /// The resource that a server's token names.
    pub(crate) resource: &'static str,
    pub(crate) limit: Limit,
    pub(crate) summary: &'static str,
}

const fn row(
    op: Op,
    method: Method,
    path: &'static str,
    resource: &'static str,
    limit: Limit,
    summary: &'static str,
) -> Row {
    of("api", op, method, path, resource, limit, summary)
}

const fn of(
    service: &'static str,
    op: Op,
    method: Method,
    path: &'static str,
    resource: &'static str,
    limit: Limit,
    summary: &'static str,
) -> Row {
    Row { op, method, service, path, resource, limit, summary }
}

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

use Limit::{Add, Collection, File, Follow as Follows, OpenGraph as Og, Other, Reaction, Read, Update, User};

/// Every endpoint. Where two match, the first counts: literal parts come before names.
#[rustfmt::skip]
pub(crate) const TABLE: &[Row] = &[
    row(Op::AddToMany, POST, "feed/add_to_many", "feed", Add, "Add one activity to many feeds, without their followers"),
    row(Op::ActivitiesAdd, POST, "feed/{slug}/{id}", "feed", Add, "Add one activity, or several, to a feed and its followers"),
    row(Op::FeedGet, GET, "feed/{slug}/{id}", "feed", Read, "Read a feed"),
    row(Op::EnrichFeed, GET, "enrich/feed/{slug}/{id}", "feed", Read, "Read a feed with its references resolved"),
    row(Op::Follow, POST, "feed/{slug}/{id}/follows|following", "follower", Follows, "Follow a feed"),
    row(Op::Unfollow, DELETE, "feed/{slug}/{id}/follows|following/{target}", "follower", Follows, "Unfollow a feed"),
    row(Op::Following, GET, "feed/{slug}/{id}/follows|following", "follower", Read, "List what a feed follows, newest first"),
    row(Op::Followers, GET, "feed/{slug}/{id}/followers", "follower", Read, "List who follows a feed, newest first"),
    row(Op::ActivityRemove, DELETE, "feed/{slug}/{id}/{activity*}", "feed", Add, "Remove an activity by its id or, with foreign_id=1, by its foreign id"),
    row(Op::Targets, POST, "feed_targets/{slug}/{id}/activity_to_targets", "feed_targets", Update, "Change the `to` targets of activities"),
    row(Op::FollowMany, POST, "follow_many", "follower", Follows, "Make many follows"),
    row(Op::UnfollowMany, POST, "unfollow_many", "follower", Follows, "End many follows"),
    row(Op::ActivitiesGet, GET, "activities", "activities", Read, "Read activities by ids, or by foreign ids and times"),
    row(Op::EnrichActivities, GET, "enrich/activities", "activities", Read, "Read activities with their references resolved"),
    row(Op::ActivitiesUpdate, POST, "activities", "activities", Update, "Replace activities by foreign id and time"),
    row(Op::ActivityPartial, POST, "activity", "activities", Update, "Set and unset fields of activities"),
    row(Op::FollowStats, GET, "stats/follow", "*", Read, "Count followers and followed feeds"),
    row(Op::UserAdd, POST, "user", "users", User, "Add a user"),
    row(Op::UserGet, GET, "user/{id}", "users", Read, "Read a user"),
    row(Op::UserUpdate, PUT, "user/{id}", "users", User, "Replace a user's data"),
    row(Op::UserDelete, DELETE, "user/{id}", "users", User, "Delete a user"),
    row(Op::UsersUpsert, POST, "users", "users", User, "Add or replace many users"),
    row(Op::UsersGet, GET, "users", "users", Read, "Read many users"),
    row(Op::UsersDelete, DELETE, "users", "users", User, "Delete many users"),
    row(Op::CollectionsUpsert, POST, "collections", "collections", Collection, "Add or replace many entries"),
    row(Op::CollectionsGet, GET, "collections", "collections", Read, "Read many entries"),
    row(Op::CollectionDeleteMany, DELETE, "collections", "collections", Collection, "Delete many entries"),
    row(Op::CollectionAdd, POST, "collections/{name}", "collections", Collection, "Add an entry"),
    row(Op::CollectionGet, GET, "collections/{name}/{id}", "collections", Read, "Read an entry"),
    row(Op::CollectionUpdate, PUT, "collections/{name}/{id}", "collections", Collection, "Replace an entry's data"),
    row(Op::CollectionDelete, DELETE, "collections/{name}/{id}", "collections", Collection, "Delete an entry"),
    row(Op::ReactionAdd, POST, "reaction", "reactions", Reaction, "React to an activity or to a reaction"),
    row(Op::ReactionMany, GET, "reaction/get_many", "reactions", Read, "Read reactions by their ids"),
    row(Op::ReactionGet, GET, "reaction/{id}", "reactions", Read, "Read a reaction"),
    row(Op::ReactionUpdate, PUT, "reaction/{id}", "reactions", Reaction, "Change a reaction's data and target feeds"),
    row(Op::ReactionDelete, DELETE, "reaction/{id}", "reactions", Reaction, "Delete a reaction; with soft=true it can be restored"),
    row(Op::ReactionRestore, PUT, "reaction/{id}/restore", "reactions", Reaction, "Restore a reaction that was softly deleted"),
    row(Op::ReactionFilter, GET, "reaction/{by}/{value}", "reactions", Read, "List reactions of an activity, a user or a reaction"),
    row(Op::ReactionFilter, GET, "reaction/{by}/{value}/{kind}", "reactions", Read, "The same, of one kind"),
    row(Op::OpenGraph, GET, "og", "*", Og, "Scrape a page's Open Graph"),
    row(Op::FileUpload, POST, "files", "files", File, "Upload a file"),
    row(Op::FileGet, GET, "files", "files", Read, "A fresh address of an uploaded file"),
    row(Op::FileDelete, DELETE, "files", "files", File, "Delete a file"),
    row(Op::ImageUpload, POST, "images", "images", File, "Upload an image"),
    row(Op::ImageGet, GET, "images", "images", Read, "A fresh address of an uploaded image"),
    row(Op::ImageDelete, DELETE, "images", "images", File, "Delete an image"),
    row(Op::AuditLogs, GET, "audit_logs", "audit_logs", Read, "What was done to an entity"),
    row(Op::DeleteActivities, POST, "data_privacy/delete_activities", "data_privacy", Update, "Delete activities from all feeds"),
    row(Op::DeleteReactions, POST, "data_privacy/delete_reactions", "data_privacy", Update, "Delete reactions for good"),
    row(Op::ExportIds, GET, "data_privacy/export_ids/{user}", "data_privacy", Read, "The ids of a user's activities and reactions"),
    row(Op::Flag, POST, "moderation/flag", "moderation", Other, "Flag a user, an activity or a reaction for moderators"),
    row(Op::Personalization, GET, "enrich/personalization/feed", "personalization", Other, "Not offered: answers 403"),
    of("personalization", Op::Personalization, GET, "{resource*}", "personalization", Other, "Not offered: answers 403"),
    of("personalization", Op::Personalization, POST, "{resource*}", "personalization", Other, "Not offered: answers 403"),
    of("personalization", Op::Personalization, DELETE, "{resource*}", "personalization", Other, "Not offered: answers 403"),
    of("analytics", Op::Track, POST, "engagement|impression", "analytics", Other, "Note engagements or impressions"),
    of("analytics", Op::Redirect, GET, "redirect", "redirect_and_track", Other, "Check the token, note the events, and redirect to url"),
    row(Op::Redirect, GET, "redirect", "redirect_and_track", Other, "Check the token, note the events, and redirect to url"),
];

/// An endpoint that was found, with the parts of the path that it names.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) row: &'static Row,
    captures: Vec<(&'static str, String)>,
}

impl Found {
    /// A named part of the path.
    pub(crate) fn part(&self, name: &str) -> &str {
        self.captures.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.as_str())
    }

    /// Whether the path names a feed by `{slug}` and `{id}`.
    pub(crate) fn has_feed(&self) -> bool {
        self.captures.iter().any(|(name, _)| *name == "slug")
    }

    /// What the request does to what it addresses.
    pub(crate) fn action(&self) -> Action {
        match self.row.method {
            Method::GET => Action::Read,
            Method::DELETE => Action::Delete,
            _ => Action::Write,
        }
    }
}

/// Finds the endpoint of a request.
pub(crate) fn find(method: &Method, path: &str) -> ApiResult<Found> {
    let unknown = || ApiError::not_found(format!("there is nothing at {path}; /openapi.json lists what there is"));
    let raw: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (service, raw) = match raw.as_slice() {
        [service @ ("api" | "analytics" | "personalization"), "v1.0", rest @ ..] => (*service, rest),
        ["analytics", rest @ ..] => ("analytics", rest),
        ["redirect"] => ("analytics", raw.as_slice()),
        _ => return Err(unknown()),
    };
    let parts: Vec<String> = raw.iter().map(|part| decode(part)).collect::<ApiResult<_>>()?;
    let mut allowed: Vec<&str> = Vec::new();
    for row in TABLE.iter().filter(|row| row.service == service) {
        let Some(captures) = matches(row.path, &parts) else { continue };
        if row.method == *method {
            return Ok(Found { row, captures });
        }
        allowed.push(row.method.as_str());
    }
    if allowed.is_empty() {
        Err(unknown())
    } else {
        Err(ApiError::method(format!("{path} takes {}", allowed.join(", "))))
    }
}

/// The text of a part of a path.
fn decode(part: &str) -> ApiResult<String> {
    let decoded = percent_decode_str(part).decode_utf8();
    decoded.map(String::from).map_err(|_not_text| ApiError::input(format!("the part {part} of the path is no text")))
}

/// The decoded parts of a path; empty ones do not count. `400` for one that is no text.
pub fn parts(path: &str) -> ApiResult<Vec<String>> {
    path.split('/').filter(|part| !part.is_empty()).map(decode).collect()
}

/// The named parts, if `parts` are what `pattern` describes.
pub fn matches(pattern: &'static str, parts: &[String]) -> Option<Vec<(&'static str, String)>> {
    let mut captures = Vec::new();
    let mut parts = parts.iter();
    for expected in pattern.split('/') {
        let part = parts.next()?;
        match expected.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            None if expected.split('|').any(|literal| literal == part) => {}
            None => return None,
            Some(name) => match name.strip_suffix('*') {
                None => captures.push((name, part.clone())),
                Some(name) => {
                    let rest: Vec<&str> = std::iter::once(part).chain(parts.by_ref()).map(String::as_str).collect();
                    captures.push((name, rest.join("/")));
                }
            },
        }
    }
    parts.next().is_none().then_some(captures)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Asked = Result<(Op, Vec<(&'static str, String)>), u16>;

    fn ask(method: &Method, path: &str) -> Asked {
        find(method, path).map(|found| (found.row.op, found.captures)).map_err(|error| error.status.as_u16())
    }

    #[test]
    fn both_spellings_and_collapsed_slashes() {
        for path in ["/api/v1.0/feed/user/1/", "/api/v1.0/feed/user/1", "//api/v1.0//feed/user//1//"] {
            let (op, captures) = ask(&GET, path).expect("found");
            assert_eq!((op, captures), (Op::FeedGet, vec![("slug", "user".to_owned()), ("id", "1".to_owned())]));
        }
        for path in ["/api/v1.0/feed/user/1/follows/user:2/", "/api/v1.0/feed/user/1/following/user%3A2"] {
            let (op, captures) = ask(&DELETE, path).expect("found");
            assert_eq!(op, Op::Unfollow);
            assert_eq!(captures.last(), Some(&("target", "user:2".to_owned())));
        }
        let (op, captures) = ask(&DELETE, "/api/v1.0/feed/user/1/a/b%2Fc/").expect("found");
        assert_eq!((op, captures.last()), (Op::ActivityRemove, Some(&("activity", "a/b/c".to_owned()))));
        assert_eq!(ask(&POST, "/api/v1.0/feed/add_to_many/").expect("found").0, Op::AddToMany);
        assert_eq!(ask(&GET, "/api/v1.0/reaction/get_many/").expect("found").0, Op::ReactionMany);
        assert_eq!(ask(&GET, "/analytics/redirect/").expect("found").0, Op::Redirect);
        assert_eq!(ask(&POST, "/analytics/v1.0/engagement/").expect("found").0, Op::Track);
        assert_eq!(ask(&GET, "/personalization/v1.0/a/b/").expect("found").0, Op::Personalization);
    }

    #[test]
    fn what_is_not_there_is_said_to_be_so() {
        assert_eq!(ask(&GET, "/api/v1.0/nothing/"), Err(404));
        assert_eq!(ask(&GET, "/api/v2.0/feed/user/1/"), Err(404));
        assert_eq!(ask(&Method::PATCH, "/api/v1.0/feed/user/1/"), Err(405));
        assert_eq!(ask(&PUT, "/api/v1.0/files/"), Err(405));
        assert_eq!(ask(&GET, "/api/v1.0/feed/user/%ff/"), Err(400));
    }
}
