//! Programs of the operating system: `ip`, `iptables`, `mount`, `kill` and their like.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use keevo_core::{Error, ErrorKind, Result};

/// Where administration programs lie when the caller's `PATH` leaves them out.
const MORE_PATHS: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

/// `PATH` with the folders of administration programs.
pub(crate) fn path() -> String {
    std::env::var("PATH").map_or_else(|_| MORE_PATHS.to_owned(), |path| format!("{path}:{MORE_PATHS}"))
}

/// Whether a program can be found.
pub(crate) fn have(program: &str) -> bool {
    path().split(':').any(|folder| Path::new(folder).join(program).is_file())
}

/// Runs a program to its end and gives its standard output. `Io` when it cannot run or fails, with what it said.
pub(crate) fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path()).env("LC_ALL", "C").stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|error| Error::new(ErrorKind::Io, format!("{program} cannot be run")).with_source(error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let with: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).collect();
    let message = format!("{program} {} failed ({}): {}", with.join(" "), output.status, told.trim());
    Err(Error::new(ErrorKind::Io, message))
}

/// Runs a program whose arguments are words, separated by spaces.
pub(crate) fn words(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    run(program, &words.collect::<Vec<_>>())
}

/// Sends a signal, by name, to a process that this program started.
pub(crate) fn signal(name: &str, pid: u32) -> Result<()> {
    run("kill", &[format!("-{name}"), pid.to_string()]).map(drop)
}
