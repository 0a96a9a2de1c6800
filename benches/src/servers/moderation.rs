//! The moderation sidecar, and a traced model behind Flask, each on loopback.

use std::ffi::OsString;
use std::path::Path;

use keevo_core::{Error, ErrorKind, Result};

use super::process::{Health, Spec};
use super::{Cluster, folder_of, free_addresses};

/// Starts the sidecar with the model of a folder.
pub(crate) fn start_moderation(program: &Path, model: &Path, gpu: bool, parent: &Path) -> Result<Cluster> {
    let device = if gpu { "gpu" } else { "cpu" };
    start("the sidecar", program, parent, |address| {
        let arguments = ["serve", "--http", address, "--device", device, "--model"];
        arguments.into_iter().map(OsString::from).chain([model.into()]).collect()
    })
}

/// Starts Flask with the script `flask_server.py` of a folder.
pub(crate) fn start_flask(python: &Path, scripts: &Path, parent: &Path) -> Result<Cluster> {
    start("flask", python, parent, |address| {
        let port = address.rsplit(':').next().unwrap_or_default();
        vec![scripts.join("flask_server.py").into(), port.into()]
    })
}

fn start(name: &str, program: &Path, parent: &Path, arguments: impl FnOnce(&str) -> Vec<OsString>) -> Result<Cluster> {
    let folder = folder_of("server", parent)?;
    let (_, address, _) =
        free_addresses(1)?.pop().ok_or_else(|| Error::new(ErrorKind::Io, "no loopback port is free"))?;
    let spec = Spec {
        name: name.to_owned(),
        program: program.to_owned(),
        arguments: arguments(&address.to_string()),
        foreign_variables: "KEEVO_",
        log: folder.path().join("server.log"),
        http: address,
        health: Health::Http("/health"),
        user: None,
    };
    Cluster::start(folder, vec![spec], vec![address.to_string()])
}
