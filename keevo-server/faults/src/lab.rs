//! The laboratory: what this machine can do, and how a round goes.
//!
//! ```text
//! load starts ─▶ calls are answered ─▶ faults ─▶ everything is healed ─▶ calls are answered ─▶ all is read back and
//! checked ─▶ replica hashes are equal
//! ```
//!
//! Invariant: a round passes only if its faults happened, its load was answered before and after them, every checker is
//! content and all replicas hold the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keevo_core::{Clock, Error, ErrorKind, Random, Result, SeededRandom, SystemClock};

use crate::args::Args;
use crate::cases::Case;
use crate::cluster::{Cluster, Settings};
use crate::disks;
use crate::isolate::Privileges;
use crate::load::{Load, Outcome, PROGRESS_WITHIN};
use crate::network::Network;
use crate::node::Node;
use crate::output::say;
use crate::tally::{Faults, Tally};
use crate::tools;

/// Calls that must be answered before the faults and after them, for a round to mean anything.
pub(crate) const CALLS: u64 = 300;

/// The laboratory.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) args: Args,
    pub(crate) folder: PathBuf,
    pub(crate) privileges: Privileges,
    pub(crate) random: SeededRandom,
    pub(crate) clock: SystemClock,
    pub(crate) tally: Tally,
    /// Whether keevod was built with failpoints.
    pub(crate) failpoints: bool,
    pub(crate) network: Network,
    keevod: PathBuf,
    rounds: u64,
}

impl Lab {
    /// Looks at what there is and says it.
    pub(crate) fn open(args: Args, folder: PathBuf, seed: u64) -> Result<Self> {
        let privileges = args.inside.as_deref().map_or(Privileges::None, Privileges::named);
        let network = match privileges {
            Privileges::None => Network::loopback(),
            _ if tools::have("ip") && tools::have("nsenter") => Network::bridge()?,
            _ => {
                tools::words("ip link set lo up").map(drop).unwrap_or_default();
                Network::loopback()
            }
        };
        let keevod = keevod(&args)?;
        let failpoints = has_failpoints(&keevod);
        let lab = Self {
            privileges,
            random: SeededRandom::new(seed),
            clock: SystemClock::new(),
            tally: Tally::default(),
            failpoints,
            network,
            keevod,
            rounds: 0,
            folder,
            args,
        };
        let place = match lab.privileges {
            Privileges::Root => "namespaces of its own, as root",
            Privileges::User => "namespaces of its own, as root of a user namespace",
            Privileges::None => "plain loopback: there are no privileges for namespaces, or none were asked for",
        };
        say(&format!(
            "faults: seed {seed}; {place}; keevod {} failpoints",
            if failpoints { "with" } else { "without" }
        ));
        Ok(lab)
    }

    /// Why a case cannot run here; nothing if it can.
    pub(crate) fn left_out(&self, case: Case) -> Option<String> {
        let root = || (self.privileges != Privileges::Root).then(|| "it mounts images, which needs root".to_owned());
        match case {
            Case::Failpoints => (!self.failpoints).then(|| "keevod was built without failpoints".to_owned()),
            Case::Partition => (!self.network.has_faults())
                .then(|| "it drops packets, which needs namespaces, ip and iptables".to_owned()),
            Case::Power => root().or_else(disks::missing_for_power_cuts),
            Case::DiskFull if self.privileges == Privileges::None => Some("it mounts a small disk".to_owned()),
            Case::DiskFull | Case::Kill | Case::Pause | Case::Flips | Case::Wiped | Case::FanOut | Case::Chat => None,
            Case::Clock => crate::cases::clock::library().is_none().then(|| "libfaketime is not installed".to_owned()),
        }
    }

    /// A cluster of three nodes of its own for a case; it runs and is ready.
    pub(crate) async fn cluster(&self, case: Case, settings: Settings) -> Result<Cluster> {
        let mut cluster = self.cluster_in(&self.folder.join(case.name()), settings)?;
        cluster.start().await?;
        Ok(cluster)
    }

    /// A cluster with its data in `folder`, not started.
    pub(crate) fn cluster_in(&self, folder: &Path, settings: Settings) -> Result<Cluster> {
        Cluster::new(&self.keevod, folder, self.network, settings)
    }

    /// How many rounds a case has.
    pub(crate) fn rounds(&self, case: Case) -> u32 {
        self.args.rounds.unwrap_or_else(|| case.rounds())
    }

    /// Whether there is time for another round.
    pub(crate) fn has_time(&self) -> bool {
        self.clock.monotonic() < Duration::from_secs(self.args.seconds)
    }

    /// A seed for a load, different from all others of this run.
    fn next_seed(&mut self) -> u64 {
        self.rounds += 1;
        self.random.next_u64() ^ self.rounds
    }

