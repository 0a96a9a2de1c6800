//! What the operating system says of this process.
//!
//! Invariant: where it says nothing (no `/proc`), nothing is shown, rather than zero.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// How many times a second Linux counts processor time, as it tells processes.
const TICKS_PER_SECOND: u64 = 100;

/// What the process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Memory that it holds in the machine, in bytes.
    pub(crate) memory_bytes: u64,
    /// Processor time of all its threads, in microseconds.
    pub(crate) cpu_micros: u64,
    /// Files and sockets that it has open.
    pub(crate) open_files: u64,
    /// The most that it may have open.
    pub(crate) open_files_max: u64,
    /// Its threads.
    pub(crate) threads: u64,
}

impl Process {
    /// As of now; `None` where the system does not say.
    pub(crate) fn now() -> Option<Self> {
        let open_files = fs::read_dir("/proc/self/fd").ok()?.count();
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        let open_files = u64::try_from(open_files).unwrap_or(u64::MAX);
        Self::parse(&read("stat")?, &read("status")?, open_files)
    }

    /// Reads `/proc/PID/stat` and `/proc/PID/status`.
    fn parse(stat: &str, status: &str, open_files: u64) -> Option<Self> {
        // The name of the process may hold blanks and brackets; the third field follows it.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = |place: usize| fields.split_whitespace().nth(place - 3)?.parse::<u64>().ok();
        let cpu_micros = ticks(14)?.checked_add(ticks(15)?)?.checked_mul(1_000_000 / TICKS_PER_SECOND)?;
        let field = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            text.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        Some(Self {
            memory_bytes: field("VmRSS")?.checked_mul(1 << 10)?,
            cpu_micros,
            open_files,
            open_files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            threads: field("Threads")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_system_is_read() {
        let stat = "7 (a )b) S 1 7 7 0 -1 4 9 0 0 0 250 50 0 0 20 0 12 0 99 4096 25";
        let status = "Name:\ta )b\nVmRSS:\t    100 kB\nThreads:\t12\n";
        let process = Process::parse(stat, status, 5).expect("both");
        assert_eq!((process.memory_bytes, process.cpu_micros), (100 << 10, 3_000_000));
        assert_eq!((process.open_files, process.threads), (5, 12));
        for (stat, status) in [("", status), ("7 (x", status), ("7 (x) S 1", status), (stat, ""), (stat, "VmRSS: a kB")]
        {
            assert_eq!(Process::parse(stat, status, 5), None, "{stat} {status}");
        }
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let Some(now) = Process::now() else { return };
        assert!(
            now.memory_bytes > 1 << 20
                && now.threads >= 1
                && now.open_files >= 3
                && now.open_files_max > now.open_files,
            "{now:?}"
        );
    }
}
