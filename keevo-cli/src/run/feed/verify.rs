//! `keevo-cli feed verify`: recomputes feeds, some at a time, and prints every difference.

use bytes::Bytes;
use keevo_core::{Error, ErrorKind};
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use serde_json::json;

use super::export::named;
use super::{PAGE, Wire};
use crate::args::feed::Verify;
use crate::connect::{Context, Effect, SLOW};
use crate::failure::Failure;
use crate::output::{Format, say, show};
use crate::progress::bar;
use crate::render::Done;
use crate::text::{count, line};

/// How many feeds one call recomputes.
const AT_ONCE: usize = 100;

/// Verifies feeds; fails with `Corrupt` when something differs.
pub(super) async fn verify(context: &Context, feeds: &mut FeedsClient<Wire>, args: Verify) -> Result<(), Failure> {
    let mut names = named(args.feeds)?;
    if args.followers {
        for feed in names.clone() {
            names.extend(followers(context, feeds, feed).await?);
        }
        names.sort();
        names.dedup();
    }
    let mut sum = pb::VerifyResponse::default();
    let mut rest = names.as_slice();
    let bar = bar("feeds", names.len());
    while !rest.is_empty() {
        let some = rest.get(..AT_ONCE).unwrap_or(rest);
        let request = pb::VerifyRequest { feeds: some.to_vec() };
        let found = context.ask(Effect::Reads, SLOW, feeds.verify(request)).await?;
        // At least one was looked at.
        let done = some.len().saturating_sub(usize::try_from(found.left).unwrap_or(usize::MAX)).max(1);
        rest = rest.get(done..).unwrap_or_default();
        bar.inc(u64::try_from(done).unwrap_or(u64::MAX));
        if context.output == Format::Table {
            bar.suspend(|| found.differences.iter().try_for_each(|difference| say(&line(difference))))?;
        } else {
            sum.differences.extend(found.differences);
        }
        sum.feeds += found.feeds;
        sum.shown += found.shown;
        sum.reactions += found.reactions;
        sum.stale_rows += found.stale_rows;
        sum.differing += found.differing;
    }
    bar.finish_and_clear();
    let feeds = usize::try_from(sum.feeds).unwrap_or(usize::MAX);
    if sum.differing == 0 || context.output != Format::Table {
        let sentence = format!(
            "{} show {} activities; {} reactions were recounted; 0 differences",
            count(feeds, "feed"),
            sum.shown,
            sum.reactions
        );
        let json = json!({
            "feeds": sum.feeds,
            "shown": sum.shown,
            "reactions": sum.reactions,
            "stale_rows": sum.stale_rows,
            "differing": sum.differing,
            "differences": sum.differences,
        });
        show(context.output, &Done { sentence, json })?;
    }
    if sum.differing == 0 {
        return Ok(());
    }
    let differing = usize::try_from(sum.differing).unwrap_or(usize::MAX);
    let found = format!("{} were compared, and {} found", count(feeds, "feed"), count(differing, "difference"));
    let advice = "Try again when nobody writes; what still differs then is damage: keep the data and report it.";
    Err(Failure::with_advice(Error::new(ErrorKind::Corrupt, found), advice))
}

/// The followers of a feed, all pages.
async fn followers(context: &Context, feeds: &mut FeedsClient<Wire>, feed: String) -> Result<Vec<String>, Failure> {
    let (mut found, mut after) = (Vec::new(), Bytes::new());
    loop {
        let request = pb::FollowersRequest { feed: feed.clone(), limit: PAGE, after };
        let page = context.ask(Effect::Reads, SLOW, feeds.followers(request)).await?;
        found.extend(page.relations.into_iter().map(|relation| relation.feed));
        if page.next.is_empty() {
            return Ok(found);
        }
        after = page.next;
    }
}
