//! `keevo-cli feed react`, `reactions` and `user`.

use keevo_core::{Error, ErrorKind};
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::social_client::SocialClient;

use super::Wire;
use crate::args::feed::React;
use crate::connect::{Context, Effect, QUICK};
use crate::failure::Failure;
use crate::output::show;
use crate::run::incomplete;
use crate::text::line;

/// Adds a reaction.
pub(super) async fn react(context: &Context, social: &mut SocialClient<Wire>, args: React) -> Result<(), Failure> {
    let reaction = pb::Reaction {
        id: args.id,
        kind: args.kind,
        activity_id: args.activity,
        parent: args.parent,
        user_id: args.user,
        data: args.data.unwrap_or_default(),
        target_feeds: args.to,
        ..Default::default()
    };
    let call = social.add_reaction(pb::AddReactionRequest { reaction: Some(reaction) });
    let added = context.ask(Effect::Writes, QUICK, call).await?.reaction;
    show(context.output, &added.ok_or_else(|| incomplete("the reaction"))?)
}

/// Shows a user, or adds or replaces it.
pub(super) async fn user(
    context: &Context,
    social: &mut SocialClient<Wire>,
    id: String,
    data: Option<String>,
) -> Result<(), Failure> {
    let found = if let Some(data) = data {
        let users = vec![pb::User { id: id.clone(), data, ..Default::default() }];
        let request = pb::PutUsersRequest { users, keep_existing: false };
        context.ask(Effect::Writes, QUICK, social.put_users(request)).await?.users
    } else {
        context.ask(Effect::Reads, QUICK, social.get_users(pb::GetUsersRequest { ids: vec![id.clone()] })).await?.users
    };
    let missing = || Failure::from(Error::new(ErrorKind::NotFound, format!("there is no user {}", line(&id))));
    show(context.output, found.first().ok_or_else(missing)?)
}

/// Lists the reactions to an activity.
pub(super) async fn reactions(
    context: &Context,
    social: &mut SocialClient<Wire>,
    activity: String,
    kind: String,
    limit: u32,
) -> Result<(), Failure> {
    let of = Some(pb::list_reactions_request::Of::ActivityId(activity));
    let request = pb::ListReactionsRequest { of, kind, limit, ..Default::default() };
    show(context.output, &context.ask(Effect::Reads, QUICK, social.list_reactions(request)).await?)
}
