//! The sizes of the stores: as set, or taken from the machine where they are `auto`.
//!
//! ```text
//! memory of the machine ── memory_percent ──▶ budget ──▶ block cache (memtables are charged to it)
//!                                               └─ a quarter ──▶ write buffers ──▶ when to flush, when to refuse
//! ```
//!
//! Invariant: what is `auto` follows from the machine and from the other settings alone, and `config print` says
//! what it comes to.

use std::path::PathBuf;
use std::sync::Arc;

use keevo_core::key_file::KeyRing;
use keevo_core::{Result, RocksOptions};
use keevo_raft::StorageLimits;

use super::{Layers, Machine};
use crate::stores::LogEngine;

const MIB: u64 = 1 << 20;
/// A budget below this is none.
const BUDGET_MIB_MIN: u64 = 64;
/// The largest write buffers that `auto` gives: what they hold is replayed after a crash.
const WRITE_BUFFER_MIB_AUTO_MAX: u64 = 256;
/// What part of the block cache the log's cache has beside it, ...
const LOG_CACHE_PART: u64 = 8;
/// ... and the least and the most.
const LOG_CACHE_BYTES_MIN: u64 = 4 * MIB;
const LOG_CACHE_BYTES_MAX: u64 = 64 * MIB;
const KEY_FILE: &str = "data_key_file";
const LOG_STORES: &str = "auto, segmented or rocksdb";
const SEGMENT_MIB: &str = "a number from 1 to 1024";
const JOBS_MIN: u64 = 2;
const JOBS_AUTO_MAX: u64 = 8;

/// The sizes and limits of a node's stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// The cache of blocks, filters and memtables, in bytes.
    pub block_cache_bytes: u64,
    /// The memtables, in bytes.
    pub write_buffer_bytes: u64,
    /// Threads for flushes and compactions.
    pub background_jobs: u64,
    /// The most bytes a second that flushes and compactions write; 0 = no limit.
    pub background_bytes_per_s_max: u64,
    /// When writers are slowed down and refused.
    pub limits: StorageLimits,
    /// The log store of a new node, and what an existing one must have; `None` takes what there is.
    pub log_engine: Option<LogEngine>,
    /// The size of a segment of the segmented log, in bytes.
    pub log_segment_bytes: u64,
    /// The keys that values and the log are sealed with; `None` = they are not.
    pub key_file: Option<PathBuf>,
}

impl StorageConfig {
    /// Reads the settings, for `machine`.
    pub(super) fn from_layers(layers: &Layers, machine: &Machine) -> Result<Self> {
        let percent: u64 = layers.parse("memory_percent", "a number from 1 to 90")?;
        if !(1..=90).contains(&percent) {
            return Err(layers.refuse("memory_percent", "a number from 1 to 90"));
        }
        let budget_mib = (machine.memory_bytes / MIB * percent / 100).max(BUDGET_MIB_MIN);
        let block_cache_mib = auto(layers, "block_cache_mib", budget_mib)?;
        let write_buffer_mib =
            auto(layers, "write_buffer_mib", (block_cache_mib / 4).clamp(8, WRITE_BUFFER_MIB_AUTO_MAX))?;
        let cpus = u64::try_from(machine.cpus).unwrap_or(JOBS_AUTO_MAX);
        let background_jobs = auto(layers, "background_jobs", cpus.clamp(JOBS_MIN, JOBS_AUTO_MAX))?;
        let flush_mib = auto(layers, "unflushed_mib_flush", (write_buffer_mib / 2).max(1))?;
        let unflushed_mib_max = auto(layers, "unflushed_mib_max", write_buffer_mib * 2)?;
        if flush_mib >= unflushed_mib_max {
            return Err(layers.refuse("unflushed_mib_flush", "less than unflushed_mib_max"));
        }
        Ok(Self {
            block_cache_bytes: bytes(layers, "block_cache_mib", block_cache_mib)?,
            write_buffer_bytes: bytes(layers, "write_buffer_mib", write_buffer_mib)?,
            background_jobs,
            background_bytes_per_s_max: mebibytes(layers, "background_mib_per_s")?,
            limits: StorageLimits {
                low_water_bytes: mebibytes(layers, "disk_low_water_mib")?,
                ballast_bytes: mebibytes(layers, "disk_ballast_mib")?,
                flush_bytes: bytes(layers, "unflushed_mib_flush", flush_mib)?,
                unflushed_bytes_max: bytes(layers, "unflushed_mib_max", unflushed_mib_max)?,
                unapplied_bytes_max: at_least_one(layers, "unapplied_mib_max")?,
            },
            log_engine: match layers.text("log_store").trim() {
                AUTO => None,
                name => Some(LogEngine::from_name(name).ok_or_else(|| layers.refuse("log_store", LOG_STORES))?),
            },
            log_segment_bytes: {
                let mib: u64 = layers.parse("log_segment_mib", SEGMENT_MIB)?;
                if !(1..=1024).contains(&mib) {
                    return Err(layers.refuse("log_segment_mib", SEGMENT_MIB));
                }
                mib * MIB
            },
            key_file: match (layers.text(KEY_FILE), layers.text("log_store").trim()) {
                ("", _) => None,
                (_, "rocksdb") => {
                    return Err(layers.refuse(KEY_FILE, "nothing with log_store rocksdb, which seals nothing"));
                }
                (path, _) => Some(PathBuf::from(path)),
            },
        })
    }

