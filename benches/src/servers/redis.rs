//! One Redis on loopback that syncs its append-only file before it answers, as Keevo does.
//!
//! Its file is not rewritten meanwhile and no snapshots are made: neither costs it time, nor the side whose turn it is.

use std::ffi::OsString;
use std::path::Path;

use keevo_core::{Error, ErrorKind, Result};

use super::process::{Health, Spec};
use super::{Cluster, folder_of, free_addresses};

/// Starts it; its data goes to a folder made in `parent`.
pub(crate) fn start(program: &Path, parent: &Path) -> Result<Cluster> {
    let folder = folder_of("redis", parent)?;
    let (_, address, _) =
        free_addresses(1)?.pop().ok_or_else(|| Error::new(ErrorKind::Io, "no loopback port is free"))?;
    let mut arguments: Vec<OsString> = vec!["--dir".into(), folder.path().into()];
    for (flag, value) in [
        ("--bind", address.ip().to_string()),
        ("--port", address.port().to_string()),
        ("--appendonly", "yes".to_owned()),
        ("--appendfsync", "always".to_owned()),
        ("--auto-aof-rewrite-percentage", "0".to_owned()),
        ("--save", String::new()),
        ("--daemonize", "no".to_owned()),
    ] {
        arguments.extend([flag.into(), value.into()]);
    }
    let spec = Spec {
        name: "redis".to_owned(),
        program: program.to_owned(),
        arguments,
        foreign_variables: "REDIS_",
        log: folder.path().join("redis.log"),
        http: address,
        health: Health::Accepts,
        user: None,
    };
    Cluster::start(folder, vec![spec], vec![address.to_string()])
}
