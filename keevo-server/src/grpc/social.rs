//! `keevo.feeds.v1.Social` over `keevo-feeds`: users, collections, reactions, flags, audit log, data privacy.
//!
//! Invariant: the service decides nothing; it translates.

mod convert;

use std::collections::BTreeMap;
use std::fmt;

use keevo_core::Result;
use keevo_feeds::{AuditQuery, EXPORT_PAGE_MAX, EnrichOptions, EntityType, FlaggedType, NewFlag, ReactionChange};
use keevo_gateway::Gateway;
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::social_server::{Social as SocialApi, SocialServer};
use tonic::{Request, Response, Status};

use super::feeds::convert::{all, answer, count_or, invalid, object, open, texts_of, told};
use convert::{entry, flag, new_reaction, reaction, reaction_query, user};

/// How many there are on a page, unless the request says otherwise.
const LIMIT_DEFAULT: usize = 25;

/// The service of one node.
pub struct SocialService {
    gateway: Gateway,
}

impl fmt::Debug for SocialService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocialService")
    }
}

impl SocialService {
    /// The service over the feeds of a node.
    pub fn server(gateway: Gateway) -> SocialServer<Self> {
        SocialServer::new(Self { gateway })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

/// How reactions are shown: with whose own reactions to them.
fn children_of(user: String) -> EnrichOptions {
    let own_children = !user.is_empty();
    EnrichOptions { own_children, user_id: Some(user).filter(|_| own_children), ..EnrichOptions::default() }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[tonic::async_trait]
impl SocialApi for SocialService {
    async fn put_users(&self, request: Request<pb::PutUsersRequest>) -> Result<Response<pb::PutUsersResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let one = |one: pb::User| Ok((one.id, object(&one.data, "data")?));
        let users = request.users.into_iter().map(one).collect::<Result<_, Status>>()?;
        let users = answer(feeds.add_users(users, !request.keep_existing).await)?;
        Ok(Response::new(pb::PutUsersResponse { users: users.into_iter().map(user).collect() }))
    }

    async fn get_users(&self, request: Request<pb::GetUsersRequest>) -> Result<Response<pb::GetUsersResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let users = answer(feeds.users(&request.ids).await)?;
        Ok(Response::new(pb::GetUsersResponse { users: users.into_iter().map(user).collect() }))
    }

    async fn delete_users(
        &self,
        request: Request<pb::DeleteUsersRequest>,
    ) -> Result<Response<pb::DeleteUsersResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let deleted = told(answer(feeds.delete_users(&request.ids).await)?);
        Ok(Response::new(pb::DeleteUsersResponse { deleted }))
    }

