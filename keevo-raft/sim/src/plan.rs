//! What a seed decides before anything happens: the shape of the cluster, which faults may strike, what runs.
//!
//! Swarm testing: every seed switches a random subset of the faults on, since some bugs show only where others do
//! not get in their way.

use keevo_raft::Timing;

use crate::random::Dice;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Two groups of nodes do not hear each other.
    Partition,
    /// A node is heard but does not hear, or the other way round.
    OneWay,
    /// Two groups hear each other only through one node.
    Bridge,
    /// A node's messages take long.
    Delay,
    /// Connections break, and what was on them is lost or comes late.
    Loss,
    /// Messages of a link wait, then come all at once.
    Hold,
    /// A node loses power and starts again.
    Crash,
    /// All nodes lose power at once.
    PowerCut,
    /// After a crash a part of what was not synced is on the disk.
    TornWrite,
    /// A process stands still, as after SIGSTOP, and goes on.
    Pause,
    /// A disk takes long to sync.
    SlowDisk,
    /// The log's disk fails; the process has to be started anew.
    LogError,
    /// The data store's writes fail for a while: input/output error, or no space all of a sudden.
    DataError,
    /// A disk has no room for a while: the node refuses writes before they fail.
    DataFull,
    /// The data store writes its memory to its disk when nobody asked.
    DataFlush,
    /// A wall clock jumps.
    ClockJump,
    /// Clocks run faster and slower than each other.
    ClockDrift,
    /// The leadership of a shard moves.
    Transfer,
    /// A node joins, and later leaves.
    Membership,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 19] = [
        Self::Partition,
        Self::OneWay,
        Self::Bridge,
        Self::Delay,
        Self::Loss,
        Self::Hold,
        Self::Crash,
        Self::PowerCut,
        Self::TornWrite,
        Self::Pause,
        Self::SlowDisk,
        Self::LogError,
        Self::DataError,
        Self::DataFull,
        Self::DataFlush,
        Self::ClockJump,
        Self::ClockDrift,
        Self::Transfer,
        Self::Membership,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Bridge => "bridge",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Hold => "hold",
            Self::Crash => "crash",
            Self::PowerCut => "power cut",
            Self::TornWrite => "torn write",
            Self::Pause => "pause",
            Self::SlowDisk => "slow disk",
            Self::LogError => "log error",
            Self::DataError => "data error",
            Self::DataFull => "disk full",
            Self::DataFlush => "data flush",
            Self::ClockJump => "clock jump",
            Self::ClockDrift => "clock drift",
            Self::Transfer => "transfer",
            Self::Membership => "membership",
        }
    }
}

/// Which workloads run.
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Workloads {
    pub(crate) registers: bool,
    pub(crate) counters: bool,
    pub(crate) bank: bool,
    pub(crate) watches: bool,
    pub(crate) feeds: bool,
    pub(crate) chat: bool,
}

/// How a run is set up.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: u64,
    pub(crate) shards: u32,
    pub(crate) replication_factor: u32,
    pub(crate) timing: Timing,
    pub(crate) flush_every_ms: u64,
    pub(crate) sync_ms: (u64, u64),
    pub(crate) delay_ms: (u64, u64),
    /// How much faster or slower than the world's a clock may run, in millionths.
    pub(crate) drift_per_million: u64,
    /// How far a wall clock may be off, in milliseconds.
    pub(crate) jump_ms: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) workloads: Workloads,
    /// How long faults strike, in milliseconds.
    pub(crate) chaos_ms: u64,
    /// When the run must be over, in milliseconds.
    pub(crate) limit_ms: u64,
    pub(crate) whole_log: bool,
}

impl Plan {
    /// A quiet cluster of three nodes and two data shards.
    pub(crate) fn quiet(seed: u64) -> Self {
        Self {
            seed,
            nodes: 3,
            shards: 2,
            replication_factor: 3,
            timing: Timing {
                heartbeat_ms: 100,
                election_ms_min: 500,
                election_ms_max: 1_000,
                drift_ms_max: 100,
                log_entries_kept: 100,
            },
            flush_every_ms: 700,
            sync_ms: (1, 4),
            delay_ms: (1, 8),
            drift_per_million: 0,
            jump_ms: 60_000,
            faults: Vec::new(),
            workloads: Workloads::default(),
            chaos_ms: 20_000,
            limit_ms: 600_000,
            whole_log: false,
        }
    }

