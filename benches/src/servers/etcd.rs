//! Three etcd members on loopback, with etcd's defaults: every put is synced to the disk of a majority.

use std::ffi::OsString;
use std::path::Path;

use keevo_core::Result;

use super::process::{Health, Spec};
use super::{Cluster, NODES, folder_of, free_addresses};

/// Starts the members; their data goes to a folder made in `parent`.
pub(crate) fn start(program: &Path, parent: &Path) -> Result<Cluster> {
    let folder = folder_of("etcd", parent)?;
    let addresses = free_addresses(NODES)?;
    let members = addresses.iter().map(|(id, _, peer)| format!("node-{id}=http://{peer}"));
    let members = members.collect::<Vec<_>>().join(",");
    let mut specs = Vec::new();
    for (id, client, peer) in &addresses {
        let name = format!("node-{id}");
        let mut arguments: Vec<OsString> = vec!["--data-dir".into(), folder.path().join(&name).into()];
        for (flag, value) in [
            ("--name", name.clone()),
            ("--listen-client-urls", format!("http://{client}")),
            ("--advertise-client-urls", format!("http://{client}")),
            ("--listen-peer-urls", format!("http://{peer}")),
            ("--initial-advertise-peer-urls", format!("http://{peer}")),
            ("--initial-cluster", members.clone()),
            ("--initial-cluster-state", "new".to_owned()),
        ] {
            arguments.extend([flag.into(), value.into()]);
        }
        specs.push(Spec {
            name: format!("etcd {name}"),
            program: program.to_owned(),
            arguments,
            foreign_variables: "ETCD_",
            log: folder.path().join(format!("{name}.log")),
            http: *client,
            health: Health::Http("/health"),
            user: None,
        });
    }
    let clients = addresses.iter().map(|(_, client, _)| client.to_string()).collect();
    Cluster::start(folder, specs, clients)
}
