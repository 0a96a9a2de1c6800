//! The moderation sidecar: texts wait while it is down, and each has one verdict once it is up.
//!
//! ```text
//! mails loaded, no sidecar ─▶ they wait ─▶ sidecar starts ─▶ verdicts, a queue ─▶ kill -9 ─▶ more are sent, and wait
//!   ─▶ it starts again ─▶ verdicts
//! ```
//!
//! Invariant: a verdict counts when a node has read it from the store.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use keevo_chat::ChannelId;
use keevo_core::Result;
use keevo_demo::{Bars, Mismatches, Plan};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::moderation_client::ModerationClient;
use keevo_proto::chat::v1 as chat;
use keevo_proto::chat::v1::chat_client::ChatClient;
use keevo_proto::error_from_status;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::admin;
use super::nodes::Cluster;
use super::process::Process;
use super::report::{Screen, rate};
use super::show::start_of;

/// The app of the demo's channels.
pub(super) const APP: u32 = 1;
/// How long no verdict may come.
const VERDICT_WITHIN: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(250);
/// How long is waited for the first text in the queue.
const FIRST_WITHIN: Duration = Duration::from_secs(20);
/// Verdicts that are waited for at once.
const WAITS: usize = 32;
/// Messages that are sent while the sidecar is dead.
const SENT_WITHOUT: usize = 20;
/// Entries of the queue that are read by one call.
const QUEUE_PAGE: u32 = 1_000;
/// Entries of the queue that are shown.
const SHOWN: usize = 3;

/// What was judged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Judged {
    /// Mails with exactly one verdict.
    pub(super) mails: usize,
    /// Messages with exactly one verdict that were sent while the sidecar was dead.
    pub(super) late: usize,
    /// Entries of the review queue.
    pub(super) in_queue: usize,
}

/// Starts the sidecar and shows what it flags first; it goes on with the other mails meanwhile. Without a sidecar's program
/// it only says so.
pub(super) async fn start(screen: Screen, cluster: &mut Cluster, mismatches: &Mismatches) -> Result<()> {
    let Some((verdicts, _, sidecar)) = parts(screen, cluster, mismatches)? else { return Ok(()) };
    screen.say("the mails were loaded while no sidecar ran; it starts now")?;
    sidecar.start()?;
    sidecar.wait_ready().await?;
    let began = Instant::now();
    let mut queue = verdicts.queue().await?;
    while queue.is_empty() && began.elapsed() < FIRST_WITHIN {
        tokio::time::sleep(POLL).await;
        queue = verdicts.queue().await?;
    }
    screen.say(&format!("{} s later, while it goes on:", began.elapsed().as_secs()))?;
    show_queue(screen, &queue)
}

type Parts<'a> = (Verdicts<'a>, Channel, &'a mut Process);

fn parts<'a>(screen: Screen, cluster: &'a mut Cluster, mismatches: &'a Mismatches) -> Result<Option<Parts<'a>>> {
    let Some(node) = cluster.nodes.first() else { return Ok(None) };
    let channel = admin::channel(node.grpc)?;
    let Some(sidecar) = cluster.sidecar.as_mut() else {
        screen.say("keevo-moderation does not lie beside keevod: no text is judged")?;
        return Ok(None);
    };
    let verdicts = Verdicts { client: ModerationClient::new(channel.clone()), mismatches };
    Ok(Some((verdicts, channel, sidecar)))
}

/// Starts the sidecar, waits until it has judged every mail, kills it and starts it again. A text that has no verdict in
/// the end, or two, is a mismatch. `None` where there is no sidecar.
pub(super) async fn check(
    screen: Screen,
    cluster: &mut Cluster,
    plan: &Plan<'_>,
    bars: &Bars,
    mismatches: &Mismatches,
) -> Result<Option<Judged>> {
    let Some((verdicts, channel, sidecar)) = parts(screen, cluster, mismatches)? else { return Ok(None) };
    let ids = mail_ids(plan)?;
    screen.say(&format!("{} mails were loaded while no sidecar ran; it starts now", ids.len()))?;
    sidecar.start()?;
    sidecar.wait_ready().await?;
    let began = Instant::now();
    let mails = verdicts.wait_for(&ids, bars).await?;
    let second = rate(u64::try_from(mails).unwrap_or(u64::MAX), began.elapsed());
    screen.say(&format!("{mails} of {} have one verdict each: {second} a second", ids.len()))?;

    screen.say("killing the sidecar, and sending on")?;
    sidecar.kill();
    let sent = send_some(channel).await?;
    let waiting = verdicts.count_missing(&sent).await?;
    screen.say(&format!("{} messages were acknowledged; {waiting} of them wait for a verdict", sent.len()))?;
    sidecar.start()?;
    sidecar.wait_ready().await?;
    let began = Instant::now();
    let late = verdicts.wait_for(&sent, bars).await?;
    let took = began.elapsed().as_millis();
    screen.say(&format!("the sidecar is back: {late} of {} have one verdict each after {took} ms", sent.len()))?;
    let queue = verdicts.queue().await?;
    show_queue(screen, &queue)?;
    Ok(Some(Judged { mails, late, in_queue: queue.len() }))
}

