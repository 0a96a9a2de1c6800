//! Voting in polls.
//!
//! Invariant: a user has one ballot in a poll, and it is replaced by a compare-and-set; so it never holds an option twice,
//! nor more of them than the poll lets it.

use std::collections::BTreeSet;

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result, prefix_end};

use super::new::validate_text;
use super::{Ballot, POLL_OPTIONS_MAX, Poll, no_poll};
use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended, range};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, ChannelKeys, PollCount, Row};
use crate::member::{behind, validate_limit};
use crate::rights::{Denied, DeniedCode};
use crate::rows::{self, BallotRow, OptionRow, PollRow};

impl<E: Engine> Chat<E> {
    /// Votes for an option. Where a user has one vote, it takes the place of the one before. Repeatable. `NotFound` without
    /// the poll or the option, `Conflict` once the poll is closed, `Invalid` for more options than the poll lets one
    /// user vote for.
    pub async fn vote(&self, channel: &ChannelId, poll_id: &str, user: &str, option_id: &str) -> Result<Ballot> {
        self.change_ballot(channel, poll_id, user, |poll, ballot| {
            if !poll.options.iter().any(|option| option.id == option_id) {
                let message = format!("poll '{poll_id}' has no option '{option_id}'");
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            if ballot.options.iter().any(|one| one == option_id) {
                return Ok(());
            }
            if poll.votes_max == 1 {
                ballot.options.clear();
            }
            if poll.votes_max > 0 && ballot.options.len() >= usize::try_from(poll.votes_max).unwrap_or(usize::MAX) {
                let message =
                    format!("poll '{poll_id}' lets a user vote for {} options: take a vote back", poll.votes_max);
                return Err(Error::invalid(message));
            }
            ballot.options.push(option_id.to_owned());
            ballot.options.sort();
            Ok(())
        })
        .await
    }

    /// Takes a vote back. Repeatable: a vote that is not there is no error. `NotFound` without the poll, `Conflict` once it
    /// is closed.
    pub async fn unvote(&self, channel: &ChannelId, poll_id: &str, user: &str, option_id: &str) -> Result<Ballot> {
        self.change_ballot(channel, poll_id, user, |_, ballot| {
            ballot.options.retain(|one| one != option_id);
            Ok(())
        })
        .await
    }

    /// Answers a poll in one's own words, up to 1,000 bytes, in the place of an answer before; `None` takes it back.
    /// Repeatable. `PermissionDenied` where the poll takes no answers; else errors as those of [`Chat::vote`].
    pub async fn answer_poll(
        &self,
        channel: &ChannelId,
        poll_id: &str,
        user: &str,
        answer: Option<&str>,
    ) -> Result<Ballot> {
        answer.map_or(Ok(()), |answer| validate_text("an answer", answer))?;
        self.change_ballot(channel, poll_id, user, |poll, ballot| {
            if !poll.answers && answer.is_some() {
                return Err(not_let(poll_id, "takes no answers"));
            }
            ballot.answer = answer.map(str::to_owned);
            Ok(())
        })
        .await
    }

    /// Suggests an option. Repeatable: an option with the same id and text stays as it is. `PermissionDenied` where the poll
    /// takes no suggestions, `Conflict` once it is closed or where the option's id has another text,
    /// `ResourceExhausted` beyond 100 options.
    pub async fn suggest_option(
        &self,
        channel: &ChannelId,
        poll_id: &str,
        user: &str,
        option_id: &str,
        text: &str,
    ) -> Result<Poll> {
        validate_name("a user id", user)?;
        validate_name("an option id", option_id)?;
        validate_text("an option", text)?;
        let keys = self.keys(channel).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let permit = self.permit(channel, &keys, user, &[Capability::Vote], attempt > 0).await?;
            let (record, mut row) = self.load_poll(&keys, poll_id).await?;
            self.check_open(poll_id, &row)?;
            if !row.suggestions {
                return Err(not_let(poll_id, "takes no suggestions"));
            }
            match row.options.iter().find(|option| option.id == option_id) {
                Some(option) if option.text == text => return Ok(Poll::from_row(poll_id, row)),
                Some(_) => {
                    let message = format!("poll '{poll_id}' has an option '{option_id}' with another text");
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                None if row.options.len() >= POLL_OPTIONS_MAX => {
                    let message = format!("poll '{poll_id}' has {POLL_OPTIONS_MAX} options, which is the most");
                    return Err(Denied::new(DeniedCode::TooMany, message).into_error());
                }
                None => {}
            }
            let option = OptionRow { id: option_id.to_owned(), text: text.to_owned(), suggested_by: user.to_owned() };
            row.options.push(option);
            if self.write_poll(&keys, poll_id, &record, &mut row, &permit).await? {
                return Ok(Poll::from_row(poll_id, row));
            }
        }
        Err(contended("the poll"))
    }

    /// What the user voted, its own eyes only: whoever serves it has checked that it is this user who asks.
    pub async fn ballot(&self, channel: &ChannelId, poll_id: &str, user: &str) -> Result<Ballot> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        self.load_poll(&keys, poll_id).await?;
        Ok(Ballot::own(poll_id, user, ballot_row(self.get(keys.ballot(poll_id, user)).await?)?))
    }

