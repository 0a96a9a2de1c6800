//! What the machine has: memory, as far as this process may use it, processors, and files that may be open.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the sizes that are `auto` are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// The memory of the machine, or the control group's limit where that is lower, in bytes.
    pub memory_bytes: u64,
    /// Processors that this process may use.
    pub cpus: usize,
}

/// Where neither the machine nor a control group tells its memory.
const MEMORY_BYTES_UNKNOWN: u64 = 1 << 30;

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { memory_bytes: memory_bytes(Path::new("/")), cpus }
    }
}

/// What a node may come to need: the tables that RocksDB keeps open (2,048), a file a segment of the log, connections.
const OPEN_FILES_WANTED: u64 = 8_192;

/// Lets this process open as many files as the machine allows it to, and warns where that is few.
pub fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            limit.current
        }
    };
    if let Some(files) = files.filter(|files| *files < OPEN_FILES_WANTED) {
        tracing::warn!(files, "few files may be open at once: allow {OPEN_FILES_WANTED} (ulimit -n, LimitNOFILE=)");
    }
}

/// The memory under a file system's root: `MemTotal`, or the lowest limit of the process's control groups.
fn memory_bytes(root: &Path) -> u64 {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let total = read("proc/meminfo").lines().find_map(|line| {
        let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim();
        kib.parse::<u64>().ok()?.checked_mul(1 << 10)
    });
    let groups = read("proc/self/cgroup");
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (folder, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        // A limit of any group above holds too; in a container the outer ones are often not to be seen.
        let path = Path::new(path.trim_start_matches('/'));
        let above = path.ancestors().map(|group| Path::new(folder).join(group).join(file));
        above.filter_map(|file| read(&file.to_string_lossy()).trim().parse::<u64>().ok()).collect()
    });
    limits.chain(total).filter(|bytes| *bytes > 0).min().unwrap_or(MEMORY_BYTES_UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> u64 {
        let dir = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("written");
        }
        memory_bytes(dir.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_lowest_limit_counts() {
        assert_eq!(machine(&[]), MEMORY_BYTES_UNKNOWN);
        assert_eq!(machine(&[MEMINFO]), 16 << 30);
        let second = [
            MEMINFO,
            ("proc/self/cgroup", "0::/pod/keevo\n"),
            ("sys/fs/cgroup/pod/keevo/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "2147483648\n"),
        ];
        assert_eq!(machine(&second), 2 << 30, "the limit of the group above");
        let first = [
            MEMINFO,
            ("proc/self/cgroup", "3:cpu:/a\n2:memory:/a\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n"),
        ];
        assert_eq!(machine(&first), 1 << 30);
        let none = [
            MEMINFO,
            ("proc/self/cgroup", "2:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(machine(&none), 16 << 30, "the first version's word for no limit");
    }

    #[test]
    fn every_file_that_may_be_opened_is_allowed() {
        raise_open_files_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn this_machine_has_memory_and_processors() {
        let machine = Machine::this();
        assert!(machine.memory_bytes > 64 << 20 && machine.cpus >= 1, "{machine:?}");
    }
}
