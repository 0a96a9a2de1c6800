//! `kill -9` in the middle of a post to 22,000 followers.
//!
//! The node that answers the post is the one that drives its fan-out, and it leads the most shards: it dies the moment the
//! post is answered, with a thousand followers reached. Then every follower must have the post once, and a recomputation
//! of all their feeds from follows and activities must find no difference.

mod client;

use std::time::Duration;

use keevo_core::{Clock, Error, ErrorKind, Result};

use self::client::Client;
use super::Case;
use crate::cluster::{Cluster, Settings};
use crate::lab::{Lab, Round};
use crate::load::Outcome;
use crate::output::say;
use crate::tally::Faults;

/// Followers of the one who posts.
const FOLLOWERS: usize = 22_000;
const STAR: &str = "user:star";
/// Followers that are looked at right after the death: every so many.
const SAMPLE_EVERY: usize = 100;
/// How long the other nodes may take to bring the post to everybody: a claim of a dead driver lasts 30 s.
const COMPLETE_WITHIN: Duration = Duration::from_mins(4);

fn follower(number: usize) -> String {
    format!("timeline:{number}")
}

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let mut cluster = lab.cluster(Case::FanOut, Settings::default()).await?;
    let began = lab.clock.monotonic();
    Client::of(&mut cluster)?.follow_all(FOLLOWERS, follower, STAR).await?;
    let took_s = lab.clock.monotonic().saturating_sub(began).as_secs_f64();
    say(&format!("        {FOLLOWERS} feeds follow {STAR} after {took_s:.1} s"));
    for number in 0..lab.rounds(Case::FanOut) {
        if !lab.has_time() {
            break;
        }
        let began = lab.clock.monotonic();
        let detail = if number.is_multiple_of(2) {
            "its leader, as a post is answered"
        } else {
            "all nodes, as one is answered"
        };
        let what = Round { case: Case::FanOut, detail, damage: false };
        let mut faults = Faults::new();
        let done = round(&mut cluster, number, &mut faults).await;
        if !lab.note(&what, done, faults, began, &cluster) {
            break;
        }
    }
    Ok(())
}

async fn round(cluster: &mut Cluster, number: u32, faults: &mut Faults) -> Result<Outcome> {
    let posts = number as usize + 1;
    let leader = cluster.leader().await?;
    let client = Client::of(cluster)?;
    client.post(leader, STAR, number).await?;
    let victims = if number.is_multiple_of(2) { vec![leader] } else { cluster.ids() };
    for &victim in &victims {
        cluster.node(victim)?.kill();
        *faults.entry("kill").or_default() += 1;
    }
    if victims.len() > 1 {
        cluster.heal()?;
        cluster.wait_ready().await?;
    }
    let (ids, dead) = (cluster.ids(), if victims.len() > 1 { 0 } else { leader });
    cluster.leaders_seen_by(&ids, dead).await?;
    let client = Client::of(cluster)?;
    let sample: Vec<String> = (0..FOLLOWERS).step_by(SAMPLE_EVERY).map(follower).collect();
    let reached = client.with_posts(&sample, posts).await?;
    *faults.entry("fan_out_cut_off").or_default() += u64::from(reached < sample.len());
    if reached == sample.len() {
        let message = "every follower had the post before the node was dead: nothing was in the middle of anything";
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    cluster.heal()?;
    cluster.wait_ready().await?;
    let client = Client::of(cluster)?;
    let complete = async {
        while client.with_posts(&sample, posts).await? < sample.len() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok::<_, Error>(())
    };
    tokio::time::timeout(COMPLETE_WITHIN, complete).await.map_err(|elapsed| {
        let message = format!("not every follower has the post after {} s", COMPLETE_WITHIN.as_secs());
        Error::new(ErrorKind::DeadlineExceeded, message).with_source(elapsed)
    })??;
    let mut outcome = Outcome { checked: 1, ..Outcome::default() };
    let all: Vec<String> = std::iter::once(STAR.to_owned()).chain((0..FOLLOWERS).map(follower)).collect();
    let found = client.verify(&all, COMPLETE_WITHIN).await?;
    outcome.checked += found.feeds;
    outcome.complaints.extend(found.differences);
    let expected = all.len() * posts;
    if usize::try_from(found.shown) != Ok(expected) {
        outcome.complaints.push(format!("{} activities are shown, and {expected} should be", found.shown));
    }
    if let Err(error) = cluster.agree().await {
        outcome.complaints.push(error.to_string());
    }
    let (sampled, behind) = (sample.len(), sample.len() - reached);
    say(&format!("        {behind} of {sampled} sampled followers lacked the post when the node was dead"));
    Ok(outcome)
}