    /// Up to `limit` ballots of a poll by user, those after `after`. `PermissionDenied` for an anonymous poll.
    pub async fn ballots(
        &self,
        channel: &ChannelId,
        poll_id: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Ballot>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let (_, poll) = self.load_poll(&keys, poll_id).await?;
        if poll.anonymous {
            return Err(not_let(poll_id, "is anonymous"));
        }
        let prefix = keys::ballots(poll_id);
        let start = after.map_or_else(|| prefix.clone(), |user| behind(&keys.ballot(poll_id, user).sort));
        let mut found = Vec::new();
        self.walk(range(&keys, start, prefix_end(&prefix), limit), |page| {
            for (key, record) in page {
                let row: BallotRow = rows::decode(&record.value, "a ballot")?;
                if let Row::Ballot { user, .. } = Row::parse(&key.sort)?
                    && row.votes()
                    && found.len() < limit
                {
                    found.push(Ballot::from_row(poll_id, user, row));
                }
            }
            Ok(found.len() < limit)
        })
        .await?;
        Ok(found)
    }

    async fn change_ballot(
        &self,
        channel: &ChannelId,
        poll_id: &str,
        user: &str,
        change: impl Fn(&PollRow, &mut BallotRow) -> Result<()> + Send + Sync,
    ) -> Result<Ballot> {
        validate_name("a user id", user)?;
        validate_name("a poll id", poll_id)?;
        let keys = self.keys(channel).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let permit = self.permit(channel, &keys, user, &[Capability::Vote], attempt > 0).await?;
            let stored = self.multi_get(vec![keys.poll(poll_id), keys.ballot(poll_id, user)]).await?;
            let Ok([poll, stored]) = <[Option<Record>; 2]>::try_from(stored) else {
                return Err(Error::corrupt("the engine returned another number of records"));
            };
            let poll = poll.ok_or_else(|| no_poll(poll_id))?;
            let row: PollRow = rows::decode(&poll.value, "a poll")?;
            if row.deleted_at_ms.is_some() {
                return Err(no_poll(poll_id));
            }
            self.check_open(poll_id, &row)?;
            let check = stored.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            let before = ballot_row(stored)?;
            let mut after = before.clone();
            change(&row, &mut after)?;
            if after == before {
                return Ok(Ballot::own(poll_id, user, before));
            }
            (after.voted_at_ms, after.anonymous) = (self.now_ms(), row.anonymous);
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .put(keys.ballot(poll_id, user), rows::encode(&after))
                .require(keys.ballot(poll_id, user), check)
                .require(keys.poll(poll_id), Check::RevisionIs(poll.revision));
            let batch = recount(&keys, batch, poll_id, &before, &after).merge(keys.own(user), 0);
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok(Ballot::own(poll_id, user, after)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the poll"))
    }

    fn check_open(&self, poll_id: &str, row: &PollRow) -> Result<()> {
        let over = row.closes_at_ms.is_some_and(|at| at <= self.now_ms());
        if row.closed_at_ms.is_some() || over {
            return Err(Error::new(ErrorKind::Conflict, format!("poll '{poll_id}' is closed")));
        }
        Ok(())
    }
}

/// The batch with what changes of the counts when a ballot becomes another.
pub(crate) fn recount(
    keys: &ChannelKeys,
    mut batch: Batch,
    poll_id: &str,
    before: &BallotRow,
    after: &BallotRow,
) -> Batch {
    let (was, is): (BTreeSet<&String>, BTreeSet<&String>) =
        (before.options.iter().collect(), after.options.iter().collect());
    for option in is.difference(&was) {
        batch = batch.merge(keys.poll_count(poll_id, PollCount::Votes(option)), 1);
    }
    for option in was.difference(&is) {
        batch = batch.merge(keys.poll_count(poll_id, PollCount::Votes(option)), -1);
    }
    for (count, was, is) in [
        (PollCount::Voters, before.votes(), after.votes()),
        (PollCount::Answers, before.answer.is_some(), after.answer.is_some()),
    ] {
        let delta = i64::from(is) - i64::from(was);
        if delta != 0 {
            batch = batch.merge(keys.poll_count(poll_id, count), delta);
        }
    }
    batch
}

fn ballot_row(stored: Option<Record>) -> Result<BallotRow> {
    stored.map_or_else(|| Ok(BallotRow::default()), |record| rows::decode(&record.value, "a ballot"))
}

fn not_let(poll_id: &str, why: &str) -> Error {
    Denied::new(DeniedCode::PollRules, format!("poll '{poll_id}' {why}")).into_error()
}
