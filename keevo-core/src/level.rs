//! Levels: what the nodes of a cluster may write and say to each other, as one number.
//!
//! | level | brings | since |
//! | --- | --- | --- |
//! | 1 | all commands: batches, fan-outs, sessions, checksums, moves of the clock, rows of a backup, the archive's cursor | 0.1.0 |
//! | 2 | the level in the folder of a node | 0.1.0 |
//! | 3 | rows of a backup that say which restore sends them | 0.1.0 |
//!
//! A release knows a range of levels; a cluster is at one, which its shard map tells. It is raised, by a person, once every
//! node knows the next one, and never goes back.
//!
//! Invariant: nothing of a level is written before the cluster is at it, so a node that does not know it never meets it.

use std::fmt;

use crate::command::Command;

/// The levels that a release knows, both ends included. The default, 0 to 0, is that of a node that has not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Levels {
    /// The lowest level that a cluster may be at.
    pub min: u32,
    /// The highest.
    pub max: u32,
}

impl Levels {
    /// Those of this release.
    pub const OURS: Self = Self { min: 1, max: 3 };
    /// The level of what does not tell one: it is from before levels were told.
    pub const FIRST: u32 = 1;
    /// The level from which on rows of a backup say which restore sends them.
    pub const FENCED_RESTORE: u32 = 3;

    /// What a peer says of itself; one that says nothing is from before levels were told.
    pub fn told(min: u32, max: u32) -> Self {
        if max == 0 { Self { min: Self::FIRST, max: Self::FIRST } } else { Self { min, max } }
    }

    /// Whether a cluster at `level` can have such a node.
    pub fn contains(self, level: u32) -> bool {
        (self.min..=self.max).contains(&level)
    }

    /// Why a cluster at `level` cannot have `whose` node, and what to do; `None` where it can.
    pub fn refusal(self, level: u32, whose: impl fmt::Display) -> Option<String> {
        if level > self.max {
            return Some(format!(
                "the cluster is at level {level}, and {whose} knows levels {self} only: it is too old; install the release that \
                 the other nodes run"
            ));
        }
        (level < self.min).then(|| {
            format!(
                "the cluster is at level {level}, and {whose} knows levels {self} only: it is too new; install a release in \
                 between, restart all nodes with it, run `keevo-cli cluster upgrade --finalize`, and go on from there"
            )
        })
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

impl Command {
    /// The level from which on it may be written.
    pub fn level(&self) -> u32 {
        match self {
            Self::Restore(restore) if restore.fence.is_some() => Levels::FENCED_RESTORE,
            // The releases from before levels were told know all of these.
            Self::Write(_)
            | Self::FanOut(_)
            | Self::OpenSession(_)
            | Self::Checksum
            | Self::MoveClock
            | Self::Restore(_)
            | Self::Archived(_) => Levels::FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::{Archived, Restore, RestoreFence};

    #[test]
    fn a_node_outside_of_the_range_is_told_what_to_do() {
        let middle = Levels { min: 3, max: 4 };
        assert!(middle.refusal(3, "node 1").is_none() && middle.refusal(4, "node 1").is_none());
        let old = middle.refusal(5, "node 1").expect("too old");
        assert!(old.contains("node 1 knows levels 3 to 4") && old.contains("install the release"), "{old}");
        let new = middle.refusal(2, "this node").expect("too new");
        assert!(new.contains("too new") && new.contains("--finalize"), "{new}");
    }

    #[test]
    fn who_tells_no_levels_is_at_the_first() {
        assert_eq!(Levels::told(0, 0), Levels { min: 1, max: 1 });
        assert_eq!(Levels::told(2, 3), Levels { min: 2, max: 3 });
        assert!(Levels::OURS.contains(Command::MoveClock.level()));
        let archived = Command::Archived(Archived { from: 0, upto: 1 });
        assert_eq!(archived.level(), Levels::FIRST, "a cluster from before levels archives on, or its writes stop");
        let restore = |fence| Command::Restore(Restore { base: 0, rows: Vec::new(), fence });
        let fence = RestoreFence { restore: 1, source: 0, take: 1 };
        assert_eq!((restore(None).level(), restore(Some(fence)).level()), (Levels::FIRST, 3));
    }
}
