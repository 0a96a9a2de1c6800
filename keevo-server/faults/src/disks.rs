//! Disks that lose power or run full.
//!
//! Power cut: an ext4 image that lies on btrfs, mounted through a loop device. `cp --reflink=always` of the image is the
//! instant of the cut: it holds what had reached the device by then, and not what still waited in the kernel for a sync.
//!
//! Invariant: mounts are made in the program's own mount namespace and go with it; nothing here outlives the program.

use std::path::{Path, PathBuf};

use keevo_core::{Error, ErrorKind, Result};

use crate::tools::{self, run, words};

/// The folder that holds the image, and the image.
const POOL_MIB: u64 = 6_144;
const IMAGE_MIB: u64 = 2_048;

/// A disk whose power can be cut.
#[derive(Debug)]
pub(crate) struct PowerDisk {
    pool: PathBuf,
    mounted: PathBuf,
    cuts: u32,
}

/// Why there is no such disk on this machine; nothing if there is.
pub(crate) fn missing_for_power_cuts() -> Option<String> {
    let programs = ["mkfs.btrfs", "mkfs.ext4", "mount", "losetup"];
    let missing: Vec<&str> = programs.into_iter().filter(|program| !tools::have(program)).collect();
    if !missing.is_empty() {
        return Some(format!("{} cannot be found", missing.join(", ")));
    }
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let lacks = ["btrfs", "ext4"].into_iter().find(|system| !known.split_whitespace().any(|word| word == *system));
    lacks.map(|system| format!("the kernel has no {system}"))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::invalid(format!("{} is no UTF-8", path.display())))
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .map_err(|error| Error::new(ErrorKind::Io, format!("{} cannot be made", path.display())).with_source(error))
}

impl PowerDisk {
    /// An empty disk, mounted below `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let pool = folder.join("pool");
        let mounted = folder.join("disk");
        make_folder(&pool)?;
        make_folder(&mounted)?;
        let file = folder.join("btrfs.img");
        run("truncate", &["-s", &format!("{POOL_MIB}M"), text(&file)?])?;
        run("mkfs.btrfs", &["-q", text(&file)?])?;
        run("mount", &["-o", "loop", text(&file)?, text(&pool)?])?;
        let image = pool.join("0.img");
        run("truncate", &["-s", &format!("{IMAGE_MIB}M"), text(&image)?])?;
        run("mkfs.ext4", &["-q", text(&image)?])?;
        run("mount", &["-o", "loop", text(&image)?, text(&mounted)?])?;
        Ok(Self { pool, mounted, cuts: 0 })
    }

    /// The folder that the disk is mounted at.
    pub(crate) fn folder(&self) -> &Path {
        &self.mounted
    }

    fn image(&self, number: u32) -> PathBuf {
        self.pool.join(format!("{number}.img"))
    }

    /// The instant of the cut: what the disk holds now is what [`Self::restore`] brings back.
    pub(crate) fn cut(&mut self) -> Result<()> {
        let (from, to) = (self.image(self.cuts), self.image(self.cuts + 1));
        run("cp", &["--reflink=always", text(&from)?, text(&to)?])?;
        self.cuts += 1;
        Ok(())
    }

    /// Replaces the disk by what it was at the last cut. Nobody may use it any more.
    pub(crate) fn restore(&mut self) -> Result<()> {
        run("umount", &[text(&self.mounted)?])?;
        let old = self.image(self.cuts.saturating_sub(1));
        std::fs::remove_file(&old)
            .map_err(|error| Error::new(ErrorKind::Io, "an old image cannot be removed").with_source(error))?;
        run("mount", &["-o", "loop", text(&self.image(self.cuts))?, text(&self.mounted)?]).map(drop)
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        for mounted in [&self.mounted, &self.pool] {
            // What is left is taken away with the mount namespace.
            drop(run("umount", &[mounted.as_os_str()]));
        }
        let file = self.pool.with_file_name("btrfs.img");
        drop(std::fs::remove_file(file));
    }
}

/// A small disk in memory, which runs full.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    mounted: PathBuf,
}

impl SmallDisk {
    /// An empty disk of `mib` MiB, mounted at `folder`.
    pub(crate) fn create(folder: &Path, mib: u64) -> Result<Self> {
        make_folder(folder)?;
        words(&format!("mount -t tmpfs -o size={mib}m tmpfs {}", text(folder)?))?;
        Ok(Self { mounted: folder.to_owned() })
    }

    /// The folder that the disk is mounted at.
    pub(crate) fn folder(&self) -> &Path {
        &self.mounted
    }

    /// Fills it up with a file of its own, but for `left` bytes.
    pub(crate) fn fill(&self, left: u64) -> Result<()> {
        let free = words(&format!("df --output=avail -B1 {}", text(&self.mounted)?))?;
        let free: u64 = free.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
        run("fallocate", &["-l", &free.saturating_sub(left).max(1).to_string(), text(&self.ballast())?]).map(drop)
    }

    /// Gives back what [`Self::fill`] took.
    pub(crate) fn free(&self) -> Result<()> {
        std::fs::remove_file(self.ballast())
            .map_err(|error| Error::new(ErrorKind::Io, "the ballast cannot be removed").with_source(error))
    }

    fn ballast(&self) -> PathBuf {
        self.mounted.join("somebody-elses-file")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is left is taken away with the mount namespace.
        drop(run("umount", &[self.mounted.as_os_str()]));
    }
}