    /// The keys of `data_key_file`. `Config` where they cannot be read.
    pub fn keys(&self) -> Result<Option<Arc<KeyRing>>> {
        let path = self.key_file.as_ref();
        Ok(path.map(|path| KeyRing::open(KEY_FILE, path)).transpose()?.map(Arc::new))
    }

    /// The data store's options. `Config` where its keys cannot be read.
    pub fn data_store(&self) -> Result<RocksOptions> {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(RocksOptions {
            block_cache_bytes: size(self.block_cache_bytes),
            write_buffer_bytes: size(self.write_buffer_bytes),
            max_background_jobs: i32::try_from(self.background_jobs).unwrap_or(i32::MAX),
            background_bytes_per_s_max: self.background_bytes_per_s_max,
            keys: self.keys()?,
            ..RocksOptions::without_wal()
        })
    }

    /// How much of the end of the log is kept in memory, in bytes: for followers that are a little behind. A node that is
    /// given little memory takes what they lack from the disk.
    pub fn log_cache_bytes(&self) -> usize {
        let bytes = (self.block_cache_bytes / LOG_CACHE_PART).clamp(LOG_CACHE_BYTES_MIN, LOG_CACHE_BYTES_MAX);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// What every setting that is `auto` comes to, as comments of the file.
    pub(super) fn explain(&self, layers: &Layers, machine: &Machine) -> String {
        let found = [
            ("background_jobs", self.background_jobs, ""),
            ("block_cache_mib", self.block_cache_bytes / MIB, " MiB"),
            ("unflushed_mib_flush", self.limits.flush_bytes / MIB, " MiB"),
            ("unflushed_mib_max", self.limits.unflushed_bytes_max / MIB, " MiB"),
            ("write_buffer_mib", self.write_buffer_bytes / MIB, " MiB"),
        ];
        let found = found.into_iter().filter(|(name, ..)| layers.text(name) == AUTO);
        let lines: Vec<String> = found.map(|(name, value, unit)| format!("# {name} is {value}{unit} here\n")).collect();
        if lines.is_empty() {
            return String::new();
        }
        let memory = machine.memory_bytes / MIB;
        format!("# auto: of {memory} MiB of memory and {} processors\n{}", machine.cpus, lines.concat())
    }
}

/// The word for a size that the machine decides.
const AUTO: &str = "auto";

/// A setting that is a number from 1, or `auto`.
fn auto(layers: &Layers, name: &'static str, found: u64) -> Result<u64> {
    if layers.text(name).trim() == AUTO {
        return Ok(found);
    }
    let expected = "a number from 1, or auto";
    let value: u64 = layers.parse(name, expected)?;
    if value == 0 { Err(layers.refuse(name, expected)) } else { Ok(value) }
}

fn bytes(layers: &Layers, name: &'static str, mib: u64) -> Result<u64> {
    let fits = |bytes: &u64| isize::try_from(*bytes).is_ok();
    mib.checked_mul(MIB).filter(fits).ok_or_else(|| layers.refuse(name, "a number of MiB that this machine can count"))
}

/// A number of MiB; 0 turns it off.
fn mebibytes(layers: &Layers, name: &'static str) -> Result<u64> {
    let mib = layers.parse(name, "a number of MiB, 0 for none")?;
    bytes(layers, name, mib)
}

fn at_least_one(layers: &Layers, name: &'static str) -> Result<u64> {
    let found = mebibytes(layers, name)?;
    if found == 0 { Err(layers.refuse(name, "a number of MiB, at least 1")) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::ErrorKind;

    const MACHINE: Machine = Machine { memory_bytes: 8 << 30, cpus: 4 };

    fn config(flags: &[(&str, &str)], machine: &Machine) -> Result<StorageConfig> {
        let mut layers = Layers::defaults();
        for (name, value) in flags {
            layers.add_flag(name, value);
        }
        StorageConfig::from_layers(&layers, machine)
    }

    #[test]
    fn the_log_store_is_one_of_those_there_are() {
        assert_eq!(config(&[], &MACHINE).expect("good").log_engine, None);
        let chosen = config(&[("log_store", "rocksdb"), ("log_segment_mib", "8")], &MACHINE).expect("good");
        assert_eq!((chosen.log_engine, chosen.log_segment_bytes), (Some(LogEngine::Rocksdb), 8 * MIB));
        for wrong in [("log_store", "sqlite"), ("log_segment_mib", "0"), ("log_segment_mib", "1025")] {
            assert_eq!(config(&[wrong], &MACHINE).expect_err("refused").kind(), ErrorKind::Config, "{wrong:?}");
        }
    }

    #[test]
    fn values_are_sealed_where_the_log_is_too() {
        assert_eq!(config(&[], &MACHINE).expect("good").key_file, None);
        let sealed = config(&[(KEY_FILE, "/keys")], &MACHINE).expect("good");
        assert_eq!(sealed.key_file, Some(PathBuf::from("/keys")));
        let error = sealed.keys().expect_err("there is no such file");
        assert!(error.kind() == ErrorKind::Config && error.message().contains("data_key_file /keys"), "{error}");
        let error = config(&[(KEY_FILE, "/keys"), ("log_store", "rocksdb")], &MACHINE).expect_err("refused");
        assert!(error.kind() == ErrorKind::Config && error.message().starts_with(KEY_FILE), "{error}");
    }

    #[test]
    fn sizes_follow_from_the_machine_unless_they_are_set() {
        let auto = config(&[], &MACHINE).expect("good");
        assert_eq!(auto.block_cache_bytes, 1_638 * MIB, "a fifth of 8 GiB");
        assert_eq!(auto.write_buffer_bytes, 256 * MIB);
        assert_eq!(auto.background_jobs, 4);
        assert_eq!(auto.limits.flush_bytes, 128 * MIB);
        assert_eq!(auto.limits.unflushed_bytes_max, 512 * MIB);
        let small = config(&[], &Machine { memory_bytes: 512 << 20, cpus: 1 }).expect("good");
        assert_eq!((small.block_cache_bytes, small.write_buffer_bytes), (102 * MIB, 25 * MIB));
        assert_eq!(small.background_jobs, 2);
        let set = config(&[("block_cache_mib", "32"), ("unflushed_mib_max", "100")], &MACHINE).expect("good");
        assert_eq!((set.block_cache_bytes, set.write_buffer_bytes), (32 * MIB, 8 * MIB));
        assert_eq!(set.limits.unflushed_bytes_max, 100 * MIB);
        assert!(!set.data_store().expect("good").wal);
        for (mib, log_cache_mib) in [("8", 4), ("128", 16), ("4096", 64)] {
            let set = config(&[("block_cache_mib", mib)], &MACHINE).expect("good");
            assert_eq!(set.log_cache_bytes(), log_cache_mib << 20, "{mib}");
        }
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused_with_the_name_of_the_setting() {
        for (name, value) in [
            ("memory_percent", "0"),
            ("memory_percent", "91"),
            ("block_cache_mib", "0"),
            ("write_buffer_mib", "much"),
            ("write_buffer_mib", "99999999999999"),
            ("unapplied_mib_max", "0"),
            ("unflushed_mib_flush", "512"),
            ("disk_low_water_mib", "-1"),
        ] {
            let error = config(&[(name, value)], &MACHINE).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().starts_with(name), "{error}");
        }
    }

    #[test]
    fn what_is_auto_is_explained() {
        let mut layers = Layers::defaults();
        layers.add_flag("block_cache_mib", "100");
        let config = StorageConfig::from_layers(&layers, &MACHINE).expect("good");
        expect_test::expect![[r"
            # auto: of 8192 MiB of memory and 4 processors
            # background_jobs is 4 here
            # unflushed_mib_flush is 12 MiB here
            # unflushed_mib_max is 50 MiB here
            # write_buffer_mib is 25 MiB here
        "]]
        .assert_eq(&config.explain(&layers, &MACHINE));
    }
}
