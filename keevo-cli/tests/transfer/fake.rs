//! A node that keeps what it is sent, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keevo_core::{Error, ErrorKind};
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_server::Feeds;
use keevo_proto::feeds::v1::list_reactions_request::Of;
use keevo_proto::feeds::v1::social_server::Social;
use keevo_proto::status_from_error;
use tonic::{Request, Response, Status};

/// The node. It refuses the verb `bad` and ids with blanks, and answers no follow once `follows_left` is used up.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) activities: Arc<Mutex<BTreeSet<String>>>,
    pub(crate) follows: Arc<Mutex<BTreeSet<String>>>,
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) follows_left: Arc<AtomicUsize>,
    /// Data by id.
    pub(crate) users: Arc<Mutex<BTreeMap<String, String>>>,
    /// Data and owner by name.
    pub(crate) entries: Arc<Mutex<BTreeMap<String, String>>>,
    pub(crate) reactions: Arc<Mutex<BTreeMap<String, pb::Reaction>>>,
    /// The apps that calls named.
    pub(crate) apps: Arc<Mutex<BTreeSet<String>>>,
}

fn refuse<T>(kind: ErrorKind, message: &str) -> Result<Response<T>, Status> {
    Err(status_from_error(&Error::new(kind, message)))
}

/// Some calls of a service, and that the others are not there.
macro_rules! service {
    ($service:ident { $($calls:tt)* } none of $($name:ident($request:ident) $response:ident;)*) => {
        #[tonic::async_trait]
        impl $service for Fake {
            $($calls)*

            $(async fn $name(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                Err(Status::unimplemented("not here"))
            })*
        }
    };
}

service! {
    Feeds {
        async fn add_activities(
            &self,
            request: Request<pb::AddActivitiesRequest>,
        ) -> Result<Response<pb::AddActivitiesResponse>, Status> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let pb::AddActivitiesRequest { feed, activities } = request.into_inner();
            if activities.iter().any(|one| one.verb == "bad") {
                return refuse(ErrorKind::Invalid, "the verb is bad");
            }
            let mut kept = self.activities.lock().expect("no panic");
            kept.extend(activities.iter().map(|one| format!("{feed} {} {} {}", one.verb, one.object, one.custom)));
            Ok(Response::new(pb::AddActivitiesResponse { activities }))
        }

        async fn follow(&self, request: Request<pb::FollowRequest>) -> Result<Response<pb::FollowResponse>, Status> {
            let take = |left: usize| left.checked_sub(1);
            if self.follows_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                return refuse(ErrorKind::Corrupt, "the disk is bad");
            }
            let request = request.into_inner();
            self.follows.lock().expect("no panic").insert(format!("{} {}", request.feed, request.target));
            Ok(Response::new(pb::FollowResponse {}))
        }

        async fn get_feed(&self, request: Request<pb::GetFeedRequest>) -> Result<Response<pb::GetFeedResponse>, Status> {
            let request = request.into_inner();
            // Two pages: an own activity with a custom field, and one that came from elsewhere.
            let first = request.id_lt.is_empty();
            let activity = pb::Activity {
                id: if first { "2" } else { "1" }.to_owned(),
                actor: "alice".to_owned(),
                verb: "post".to_owned(),
                object: if first { "new" } else { "old" }.to_owned(),
                time: "2026-01-31T12:00:00.000000Z".to_owned(),
                custom: r#"{"likes":3}"#.to_owned(),
                origin: if first { request.feed } else { "user:other".to_owned() },
                ..pb::Activity::default()
            };
            Ok(Response::new(pb::GetFeedResponse { activities: vec![activity], more: first, enriched: Vec::new() }))
        }

        async fn following(
            &self,
            request: Request<pb::FollowingRequest>,
        ) -> Result<Response<pb::FollowingResponse>, Status> {
            let request = request.into_inner();
            let page = |target: &str, next: &'static str| {
                let relation = pb::Relation { feed: request.feed.clone(), target: target.to_owned(), since_ms: 1 };
                pb::FollowingResponse { relations: vec![relation], next: next.into() }
            };
            Ok(Response::new(if request.after.is_empty() { page("user:b", "more") } else { page("user:c", "") }))
        }

        async fn followers(
            &self,
            request: Request<pb::FollowersRequest>,
        ) -> Result<Response<pb::FollowersResponse>, Status> {
            let request = request.into_inner();
            let page = |feed: &str, next: &'static str| {
                let relation = pb::Relation { feed: feed.to_owned(), target: request.feed.clone(), since_ms: 1 };
                pb::FollowersResponse { relations: vec![relation], next: next.into() }
            };
            Ok(Response::new(if request.after.is_empty() { page("timeline:a", "more") } else { page("timeline:bad", "") }))
        }

        async fn verify(&self, request: Request<pb::VerifyRequest>) -> Result<Response<pb::VerifyResponse>, Status> {
            // Two at a time.
            let mut feeds = request.into_inner().feeds;
            let left = u64::try_from(feeds.len().saturating_sub(2)).expect("small");
            feeds.truncate(2);
            let (differing, differences) = if feeds.iter().any(|feed| feed == "timeline:bad") {
                (2, vec!["timeline:bad lacks the activity 1".to_owned()])
            } else {
                (0, Vec::new())
            };
            let count = u64::try_from(feeds.len()).expect("small");
            let found = pb::VerifyResponse { feeds: count, shown: 7, differing, differences, left, ..Default::default() };
            Ok(Response::new(found))
        }
    }
    none of
    add_activity(AddActivityRequest) AddActivityResponse;
    remove_activity(RemoveActivityRequest) RemoveActivityResponse;
    unfollow(UnfollowRequest) UnfollowResponse;
    get_activities(GetActivitiesRequest) GetActivitiesResponse;
    get_aggregated(GetAggregatedRequest) GetAggregatedResponse;
    get_ranked(GetRankedRequest) GetRankedResponse;
    update_activities(UpdateActivitiesRequest) UpdateActivitiesResponse;
    update_partially(UpdatePartiallyRequest) UpdatePartiallyResponse;
    change_targets(ChangeTargetsRequest) ChangeTargetsResponse;
    add_to_many(AddToManyRequest) AddToManyResponse;
    follow_many(FollowManyRequest) FollowManyResponse;
    unfollow_many(UnfollowManyRequest) UnfollowManyResponse;
    follow_stats(FollowStatsRequest) FollowStatsResponse;
}

