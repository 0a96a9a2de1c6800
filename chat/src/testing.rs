//! The suite that holds chat to its promises, on any engine.
//!
//! ```text
//! keevo_chat::testing::suite(engine).await                 all cases, one after the other
//! keevo_chat::testing::run(engine, "unread").await         one of them
//! ```
//!
//! Invariant: a case uses an app of its own, drawn at random, so that cases and runs may share an engine, and
//! it waits for a bounded time. It panics where a promise does not hold.

mod commands;
mod deleting;
mod faulty;
mod interrupted;
mod invites;
mod leaving;
mod listeners;
mod live;
mod members;
mod messages;
mod more_messages;
mod order;
mod personal;
mod polls;
mod queries;
mod races;
mod roles;
#[cfg(test)]
mod tests;
mod threads;
mod transfer;
mod unread;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use keevo_core::{AnyEngine, Engine, Random, Result, SeededRandom};

use crate::{
    AppId, ChannelId, Chat, ChatOptions, Delivery, HistoryRequest, Message, NewChannel, NewMember, Subscription,
};

pub use faulty::{Fault, Faulty};
pub use interrupted::Interrupted;

const CASE_SECONDS_MAX: u64 = 300;
const EVENT_SECONDS_MAX: u64 = 20;

/// The names of all cases.
pub const CASES: &[&str] = &[
    "idempotent_send",
    "concurrent_senders",
    "bulk_send",
    "history",
    "edits_and_deletes",
    "threads",
    "reactions",
    "unread",
    "unread_rules",
    "members",
    "rights",
    "outbox",
    "subscribe_from_the_beginning",
    "subscribe_after_history",
    "every_event",
    "two_subscribers",
    "reload",
    "worker_races",
    "read_races",
    "head_of_line",
    "creation",
    "removed_listener",
    "resumed_listener",
    "invites",
    "invite_races",
    "distinct",
    "roles",
    "teams",
    "thread_unread",
    "thread_races",
    "mentions",
    "counted_crashes",
    "carried",
    "taken_back",
    "pins",
    "scores",
    "bans",
    "settings",
    "restriction_races",
    "preferences",
    "reviews",
    "receipts",
    "channel_queries",
    "people_queries",
    "message_queries",
    "drafts",
    "user_events",
    "reminders",
    "groups",
    "polls",
    "poll_races",
    "locations",
    "erasure",
    "erasure_crashes",
    "user_export",
    "retention",
    "moved_history",
    "closed_channel",
    "bad_lines",
    "directory",
    "commands",
    "anonymous",
    "deleted_channels",
    "erased_channels",
    "erasures_are_told",
    "deletion_crashes",
];

/// Runs all cases, one after the other.
pub async fn suite<E: Engine>(engine: E) {
    for case in CASES {
        run(engine.clone(), case).await;
    }
}

/// Runs one case of [`CASES`].
pub async fn run<E: Engine>(engine: E, case: &str) {
    run_on(AnyEngine::new(engine), case).await;
}