    async fn add_entry(&self, request: Request<pb::AddEntryRequest>) -> Result<Response<pb::AddEntryResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let new = request.entry.ok_or_else(|| invalid("entry is missing"))?;
        let (id, owner, data) = (some(new.id), some(new.user_id), object(&new.data, "data")?);
        let added = answer(feeds.add_entry(&new.collection, id.as_deref(), data, owner.as_deref()).await)?;
        Ok(Response::new(pb::AddEntryResponse { entry: Some(entry(added)) }))
    }

    async fn put_entries(
        &self,
        request: Request<pb::PutEntriesRequest>,
    ) -> Result<Response<pb::PutEntriesResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let order: Vec<(String, String)> =
            request.entries.iter().map(|one| (one.collection.clone(), one.id.clone())).collect();
        let mut collections: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for one in request.entries {
            let data = object(&one.data, "data")?;
            collections.entry(one.collection).or_default().push((one.id, data));
        }
        let mut written = BTreeMap::new();
        for (collection, entries) in collections {
            for one in answer(feeds.upsert_entries(&collection, entries).await)? {
                written.insert((one.collection.clone(), one.id.clone()), one);
            }
        }
        let entries = order.iter().filter_map(|name| written.get(name).cloned()).map(entry).collect();
        Ok(Response::new(pb::PutEntriesResponse { entries }))
    }

    async fn get_entries(
        &self,
        request: Request<pb::GetEntriesRequest>,
    ) -> Result<Response<pb::GetEntriesResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let ids: Vec<(String, String)> = request.ids.into_iter().map(|one| (one.collection, one.id)).collect();
        let entries = answer(feeds.entries(&ids).await)?;
        Ok(Response::new(pb::GetEntriesResponse { entries: entries.into_iter().map(entry).collect() }))
    }

    async fn delete_entries(
        &self,
        request: Request<pb::DeleteEntriesRequest>,
    ) -> Result<Response<pb::DeleteEntriesResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let deleted = told(answer(feeds.delete_entries(&request.collection, &request.ids).await)?);
        Ok(Response::new(pb::DeleteEntriesResponse { deleted }))
    }

    async fn add_reaction(
        &self,
        request: Request<pb::AddReactionRequest>,
    ) -> Result<Response<pb::AddReactionResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let new = new_reaction(request.reaction.ok_or_else(|| invalid("reaction is missing"))?)?;
        let added = answer(feeds.add_reaction(new).await)?;
        Ok(Response::new(pb::AddReactionResponse { reaction: Some(reaction(added)) }))
    }

    async fn update_reaction(
        &self,
        request: Request<pb::UpdateReactionRequest>,
    ) -> Result<Response<pb::UpdateReactionResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let change = ReactionChange {
            data: request.data.map(|data| object(&data, "data")).transpose()?,
            target_feeds: request.target_feeds.map(|list| all(&list.feeds)).transpose()?,
            target_feeds_extra_data: request
                .target_feeds_extra_data
                .map(|data| object(&data, "target_feeds_extra_data"))
                .transpose()?,
        };
        let changed = answer(feeds.update_reaction(&request.id, change).await)?;
        Ok(Response::new(pb::UpdateReactionResponse { reaction: Some(reaction(changed)) }))
    }

    async fn delete_reaction(
        &self,
        request: Request<pb::DeleteReactionRequest>,
    ) -> Result<Response<pb::DeleteReactionResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        answer(feeds.delete_reaction(&request.id, request.soft).await)?;
        Ok(Response::new(pb::DeleteReactionResponse {}))
    }

    async fn restore_reaction(
        &self,
        request: Request<pb::RestoreReactionRequest>,
    ) -> Result<Response<pb::RestoreReactionResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let restored = answer(feeds.restore_reaction(&request.id).await)?;
        Ok(Response::new(pb::RestoreReactionResponse { reaction: Some(reaction(restored)) }))
    }

    async fn get_reactions(
        &self,
        request: Request<pb::GetReactionsRequest>,
    ) -> Result<Response<pb::GetReactionsResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let found = answer(feeds.reactions_by_ids(&request.ids, request.include_deleted).await)?;
        let shown = answer(feeds.render_reactions(&found, &children_of(request.children_user_id)).await)?;
        let reactions = found.into_iter().map(reaction).collect();
        Ok(Response::new(pb::GetReactionsResponse { reactions, enriched: texts_of(shown) }))
    }

    async fn list_reactions(
        &self,
        request: Request<pb::ListReactionsRequest>,
    ) -> Result<Response<pb::ListReactionsResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let options = children_of(request.children_user_id.clone());
        let page = answer(feeds.list_reactions(&reaction_query(request)?).await)?;
        let enriched = texts_of(answer(feeds.render_reactions(&page.reactions, &options).await)?);
        let reactions = page.reactions.into_iter().map(reaction).collect();
        let next = page.next.unwrap_or_default();
        Ok(Response::new(pb::ListReactionsResponse { reactions, next, enriched }))
    }

    async fn flag(&self, request: Request<pb::FlagRequest>) -> Result<Response<pb::FlagResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let new = request.flag.ok_or_else(|| invalid("flag is missing"))?;
        let new = NewFlag {
            entity_type: answer(FlaggedType::from_name(&new.entity_type))?,
            entity_id: new.entity_id,
            user_id: new.user_id,
            reason: new.reason,
        };
        let set = answer(feeds.flag(&new).await)?;
        Ok(Response::new(pb::FlagResponse { flag: Some(flag(set)) }))
    }

    async fn list_flags(
        &self,
        request: Request<pb::ListFlagsRequest>,
    ) -> Result<Response<pb::ListFlagsResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let entity_type = answer(FlaggedType::from_name(&request.entity_type))?;
        let limit = count_or(request.limit, LIMIT_DEFAULT);
        let flags = answer(feeds.flags(entity_type, &request.entity_id, limit).await)?;
        Ok(Response::new(pb::ListFlagsResponse { flags: flags.into_iter().map(flag).collect() }))
    }

    async fn audit_log(&self, request: Request<pb::AuditLogRequest>) -> Result<Response<pb::AuditLogResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let query = AuditQuery {
            entity_type: answer(EntityType::from_name(&request.entity_type))?,
            entity_id: request.entity_id,
            user_id: some(request.user_id),
            limit: count_or(request.limit, LIMIT_DEFAULT),
            after: some(request.after),
        };
        let page = answer(feeds.audit_logs(&query).await)?;
        let entries = texts_of(page.entries.iter().map(keevo_feeds::AuditEntry::to_json).collect());
        Ok(Response::new(pb::AuditLogResponse { entries, next: page.next.unwrap_or_default() }))
    }

    async fn export_ids(
        &self,
        request: Request<pb::ExportIdsRequest>,
    ) -> Result<Response<pb::ExportIdsResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let (limit, after) = (count_or(request.limit, EXPORT_PAGE_MAX), some(request.after));
        let page = answer(feeds.export_ids(&request.user_id, limit, after.as_deref()).await)?;
        Ok(Response::new(pb::ExportIdsResponse {
            activity_ids: page.activities.iter().map(ToString::to_string).collect(),
            reaction_ids: page.reactions,
            next: page.next.unwrap_or_default(),
        }))
    }

    async fn delete_activities(
        &self,
        request: Request<pb::DeleteActivitiesRequest>,
    ) -> Result<Response<pb::DeleteActivitiesResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let deleted = told(answer(feeds.erase_activities(&all(&request.ids)?).await)?);
        Ok(Response::new(pb::DeleteActivitiesResponse { deleted }))
    }

    async fn delete_reactions(
        &self,
        request: Request<pb::DeleteReactionsRequest>,
    ) -> Result<Response<pb::DeleteReactionsResponse>, Status> {
        let (feeds, request) = open(&self.gateway, request).await?;
        let deleted = told(answer(feeds.erase_reactions(&request.ids).await)?);
        Ok(Response::new(pb::DeleteReactionsResponse { deleted }))
    }
}
