//! What the figures were taken on. Absolute figures do not carry between machines; this says which one it was.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use keevo_core::{Clock, Error, ErrorKind, Result, SystemClock};
use serde::Serialize;

use crate::output::note;

/// The load average beyond which a machine is not quiet.
const BUSY: f64 = 0.5;
/// How often a sync is timed.
const SYNCS: usize = 51;

/// The machine, as far as the figures depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Machine {
    /// Cores that this program may use.
    pub(crate) cores: usize,
    /// The processor's name; absent where the kernel does not tell.
    pub(crate) processor: Option<String>,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The file system of the servers' folders.
    pub(crate) filesystem: String,
    /// One fdatasync of 4 KiB there, in microseconds: the median of several.
    pub(crate) fdatasync_us: u64,
    /// How this program was built: `release` or `debug`.
    pub(crate) build: &'static str,
}

impl Machine {
    /// Looks at the machine; `folder` is where the servers' folders are made. `Io`: it cannot be written.
    pub(crate) fn look(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().map_err(|error| unusable(folder, error))?;
        let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| processor_of(&text));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor,
            kernel,
            filesystem: filesystem_of(&mounts, &folder).unwrap_or_else(|| "unknown".to_owned()),
            fdatasync_us: fdatasync_us(&folder).map_err(|error| unusable(&folder, error))?,
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        })
    }

    /// Looks at the machine, and says on standard error what makes the figures say less than they seem to.
    pub(crate) fn look_and_warn(folder: &Path) -> Result<Self> {
        let machine = Self::look(folder)?;
        for warning in machine.warnings() {
            note(&warning);
        }
        Ok(machine)
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let processor = self.processor.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        format!(
            "{} cores{processor}, Linux {}, {}, one fdatasync of 4 KiB {} µs, {} build",
            self.cores, self.kernel, self.filesystem, self.fdatasync_us, self.build
        )
    }

    /// What makes the figures say less than they seem to.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if matches!(self.filesystem.as_str(), "tmpfs" | "ramfs") {
            warnings.push(format!(
                "the servers' folders lie on {}, where a sync costs nothing: puts are not durable there; name a folder \
                 on a disk with --dir",
                self.filesystem
            ));
        }
        if self.build == "debug" {
            warnings.push("this is a debug build: its figures say nothing of how fast Keevo is".to_owned());
        }
        warnings
    }
}

/// The load average of the last minute, as the kernel prints it.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// The load average, with a word on standard error where the machine is not quiet.
pub(crate) fn quiet_or_note() -> String {
    let load = load_average();
    if load.parse::<f64>().is_ok_and(|load| load > BUSY) {
        note(&format!("other work runs on this machine (load average {load}): the figures will tell of it too"));
    }
    load
}

fn unusable(folder: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be used for the servers", folder.display())).with_source(error)
}

fn processor_of(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the mount that holds `folder`: the longest mount point that it lies under, the last one mounted there.
fn filesystem_of(mountinfo: &str, folder: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else { continue };
        let point = point.replace("\\040", " ");
        if folder.starts_with(&point) && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

fn fdatasync_us(folder: &Path) -> std::io::Result<u64> {
    let scratch = tempfile::tempdir_in(folder)?;
    let mut file = File::create(scratch.path().join("sync"))?;
    let clock = SystemClock::new();
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = clock.monotonic();
        file.write_all(&[0x5a; 4_096])?;
        file.sync_data()?;
        times.push(clock.monotonic().saturating_sub(began).as_micros());
    }
    times.sort_unstable();
    Ok(times.get(SYNCS / 2).and_then(|&median| u64::try_from(median).ok()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
30 27 0:27 / /tmp rw - tmpfs tmpfs rw
31 27 0:28 / /tmp/with\\040space rw - xfs /dev/vdb rw
";

    #[test]
    fn the_file_system_is_that_of_the_longest_mount_point() {
        for (folder, kind) in
            [("/var/lib", "ext4"), ("/tmp/a/b", "tmpfs"), ("/tmp/with space/a", "xfs"), ("/tmpfile", "ext4")]
        {
            assert_eq!(filesystem_of(MOUNTS, Path::new(folder)).as_deref(), Some(kind), "{folder}");
        }
        assert_eq!(filesystem_of("", Path::new("/")), None);
    }

    #[test]
    fn this_machine_is_described_and_a_file_system_in_memory_is_warned_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = Machine::look(folder.path()).expect("a folder that can be written");
        assert!(machine.cores >= 1 && !machine.kernel.is_empty(), "{machine:?}");
        assert!(machine.line().contains(&machine.kernel));
        let release = Machine { build: "release", filesystem: "ext4".to_owned(), ..machine };
        assert!(release.warnings().is_empty());
        assert_eq!(Machine { filesystem: "tmpfs".to_owned(), ..release.clone() }.warnings().len(), 1);
        assert_eq!(Machine { build: "debug", ..release }.warnings().len(), 1);
        assert_eq!(processor_of("a: b\nmodel name\t: AMD EPYC\n").as_deref(), Some("AMD EPYC"));
    }
}
