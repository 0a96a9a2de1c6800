//! Pages of feeds: flat, aggregated and ranked, with what is to be shown beside the activities.

use keevo_core::AnyEngine;
use keevo_feeds::{
    Activity, AggregatedRequest, EnrichOptions, FeedId, Feeds, GroupId, Mark, Marks, PageRequest, RankedRequest,
    Ranking,
};
use keevo_proto::feeds::v1 as pb;
use tonic::Status;

use super::convert::{
    activity, all, answer, count_or, held_by, limit, object, optional, parsed, text_of, texts_of, told,
};

/// Activities of a group, unless the request says otherwise.
const ACTIVITIES_IN_GROUP: usize = 15;
/// Reactions of each kind, unless the request says otherwise.
const RECENT_REACTIONS: usize = 5;

/// Which part of a feed a request asks for; requests for activities and for groups have the same fields.
macro_rules! page_request {
    ($request:ident) => {
        PageRequest {
            limit: limit($request.limit),
            offset: count_or($request.offset, 0),
            id_lt: optional(&$request.id_lt)?,
            id_lte: optional(&$request.id_lte)?,
            id_gt: optional(&$request.id_gt)?,
            id_gte: optional(&$request.id_gte)?,
            ..PageRequest::default()
        }
    };
}

fn options(enrich: pb::Enrich) -> EnrichOptions {
    EnrichOptions {
        user_id: Some(enrich.user_id).filter(|user| !user.is_empty()),
        own_reactions: enrich.own_reactions,
        recent_reactions: enrich.recent_reactions,
        recent_reactions_limit: count_or(enrich.recent_reactions_limit, RECENT_REACTIONS),
        reaction_counts: enrich.reaction_counts,
        own_children: enrich.own_children,
        kinds: enrich.kinds,
        ..EnrichOptions::default()
    }
}

/// Activities as JSON objects where that is asked for; nothing otherwise.
async fn enriched(
    feeds: &Feeds<AnyEngine>,
    activities: &[Activity],
    enrich: Option<pb::Enrich>,
) -> Result<Vec<String>, Status> {
    match enrich {
        None => Ok(Vec::new()),
        Some(enrich) => Ok(texts_of(answer(feeds.enrich_activities(activities, &options(enrich)).await)?)),
    }
}

pub(super) async fn flat(feeds: &Feeds<AnyEngine>, request: pb::GetFeedRequest) -> Result<pb::GetFeedResponse, Status> {
    let page = page_request!(request);
    let feed = parsed::<FeedId>(&request.feed)?;
    let page = answer(feeds.page(&feed, page).await)?;
    let more = page.next.is_some();
    let enriched = enriched(feeds, &page.activities, request.enrich).await?;
    let activities = page.activities.into_iter().map(|one| held_by(&feed, one)).collect();
    Ok(pb::GetFeedResponse { activities, more, enriched })
}

fn mark(asked: Option<pb::Mark>) -> Result<Mark, Status> {
    match asked {
        None => Ok(Mark::Nothing),
        Some(mark) if mark.all => Ok(Mark::All),
        Some(mark) => all::<GroupId>(&mark.groups).map(Mark::Groups),
    }
}

pub(super) async fn aggregated(
    feeds: &Feeds<AnyEngine>,
    request: pb::GetAggregatedRequest,
) -> Result<pb::GetAggregatedResponse, Status> {
    let feed = parsed::<FeedId>(&request.feed)?;
    let marks = Marks { seen: mark(request.mark_seen)?, read: mark(request.mark_read)? };
    let activities_max = count_or(request.activities_max, ACTIVITIES_IN_GROUP);
    let asked = AggregatedRequest { page: page_request!(request), activities_max };
    let page = answer(feeds.aggregated_page(&feed, asked).await)?;
    let shown: Vec<Activity> = page.groups.iter().flat_map(|group| group.activities.iter().cloned()).collect();
    let mut enriched = enriched(feeds, &shown, request.enrich).await?.into_iter();
    let group = |group: keevo_feeds::ActivityGroup| pb::ActivityGroup {
        id: group.id.to_string(),
        group: group.group,
        verb: group.verb,
        enriched: enriched.by_ref().take(group.activities.len()).collect(),
        activities: group.activities.into_iter().map(|one| held_by(&feed, one)).collect(),
        activity_count: told(group.activity_count),
        actor_count: told(group.actor_count),
        created_at: group.created_at.to_zoned(),
        updated_at: group.updated_at.to_zoned(),
        is_seen: group.is_seen,
        is_read: group.is_read,
    };
    let groups = page.groups.into_iter().map(group).collect();
    if marks != Marks::default() {
        answer(feeds.mark(&feed, &marks, page.seen_to).await)?;
    }
    let (unseen, unread) = (told(page.unseen), told(page.unread));
    Ok(pb::GetAggregatedResponse { groups, more: page.next.is_some(), unseen, unread })
}

pub(super) async fn ranked(
    feeds: &Feeds<AnyEngine>,
    request: pb::GetRankedRequest,
) -> Result<pb::GetRankedResponse, Status> {
    let feed = parsed::<FeedId>(&request.feed)?;
    let ranking = answer(Ranking::parse(&request.ranking))?;
    let asked = RankedRequest {
        limit: limit(request.limit),
        offset: count_or(request.offset, 0),
        vars: object(&request.vars, "vars")?,
        with_score_vars: request.with_score_vars,
        seed: request.seed,
        ..RankedRequest::default()
    };
    let page = answer(feeds.ranked_page(&feed, &ranking, &asked).await)?;
    let shown: Vec<Activity> = page.activities.iter().map(|one| one.activity.clone()).collect();
    let enriched = enriched(feeds, &shown, request.enrich).await?;
    let one = |one: keevo_feeds::Ranked| pb::RankedActivity {
        activity: Some(held_by(&feed, one.activity)),
        score: one.score,
        score_vars: one.score_vars.map(text_of).unwrap_or_default(),
    };
    let ranked = page.activities.into_iter().map(one).collect();
    Ok(pb::GetRankedResponse { ranked, more: page.more, enriched })
}

/// Activities as they are stored, in no feed.
pub(super) fn stored(activities: Vec<Activity>) -> Vec<pb::Activity> {
    activities.into_iter().map(activity).collect()
}
