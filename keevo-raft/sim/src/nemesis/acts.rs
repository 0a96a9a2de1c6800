//! What each fault does, and how it is undone.

use keevo_core::{Error, ErrorKind, Result, ShardId};

use super::{Nemesis, Undo};
use crate::cluster::Cluster;
use crate::machine::{Machine, address};
use crate::plan::Fault;
use crate::sim::Sim;

/// How long after a power cut there is no other one.
const POWER_CUT_PAUSE_MS: u64 = 4_000;
/// How long after a crash another node may lose its power at the moment of its vote.
const VOTERS_CRASH_MS: u64 = 5_000;

impl Nemesis {
    /// Strikes with a fault, if there is something to strike.
    pub(super) fn strike(&mut self, cluster: &mut Cluster, fault: Fault, now_ms: u64) -> Result<()> {
        let struck = match fault {
            Fault::Partition | Fault::OneWay | Fault::Bridge | Fault::Delay | Fault::Loss | Fault::Hold => {
                self.strike_network(cluster, fault, now_ms)
            }
            Fault::Crash | Fault::TornWrite => self.crash(cluster, fault, now_ms),
            Fault::PowerCut => self.power_cut(cluster, now_ms),
            Fault::Pause => self.pause(cluster, now_ms),
            Fault::SlowDisk | Fault::LogError | Fault::DataError | Fault::DataFull | Fault::DataFlush => {
                self.strike_disk(cluster, fault, now_ms)?
            }
            Fault::ClockJump => self.jump(cluster),
            Fault::ClockDrift => true,
            Fault::Transfer => self.transfer(cluster),
            Fault::Membership => self.join(cluster, now_ms)?,
        };
        if struck {
            cluster.site.wires.world.count_fault(fault.name());
        }
        Ok(())
    }

    fn up(cluster: &Cluster) -> Vec<u64> {
        cluster.machines.values().filter(|machine| machine.is_up()).map(|machine| machine.id).collect()
    }

    fn pick_up(&self, cluster: &Cluster) -> Option<u64> {
        self.dice.pick(&Self::up(cluster)).copied()
    }

    fn strike_network(&mut self, cluster: &mut Cluster, fault: Fault, now_ms: u64) -> bool {
        let nodes = self.shuffled(cluster);
        let [first, second, ..] = nodes.as_slice() else { return false };
        let (first, second) = (*first, *second);
        let wires = cluster.site.wires.clone();
        let until_ms = now_ms + self.dice.between(300, 6_000);
        match fault {
            Fault::Delay => {
                let extra = self.dice.between(20, 700);
                wires.world.note(format_args!("fault: n{first} is up to {extra} ms slower"));
                wires.with_links(|links| links.slow.insert(first, extra));
                self.later(until_ms, Undo::Quicken(first));
            }
            Fault::Loss => {
                let per_mille = self.dice.between(5, 80);
                wires.world.note(format_args!("fault: {per_mille} of 1000 messages break their connection"));
                wires.with_links(|links| links.loss_per_mille = per_mille);
                self.later(until_ms, Undo::StopLoss);
            }
            Fault::Hold => {
                wires.world.note(format_args!("fault: messages between n{first} and n{second} wait"));
                wires.with_links(|links| {
                    links.hold(first, second);
                    links.hold(second, first);
                });
                self.later(now_ms + self.dice.between(100, 2_500), Undo::Release);
            }
            _ => {
                let pairs = self.cut_pairs(fault, &nodes);
                let refuses = self.dice.chance(30);
                wires.world.note(format_args!("fault: {} cuts {pairs:?}", fault.name()));
                wires.with_links(|links| pairs.iter().for_each(|&(from, to)| links.cut(from, to, refuses)));
                self.later(until_ms, Undo::Mend(pairs));
            }
        }
        true
    }

    /// The links that a partition of that kind cuts.
    fn cut_pairs(&self, fault: Fault, nodes: &[u64]) -> Vec<(u64, u64)> {
        let both = |one: &[u64], other: &[u64]| -> Vec<(u64, u64)> {
            one.iter().flat_map(|&a| other.iter().flat_map(move |&b| [(a, b), (b, a)])).collect()
        };
        match (fault, nodes) {
            (Fault::OneWay, [first, others @ ..]) => {
                let is_deaf = self.dice.chance(50);
                others.iter().map(|&other| if is_deaf { (other, *first) } else { (*first, other) }).collect()
            }
            (Fault::Bridge, [_bridge, sides @ ..]) => {
                let (left, right) = sides.split_at(sides.len() / 2);
                both(left, right)
            }
            _ => {
                let bound = u64::try_from(nodes.len()).unwrap_or(2);
                let at = usize::try_from(self.dice.between(1, bound.saturating_sub(1))).unwrap_or(1);
                let (left, right) = nodes.split_at(at.min(nodes.len()));
                both(left, right)
            }
        }
    }

