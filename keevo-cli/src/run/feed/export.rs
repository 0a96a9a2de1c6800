//! `keevo-cli feed export`: what feeds hold themselves, then what they follow, as lines that an import takes; and if asked
//! for, the reactions to that, and the users and entries that are named.

mod social;

use std::fs;

use bytes::Bytes;
use keevo_core::Error;
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;

use super::records::{activity_line, follow_line};
use super::{Clients, PAGE, Wire};
use crate::args::feed::{Export, Feeds};
use crate::connect::{Context, Effect, SLOW};
use crate::failure::Failure;
use crate::progress::exported;

/// Exports feeds to standard output.
pub(super) async fn export(context: &Context, clients: Clients, args: Export) -> Result<(), Failure> {
    let names = named(args.feeds)?;
    let Clients { mut feeds, social } = clients;
    let mut around = args.social.then(|| social::Around::new(context, social));
    for feed in &names {
        activities(context, &mut feeds, feed, around.as_mut()).await?;
    }
    for feed in &names {
        follows(context, &mut feeds, feed).await?;
    }
    Ok(())
}

/// The feeds that a command names, itself and in a file.
pub(super) fn named(feeds: Feeds) -> Result<Vec<String>, Failure> {
    let mut names = feeds.feeds;
    if let Some(path) = feeds.feeds_from {
        let text = fs::read_to_string(&path)
            .map_err(|error| Failure::io(&format!("{} cannot be read", path.display()), error))?;
        names.extend(text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
    }
    if names.is_empty() {
        let error = Error::invalid("no feed was named");
        return Err(Failure::with_advice(error, "Name feeds, or a file that has one a line with --feeds-from."));
    }
    Ok(names)
}

async fn activities(
    context: &Context,
    feeds: &mut FeedsClient<Wire>,
    feed: &str,
    mut around: Option<&mut social::Around<'_>>,
) -> Result<(), Failure> {
    let mut id_lt = String::new();
    loop {
        let request = pb::GetFeedRequest { feed: feed.to_owned(), limit: PAGE, id_lt, ..pb::GetFeedRequest::default() };
        let page = context.ask(Effect::Reads, SLOW, feeds.get_feed(request)).await?;
        id_lt = page.activities.last().map(|last| last.id.clone()).unwrap_or_default();
        // What came from elsewhere is exported there, and comes again through the follow.
        let own = page.activities.into_iter().filter(|activity| activity.origin == feed);
        for activity in own {
            if let Some(around) = around.as_deref_mut() {
                around.activity(&activity).await?;
            }
            exported(&activity_line(feed, activity))?;
        }
        if !page.more || id_lt.is_empty() {
            return Ok(());
        }
    }
}

async fn follows(context: &Context, feeds: &mut FeedsClient<Wire>, feed: &str) -> Result<(), Failure> {
    let mut after = Bytes::new();
    loop {
        let request = pb::FollowingRequest { feed: feed.to_owned(), limit: PAGE, after };
        let page = context.ask(Effect::Reads, SLOW, feeds.following(request)).await?;
        page.relations.iter().try_for_each(|relation| exported(&follow_line(relation)))?;
        if page.next.is_empty() {
            return Ok(());
        }
        after = page.next;
    }
}
