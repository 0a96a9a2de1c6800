//! `keevo-cli cert`: files alone, no node.
//!
//! Invariant: nothing is overwritten unless that was asked for, a key's file is readable by its owner alone, and each file
//! is whole whenever it is read: it takes its place by one rename.

use std::fs;
use std::path::{Path, PathBuf};

use keevo_core::{Clock, Error, ErrorKind, SystemClock};
use keevo_tls::describe;
use keevo_tls::make::{Authority, Life, Pair};
use serde_json::json;

use crate::args::cert::{Cert, Hosts, Making};
use crate::connect::Context;
use crate::failure::Failure;
use crate::files::{self, OWNER_ONLY};
use crate::output::show;
use crate::render::Done;
use crate::render::cert::Certificates;

/// The client whose certificate comes with a new CA.
const ADMIN: &str = "admin";
const EVERYBODY: u32 = 0o644;

/// Carries out a command on certificates.
pub(crate) fn run(context: &Context, command: Cert) -> Result<(), Failure> {
    let clock = SystemClock::new();
    let life = |days| Life { now_ms: clock.now_ms(), days };
    match command {
        Cert::Init { dir, nodes, hosts, ca_days, days } => {
            fs::create_dir_all(&dir)
                .map_err(|error| Failure::io(&format!("{} cannot be made", dir.display()), error))?;
            let (pair, ca) = Authority::create("Keevo development CA", life(ca_days))?;
            let mut made = write(&dir, "ca", &pair, false)?;
            for id in 1..=nodes {
                let pair = ca.node(id, &named(&hosts), life(days))?;
                made.extend(write(&dir, &format!("node-{id}"), &pair, false)?);
            }
            made.extend(write(&dir, ADMIN, &ca.client(ADMIN, life(days))?, false)?);
            told(context, &made)
        }
        Cert::Node { id, hosts, making } => {
            let pair = open(&making)?.node(id, &named(&hosts), life(making.days))?;
            told(context, &write(&making.dir, &format!("node-{id}"), &pair, making.replace)?)
        }
        Cert::Client { name, making } => {
            // The name becomes that of a file.
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !name.chars().all(plain) || name.starts_with('.') || name == "ca" {
                let error = Error::invalid("a client's name has letters, digits, '-', '_' and '.', and is not ca");
                return Err(error.into());
            }
            let pair = open(&making)?.client(&name, life(making.days))?;
            told(context, &write(&making.dir, &name, &pair, making.replace)?)
        }
        Cert::Show { files } => {
            let mut found = Vec::new();
            for path in files {
                let pem = fs::read(&path)
                    .map_err(|error| Failure::io(&format!("{} cannot be read", path.display()), error))?;
                let infos = describe(&pem).map_err(|error| {
                    Error::new(error.kind(), format!("{}: {}", path.display(), error.message())).with_source(error)
                })?;
                found.extend(infos.into_iter().map(|info| (path.display().to_string(), info)));
            }
            show(context.output, &Certificates { found, now_ms: clock.now_ms() })
        }
    }
}

fn named(hosts: &Hosts) -> Vec<String> {
    if hosts.hosts.is_empty() {
        return ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    }
    hosts.hosts.clone()
}

fn open(making: &Making) -> Result<Authority, Failure> {
    let read = |name: &str| {
        let path = making.dir.join(name);
        fs::read_to_string(&path).map_err(|error| {
            let failure = Failure::io(&format!("{} cannot be read", path.display()), error);
            failure.advise("Make a CA with `keevo-cli cert init`, or name its folder with --dir.".to_owned())
        })
    };
    Ok(Authority::open(&read("ca.crt")?, &read("ca.key")?)?)
}

/// Writes NAME.crt and NAME.key. The key goes first: a node that reads in between keeps its old pair.
fn write(dir: &Path, name: &str, pair: &Pair, replace: bool) -> Result<Vec<PathBuf>, Failure> {
    let (cert, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    if !replace && let Some(there) = [&cert, &key].into_iter().find(|path| path.exists()) {
        let error = Error::new(ErrorKind::Conflict, format!("{} is there already", there.display()));
        return Err(Failure::with_advice(
            error,
            "Choose another folder; `cert node` and `cert client` take --replace.",
        ));
    }
    place(&key, &pair.key, OWNER_ONLY)?;
    place(&cert, &pair.cert, EVERYBODY)?;
    Ok(vec![cert, key])
}

pub(super) fn place(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    files::place(path, text, mode).map_err(|error| Failure::io(&format!("{} cannot be written", path.display()), error))
}

fn told(context: &Context, files: &[PathBuf]) -> Result<(), Failure> {
    let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let sentence = format!("made {}", names.join(", "));
    show(context.output, &Done { sentence, json: json!({ "files": names }) })
}