    fn shuffled(&self, cluster: &Cluster) -> Vec<u64> {
        let mut nodes: Vec<(u64, u64)> = cluster.machines.keys().map(|&id| (self.dice.next_u64(), id)).collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|(_, id)| id).collect()
    }

    /// Whoever is down, others vote soon: one of them may be next.
    pub(super) fn crash_a_voter(&mut self, cluster: &mut Cluster, now_ms: u64) {
        let voters = cluster.site.observer.take_voters();
        if now_ms >= self.voters_crash_until_ms {
            return;
        }
        let Some(node) = voters.into_iter().find(|_| self.dice.chance(50)) else { return };
        self.voters_crash_until_ms = 0;
        if self.crash_node(cluster, node, false, now_ms) {
            cluster.site.wires.world.count_fault("crash at a vote");
        }
    }

    fn crash(&mut self, cluster: &mut Cluster, fault: Fault, now_ms: u64) -> bool {
        let Some(node) = self.pick_up(cluster) else { return false };
        let torn = fault == Fault::TornWrite || (self.faults.contains(&Fault::TornWrite) && self.dice.chance(50));
        self.voters_crash_until_ms = now_ms + VOTERS_CRASH_MS;
        self.crash_node(cluster, node, torn, now_ms)
    }

    fn crash_node(&mut self, cluster: &mut Cluster, node: u64, torn: bool, now_ms: u64) -> bool {
        let site = cluster.site.clone();
        let crashed = cluster.machines.get_mut(&node).is_some_and(|machine| machine.crash(&site, torn));
        self.later(now_ms + self.dice.between(20, 5_000), Undo::Start(node));
        crashed
    }

    fn power_cut(&mut self, cluster: &mut Cluster, now_ms: u64) -> bool {
        // Time for the nodes to come back and lead again: a run of nothing but power cuts shows nothing.
        if now_ms < self.no_power_cut_ms {
            return false;
        }
        self.no_power_cut_ms = now_ms + POWER_CUT_PAUSE_MS;
        let nodes = Self::up(cluster);
        let torn = self.faults.contains(&Fault::TornWrite);
        let site = cluster.site.clone();
        for &node in &nodes {
            if let Some(machine) = cluster.machines.get_mut(&node) {
                machine.crash(&site, torn && self.dice.chance(50));
            }
            self.later(now_ms + self.dice.between(20, 2_500), Undo::Start(node));
        }
        !nodes.is_empty()
    }

    fn pause(&mut self, cluster: &mut Cluster, now_ms: u64) -> bool {
        let Some(node) = self.pick_up(cluster) else { return false };
        cluster.site.wires.world.note(format_args!("fault: n{node} stands still"));
        if let Some(machine) = cluster.machines.get_mut(&node) {
            machine.paused = true;
        }
        self.later(now_ms + self.dice.between(100, 4_000), Undo::Resume(node));
        true
    }

    fn strike_disk(&mut self, cluster: &mut Cluster, fault: Fault, now_ms: u64) -> Result<bool> {
        let Some(node) = self.pick_up(cluster) else { return Ok(false) };
        cluster.site.wires.world.note(format_args!("fault: {} on n{node}", fault.name()));
        let Some(machine) = cluster.machines.get_mut(&node) else { return Ok(false) };
        let until_ms = now_ms + self.dice.between(200, 4_000);
        match fault {
            Fault::SlowDisk => {
                machine.sync_ms = (20, self.dice.between(30, 700));
                self.later(until_ms, Undo::QuickDisk(node));
            }
            Fault::LogError => {
                let kind = if self.dice.chance(50) { ErrorKind::Io } else { ErrorKind::ResourceExhausted };
                machine.fail_log(kind);
                self.later(until_ms, Undo::Restart(node));
            }
            Fault::DataFull => {
                machine.fill_disk();
                self.later(until_ms, Undo::WholeDisk(node));
            }
            Fault::DataError => {
                let kind = if self.dice.chance(70) { ErrorKind::Io } else { ErrorKind::ResourceExhausted };
                machine.data().set_fault(Some(Error::new(kind, "the simulated disk refuses the write")));
                self.later(until_ms, Undo::WholeDisk(node));
            }
            _ => machine.flush_data().or_else(|error| match error.kind() {
                // The disk is refusing already.
                ErrorKind::Io | ErrorKind::ResourceExhausted => Ok(()),
                _ => Err(error),
            })?,
        }
        Ok(true)
    }

    fn jump(&mut self, cluster: &mut Cluster) -> bool {
        let Some(node) = self.pick_up(cluster) else { return false };
        let far = cluster.site.plan.jump_ms;
        let by = i64::try_from(self.dice.below(2 * far + 1)).unwrap_or_default() - i64::try_from(far).unwrap_or(0);
        cluster.site.wires.world.note(format_args!("fault: the wall clock of n{node} is off by {by} ms"));
        if let Some(machine) = cluster.machines.get(&node) {
            machine.clock.set_offset_ms(by);
        }
        true
    }

    fn transfer(&mut self, cluster: &mut Cluster) -> bool {
        let Some(node) = self.pick_up(cluster) else { return false };
        let shard = ShardId(self.dice.below(u64::from(cluster.site.plan.shards) + 1));
        cluster.site.wires.world.note(format_args!("fault: s{shard} is to be led by n{node}"));
        let sim = cluster.sim.clone();
        cluster.clients.spawn(async move {
            let outcome = sim.engine().transfer(shard, node).await;
            sim.note(format_args!(
                "the transfer of s{shard} to n{node}: {:?}",
                outcome.err().map(|error| error.kind())
            ));
        });
        true
    }

    fn join(&mut self, cluster: &mut Cluster, now_ms: u64) -> Result<bool> {
        if cluster.sim.with_members(|members| members.changing > 0) {
            return Ok(false);
        }
        let node = self.next_node;
        self.next_node += 1;
        let site = cluster.site.clone();
        let mut machine = Machine::new(&site, node, true);
        machine.start(&site)?;
        cluster.machines.insert(node, machine);
        let sim = cluster.sim.clone();
        sim.with_members(|members| members.changing += 1);
        cluster.clients.spawn(async move {
            change_members(&sim, node, Change::Join).await;
            sim.with_members(|members| members.nodes.push(node));
        });
        self.later(now_ms + self.dice.between(3_000, 12_000), Undo::Remove(node));
        Ok(true)
    }

    pub(super) fn undo(cluster: &mut Cluster, undo: &Undo, now_ms: u64) -> Result<()> {
        let site = cluster.site.clone();
        site.wires.world.note(format_args!("over: {undo:?}"));
        match *undo {
            Undo::Mend(ref pairs) => {
                site.wires.with_links(|links| pairs.iter().for_each(|&(from, to)| links.mend(from, to)));
            }
            Undo::Quicken(node) => drop(site.wires.with_links(|links| links.slow.remove(&node))),
            Undo::StopLoss => site.wires.with_links(|links| links.loss_per_mille = 0),
            Undo::Release => site.wires.release(),
            Undo::Remove(node) => remove(cluster, node),
            Undo::Start(node)
            | Undo::Restart(node)
            | Undo::Resume(node)
            | Undo::QuickDisk(node)
            | Undo::WholeDisk(node) => {
                let is_removed = cluster.sim.is_removed(node);
                let Some(machine) = cluster.machines.get_mut(&node) else { return Ok(()) };
                match undo {
                    Undo::Restart(_) => {
                        machine.crash(&site, false);
                        machine.start(&site)?;
                    }
                    Undo::Resume(_) => machine.resume(now_ms),
                    Undo::QuickDisk(_) => machine.sync_ms = site.plan.sync_ms,
                    Undo::WholeDisk(_) => machine.mend_disk(),
                    _ if !machine.is_up() && !is_removed => machine.start(&site)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Has a node leave the cluster, once it is in it.
pub(super) fn remove(cluster: &mut Cluster, node: u64) {
    let sim = cluster.sim.clone();
    sim.with_members(|members| members.changing += 1);
    cluster.clients.spawn(async move {
        while !sim.with_members(|members| members.nodes.contains(&node)) {
            tokio::time::sleep(PAUSE).await;
        }
        sim.with_members(|members| members.nodes.retain(|&one| one != node));
        change_members(&sim, node, Change::Remove).await;
        sim.with_members(|members| members.removed.push(node));
    });
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Join,
    Remove,
}

/// How long to wait before a change of the members is tried again.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Changes the members, again and again until it is done; one change after the other.
async fn change_members(sim: &Sim, node: u64, change: Change) {
    loop {
        let outcome = match change {
            Change::Join => sim.engine().join(node, &address(node)).await,
            Change::Remove => sim.engine().remove(node).await,
        };
        sim.note(format_args!("{change:?} of n{node}: {:?}", outcome.as_ref().err().map(ToString::to_string)));
        if outcome.is_ok() {
            sim.with_members(|members| members.changing -= 1);
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
