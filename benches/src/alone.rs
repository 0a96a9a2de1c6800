//! Keevo alone: one thing measured at a time, on nodes that start here and are ended again.
//!
//! Every line has the shape of a comparison's without the peer: what was done, the figures under `keevo`, the machine.

mod api_log;
mod fan_out;
mod groups;
mod idle;
mod report;
mod restart;
mod scale;
mod storm;

use std::path::PathBuf;

use clap::Args;
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::Result;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine::{self, Machine};
use crate::output::Output;
use crate::servers::{self, Cluster, Layout, programs};
use crate::target::Keevo;
use report::Report;

pub(crate) use api_log::{ApiLogArgs, run as api_log};
pub(crate) use fan_out::{FanOutArgs, run as fan_out};
pub(crate) use groups::{GroupsArgs, run as groups};
pub(crate) use idle::{IdleArgs, run as idle};
pub(crate) use restart::{RestartArgs, run as restart};
pub(crate) use scale::{ScaleArgs, run as scale};
pub(crate) use storm::{StormArgs, run as storm};

/// What every one of them is told.
#[derive(Debug, Args)]
struct Alone {
    /// The keevod to start (default: the one beside this program).
    #[arg(long, value_name = "PATH")]
    keevod: Option<PathBuf>,
    /// Where the nodes' folders are made, and removed afterwards (default: where temporary files go).
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Alone {
    /// Starts the nodes, has the work done, and ends them.
    async fn with_nodes(
        &self,
        layout: &Layout,
        work: impl AsyncFnOnce(&mut Cluster, &Machine) -> Result<()>,
    ) -> Result<(), Failure> {
        let keevod = programs::keevod(self.keevod.as_deref())?;
        let mut interrupt = Interrupt::catch()?;
        let folder = servers::parent_folder(self.dir.as_deref())?;
        let machine = Machine::look_and_warn(&folder)?;
        machine::quiet_or_note();
        let mut cluster = servers::start_keevo(&keevod, &folder, layout)?;
        let result = tokio::select! {
            result = work(&mut cluster, &machine) => result.map_err(Failure::from),
            () = interrupt.arrived() => Err(Failure::Interrupted),
        };
        servers::stop_all(vec![cluster]).await;
        result
    }
}

/// A client of the nodes, as the other commands use it.
async fn connect(cluster: &Cluster) -> Result<Keevo<RemoteEngine>> {
    let engine = RemoteEngine::connect(cluster.addresses().to_vec(), ClientOptions::default()).await?;
    Keevo::open(engine).await
}
