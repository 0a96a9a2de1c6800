//! `make drill`: what an operator does on a bad day, case by case, against real daemons. Ends with how many passed and how
//! many differences they found; exit code 1 unless all passed and none was found.
//!
//! The cases of rights, tenants and certificates are the tests of `security`; each of them counts as one here.

use std::io::Write;
use std::process::{Command, ExitCode};

use keevo_core::{Clock, SystemClock};

#[path = "../tests/drill/backup.rs"]
mod backup;
#[path = "../tests/drill/demo.rs"]
mod demo;
#[path = "../tests/drill/flood.rs"]
mod flood;
#[path = "../tests/drill/lab.rs"]
mod lab;
#[path = "../tests/drill/purged.rs"]
mod purged;
#[path = "../tests/drill/replay.rs"]
mod replay;
#[path = "../tests/drill/rolling.rs"]
mod rolling;

/// A case: what it does, and how.
type Case = (&'static str, fn(&std::path::Path) -> lab::Found);

const CASES: &[Case] = &[
    ("keys: back up under load, destroy the cluster, restore with --to-time", backup::run),
    ("demo data: back up while it loads, destroy the cluster, restore with --to-time", demo::run),
    ("the demo's API log: replay into an empty cluster, twice", replay::run),
    ("calls that the log has purged, from its archive", purged::run),
    ("a flood of requests beyond an app's limit", flood::run),
    ("a rolling restart of three nodes under load", rolling::run),
];
/// The tests of `security` that a drill consists of: certificates under load, rights, tenants.
const SECURITY: [&str; 3] = ["security::rotation::", "security::rights::", "security::tenants::"];

fn say(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Runs the tests of `security`: how many passed, and how many did not.
fn security() -> (usize, usize) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--workspace", "--test", "security", "--"]).args(SECURITY);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            say(&format!("the tests of security cannot be run: {error}"));
            return (0, 1);
        }
    };
    let told = String::from_utf8_lossy(&output.stdout);
    let (mut passed, mut failed) = (0, 0);
    for line in told.lines() {
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) else {
            continue;
        };
        say(&format!("{}: {outcome}", name.trim_start_matches("security::")));
        if outcome == "ok" { passed += 1 } else { failed += 1 }
    }
    if !output.status.success() || passed == 0 {
        say(&told);
        say(&String::from_utf8_lossy(&output.stderr));
        failed = failed.max(1);
    }
    (passed, failed)
}

/// Runs a case: how many differences it found; nothing where it failed.
fn run((what, run): &Case) -> Option<usize> {
    let clock = SystemClock::new();
    let started = clock.monotonic();
    let ended = std::panic::catch_unwind(|| {
        let folder = tempfile::tempdir().expect("a folder");
        run(folder.path())
    });
    let seconds = clock.monotonic().saturating_sub(started).as_secs();
    let Ok(found) = ended else {
        say(&format!("{what}: FAILED after {seconds} s"));
        return None;
    };
    let differences = found.differences.len();
    say(&format!("{what}: {} compared, {differences} differences, {seconds} s", found.compared));
    found.figures.iter().for_each(|one| say(&format!("  {one}")));
    found.differences.iter().take(20).for_each(|one| say(&format!("  {one}")));
    Some(differences)
}

fn main() -> ExitCode {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |what: &str| only.is_empty() || only.iter().any(|part| what.contains(part.as_str()));
    let (mut passed, mut failed, mut differences) = (0, 0, 0);
    for case in CASES.iter().filter(|(what, _)| is_asked(what)) {
        let found = run(case);
        differences += found.unwrap_or_default();
        if found == Some(0) { passed += 1 } else { failed += 1 }
    }
    if is_asked("security") {
        let (held, broken) = security();
        passed += held;
        failed += broken;
    }
    say(&format!("drill: {passed} passed, {differences} differences"));
    ExitCode::from(u8::from(failed > 0 || differences > 0))
}
