//! Threads: their counters, participants and read states against a recount.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keevo_core::Result;

use super::Line;
use crate::ids::Place;
use crate::keys::{Row, Stat};
use crate::rows::{self, ThreadReadRow};

/// What the rows say of threads, by the number of the message replied to.
#[derive(Default)]
pub(super) struct Threads {
    countable: BTreeMap<u64, u64>,
    participants: BTreeMap<(u64, String), u64>,
    followed: BTreeMap<(u64, String), u64>,
    adjustments: BTreeSet<(u64, u64)>,
    /// (thread, user, position, others) of read states.
    marks: Vec<(u64, String, u64, u64)>,
}

impl Threads {
    pub(super) fn add(&mut self, row: Row<'_>, value: &Bytes) -> Result<()> {
        match row {
            Row::Stat(place, Stat::CountableReplies) => {
                self.countable.insert(place.number(), rows::decode_count(value)?);
            }
            Row::Participant(parent, user) => {
                self.participants.insert((parent, user.to_owned()), rows::decode_count(value)?);
            }
            Row::Followed(user, parent) => {
                self.followed.insert((parent, user.to_owned()), rows::decode_count(value)?);
            }
            Row::ThreadAdjustment(parent, reply) => {
                self.adjustments.insert((parent, reply));
            }
            Row::ThreadRead(parent, user) => {
                let row: ThreadReadRow = rows::decode(value, "a thread's read state")?;
                self.marks.push((parent, user.to_owned(), row.position, row.others));
            }
            _ => {}
        }
        Ok(())
    }

    /// What does not match these messages.
    pub(super) fn problems(mut self, messages: &BTreeMap<Place, Line>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut countable: BTreeMap<u64, u64> = BTreeMap::new();
        let mut participants: BTreeMap<(u64, String), u64> = BTreeMap::new();
        let mut gone = BTreeSet::new();
        let mut counting: BTreeMap<u64, Vec<(u64, &str)>> = BTreeMap::new();
        for (place, line) in messages {
            let Place::Thread { parent, reply } = *place else {
                continue;
            };
            if !line.system {
                *participants.entry((parent, line.user.clone())).or_default() += u64::from(line.counts);
                if let Some(first) = messages.get(&Place::Channel(parent)) {
                    participants.entry((parent, first.user.clone())).or_default();
                }
            }
            if line.counts {
                *countable.entry(parent).or_default() += 1;
                counting.entry(parent).or_default().push((reply, &line.user));
                if line.deleted {
                    gone.insert((parent, reply));
                }
            }
        }
        self.countable.retain(|_, count| *count > 0);
        check(&mut problems, "the counts of countable replies", &self.countable, &countable);
        check(&mut problems, "the participants", &self.participants, &participants);
        check(&mut problems, "the replies that count no longer", &self.adjustments, &gone);
        // Who marked a thread without taking part follows it too.
        let marked: BTreeSet<(u64, String)> =
            self.marks.iter().map(|(parent, user, _, _)| (*parent, user.clone())).collect();
        self.followed.retain(|one, count| *count > 0 || !marked.contains(one) || participants.contains_key(one));
        check(&mut problems, "the followed threads", &self.followed, &participants);
        for (parent, user, position, others) in self.marks {
            let replies = counting.get(&parent).map(Vec::as_slice).unwrap_or_default();
            let counted = replies.iter().filter(|(reply, sender)| *reply <= position && *sender != user).count();
            if usize::try_from(others) != Ok(counted) {
                problems.push(format!(
                    "what '{user}' has read of thread {parent} up to {position} is {others} and should be {counted}"
                ));
            }
        }
        problems
    }
}

fn check<T: PartialEq + std::fmt::Debug>(problems: &mut Vec<String>, what: &str, stored: &T, counted: &T) {
    if stored != counted {
        problems.push(format!("{what} are {stored:?} and should be {counted:?}"));
    }
}