service! {
    Social {
        async fn put_users(&self, request: Request<pb::PutUsersRequest>) -> Result<Response<pb::PutUsersResponse>, Status> {
            let app = request.metadata().get("keevo-app").and_then(|app| app.to_str().ok()).unwrap_or_default();
            self.apps.lock().expect("no panic").insert(app.to_owned());
            let users = request.into_inner().users;
            if users.iter().any(|one| one.id.contains(' ')) {
                return refuse(ErrorKind::Invalid, "an id has no blanks");
            }
            self.users.lock().expect("no panic").extend(users.iter().map(|one| (one.id.clone(), one.data.clone())));
            Ok(Response::new(pb::PutUsersResponse { users }))
        }

        async fn get_users(&self, request: Request<pb::GetUsersRequest>) -> Result<Response<pb::GetUsersResponse>, Status> {
            let kept = self.users.lock().expect("no panic");
            let user = |id: String| {
                let data = kept.get(&id)?.clone();
                Some(pb::User { id, data, ..Default::default() })
            };
            let users = request.into_inner().ids.into_iter().filter_map(user).collect();
            Ok(Response::new(pb::GetUsersResponse { users }))
        }

        async fn add_entry(&self, request: Request<pb::AddEntryRequest>) -> Result<Response<pb::AddEntryResponse>, Status> {
            let entry = request.into_inner().entry.unwrap_or_default();
            let mut kept = self.entries.lock().expect("no panic");
            let name = format!("{}:{}", entry.collection, entry.id);
            if kept.contains_key(&name) {
                return refuse(ErrorKind::Conflict, "it is there");
            }
            kept.insert(name, format!("{} {}", entry.data, entry.user_id));
            Ok(Response::new(pb::AddEntryResponse { entry: Some(entry) }))
        }

        async fn put_entries(
            &self,
            request: Request<pb::PutEntriesRequest>,
        ) -> Result<Response<pb::PutEntriesResponse>, Status> {
            let entries = request.into_inner().entries;
            let mut kept = self.entries.lock().expect("no panic");
            for one in &entries {
                if let Some(held) = kept.get_mut(&format!("{}:{}", one.collection, one.id)) {
                    let owner = held.rsplit(' ').next().unwrap_or_default().to_owned();
                    *held = format!("{} {owner}", one.data);
                }
            }
            Ok(Response::new(pb::PutEntriesResponse { entries }))
        }

        async fn add_reaction(
            &self,
            request: Request<pb::AddReactionRequest>,
        ) -> Result<Response<pb::AddReactionResponse>, Status> {
            let reaction = request.into_inner().reaction.unwrap_or_default();
            let mut kept = self.reactions.lock().expect("no panic");
            if kept.contains_key(&reaction.id) {
                return refuse(ErrorKind::Conflict, "it is there");
            }
            if !reaction.parent.is_empty() && !kept.contains_key(&reaction.parent) {
                return refuse(ErrorKind::Invalid, "there is no parent");
            }
            kept.insert(reaction.id.clone(), reaction.clone());
            Ok(Response::new(pb::AddReactionResponse { reaction: Some(reaction) }))
        }

        async fn list_reactions(
            &self,
            request: Request<pb::ListReactionsRequest>,
        ) -> Result<Response<pb::ListReactionsResponse>, Status> {
            let request = request.into_inner();
            let kept = self.reactions.lock().expect("no panic");
            let is_of = |one: &&pb::Reaction| match &request.of {
                Some(Of::ActivityId(id)) => one.parent.is_empty() && one.activity_id == *id,
                Some(Of::Parent(id)) => one.parent == *id,
                _ => false,
            };
            // Pages of one.
            let after = |one: &&pb::Reaction| request.id_lt.is_empty() || one.id > request.id_lt;
            let mut found = kept.values().filter(is_of).filter(after).cloned();
            let reactions: Vec<pb::Reaction> = found.next().into_iter().collect();
            let next = found.next().and_then(|_more| reactions.first().map(|one| one.id.clone())).unwrap_or_default();
            Ok(Response::new(pb::ListReactionsResponse { reactions, next, enriched: Vec::new() }))
        }
    }
    none of
    delete_users(DeleteUsersRequest) DeleteUsersResponse;
    get_entries(GetEntriesRequest) GetEntriesResponse;
    delete_entries(DeleteEntriesRequest) DeleteEntriesResponse;
    update_reaction(UpdateReactionRequest) UpdateReactionResponse;
    delete_reaction(DeleteReactionRequest) DeleteReactionResponse;
    restore_reaction(RestoreReactionRequest) RestoreReactionResponse;
    get_reactions(GetReactionsRequest) GetReactionsResponse;
    flag(FlagRequest) FlagResponse;
    list_flags(ListFlagsRequest) ListFlagsResponse;
    audit_log(AuditLogRequest) AuditLogResponse;
    export_ids(ExportIdsRequest) ExportIdsResponse;
    delete_activities(DeleteActivitiesRequest) DeleteActivitiesResponse;
    delete_reactions(DeleteReactionsRequest) DeleteReactionsResponse;
}
