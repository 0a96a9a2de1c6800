//! The nemesis: strikes with the faults that the plan allows, and undoes each after a while.
//!
//! Invariant: whatever it does is undone by the time it says that the faults are over.

mod acts;

use std::collections::BTreeMap;

use keevo_core::Result;

use crate::cluster::Cluster;
use crate::plan::{Fault, Plan};
use crate::random::Dice;

/// How a fault ends.
#[derive(Debug, Clone)]
pub(crate) enum Undo {
    Mend(Vec<(u64, u64)>),
    Quicken(u64),
    StopLoss,
    Release,
    Start(u64),
    /// Power off and on, of a process that can't go on.
    Restart(u64),
    Resume(u64),
    QuickDisk(u64),
    WholeDisk(u64),
    /// The node leaves the cluster.
    Remove(u64),
}

/// Decides which fault strikes when.
#[derive(Debug)]
pub(crate) struct Nemesis {
    pub(crate) dice: Dice,
    faults: Vec<Fault>,
    chaos_ms: u64,
    next_ms: u64,
    /// Until then no power cut takes all nodes: there was one just now.
    no_power_cut_ms: u64,
    /// Until then a node may lose its power right after it has voted.
    voters_crash_until_ms: u64,
    until_ms: u64,
    undo: BTreeMap<(u64, u64), Undo>,
    next_undo: u64,
    calm: bool,
    /// The id that the next node to join gets.
    pub(crate) next_node: u64,
}

impl Nemesis {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            dice: Dice::new(plan.seed, 5),
            faults: plan.faults.clone(),
            chaos_ms: plan.chaos_ms,
            next_ms: u64::MAX,
            no_power_cut_ms: 0,
            voters_crash_until_ms: 0,
            until_ms: u64::MAX,
            undo: BTreeMap::new(),
            next_undo: 0,
            calm: false,
            next_node: plan.nodes + 1,
        }
    }

    /// The cluster is ready: from now on faults may strike.
    pub(crate) fn begin(&mut self, now_ms: u64) {
        self.next_ms = now_ms + self.dice.between(200, 2_000);
        self.until_ms = now_ms + self.chaos_ms;
    }

    /// Does what is due.
    pub(crate) fn step(&mut self, cluster: &mut Cluster, now_ms: u64) -> Result<()> {
        if self.calm {
            return Ok(());
        }
        if now_ms >= self.until_ms {
            self.calm = true;
            self.leave_members(cluster);
            return cluster.calm(now_ms);
        }
        while let Some(first) = self.undo.first_entry() {
            if first.key().0 > now_ms {
                break;
            }
            let undo = first.remove();
            Self::undo(cluster, &undo, now_ms)?;
        }
        self.crash_a_voter(cluster, now_ms);
        if now_ms >= self.next_ms {
            self.next_ms = now_ms + self.dice.between(100, 3_000);
            if let Some(&fault) = self.dice.pick(&self.faults) {
                self.strike(cluster, fault, now_ms)?;
            }
        }
        Ok(())
    }

    fn later(&mut self, at_ms: u64, undo: Undo) {
        self.undo.insert((at_ms, self.next_undo), undo);
        self.next_undo += 1;
    }

    /// Changes of the members that were still to come happen now.
    fn leave_members(&mut self, cluster: &mut Cluster) {
        let due: Vec<Undo> = std::mem::take(&mut self.undo).into_values().collect();
        for undo in due {
            if let Undo::Remove(node) = undo {
                acts::remove(cluster, node);
            }
        }
    }
}