/// Compiled once, for whichever engine.
fn run_on(engine: AnyEngine, case: &str) -> impl Future<Output = ()> + Send {
    async move {
        let bench = Bench::new(engine);
        let done = async {
            match case {
                "idempotent_send" => messages::idempotent_send(bench).await,
                "concurrent_senders" => messages::concurrent_senders(bench).await,
                "bulk_send" => messages::bulk_send(bench).await,
                "history" => messages::history(bench).await,
                "edits_and_deletes" => messages::edits_and_deletes(bench).await,
                "threads" => messages::threads(bench).await,
                "reactions" => messages::reactions(bench).await,
                "unread" => unread::concurrent(bench).await,
                "unread_rules" => unread::rules(bench).await,
                "members" => members::members(bench).await,
                "rights" => members::rights(bench).await,
                "outbox" => members::outbox(bench).await,
                "subscribe_from_the_beginning" => live::from_the_beginning(bench).await,
                "subscribe_after_history" => live::after_history(bench).await,
                "every_event" => live::every_event(bench).await,
                "two_subscribers" => live::two_subscribers(bench).await,
                "reload" => live::reload(bench).await,
                "worker_races" => races::worker_races(bench).await,
                "read_races" => races::read_races(bench).await,
                "head_of_line" => races::head_of_line(bench).await,
                "creation" => races::creation(bench).await,
                "removed_listener" => listeners::removed(bench).await,
                "resumed_listener" => listeners::resumed(bench).await,
                "invites" => invites::invites(bench).await,
                "invite_races" => invites::races(bench).await,
                "distinct" => invites::distinct(bench).await,
                "roles" => roles::roles(bench).await,
                "teams" => roles::teams(bench).await,
                "thread_unread" => threads::unread_threads(bench).await,
                "thread_races" => threads::thread_races(bench).await,
                "mentions" => threads::mentions(bench).await,
                "counted_crashes" => threads::crashes(bench).await,
                "carried" => more_messages::carried(bench).await,
                "taken_back" => more_messages::taken_back(bench).await,
                "pins" => more_messages::pins(bench).await,
                "scores" => more_messages::scores(bench).await,
                "bans" => order::bans(bench).await,
                "settings" => order::settings(bench).await,
                "restriction_races" => order::races(bench).await,
                "preferences" => order::preferences(bench).await,
                "reviews" => order::reviews(bench).await,
                "receipts" => order::receipts(bench).await,
                "channel_queries" => queries::channels(bench).await,
                "people_queries" => queries::people(bench).await,
                "message_queries" => queries::messages(bench).await,
                "drafts" => personal::drafts(bench).await,
                "user_events" => personal::user_events(bench).await,
                "reminders" => personal::reminders(bench).await,
                "groups" => personal::groups(bench).await,
                "polls" => polls::polls(bench).await,
                "poll_races" => polls::races(bench).await,
                "locations" => polls::locations(bench).await,
                "erasure" => leaving::erasure(bench).await,
                "erasure_crashes" => leaving::erasure_crashes(bench).await,
                "user_export" => leaving::user_export(bench).await,
                "retention" => leaving::retention(bench).await,
                "moved_history" => transfer::moves(bench).await,
                "closed_channel" => transfer::closed_channel(bench).await,
                "bad_lines" => transfer::bad_lines(bench).await,
                "directory" => transfer::directory(bench).await,
                "commands" => commands::commands(bench).await,
                "anonymous" => commands::anonymous(bench).await,
                "deleted_channels" => deleting::deleted_channels(bench).await,
                "erased_channels" => deleting::erased_channels(bench).await,
                "erasures_are_told" => deleting::erasures_are_told(bench).await,
                "deletion_crashes" => deleting::deletion_crashes(bench).await,
                _ => panic!("there is no case '{case}'"),
            }
        };
        within(CASE_SECONDS_MAX, case, Box::pin(done)).await;
    }
    .boxed()
}

/// An engine and an app of its own.
#[derive(Clone)]
struct Bench<E> {
    engine: E,
    app: AppId,
    chat: Chat<E>,
}

impl<E: Engine> Bench<E> {
    fn new(engine: E) -> Self {
        let app = AppId(u32::try_from(SeededRandom::from_os().next_u64() >> 32).expect("the upper half"));
        let chat = Chat::new(engine.clone(), app, ChatOptions::default());
        Self { engine, app, chat }
    }

    /// A new channel with these members, and room for the tests' helpers.
    async fn channel(&self, id: &str, members: &[&str]) -> ChannelId {
        let channel = ChannelId::new("messaging", id).expect("a name");
        let members = members.iter().map(|user| NewMember::new(*user)).collect();
        let new = NewChannel { created_by: "creator".into(), members, ..NewChannel::default() };
        self.chat.create_channel(&channel, new).await.expect("the channel is created");
        channel
    }

    /// The whole history, oldest first, in pages of 7.
    async fn all(&self, channel: &ChannelId) -> Vec<Message> {
        let mut request = Some(HistoryRequest::oldest(7));
        let mut messages = Vec::new();
        while let Some(wanted) = request {
            let page = self.chat.history(channel, wanted).await.expect("a page");
            request = wanted.following(&page);
            messages.extend(page.messages);
        }
        messages
    }

    async fn assert_sound(&self, channel: &ChannelId) {
        let found = self.chat.verify(channel).await.expect("verified");
        assert_eq!(found.problems, Vec::<String>::new());
    }
}

/// How often each text occurs.
fn tally<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts
}

/// The next `count` events.
async fn take<E: Engine>(subscription: &mut Subscription<E>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::with_capacity(count);
    for number in 0..count {
        let next = within(EVENT_SECONDS_MAX, &format!("event {number} of {count}"), subscription.next()).await;
        taken.push(next.expect("the subscription goes on").expect("no error"));
    }
    taken
}

/// Asserts that nothing arrives for a moment.
async fn assert_silent<E: Engine>(subscription: &mut Subscription<E>) {
    let next = tokio::time::timeout(Duration::from_millis(50), subscription.next()).await;
    assert!(next.is_err(), "nothing more should arrive: {next:?}");
}

async fn within<T>(seconds: u64, what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(seconds);
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("{what} took more than {seconds} s"))
}

fn kind_of<T: std::fmt::Debug>(result: Result<T>) -> keevo_core::ErrorKind {
    result.expect_err("should be refused").kind()
}
