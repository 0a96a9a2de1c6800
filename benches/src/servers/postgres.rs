//! One PostgreSQL on loopback, with its defaults but for the size of its buffers: every commit is synced.
//!
//! PostgreSQL refuses to run as root. There its cluster belongs to the user `postgres`, whom Debian's package makes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keevo_core::{Error, ErrorKind, Result};

use super::process::{Health, Spec};
use super::{Cluster, folder_of, free_addresses};

/// The user of PostgreSQL where this program runs as root.
const USER: &str = "postgres";
/// The size of its buffers; the default of 128 MiB would not hold the timelines.
const SHARED_BUFFERS: &str = "512MB";

/// Makes a new cluster in a folder made in `parent`, and starts it. `Io`: it cannot be made.
pub(crate) fn start(program: &Path, parent: &Path) -> Result<Cluster> {
    let folder = folder_of("postgres", parent)?;
    let data = folder.path().join("data");
    let user = owner(folder.path())?;
    init(&program.with_file_name("initdb"), &data, user)?;
    let (_, address, _) =
        free_addresses(1)?.pop().ok_or_else(|| Error::new(ErrorKind::Io, "no loopback port is free"))?;
    let mut arguments: Vec<OsString> = vec!["-D".into(), data.into()];
    for setting in [
        format!("listen_addresses={}", address.ip()),
        format!("port={}", address.port()),
        "unix_socket_directories=".to_owned(),
        format!("shared_buffers={SHARED_BUFFERS}"),
    ] {
        arguments.extend(["-c".into(), setting.into()]);
    }
    let spec = Spec {
        name: "postgres".to_owned(),
        program: program.to_owned(),
        arguments,
        foreign_variables: "PG",
        log: folder.path().join("postgres.log"),
        http: address,
        health: Health::Accepts,
        user,
    };
    Cluster::start(folder, vec![spec], vec![address.to_string()])
}

/// As whom it runs: nobody else, or Debian's user where this program is root; the folder is given to that user.
fn owner(folder: &Path) -> Result<Option<(u32, u32)>> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("{} cannot be given to {USER}", folder.display())).with_source(error)
    };
    if !is_root() {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").map_err(failed)?;
    let (user, group) = ids_of(&accounts, USER).ok_or_else(|| {
        Error::invalid(format!(
            "PostgreSQL does not run as root, and there is no user {USER}: run this as another user"
        ))
    })?;
    chown(folder, Some(user), Some(group)).map_err(failed)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    Ok(Some((user, group)))
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    ids.split_whitespace().nth(1) == Some("0")
}

/// The ids of a user and its group in the text of `/etc/passwd`.
fn ids_of(accounts: &str, name: &str) -> Option<(u32, u32)> {
    let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = fields.into_iter().find(|fields| fields.first() == Some(&name))?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

fn init(program: &PathBuf, data: &Path, user: Option<(u32, u32)>) -> Result<()> {
    let mut command = Command::new(program);
    command.arg("-D").arg(data).args(["-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
    command.stdin(Stdio::null()).current_dir("/");
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    let failed = || Error::new(ErrorKind::Io, format!("{} made no cluster", program.display()));
    let output = command.output().map_err(|error| failed().with_source(error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next_back().unwrap_or("it says nothing");
    Err(Error::new(ErrorKind::Io, format!("{} made no cluster: {said}", program.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\npostgresql:x:1:2::/:/bin/sh\npostgres:x:101:103::/:/bin/sh\n";
        assert_eq!(ids_of(accounts, "postgres"), Some((101, 103)));
        assert_eq!(ids_of(accounts, "nobody"), None);
        assert_eq!(ids_of("postgres:x:a:b", "postgres"), None);
    }
}
