//! Polls: their counts against a recount of the ballots.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keevo_core::Result;

use crate::keys::{PollCount, Row};
use crate::rows::{self, BallotRow, PollRow};

/// What the rows say of polls, by id.
#[derive(Default)]
pub(super) struct Polls {
    /// The options of each, and how many of them a user may vote for; 0 = all. Nothing of those that are deleted: what is
    /// left of them is to go.
    known: BTreeMap<String, Option<(BTreeSet<String>, u32)>>,
    counts: BTreeMap<(String, Counted), u64>,
    ballots: BTreeMap<(String, String), BallotRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    Voters,
    Answers,
    Votes(String),
}

impl Polls {
    pub(super) fn add(&mut self, row: Row<'_>, value: &Bytes) -> Result<()> {
        match row {
            Row::Poll(id) => {
                let row: PollRow = rows::decode(value, "a poll")?;
                let options = row.options.into_iter().map(|option| option.id).collect();
                let known = Some((options, row.votes_max)).filter(|_| row.deleted_at_ms.is_none());
                self.known.insert(id.to_owned(), known);
            }
            Row::PollCount(id, count) => {
                let counted = match count {
                    PollCount::Voters => Counted::Voters,
                    PollCount::Answers => Counted::Answers,
                    PollCount::Votes(option) => Counted::Votes(option.to_owned()),
                };
                self.counts.insert((id.to_owned(), counted), rows::decode_count(value)?);
            }
            Row::Ballot { poll, user } => {
                self.ballots.insert((poll.to_owned(), user.to_owned()), rows::decode(value, "a ballot")?);
            }
            _ => {}
        }
        Ok(())
    }

    /// What does not match.
    pub(super) fn problems(mut self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut counted: BTreeMap<(String, Counted), u64> = BTreeMap::new();
        for ((poll, user), ballot) in &self.ballots {
            let known = self.known.get(poll);
            if ballot.options.windows(2).any(|pair| pair.first() >= pair.last()) {
                problems
                    .push(format!("the ballot of '{user}' in poll '{poll}' names an option twice, or out of order"));
            }
            let within = |known: &Option<(BTreeSet<String>, u32)>| {
                known.as_ref().is_none_or(|(options, max)| {
                    ballot.options.iter().all(|option| options.contains(option))
                        && (*max == 0 || ballot.options.len() <= usize::try_from(*max).unwrap_or(usize::MAX))
                })
            };
            if !known.is_some_and(within) {
                problems.push(format!("the ballot of '{user}' in poll '{poll}' is for what the poll does not let it"));
            }
            let mut add = |what: Counted| *counted.entry((poll.clone(), what)).or_default() += 1;
            ballot.options.iter().for_each(|option| add(Counted::Votes(option.clone())));
            if ballot.answer.is_some() {
                add(Counted::Answers);
            }
            if ballot.votes() {
                add(Counted::Voters);
            }
        }
        self.counts.retain(|_, count| *count > 0);
        if self.counts != counted {
            problems.push(format!("the counts of polls are {:?} and should be {counted:?}", self.counts));
        }
        problems
    }
}
