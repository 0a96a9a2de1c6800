//! Verification of reactions: of every reaction on an activity, and on these in turn, its tally, lists and target feeds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keevo_core::{Consistency, Engine, Result};

use super::{PAGE, VerifyReport};
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::keys::{self, REACTIONS, TALLY};
use crate::reactions::{LATEST_KEPT, OWN_KEPT, REACTION_LEVELS_MAX, ReactionRow, RefRow, Subject, TallyRow};
use crate::rows::{ActivityRow, decode};

/// Reactions, by their ids.
type Reactions = BTreeMap<String, ReactionRow>;

impl<E: Engine> Feeds<E> {
    /// Recounts the reactions on an activity.
    pub(super) async fn verify_reactions(&self, id: ActivityId, report: &mut VerifyReport) -> Result<()> {
        let mut subjects = vec![Subject::Activity(id.to_string())];
        while let Some(subject) = subjects.pop() {
            let reactions = self.listed_on(&subject).await?;
            report.reactions += reactions.len();
            let name = match &subject {
                Subject::Activity(id) => format!("activity {id}"),
                Subject::Reaction(id) => format!("reaction {id}"),
            };
            if reactions.values().any(|row| !row.is_live() || row.subject() != subject) {
                report.tallies.push(format!("{name} lists a reaction that is not there"));
            }
            if !self.lists_agree(&subject, &reactions).await? {
                report.tallies.push(format!("{name} does not list its reactions everywhere alike"));
            }
            if !self.tallies_agree(&subject, &reactions).await? {
                report.tallies.push(format!("{name} counts something else than the reactions on it"));
            }
            for (id, row) in &reactions {
                if row.had_targets && !self.is_told(id, row).await? {
                    report.tallies.push(format!("reaction {id} is not in its target feeds as it says"));
                }
                if row.level < REACTION_LEVELS_MAX {
                    subjects.push(Subject::Reaction(id.clone()));
                }
            }
        }
        Ok(())
    }

    /// The reactions that a subject lists; one that does not exist stands as a default row.
    async fn listed_on(&self, subject: &Subject) -> Result<Reactions> {
        let mut ids = Vec::new();
        for (sort, _) in self.all(subject.partition(self.layout()), REACTIONS).await? {
            ids.push(keys::parse_reaction_place(&sort, REACTIONS)?.1);
        }
        let mut found = Reactions::new();
        for chunk in ids.chunks(PAGE) {
            let rows = self.reaction_rows(chunk).await?;
            let known = chunk.iter().zip(rows);
            found.extend(known.map(|(id, row)| (id.clone(), row.unwrap_or_default())));
        }
        Ok(found)
    }

    /// Whether the lists by kind, user and both hold the same reactions as the list of all.
    async fn lists_agree(&self, subject: &Subject, reactions: &Reactions) -> Result<bool> {
        let mut expected: BTreeSet<Bytes> = BTreeSet::new();
        for (id, row) in reactions {
            let starts = [
                Bytes::from_static(REACTIONS),
                keys::of_kind(&row.kind),
                keys::of_user(&row.user),
                keys::of_user_and_kind(&row.user, &row.kind),
            ];
            expected.extend(starts.map(|start| keys::reaction_place(&start, row.created_us, id)));
        }
        let mut found: BTreeSet<Bytes> = BTreeSet::new();
        for prefix in [REACTIONS, b"k", b"m", b"n"] {
            found.extend(self.all(subject.partition(self.layout()), prefix).await?.into_iter().map(|(sort, _)| sort));
        }
        Ok(found == expected)
    }

    /// Whether the tally of all reactions, and that of each user's, say what a recount says.
    async fn tallies_agree(&self, subject: &Subject, reactions: &Reactions) -> Result<bool> {
        let partition = subject.partition(self.layout());
        let tally = self.all(partition.clone(), TALLY).await?;
        let tally: TallyRow = tally.first().map(|(_, record)| decode(record)).transpose()?.unwrap_or_default();
        let mut agree = says(&tally, reactions.iter(), LATEST_KEPT);
        let mut users: BTreeSet<&str> = reactions.values().map(|row| row.user.as_str()).collect();
        for (sort, record) in self.all(partition, b"o").await? {
            let user = String::from_utf8_lossy(sort.get(1..).unwrap_or_default()).into_owned();
            users.remove(user.as_str());
            let own = reactions.iter().filter(|(_, row)| row.user == user);
            agree &= says(&decode(&record)?, own, OWN_KEPT);
        }
        // What is left has reactions and no tally.
        Ok(agree && users.is_empty())
    }

    /// Whether the activity of a reaction is where the reaction says, in the version that it is in.
    async fn is_told(&self, id: &str, row: &ReactionRow) -> Result<bool> {
        let activity = self.layout().activity(self.target_activity(id, row)?);
        let record = self.engine().get(activity, Consistency::Linearizable).await?;
        let activity: ActivityRow = record.as_ref().map(decode).transpose()?.unwrap_or_default();
        let held: BTreeSet<&str> = activity.entries.iter().map(|entry| entry.feed.as_str()).collect();
        let wanted: BTreeSet<&str> = row.target_feeds.iter().filter(|_| row.is_live()).map(String::as_str).collect();
        Ok(held == wanted && activity.source_version == row.version)
    }
}

/// Whether a tally says what a recount says; kinds without reactions may stand with nothing.
fn says<'a>(tally: &TallyRow, reactions: impl Iterator<Item = (&'a String, &'a ReactionRow)>, keep: usize) -> bool {
    let mut kinds: BTreeMap<&str, Vec<RefRow>> = BTreeMap::new();
    for (id, row) in reactions {
        kinds.entry(&row.kind).or_default().push(RefRow { created_us: row.created_us, id: id.clone() });
    }
    let counted = kinds.iter_mut().all(|(kind, found)| {
        found.sort_by(|a, b| (Reverse(a.created_us), &a.id).cmp(&(Reverse(b.created_us), &b.id)));
        let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
        found.truncate(keep);
        tally.kind(kind).is_some_and(|row| row.count == count && row.latest == *found)
    });
    counted && tally.kinds.iter().all(|row| row.count == 0 || kinds.contains_key(row.kind.as_str()))
}
