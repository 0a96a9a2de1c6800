//! `keevo-cli feed`, over `keevo.feeds.v1`.

mod export;
pub(super) mod import;
pub(super) mod position;
mod records;
mod social;
mod verify;

use bytes::Bytes;
use keevo_client::Connection;
use keevo_core::{Clock, ErrorKind, Random, SeededRandom, SystemClock};
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use keevo_proto::feeds::v1::social_client::SocialClient;
use serde_json::json;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use super::incomplete;
use crate::args::feed::{Add, Feed, FeedArgs, Relations};
use crate::confirm::{Plan, confirmed};
use crate::connect::{Context, Effect, QUICK};
use crate::failure::Failure;
use crate::output::show;
use crate::render::{self, Done};
use crate::text::line;

const PAGE: u32 = 1_000;

/// Names the app of each call.
#[derive(Debug, Clone)]
pub(crate) struct ForApp(MetadataValue<Ascii>);

impl Interceptor for ForApp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("keevo-app", self.0.clone());
        Ok(request)
    }
}

type Wire = InterceptedService<Connection, ForApp>;

/// The two services of feeds, for one app.
#[derive(Debug, Clone)]
struct Clients {
    feeds: FeedsClient<Wire>,
    social: SocialClient<Wire>,
}

impl Clients {
    async fn new(context: &Context, app: u32) -> Result<Self, Failure> {
        let (channel, app) = (context.channel().await?, ForApp(MetadataValue::from(app)));
        let feeds = FeedsClient::with_interceptor(channel.clone(), app.clone());
        let social = SocialClient::with_interceptor(channel, app);
        Ok(Self {
            feeds: feeds.max_decoding_message_size(MESSAGE_BYTES_MAX),
            social: social.max_decoding_message_size(MESSAGE_BYTES_MAX),
        })
    }
}

/// Carries out a command on feeds.
pub(crate) async fn run(context: &Context, args: FeedArgs) -> Result<(), Failure> {
    let mut clients = Clients::new(context, args.app).await?;
    let Clients { feeds, social } = &mut clients;
    match args.command {
        Feed::Add(args) => add(context, feeds, args).await,
        Feed::Get { feed, limit, before, after, enrich } => {
            let enrich =
                enrich.then(|| pb::Enrich { recent_reactions: true, reaction_counts: true, ..Default::default() });
            let (id_lt, id_gt) = (before.unwrap_or_default(), after.unwrap_or_default());
            let request = pb::GetFeedRequest { feed, limit, id_lt, id_gt, enrich, ..Default::default() };
            show(context.output, &context.ask(Effect::Reads, QUICK, feeds.get_feed(request)).await?)
        }
        Feed::Groups { feed, limit, before, mark_seen, mark_read } => {
            let mark = |all: bool| all.then(|| pb::Mark { all, ..Default::default() });
            let (mark_seen, mark_read, id_lt) = (mark(mark_seen), mark(mark_read), before.unwrap_or_default());
            let request = pb::GetAggregatedRequest { feed, limit, id_lt, mark_seen, mark_read, ..Default::default() };
            show(context.output, &context.ask(Effect::Reads, QUICK, feeds.get_aggregated(request)).await?)
        }
        Feed::Ranked { feed, ranking, limit, offset } => {
            let request = pb::GetRankedRequest { feed, ranking, limit, offset, ..Default::default() };
            show(context.output, &context.ask(Effect::Reads, QUICK, feeds.get_ranked(request)).await?)
        }
        Feed::Stats { feed } => stats(context, feeds, feed).await,
        Feed::Remove { feed, id, foreign_id, time, sure } => {
            if !confirmed(context, sure, removal(context, &mut feeds.clone(), &feed)).await? {
                return Ok(());
            }
            let which = match (id, foreign_id) {
                (Some(id), _) => Some(pb::remove_activity_request::Which::Id(id)),
                (None, foreign_id) => Some(pb::remove_activity_request::Which::Foreign(pb::ForeignId {
                    foreign_id: foreign_id.unwrap_or_default(),
                    time: time.unwrap_or_default(),
                })),
            };
            remove(context, feeds, pb::RemoveActivityRequest { feed, which }).await
        }
        Feed::Follow { feed, target, copy } => {
            let request = pb::FollowRequest { feed: feed.clone(), target: target.clone(), copy_limit: Some(copy) };
            context.ask(Effect::Writes, QUICK, feeds.follow(request)).await?;
            let sentence = format!("{} follows {}", line(&feed), line(&target));
            show(context.output, &Done { sentence, json: json!({ "feed": feed, "target": target }) })
        }
        Feed::Unfollow { feed, target, keep_history } => {
            let request = pb::UnfollowRequest { feed: feed.clone(), target: target.clone(), keep_history };
            context.ask(Effect::Writes, QUICK, feeds.unfollow(request)).await?;
            let sentence = format!("{} does not follow {}", line(&feed), line(&target));
            show(context.output, &Done { sentence, json: json!({ "feed": feed, "target": target }) })
        }
        Feed::Followers(args) => relations(context, feeds, args, true).await,
        Feed::Following(args) => relations(context, feeds, args, false).await,
        Feed::React(args) => social::react(context, social, args).await,
        Feed::Reactions { activity, kind, limit } => {
            social::reactions(context, social, activity, kind.unwrap_or_default(), limit).await
        }
        Feed::User { id, data } => social::user(context, social, id, data).await,
        Feed::Import(args) => import::import(context, clients, &args).await,
        Feed::Export(args) => export::export(context, clients, args).await,
        Feed::Verify(args) => verify::verify(context, feeds, args).await,
    }
}

