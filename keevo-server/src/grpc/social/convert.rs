//! Messages of the social service and types of `keevo-feeds`, one into the other.

use keevo_feeds::{Entry, Flag, NewReaction, ReactTo, Reaction, ReactionQuery, ReactionsOf, User};
use keevo_proto::feeds::v1 as pb;
use tonic::Status;

use super::some;
use crate::grpc::feeds::convert::{all, count_or, invalid, names, object, text_of};

/// Reactions of a page, unless the request says otherwise.
const LIMIT_DEFAULT: usize = 10;

pub(super) fn user(user: User) -> pb::User {
    pb::User {
        id: user.id,
        data: text_of(user.data),
        created_at: user.created_at.to_zoned(),
        updated_at: user.updated_at.to_zoned(),
    }
}

pub(super) fn entry(entry: Entry) -> pb::Entry {
    pb::Entry {
        collection: entry.collection,
        id: entry.id,
        data: text_of(entry.data),
        user_id: entry.user_id.unwrap_or_default(),
        created_at: entry.created_at.to_zoned(),
        updated_at: entry.updated_at.to_zoned(),
    }
}

pub(super) fn reaction(reaction: Reaction) -> pb::Reaction {
    pb::Reaction {
        id: reaction.id,
        kind: reaction.kind,
        activity_id: reaction.activity_id,
        parent: reaction.parent.unwrap_or_default(),
        user_id: reaction.user_id,
        data: text_of(reaction.data),
        target_feeds: names(&reaction.target_feeds),
        target_feeds_extra_data: text_of(reaction.target_feeds_extra_data),
        created_at: reaction.created_at.to_zoned(),
        updated_at: reaction.updated_at.to_zoned(),
        deleted_at: reaction.deleted_at.map(keevo_feeds::ActivityTime::to_zoned).unwrap_or_default(),
    }
}

pub(super) fn flag(flag: Flag) -> pb::Flagged {
    pb::Flagged {
        entity_type: flag.entity_type.name().to_owned(),
        entity_id: flag.entity_id,
        user_id: flag.user_id,
        reason: flag.reason,
        id: flag.id,
        target_user_id: flag.target_user_id,
        created_at: flag.created_at.to_zoned(),
    }
}

pub(super) fn new_reaction(new: pb::Reaction) -> Result<NewReaction, Status> {
    let on = match (some(new.parent), some(new.activity_id)) {
        (Some(parent), _) => ReactTo::Parent(parent),
        (None, Some(activity)) => ReactTo::Activity(activity),
        (None, None) => return Err(invalid("name what is reacted to, in activity_id or in parent")),
    };
    Ok(NewReaction {
        id: some(new.id),
        data: object(&new.data, "data")?,
        target_feeds: all(&new.target_feeds)?,
        target_feeds_extra_data: object(&new.target_feeds_extra_data, "target_feeds_extra_data")?,
        ..NewReaction::new(new.kind, on, new.user_id)
    })
}

pub(super) fn reaction_query(asked: pb::ListReactionsRequest) -> Result<ReactionQuery, Status> {
    use pb::list_reactions_request::Of;
    let of = match asked.of {
        Some(Of::ActivityId(id)) => ReactionsOf::Activity(id),
        Some(Of::User(id)) => ReactionsOf::User(id),
        Some(Of::Parent(id)) => ReactionsOf::Parent(id),
        None => return Err(invalid("say of what reactions are listed: of an activity, a user or a reaction")),
    };
    Ok(ReactionQuery {
        kind: some(asked.kind),
        user_id: some(asked.user_id),
        limit: count_or(asked.limit, LIMIT_DEFAULT),
        id_lt: some(asked.id_lt),
        id_lte: some(asked.id_lte),
        id_gt: some(asked.id_gt),
        id_gte: some(asked.id_gte),
        ..ReactionQuery::of(of)
    })
}
