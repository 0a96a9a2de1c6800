//! What server processes use while they are measured, from `/proc`.
//!
//! CPU is user and system time, in the kernel's ticks of 10 ms. Memory is the resident set. Bytes written are what
//! the kernel counts as sent towards the disk for the process: whole pages, more than once where a page is synced,
//! filled further and synced again.

use std::fs;
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};

use crate::window::Window;

/// A tick of `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that Keevo runs on.
const TICK: Duration = Duration::from_millis(10);
/// The time between two looks at the memory.
const EVERY: Duration = Duration::from_millis(200);

/// What several processes used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// The largest sum of resident sets that was seen, in bytes.
    pub(crate) rss_bytes_max: u64,
    /// Bytes written; absent where the kernel does not tell.
    pub(crate) written_bytes: Option<u64>,
}

impl Usage {
    /// Adds a later run of the same processes.
    #[must_use]
    pub(crate) fn and(self, later: Self) -> Self {
        Self {
            cpu: self.cpu + later.cpu,
            rss_bytes_max: self.rss_bytes_max.max(later.rss_bytes_max),
            written_bytes: self.written_bytes.zip(later.written_bytes).map(|(one, two)| one + two),
        }
    }
}

/// Watches processes over the window, and returns at its end. `Unavailable`: one of them has ended.
pub(crate) async fn over(pids: &[u32], window: &Window) -> Result<Usage> {
    tokio::time::sleep(window.until_start()).await;
    let before = Counters::of(pids)?;
    let mut rss_bytes_max = rss_bytes(pids)?;
    loop {
        let left = window.until_end();
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(left.min(EVERY)).await;
        rss_bytes_max = rss_bytes_max.max(rss_bytes(pids)?);
    }
    Ok(Counters::of(pids)?.since(before, rss_bytes_max))
}

/// Watches processes while `work` runs; returns what both gave.
pub(crate) async fn until<T>(pids: &[u32], work: impl Future<Output = Result<T>>) -> Result<(Usage, T)> {
    let before = Counters::of(pids)?;
    let mut rss_bytes_max = rss_bytes(pids)?;
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done?,
            () = tokio::time::sleep(EVERY) => {
                rss_bytes_max = rss_bytes_max.max(rss_bytes(pids)?);
            }
        }
    };
    let after = Counters::of(pids)?;
    Ok((after.since(before, rss_bytes_max.max(rss_bytes(pids)?)), done))
}

/// These processes, and those of their children that stay: PostgreSQL's helpers that come and go are left out.
pub(crate) fn with_children(pids: &[u32]) -> Vec<u32> {
    let mut all = pids.to_vec();
    for pid in pids {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok());
            all.extend(children.filter(|child| stays(*child)));
        }
    }
    all
}

fn stays(pid: u32) -> bool {
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    !title.is_empty() && !title.contains("autovacuum worker") && !title.contains("parallel worker")
}

/// What grows with the life of processes.
#[derive(Debug, Clone, Copy)]
struct Counters {
    cpu: Duration,
    written_bytes: Option<u64>,
}

impl Counters {
    /// What was used since `before`.
    fn since(self, before: Self, rss_bytes_max: u64) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            rss_bytes_max,
            written_bytes: self.written_bytes.zip(before.written_bytes).map(|(end, start)| end.saturating_sub(start)),
        }
    }

    fn of(pids: &[u32]) -> Result<Self> {
        let mut all = Self { cpu: Duration::ZERO, written_bytes: Some(0) };
        for &pid in pids {
            all.cpu += parsed(pid, "stat", cpu_of_stat)?;
            // Not every kernel keeps these counters, and some keep them to themselves.
            let written = fs::read_to_string(format!("/proc/{pid}/io")).ok().and_then(|text| written_of_io(&text));
            all.written_bytes = all.written_bytes.zip(written).map(|(sum, one)| sum + one);
        }
        Ok(all)
    }
}

