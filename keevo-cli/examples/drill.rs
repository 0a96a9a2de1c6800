//! `make drill`: what an operator does on a bad day, case by case, against real daemons. Ends with how many passed and how
//! many differences they found; exit code 1 unless all passed and none was found.

use std::io::Write;
use std::process::ExitCode;

use keevo_core::{Clock, SystemClock};

#[path = "../tests/drill/backup.rs"]
mod backup;
#[path = "../tests/drill/lab.rs"]
mod lab;

/// A case: what it does, and how.
type Case = (&'static str, fn(&std::path::Path) -> backup::Found);

const CASES: &[Case] = &[("load, back up, go on, destroy the cluster, restore with --to-time", backup::run)];

fn say(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

fn main() -> ExitCode {
    let (mut passed, mut differences) = (0, 0);
    for (what, run) in CASES {
        let clock = SystemClock::new();
        let started = clock.monotonic();
        let ended = std::panic::catch_unwind(|| {
            let folder = tempfile::tempdir().expect("a folder");
            run(folder.path())
        });
        let seconds = clock.monotonic().saturating_sub(started).as_secs();
        match ended {
            Ok(found) => {
                say(&format!(
                    "{what}: {} keys compared, {} differences, {seconds} s",
                    found.compared,
                    found.differences.len()
                ));
                found.differences.iter().take(20).for_each(|one| say(&format!("  {one}")));
                differences += found.differences.len();
                passed += usize::from(found.differences.is_empty());
            }
            Err(_said_already) => say(&format!("{what}: FAILED after {seconds} s")),
        }
    }
    say(&format!("drill: {passed} passed, {differences} differences"));
    ExitCode::from(u8::from(passed != CASES.len() || differences > 0))
}
