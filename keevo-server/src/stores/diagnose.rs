//! What a node finds when it looks at itself.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keevo_core::{Clock, Error, ErrorKind, Result, SystemClock};
use keevo_proto::admin::v1 as admin;
use keevo_tls::ServerTls;
use rustix::process::{Resource, getrlimit};

use crate::config::Machine;
use crate::stores::Stores;

/// How often the disk is written and synced.
const SYNCS: usize = 16;
/// What is written each time, as much as a small entry of the log.
const BLOCK: [u8; 4_096] = [0x5a; 4_096];
const PROBE: &str = "sync-probe";

impl Stores {
    /// Looks at the clock, the disk and the limits of this node.
    pub(crate) async fn diagnose(&self, tls: Option<&Arc<ServerTls>>) -> Result<admin::DiagnoseResponse> {
        let folder = self.log_folder().to_owned();
        let syncs = tokio::task::spawn_blocking(move || sync_times(&folder));
        let mut syncs =
            syncs.await.map_err(|error| Error::new(ErrorKind::Io, "the disk was not tried").with_source(error))??;
        syncs.sort_unstable();
        let micros = |at: usize| syncs.get(at).map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let machine = Machine::this();
        let metrics = tls.map(|tls| tls.metrics());
        Ok(admin::DiagnoseResponse {
            now_ms: SystemClock::new().now_ms(),
            sync_micros_median: micros(syncs.len() / 2),
            sync_micros_max: micros(syncs.len().saturating_sub(1)),
            open_files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            memory_bytes: machine.memory_bytes,
            cpus: u32::try_from(machine.cpus).unwrap_or(u32::MAX),
            certificate_until_s: metrics.map_or(0, |tls| u64::try_from(tls.not_after_s).unwrap_or_default()),
            tls_files_are_bad: metrics.is_some_and(|tls| tls.stale),
        })
    }
}

/// How long it takes to write a block behind the last one and to sync it, several times.
fn sync_times(folder: &Path) -> Result<Vec<Duration>> {
    let path = folder.join(PROBE);
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("{} cannot be written", path.display())).with_source(error)
    };
    let clock = SystemClock::new();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).map_err(failed)?;
    let times = (0..SYNCS).map(|_| {
        let began = clock.monotonic();
        file.write_all(&BLOCK).and_then(|()| file.sync_data()).map_err(failed)?;
        Ok(clock.monotonic().saturating_sub(began))
    });
    let times = times.collect();
    std::fs::remove_file(&path).map_err(failed)?;
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_tried_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let times = sync_times(dir.path()).expect("times");
        assert!(times.len() == SYNCS && times.iter().all(|time| !time.is_zero()), "{times:?}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);
        assert_eq!(sync_times(&dir.path().join("gone")).expect_err("no folder").kind(), ErrorKind::Io);
    }
}
