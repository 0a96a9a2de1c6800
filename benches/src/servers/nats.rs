//! One NATS server on loopback with JetStream that syncs its files after every message, as Keevo does.

use std::ffi::OsString;
use std::path::Path;

use keevo_core::{Error, ErrorKind, Result};

use super::process::{Health, Spec};
use super::{Cluster, folder_of, free_addresses};

/// Starts it; its data goes to a folder made in `parent`.
pub(crate) fn start(program: &Path, parent: &Path) -> Result<Cluster> {
    let folder = folder_of("nats", parent)?;
    let (_, address, _) =
        free_addresses(1)?.pop().ok_or_else(|| Error::new(ErrorKind::Io, "no loopback port is free"))?;
    let file = folder.path().join("nats.conf");
    let store = folder.path().join("store");
    let settings = format!(
        "listen: \"{address}\"\njetstream {{\n  store_dir: {:?}\n  sync_interval: always\n}}\n",
        store.display().to_string()
    );
    std::fs::write(&file, settings)
        .map_err(|error| Error::new(ErrorKind::Io, "the settings of NATS cannot be written").with_source(error))?;
    let arguments: Vec<OsString> = vec!["--config".into(), file.into()];
    let spec = Spec {
        name: "nats".to_owned(),
        program: program.to_owned(),
        arguments,
        foreign_variables: "NATS_",
        log: folder.path().join("nats.log"),
        http: address,
        health: Health::Accepts,
        user: None,
    };
    Cluster::start(folder, vec![spec], vec![address.to_string()])
}