    /// An index below `bound`.
    pub(crate) fn pick(&self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.below(bound)).unwrap_or(0)
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.random.next_u64() % bound.max(1)
    }

    /// One round, with faults made by `inject`, which notes those that happened. Says how it went; whether it passed.
    pub(crate) async fn round(
        &mut self,
        what: &Round<'_>,
        cluster: &mut Cluster,
        inject: impl AsyncFnOnce(&mut Cluster, &Load, &mut Faults) -> Result<()>,
    ) -> bool {
        let began = self.clock.monotonic();
        let mut faults = Faults::new();
        let seed = self.next_seed();
        let name = format!("{}-{}", what.case.name(), self.rounds);
        let done = round(what, &name, seed, cluster, &mut faults, inject).await;
        self.note(what, done, faults, began, cluster)
    }

    /// Notes how a round went and says it. Faults that did not happen are a failure.
    pub(crate) fn note(
        &mut self,
        what: &Round<'_>,
        done: Result<Outcome>,
        faults: Faults,
        began: Duration,
        cluster: &Cluster,
    ) -> bool {
        let took = self.clock.monotonic().saturating_sub(began).as_secs_f64();
        let title = format!("{:<10} {}", what.case.name(), what.detail);
        let mut outcome = match done {
            Ok(outcome) => outcome,
            Err(error) => Outcome { complaints: vec![error.to_string()], ..Outcome::default() },
        };
        if faults.values().all(|&count| count == 0) {
            outcome.complaints.push("no fault happened".to_owned());
        }
        self.tally.checked += outcome.checked;
        self.tally.in_doubt += outcome.unknown;
        let happened: Vec<_> = faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        for (kind, count) in faults {
            *self.tally.faults.entry(kind).or_default() += count;
        }
        let sum =
            format!("{} calls, {} in doubt, {}, {took:.1} s", outcome.checked, outcome.unknown, happened.join(", "));
        if outcome.complaints.is_empty() {
            self.tally.passed += 1;
            say(&format!("ok      {title}: {sum}"));
            return true;
        }
        self.tally.failed += 1;
        say(&format!("FAILED  {title}: {sum}"));
        for complaint in &outcome.complaints {
            say(&format!("        {complaint}"));
        }
        for node in cluster.nodes.values() {
            say(&format!("        node {} last said: {}", node.id, Node::last_line(node)));
        }
        false
    }
}

/// A round, for its title and its checks.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    pub(crate) case: Case,
    pub(crate) detail: &'a str,
    /// Whether answers that tell of damaged bytes are in order.
    pub(crate) damage: bool,
}

async fn round(
    what: &Round<'_>,
    name: &str,
    seed: u64,
    cluster: &mut Cluster,
    faults: &mut Faults,
    inject: impl AsyncFnOnce(&mut Cluster, &Load, &mut Faults) -> Result<()>,
) -> Result<Outcome> {
    let load = Load::start(cluster, name, seed, what.damage).await?;
    load.wait_for(CALLS, PROGRESS_WITHIN).await?;
    let injected = inject(cluster, &load, faults).await;
    let seen = if injected.is_err() { cluster.describe().await } else { String::new() };
    let dropped = cluster.heal()?;
    injected.map_err(|error| Error::new(error.kind(), format!("{}{seen}", error.message())))?;
    if dropped > 0 {
        *faults.entry("packets_dropped").or_default() += dropped;
    }
    cluster.wait_ready().await?;
    load.wait_for(CALLS, PROGRESS_WITHIN).await?;
    let mut outcome = load.finish(cluster).await?;
    if let Err(error) = cluster.agree().await {
        outcome.complaints.push(error.to_string());
    }
    Ok(outcome)
}

/// The keevod to test.
fn keevod(args: &Args) -> Result<PathBuf> {
    let beside = || -> std::io::Result<PathBuf> { Ok(std::env::current_exe()?.with_file_name("keevod")) };
    let keevod = args.keevod.clone().map_or_else(beside, Ok);
    let keevod =
        keevod.map_err(|error| Error::new(ErrorKind::Io, "this program's own place is unknown").with_source(error))?;
    if keevod.is_file() {
        return Ok(keevod);
    }
    Err(Error::new(ErrorKind::NotFound, format!("{} is no file: build keevod first", keevod.display())))
}

/// Only a keevod with failpoints takes the variable that arms one.
fn has_failpoints(keevod: &Path) -> bool {
    let mut command = std::process::Command::new(keevod);
    command.args(["config", "print"]).env("KEEVO_FAILPOINT", "none");
    command.output().is_ok_and(|output| output.status.success())
}