/// The resident sets of these processes together, in bytes.
pub(crate) fn rss_bytes(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|&pid| parsed(pid, "status", rss_of_status)).sum()
}

fn parsed<T>(pid: u32, file: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    let path = format!("/proc/{pid}/{file}");
    let ended = || Error::new(ErrorKind::Unavailable, format!("process {pid} has ended while it was measured"));
    let text = fs::read_to_string(&path).map_err(|error| ended().with_source(error))?;
    parse(&text).ok_or_else(ended)
}

/// User and system time. The second field, the program's name in parentheses, may hold anything.
fn cpu_of_stat(text: &str) -> Option<Duration> {
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    let user: u32 = fields.nth(10)?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    // A zombie keeps its times: it is no server any more.
    (state != "Z" && state != "X").then(|| TICK * user + TICK * system)
}

fn rss_of_status(text: &str) -> Option<u64> {
    let kib: u64 =
        text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1_024)
}

fn written_of_io(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4242 (a (b) c) S 1 4242 4242 0 -1 4194304 99 0 0 0 1234 66 7 8 20 0 9 0 12374 31 384 184467\n";

    #[test]
    fn times_are_the_14th_and_15th_field_of_stat() {
        assert_eq!(cpu_of_stat(STAT), Some(Duration::from_secs(13)));
        assert_eq!(cpu_of_stat(&STAT.replace(") S ", ") Z ")), None, "a zombie");
        for broken in ["", "4242 (a", "4242 (a) S 1 2 3", &STAT.replace("1234", "x")] {
            assert_eq!(cpu_of_stat(broken), None, "{broken}");
        }
    }

    #[test]
    fn resident_sets_and_written_bytes_are_found_by_name() {
        let status = "Name:\tetcd\nVmHWM:\t    9999 kB\nVmRSS:\t    1716 kB\nRssAnon:\t 116 kB\n";
        assert_eq!(rss_of_status(status), Some(1_716 * 1_024));
        assert_eq!(rss_of_status("Name:\tetcd\n"), None, "a zombie has no memory");
        assert_eq!(rss_of_status("VmRSS:\t 7 MB\n"), None);
        let io = "rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 40960\ncancelled_write_bytes: 5\n";
        assert_eq!(written_of_io(io), Some(40_960));
        assert_eq!(written_of_io("wchar: 2\ncancelled_write_bytes: 5\n"), None);
    }

    #[tokio::test]
    async fn only_what_happens_within_the_window_counts() {
        let window = Window::after(Duration::ZERO, Duration::from_millis(300));
        let own = [std::process::id()];
        let burn = async {
            while !window.until_end().is_zero() {
                std::hint::black_box((0..10_000).sum::<u64>());
                tokio::task::yield_now().await;
            }
        };
        let (usage, ()) = tokio::join!(over(&own, &window), burn);
        let usage = usage.expect("our own process");
        assert!(usage.cpu >= Duration::from_millis(20), "{usage:?}");
        assert!(usage.rss_bytes_max >= 1 << 20, "{usage:?}");
        let doubled = usage.and(usage);
        assert_eq!((doubled.cpu, doubled.rss_bytes_max), (usage.cpu * 2, usage.rss_bytes_max));
    }

    #[tokio::test]
    async fn children_are_found_beside_their_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        let own = std::process::id();
        // A process has no title until it has become its program.
        let mut seen = false;
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let all = with_children(&[own]);
            assert_eq!(all.first(), Some(&own));
            seen = all.contains(&child.id());
            if seen {
                break;
            }
        }
        assert!(seen, "{:?}", with_children(&[own]));
        child.kill().expect("it ran");
        child.wait().expect("it has ended");
        assert_eq!(with_children(&[u32::MAX]), [u32::MAX]);
    }

    #[tokio::test]
    async fn a_process_that_is_gone_is_an_error() {
        let window = Window::after(Duration::ZERO, Duration::from_millis(1));
        let error = over(&[u32::MAX], &window).await.expect_err("no such process");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