/// The ids of all mails' texts, as verdicts name them.
fn mail_ids(plan: &Plan<'_>) -> Result<Vec<String>> {
    let channels = plan.channels()?;
    let ids = channels.iter().flat_map(|channel| {
        // A mail without words is not judged.
        let with_words = channel.mails().filter(|mail| !mail.text.is_empty());
        with_words.map(|mail| text_id(&channel.id, &mail.id)).collect::<Vec<_>>()
    });
    Ok(ids.collect())
}

fn text_id(channel: &ChannelId, id: &str) -> String {
    format!("{}\0{id}", channel.as_str())
}

/// The verdicts, as a node answers.
struct Verdicts<'a> {
    client: ModerationClient<Channel>,
    mismatches: &'a Mismatches,
}

impl Verdicts<'_> {
    /// Waits until each text has a verdict; how many have exactly one. Gives up when none comes any more.
    async fn wait_for(&self, ids: &[String], bars: &Bars) -> Result<usize> {
        let bar = bars.bar("verdicts", ids.len());
        let last = &Mutex::new(Instant::now());
        let stalled = || last.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > VERDICT_WITHIN;
        let bar_ref = &bar;
        let waits = ids.iter().map(|id| async move {
            let found = loop {
                match self.count(id).await {
                    Ok(0) => {}
                    Ok(found) => break found,
                    Err(error) if error.kind().is_retryable() => {}
                    Err(error) => return Err(error),
                }
                if stalled() {
                    break 0;
                }
                tokio::time::sleep(POLL).await;
            };
            if found > 0 {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            if found != 1 {
                self.mismatches.add(format!("{} has {found} verdicts, not one", id.replace('\0', " ")));
            }
            bar_ref.inc(1);
            Ok(usize::from(found == 1))
        });
        let waits = futures::stream::iter(waits).buffer_unordered(WAITS);
        let judged = waits.try_fold(0, |sum, one| std::future::ready(Ok(sum + one))).await?;
        bar.finish();
        Ok(judged)
    }

    /// How many of the texts have no verdict.
    async fn count_missing(&self, ids: &[String]) -> Result<usize> {
        let mut missing = 0;
        for id in ids {
            missing += usize::from(self.count(id).await? == 0);
        }
        Ok(missing)
    }

    /// How many verdicts a text has.
    async fn count(&self, id: &str) -> Result<usize> {
        let request = pb::ListVerdictsRequest { app: APP, kind: "message".to_owned(), id: id.to_owned() };
        let found = self.client.clone().list_verdicts(request).await.map_err(|status| error_from_status(&status))?;
        Ok(found.into_inner().verdicts.len())
    }

    /// What is in the review queue.
    async fn queue(&self) -> Result<Vec<pb::Verdict>> {
        let mut entries = Vec::new();
        let mut after = String::new();
        loop {
            let request = pb::ListReviewQueueRequest { app: APP, limit: QUEUE_PAGE, after };
            let page = self.client.clone().list_review_queue(request).await;
            let page = page.map_err(|status| error_from_status(&status))?.into_inner();
            entries.extend(page.entries.into_iter().filter_map(|entry| entry.verdict));
            if page.next.is_empty() {
                return Ok(entries);
            }
            after = page.next;
        }
    }
}

/// Sends to a channel of the demo, as a client does; the ids of the texts.
async fn send_some(node: Channel) -> Result<Vec<String>> {
    let mut client = ChatClient::new(node);
    let channel = super::show::live_channel()?;
    let mut ids = Vec::new();
    for number in 1..=SENT_WITHOUT {
        let id = format!("no-sidecar-{number}");
        let request = chat::SendMessageRequest {
            channel: channel.as_str().to_owned(),
            id: id.clone(),
            user: super::show::LIVE_USER.to_owned(),
            text: format!("Message {number}, sent while nobody judges."),
            ..chat::SendMessageRequest::default()
        };
        client.send_message(request).await.map_err(|status| error_from_status(&status))?;
        ids.push(text_id(&channel, &id));
    }
    Ok(ids)
}

/// Shows the entries of the review queue with the highest scores.
fn show_queue(screen: Screen, queue: &[pb::Verdict]) -> Result<()> {
    let highest = |verdict: &pb::Verdict| verdict.scores.values().copied().fold(0.0, f32::max);
    let mut entries: Vec<&pb::Verdict> = queue.iter().collect();
    entries.sort_by(|one, other| highest(other).total_cmp(&highest(one)));
    screen.say(&format!("{} texts are in the review queue; the highest scores:", entries.len()))?;
    for verdict in entries.into_iter().take(SHOWN) {
        let place = verdict.id.split('\0').next().unwrap_or_default();
        let text = start_of(&verdict.text, 70);
        screen.say(&format!("{:.2}  {place}  {}: {text}", highest(verdict), verdict.author))?;
    }
    Ok(())
}
