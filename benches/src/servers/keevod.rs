//! Nodes of keevod on loopback, started as the README does it; three with the default settings unless asked otherwise.

use std::ffi::OsString;
use std::path::Path;

use keevo_core::Result;

use super::process::{Health, Spec};
use super::{Cluster, Layout, folder_of, free_addresses};

/// Starts the nodes; their data goes to a folder made in `parent`.
pub(crate) fn start(program: &Path, parent: &Path, layout: &Layout) -> Result<Cluster> {
    let folder = folder_of("keevo", parent)?;
    let addresses = free_addresses(layout.nodes)?;
    let peers = addresses.iter().map(|(id, grpc, _)| format!("{id}={grpc}")).collect::<Vec<_>>().join(",");
    let mut specs = Vec::new();
    for (id, grpc, http) in &addresses {
        let name = format!("node-{id}");
        let mut arguments: Vec<OsString> = vec!["--data-dir".into(), folder.path().join(&name).into()];
        for (flag, value) in [
            ("--node-id", id.to_string()),
            ("--grpc", grpc.to_string()),
            ("--http", http.to_string()),
            ("--peers", peers.clone()),
        ] {
            arguments.extend([flag.into(), value.into()]);
        }
        for (flag, value) in &layout.flags {
            arguments.extend([flag.into(), value.into()]);
        }
        specs.push(Spec {
            name: format!("keevod {name}"),
            program: program.to_owned(),
            arguments,
            foreign_variables: "KEEVO_",
            log: folder.path().join(format!("{name}.log")),
            http: *http,
            health: Health::Http("/ready"),
            user: None,
        });
    }
    let clients = addresses.iter().map(|(_, grpc, _)| grpc.to_string()).collect();
    Cluster::start(folder, specs, clients)
}
