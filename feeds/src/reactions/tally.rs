//! Tallies: how many reactions of each kind there are, and which are the newest.
//!
//! Pure. Invariant: a kind's `latest` are its newest reactions, newest first: all of them, or as many as are kept.
//! A kind whose reactions are all gone stays, with 0.

use prost::Message;

/// The tally of a subject, or of one user's reactions on it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TallyRow {
    /// The version of the deletion that closed the subject; 0 = it is open. Nothing is counted of reactions on a
    /// version up to this.
    #[prost(uint64, tag = "1")]
    pub(crate) closed: u64,
    /// In the order in which the kinds came.
    #[prost(message, repeated, tag = "2")]
    pub(crate) kinds: Vec<KindRow>,
}

/// The reactions of one kind.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct KindRow {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) latest: Vec<RefRow>,
}

/// A reaction in a list.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RefRow {
    /// Microseconds since the epoch.
    #[prost(uint64, tag = "1")]
    pub(crate) created_us: u64,
    #[prost(string, tag = "2")]
    pub(crate) id: String,
}

impl RefRow {
    /// Sorts newest first, then by id, as the index does.
    fn place(&self) -> (std::cmp::Reverse<u64>, &str) {
        (std::cmp::Reverse(self.created_us), &self.id)
    }
}

impl KindRow {
    fn is_whole(&self) -> bool {
        u64::try_from(self.latest.len()).is_ok_and(|kept| kept == self.count)
    }
}

impl TallyRow {
    /// The reactions of that kind.
    pub(crate) fn kind(&self, kind: &str) -> Option<&KindRow> {
        self.kinds.iter().find(|one| one.kind == kind)
    }

    /// Whether no reaction is counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.iter().all(|one| one.count == 0)
    }

    /// The newest over all kinds.
    pub(crate) fn newest(&self, limit: usize) -> Vec<(&str, &RefRow)> {
        let kinds = self.kinds.iter();
        let mut all: Vec<(&str, &RefRow)> =
            kinds.flat_map(|one| one.latest.iter().take(limit).map(|found| (one.kind.as_str(), found))).collect();
        all.sort_by(|a, b| a.1.place().cmp(&b.1.place()));
        all.truncate(limit);
        all
    }

    /// Counts one, and keeps it if it is among the `keep` newest.
    pub(crate) fn add(&mut self, kind: &str, one: RefRow, keep: usize) {
        let row = self.kind_mut(kind);
        let at = row.latest.partition_point(|other| other.place() < one.place());
        // Behind the last of a list that is cut off there may be others in between.
        if at < row.latest.len() || row.is_whole() {
            row.latest.insert(at, one);
            row.latest.truncate(keep);
        }
        row.count += 1;
    }

    /// Counts one less. True when the list has lost one and there are others to fill it up with.
    pub(crate) fn remove(&mut self, kind: &str, id: &str) -> bool {
        let row = self.kind_mut(kind);
        row.count = row.count.saturating_sub(1);
        let before = row.latest.len();
        row.latest.retain(|one| one.id != id);
        row.latest.len() < before && !row.is_whole()
    }

    /// Sets the newest of a kind, as they were read from the index.
    pub(crate) fn refill(&mut self, kind: &str, latest: Vec<RefRow>) {
        self.kind_mut(kind).latest = latest;
    }

    fn kind_mut(&mut self, kind: &str) -> &mut KindRow {
        let at = self.kinds.iter().position(|one| one.kind == kind).unwrap_or_else(|| {
            self.kinds.push(KindRow { kind: kind.to_owned(), ..KindRow::default() });
            self.kinds.len() - 1
        });
        self.kinds.get_mut(at).expect("it was found or pushed")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEEP: usize = 3;

    fn made(number: u64) -> RefRow {
        // Some are of the same time.
        RefRow { created_us: number / 2, id: format!("r{number}") }
    }

    proptest! {
        /// Against a plain list: counts are exact and the newest are the newest, whatever comes and goes.
        #[test]
        fn a_tally_equals_a_recount(calls in prop::collection::vec((any::<bool>(), 0_u64..20), 0..60)) {
            let mut tally = TallyRow::default();
            let mut all: Vec<RefRow> = Vec::new();
            for (adds, number) in calls {
                let one = made(number);
                let at = all.iter().position(|other| *other == one);
                match (adds, at) {
                    (true, None) => {
                        tally.add("like", one.clone(), KEEP);
                        all.push(one);
                    }
                    (false, Some(at)) => {
                        all.remove(at);
                        if tally.remove("like", &one.id) {
                            all.sort_by(|a, b| a.place().cmp(&b.place()));
                            tally.refill("like", all.iter().take(KEEP).cloned().collect());
                        }
                    }
                    _ => continue,
                }
                all.sort_by(|a, b| a.place().cmp(&b.place()));
                let row = tally.kind("like").expect("the kind stays");
                prop_assert_eq!(usize::try_from(row.count).expect("small"), all.len());
                prop_assert_eq!(&row.latest, &all.iter().take(KEEP).cloned().collect::<Vec<_>>());
                prop_assert_eq!(tally.is_empty(), all.is_empty());
            }
        }
    }

    #[test]
    fn the_newest_over_all_kinds() {
        let mut tally = TallyRow::default();
        for number in 0..6 {
            tally.add(if number % 2 == 0 { "like" } else { "comment" }, made(number), KEEP);
        }
        let newest: Vec<_> = tally.newest(3).into_iter().map(|(kind, one)| format!("{kind} {}", one.id)).collect();
        assert_eq!(newest, ["like r4", "comment r5", "like r2"]);
    }
}
