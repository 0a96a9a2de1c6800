//! The calls of an import. Each is sent until it is answered for good, and sending it again changes nothing.

use std::time::Duration;

use keevo_core::ErrorKind;
use keevo_proto::feeds::v1 as pb;

use super::Refused;
use crate::connect::{Context, Effect, SLOW};
use crate::failure::Failure;
use crate::run::feed::Clients;

/// Waits before a call is sent again, in milliseconds.
pub(in crate::run) const RETRY_MS: [u64; 4] = [100, 400, 1_600, 5_000];

/// One call: what it sends, with the lines that it came from.
pub(super) enum Call {
    /// Activities of one feed.
    Activities(String, Vec<(u64, pb::Activity)>),
    /// A follow relation.
    Follow(u64, pb::FollowRequest),
    /// Users.
    Users(Vec<(u64, pb::User)>),
    /// An entry of a collection.
    Entry(u64, pb::Entry),
    /// A reaction.
    Reaction(u64, Box<pb::Reaction>),
}

impl Call {
    /// Sends it, and gives what was refused of it.
    pub(super) async fn send(self, context: &Context, clients: Clients) -> Result<Vec<Refused>, Failure> {
        match self {
            Self::Activities(feed, all) => {
                in_parts(all, |some: Vec<pb::Activity>| {
                    let (mut feeds, request) = (clients.feeds.clone(), adding(&feed, some));
                    async move { context.ask(Effect::Reads, SLOW, feeds.add_activities(request)).await.map(drop) }
                })
                .await
            }
            Self::Users(all) => {
                in_parts(all, |users: Vec<pb::User>| {
                    let mut social = clients.social.clone();
                    let request = pb::PutUsersRequest { users, keep_existing: false };
                    async move { context.ask(Effect::Reads, SLOW, social.put_users(request)).await.map(drop) }
                })
                .await
            }
            Self::Follow(line, request) => {
                let call = || {
                    let (request, mut feeds) = (request.clone(), clients.feeds.clone());
                    async move { context.ask(Effect::Reads, SLOW, feeds.follow(request)).await.map(drop) }
                };
                one(line, call).await
            }
            Self::Entry(line, entry) => one(line, || put_entry(context, &clients, entry.clone())).await,
            Self::Reaction(line, reaction) => one(line, || add_reaction(context, &clients, &reaction)).await,
        }
    }
}

fn adding(feed: &str, activities: Vec<pb::Activity>) -> pb::AddActivitiesRequest {
    pb::AddActivitiesRequest { feed: feed.to_owned(), activities }
}

/// Adds an entry; one that is there gets the new data and keeps its owner.
async fn put_entry(context: &Context, clients: &Clients, entry: pb::Entry) -> Result<(), Failure> {
    let mut social = clients.social.clone();
    let add = pb::AddEntryRequest { entry: Some(entry.clone()) };
    match context.ask(Effect::Reads, SLOW, social.add_entry(add)).await {
        Err(failure) if failure.kind() == ErrorKind::Conflict => {
            let put = pb::PutEntriesRequest { entries: vec![entry] };
            context.ask(Effect::Reads, SLOW, social.put_entries(put)).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// Adds a reaction; one that is there stays as it is.
async fn add_reaction(context: &Context, clients: &Clients, reaction: &pb::Reaction) -> Result<(), Failure> {
    let mut social = clients.social.clone();
    let add = pb::AddReactionRequest { reaction: Some(reaction.clone()) };
    match context.ask(Effect::Reads, SLOW, social.add_reaction(add)).await {
        Err(failure) if failure.kind() == ErrorKind::Conflict => Ok(()),
        other => other.map(drop),
    }
}

/// Sends records together. Where the node refuses them, one at a time, to learn which are bad.
async fn in_parts<T: Clone, F: Future<Output = Result<(), Failure>>>(
    records: Vec<(u64, T)>,
    call: impl Fn(Vec<T>) -> F,
) -> Result<Vec<Refused>, Failure> {
    let all = || call(records.iter().map(|(_, record)| record.clone()).collect());
    if settled(&RETRY_MS, all).await?.is_ok() {
        return Ok(Vec::new());
    }
    let mut refused = Vec::new();
    for (line, record) in &records {
        refused.extend(one(*line, || call(vec![record.clone()])).await?);
    }
    Ok(refused)
}

async fn one<F: Future<Output = Result<(), Failure>>>(
    line: u64,
    call: impl Fn() -> F,
) -> Result<Vec<Refused>, Failure> {
    Ok(settled(&RETRY_MS, call).await?.err().map(|reason| Refused { line, reason }).into_iter().collect())
}

/// Sends a call until it is answered for good: done, or refused with a reason. Fails when no node carries it out.
pub(in crate::run) async fn settled<T, F: Future<Output = Result<T, Failure>>>(
    waits_ms: &[u64],
    call: impl Fn() -> F,
) -> Result<Result<T, String>, Failure> {
    let mut waits = waits_ms.iter();
    loop {
        let failure = match call().await {
            Ok(answer) => return Ok(Ok(answer)),
            Err(failure) => failure,
        };
        let kind = failure.kind();
        if matches!(kind, ErrorKind::Invalid | ErrorKind::BatchTooLarge) {
            return Ok(Err(failure.to_string()));
        }
        let passing = kind.is_retryable() || matches!(kind, ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded);
        let Some(&wait_ms) = waits.next().filter(|_| passing) else {
            let advice = "Run the same command again: with --position it goes on where it was, and what is there already \
                          stays as it is.";
            return Err(failure.advise(advice.to_owned()));
        };
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
}

#[cfg(test)]
mod tests {
    use keevo_core::Error;

    use super::*;

    #[tokio::test]
    async fn what_passes_is_tried_again_and_what_is_refused_is_not() {
        let calls = std::cell::Cell::new(0);
        let call = |kinds: &'static [ErrorKind]| {
            calls.set(0);
            let calls = &calls;
            move || {
                let kind = kinds.get(calls.get()).copied();
                calls.set(calls.get() + 1);
                async move { kind.map_or(Ok(()), |kind| Err(Error::new(kind, "no").into())) }
            }
        };
        assert!(matches!(
            settled(&[0, 0, 0], call(&[ErrorKind::Unavailable, ErrorKind::DeadlineExceeded])).await,
            Ok(Ok(()))
        ));
        assert_eq!(calls.get(), 3, "two failures, then an answer");
        assert!(matches!(settled(&[0, 0, 0], call(&[ErrorKind::Invalid; 9])).await, Ok(Err(_))));
        assert_eq!(calls.get(), 1);
        assert!(settled(&[0, 0, 0], call(&[ErrorKind::Unavailable; 9])).await.is_err());
        assert_eq!(calls.get(), 3 + 1);
        assert!(settled(&[0, 0, 0], call(&[ErrorKind::Corrupt; 9])).await.is_err());
        assert_eq!(calls.get(), 1);
    }
}
