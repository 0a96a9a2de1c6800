//! Whole clusters of Keevo in one process, replayed from a seed.
//!
//! A simulation runs real nodes (openraft, router, meta group, state machine, feeds and chat) on one thread over a
//! simulated network, clock and disk. The seed decides every delay, every fault and every choice, so what fails once
//! fails again, and the event log of two runs is the same to the byte.
//!
//! Keevo's own tests are `make sim`; a program of yours on [`keevo_core::Engine`] is tested the same way:
//!
//! ```no_run
//! use keevo_core::{Batch, Consistency, Engine, KeyspaceKind};
//! use keevo_sim::{Fault, Sim, Violation};
//!
//! let outcome = Sim::builder(7).nodes(3).faults([Fault::Crash, Fault::Partition]).run(|sim| async move {
//!     let engine = sim.engine();
//!     let keyspace = engine.keyspace("mine", KeyspaceKind::Hashed).await?;
//!     let key = keyspace.key("a", "b");
//!     engine.write(Batch::new().put(key.clone(), "1")).await?;
//!     sim.calm().await;
//!     match engine.get(key, Consistency::Linearizable).await? {
//!         Some(_) => Ok(()),
//!         None => Err(Violation::new("an acknowledged write is gone")),
//!     }
//! });
//! assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
//! ```
//!
//! Invariant: nothing in a simulation reads a wall clock, starts a thread, or asks the operating system for
//! randomness. Absent on purpose: RocksDB, gRPC and HTTP; what they add is tested with real processes.

mod app;
mod cluster;
mod engine;
mod event_log;
mod history;
mod invariant;
mod machine;
mod nemesis;
mod net;
mod observe;
mod panics;
mod plan;
mod random;
mod report;
mod runner;
mod runtime;
mod sim;
mod workload;
mod world;

pub use engine::SimEngine;
pub use plan::Fault;
pub use random::Dice;
pub use report::{Failure, Report};
pub use runner::{RunnerOptions, Summary, run_seeds, run_swarm};
pub use sim::{Sim, SimBuilder, Violation};