    /// What the seed decides of shape, faults and workloads.
    pub(crate) fn swarm(seed: u64) -> Self {
        let dice = Dice::new(seed, 3);
        let mut plan = Self::quiet(seed);
        plan.nodes = if dice.chance(20) { 5 } else { 3 };
        plan.shards = u32::try_from(dice.between(1, 2)).unwrap_or(1);
        plan.timing.log_entries_kept = *dice.pick(&[2, 5, 20, 100, 1_000]).unwrap_or(&100);
        plan.flush_every_ms = dice.between(200, 1_500);
        plan.sync_ms = (1, dice.between(1, 12));
        plan.delay_ms = (1, dice.between(1, 20));
        plan.chaos_ms = dice.between(12_000, 30_000);
        plan.faults = Fault::ALL.into_iter().filter(|_| dice.chance(35)).collect();
        if !plan.faults.iter().any(|fault| matches!(fault, Fault::Partition | Fault::Crash | Fault::Pause)) {
            plan.faults.push(*dice.pick(&[Fault::Partition, Fault::Crash, Fault::Pause]).unwrap_or(&Fault::Crash));
        }
        let on = || dice.chance(60);
        plan.workloads = Workloads {
            registers: on(),
            counters: on(),
            bank: on(),
            watches: on(),
            feeds: dice.chance(35),
            chat: dice.chance(35),
        };
        if plan.workloads == Workloads::default() {
            plan.workloads.registers = true;
        }
        plan.set_up_for_faults();
        plan
    }

    /// The lease within which a restarted replica must not vote; 0 where a vote may be asked for at once.
    pub(crate) fn judged_lease_ms(&self) -> u64 {
        let asks = [Fault::Transfer, Fault::Membership].iter().any(|fault| self.faults.contains(fault));
        if asks { 0 } else { self.timing.election_ms_max }
    }

    /// Sets what follows from the faults.
    pub(crate) fn set_up_for_faults(&mut self) {
        // Feeds need wall clocks that are less than five seconds apart; leases need clocks that run within a few percent.
        let (drift, jump_ms) = if self.workloads.feeds { (5_000, 500) } else { (30_000, 60_000) };
        self.drift_per_million = if self.faults.contains(&Fault::ClockDrift) { drift } else { 0 };
        self.jump_ms = jump_ms;
        // A node that joins gets replicas only where there are too few.
        self.replication_factor = if self.faults.contains(&Fault::Membership) { 7 } else { 5 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_seeds_choose_every_fault_and_workload_and_no_two_the_same() {
        let plans: Vec<Plan> = (1..=100).map(Plan::swarm).collect();
        for fault in Fault::ALL {
            let chosen = plans.iter().filter(|plan| plan.faults.contains(&fault)).count();
            assert!((15..90).contains(&chosen), "{}: {chosen} of 100", fault.name());
        }
        let on = |is_on: fn(&Workloads) -> bool| plans.iter().any(|plan| is_on(&plan.workloads));
        assert!(on(|on| on.registers) && on(|on| on.counters) && on(|on| on.bank));
        assert!(on(|on| on.watches) && on(|on| on.feeds) && on(|on| on.chat));
        let mut shapes: Vec<String> = plans.iter().map(|plan| format!("{:?}", (&plan.faults, plan.chaos_ms))).collect();
        shapes.sort_unstable();
        shapes.dedup();
        assert_eq!(shapes.len(), plans.len());
    }

    #[test]
    fn feeds_get_clocks_that_are_less_than_five_seconds_apart() {
        for plan in (1..=200).map(Plan::swarm).filter(|plan| plan.workloads.feeds) {
            let drift_ms = 2 * plan.drift_per_million * 200_000 / 1_000_000;
            assert!(2 * plan.jump_ms + drift_ms < 5_000, "seed {}", plan.seed);
        }
    }
}