/// What removing an activity of a feed would do.
async fn removal(context: &Context, feeds: &mut FeedsClient<Wire>, feed: &str) -> Result<Plan, Failure> {
    let request = pb::FollowStatsRequest { feed: feed.to_owned(), ..Default::default() };
    let followers = context.ask(Effect::Reads, QUICK, feeds.follow_stats(request)).await?.followers;
    let followers = usize::try_from(followers).unwrap_or(usize::MAX);
    let what = format!("remove the activity from {} and from {}", line(feed), feeds_of(followers));
    Ok(Plan { what, json: json!({ "feed": feed, "followers": followers }) })
}

async fn remove(
    context: &Context,
    feeds: &mut FeedsClient<Wire>,
    request: pb::RemoveActivityRequest,
) -> Result<(), Failure> {
    let removed = context.ask(Effect::Writes, QUICK, feeds.remove_activity(request)).await?.removed;
    let sentence = if removed { "removed" } else { "there was no such activity" };
    show(context.output, &Done { sentence: sentence.to_owned(), json: json!({ "removed": removed }) })
}

/// Counts the relations of a feed.
async fn stats(context: &Context, feeds: &mut FeedsClient<Wire>, feed: String) -> Result<(), Failure> {
    let request = pb::FollowStatsRequest { feed: feed.clone(), ..Default::default() };
    let stats = context.ask(Effect::Reads, QUICK, feeds.follow_stats(request)).await?;
    let (followers, following) = (stats.followers, stats.following);
    let sentence = format!("{} has {} and follows {following}", line(&feed), count_of(followers));
    show(
        context.output,
        &Done { sentence, json: json!({ "feed": feed, "followers": followers, "following": following }) },
    )
}

fn feeds_of(followers: usize) -> String {
    if followers == 1 { "the feed that follows it".to_owned() } else { format!("the {followers} feeds that follow it") }
}

fn count_of(followers: u64) -> String {
    if followers == 1 { "1 follower".to_owned() } else { format!("{followers} followers") }
}

/// The time now, to a microsecond that nobody else is likely to have.
fn now() -> String {
    let within_ms = SeededRandom::from_os().next_u64() % 1_000;
    let micros = SystemClock::new().now_ms().saturating_mul(1_000).saturating_add(within_ms);
    let stamp = i64::try_from(micros).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    stamp.map_or_else(String::new, |stamp| stamp.to_string())
}

async fn add(context: &Context, feeds: &mut FeedsClient<Wire>, args: Add) -> Result<(), Failure> {
    // Chosen here, so that the same activity can be sent again when its answer was lost.
    let time = if args.time.is_empty() { now() } else { args.time };
    let activity = pb::Activity {
        actor: args.actor,
        verb: args.verb,
        object: args.object,
        target: args.target,
        time: time.clone(),
        foreign_id: args.foreign_id,
        to: args.to,
        custom: args.custom.unwrap_or_default(),
        ..pb::Activity::default()
    };
    let call = feeds.add_activity(pb::AddActivityRequest { feed: args.feed, activity: Some(activity) });
    let answer = context.ask(Effect::Writes, QUICK, call).await;
    let stored = answer.map_err(|failure| match failure.kind() {
        ErrorKind::OutcomeUnknown => {
            failure.advise(format!("Add it again with --time {}: it is then added once.", line(&time)))
        }
        _ => failure,
    })?;
    show(context.output, &stored.activity.ok_or_else(|| incomplete("the activity"))?)
}

/// Lists followers, or what a feed follows, page by page.
async fn relations(
    context: &Context,
    feeds: &mut FeedsClient<Wire>,
    args: Relations,
    followers: bool,
) -> Result<(), Failure> {
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut relations = Vec::new();
    let mut after = Bytes::new();
    loop {
        let left = u32::try_from(most - relations.len()).unwrap_or(PAGE).min(PAGE);
        let (page, next) = if followers {
            let request = pb::FollowersRequest { feed: args.feed.clone(), limit: left, after };
            let page = context.ask(Effect::Reads, QUICK, feeds.followers(request)).await?;
            (page.relations, page.next)
        } else {
            let request = pb::FollowingRequest { feed: args.feed.clone(), limit: left, after };
            let page = context.ask(Effect::Reads, QUICK, feeds.following(request)).await?;
            (page.relations, page.next)
        };
        relations.extend(page);
        relations.truncate(most);
        if next.is_empty() || relations.len() == most {
            let more = !next.is_empty();
            return show(context.output, &render::feed::Relations { relations, more });
        }
        after = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_activity_is_one_that_can_be_typed_again() {
        let time = now();
        assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{time}");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
}
