//! The kinds of faults, each a case with rounds on a cluster of its own.

mod backlog;
mod chat;
pub(crate) mod clock;
mod disk_full;
mod failpoints;
mod fan_out;
mod flips;
mod kill;
mod partition;
mod pause;
mod power;
mod rebuild;
mod wiped;

use clap::ValueEnum;
use keevo_core::Result;

use crate::lab::Lab;
use crate::output::say;

/// A case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// `kill -9` of one node, of two and of all, at random times.
    Kill,
    /// SIGSTOP of leaders past their leases, and of followers.
    Pause,
    /// Packets that do not arrive: leaders and followers cut off, in one direction or in both, a bridge, loss.
    Partition,
    /// `kill -9` at every failpoint.
    Failpoints,
    /// Power cut of all nodes.
    Power,
    /// Wall clocks that jump.
    Clock,
    /// A disk that runs full, and has space again.
    DiskFull,
    /// Flipped bits in the files of a stopped node.
    Flips,
    /// A node that lost its disk.
    Wiped,
    /// `kill -9` in the middle of a post to 22,000 followers.
    FanOut,
    /// `kill -9` of leaders of chat's channels while many send, and many watch on sockets that drop and resume.
    Chat,
}

impl Case {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::Failpoints => "failpoints",
            Self::Power => "power",
            Self::Clock => "clock",
            Self::DiskFull => "disk-full",
            Self::Flips => "flips",
            Self::Wiped => "wiped",
            Self::FanOut => "fan-out",
            Self::Chat => "chat",
        }
    }

    /// How many rounds it has unless told otherwise. Failpoints and flips: of each.
    pub(crate) fn rounds(self) -> u32 {
        match self {
            Self::Failpoints | Self::Flips | Self::Wiped | Self::Chat => 1,
            Self::Clock | Self::DiskFull | Self::FanOut => 2,
            Self::Pause => 3,
            Self::Kill | Self::Power => 5,
            Self::Partition => 6,
        }
    }
}

/// Runs the cases that were asked for. What cannot run here is left out, and that is said.
pub(crate) async fn run(lab: &mut Lab) -> Result<()> {
    for &case in Case::value_variants() {
        if !lab.args.only.is_empty() && !lab.args.only.contains(&case) {
            continue;
        }
        if let Some(why) = lab.left_out(case) {
            say(&format!("left out {}: {why}", case.name()));
            continue;
        }
        if !lab.has_time() {
            say(&format!("left out {}: the time is over", case.name()));
            continue;
        }
        // Boxed: a case's future holds a cluster, a load and what it is doing to them.
        let done = match case {
            Case::Kill => Box::pin(kill::run(lab)).await,
            Case::Pause => Box::pin(pause::run(lab)).await,
            Case::Partition => Box::pin(partition::run(lab)).await,
            Case::Failpoints => Box::pin(failpoints::run(lab)).await,
            Case::Power => Box::pin(power::run(lab)).await,
            Case::Clock => Box::pin(clock::run(lab)).await,
            Case::DiskFull => Box::pin(disk_full::run(lab)).await,
            Case::Flips => Box::pin(flips::run(lab)).await,
            Case::Wiped => Box::pin(wiped::run(lab)).await,
            Case::FanOut => Box::pin(fan_out::run(lab)).await,
            Case::Chat => Box::pin(chat::run(lab)).await,
        };
        if let Err(error) = done {
            lab.tally.failed += 1;
            say(&format!("FAILED  {}: {error}", case.name()));
        }
    }
    Ok(())
}
