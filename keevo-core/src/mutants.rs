//! Seeded defects, to test the tests: each breaks one promise on purpose, and the simulator must find it.
//!
//! They exist only in builds with the feature `mutants`, which no other build has: without it [`is_on`] is a constant
//! `false` and nothing of a defect is compiled. In such a build the environment variable `KEEVO_MUTANT` names the one
//! that is on; `make mutants` runs them all, and docs/TESTING.md tells what catches each.
//!
//! Invariant: a defect is a question at the place where its promise is kept; it never works by code of its own elsewhere.

/// A seeded defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// An append is confirmed before it is on the disk.
    SkipLogSync,
    /// A vote is confirmed before it is on the disk.
    VoteNotDurable,
    /// Whoever believes that it leads serves linearizable reads without a lease.
    StaleLeaseRead,
    /// A request that was applied already is applied again.
    LostDedup,
    /// The log is purged up to what is applied, and nothing is flushed before.
    PurgePastFlush,
    /// The applied index is durable before the data of its entries.
    AppliedApart,
    /// A watch drops the last change of a full page.
    WatchPageBorder,
    /// A fan-out writes to targets whose guard has moved on.
    GuardIgnored,
    /// A snapshot leaves what its sender has deleted.
    InstallKeepsOld,
    /// A replica votes, and stands for election, right after its start.
    VotesAfterRestart,
}

impl Mutant {
    /// Every mutant.
    pub const ALL: [Self; 10] = [
        Self::SkipLogSync,
        Self::VoteNotDurable,
        Self::StaleLeaseRead,
        Self::LostDedup,
        Self::PurgePastFlush,
        Self::AppliedApart,
        Self::WatchPageBorder,
        Self::GuardIgnored,
        Self::InstallKeepsOld,
        Self::VotesAfterRestart,
    ];

    /// Its name in `KEEVO_MUTANT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipLogSync => "skip-log-sync",
            Self::VoteNotDurable => "vote-not-durable",
            Self::StaleLeaseRead => "stale-lease-read",
            Self::LostDedup => "lost-dedup",
            Self::PurgePastFlush => "purge-past-flush",
            Self::AppliedApart => "applied-apart",
            Self::WatchPageBorder => "watch-page-border",
            Self::GuardIgnored => "guard-ignored",
            Self::InstallKeepsOld => "install-keeps-old",
            Self::VotesAfterRestart => "votes-after-restart",
        }
    }

    /// The mutant of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}

/// Whether `mutant` is on in this process.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn is_on(_mutant: Mutant) -> bool {
    false
}

/// Whether `mutant` is on in this process. A `KEEVO_MUTANT` that names none ends it: a run without a defect must not
/// count as one with it.
#[cfg(feature = "mutants")]
pub fn is_on(mutant: Mutant) -> bool {
    static ON: std::sync::LazyLock<Option<Mutant>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("KEEVO_MUTANT").unwrap_or_default();
        (!name.is_empty()).then(|| Mutant::from_name(&name).expect("KEEVO_MUTANT names a mutant"))
    });
    *ON == Some(mutant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_has_a_name_of_its_own() {
        for (at, mutant) in Mutant::ALL.into_iter().enumerate() {
            assert_eq!(Mutant::from_name(mutant.name()), Some(mutant));
            assert!(!Mutant::ALL[..at].contains(&mutant));
        }
        assert_eq!(Mutant::from_name("none"), None);
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn no_mutant_is_on_without_the_feature() {
        assert!(!Mutant::ALL.into_iter().any(is_on));
    }
}
