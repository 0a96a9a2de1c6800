//! What keevod is told of the archive of its log, and of backups.

use std::path::PathBuf;
use std::time::Duration;

use keevo_core::Result;
use keevo_raft::ArchiveLimits;

use super::layers::Layers;

const WHEN_FULL: &str = "refuse or drop";

/// Where the log is archived and backups are kept, and what happens when the archive falls behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArchiveConfig {
    /// Where the committed log is archived; `None` = it is not.
    pub url: Option<String>,
    /// Where backups are kept; `None` = none are made.
    pub backup_url: Option<String>,
    /// The keys that both are encrypted with; `None` = they are not.
    pub key_file: Option<PathBuf>,
    /// The pause between two rounds.
    pub every: Duration,
    /// How much may wait.
    pub limits: Option<ArchiveLimits>,
}

impl ArchiveConfig {
    pub(super) fn from_layers(layers: &Layers) -> Result<Self> {
        let address = |name: &str| Some(layers.text(name).to_owned()).filter(|text| !text.is_empty());
        let (url, backup_url) = (address("archive_url"), address("backup_url"));
        for (name, url) in [("archive_url", &url), ("backup_url", &backup_url)] {
            let known = |url: &String| url.starts_with('/') || url.starts_with("file:///") || url.starts_with("s3://");
            if url.as_ref().is_some_and(|url| !known(url)) {
                return Err(layers.refuse(name, "an absolute path, file:///PATH or s3://BUCKET/PREFIX"));
            }
        }
        let every_ms: u64 = layers.parse("archive_every_ms", "a number of milliseconds from 100")?;
        if every_ms < 100 {
            return Err(layers.refuse("archive_every_ms", "a number of milliseconds from 100"));
        }
        let mib: u64 = layers.parse("archive_mib_max", "a number of MiB from 1")?;
        if mib == 0 {
            return Err(layers.refuse("archive_mib_max", "a number of MiB from 1"));
        }
        let refuses = match layers.text("archive_when_full") {
            "refuse" => true,
            "drop" => false,
            _ => return Err(layers.refuse("archive_when_full", WHEN_FULL)),
        };
        let limits = ArchiveLimits { waiting_bytes_max: mib.saturating_mul(1 << 20), refuses };
        let limits = url.is_some().then_some(limits);
        let backup_url = backup_url.or_else(|| url.clone());
        let key_file = address("archive_key_file").map(PathBuf::from);
        if key_file.is_some() && backup_url.is_none() {
            return Err(layers.refuse("archive_key_file", "nothing, since neither archive_url nor backup_url is set"));
        }
        Ok(Self { url, backup_url, key_file, every: Duration::from_millis(every_ms), limits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::ErrorKind;

    fn config(settings: &[(&str, &str)]) -> Result<ArchiveConfig> {
        let mut layers = Layers::defaults();
        for (name, value) in settings {
            layers.add_flag(name, value);
        }
        ArchiveConfig::from_layers(&layers)
    }

    #[test]
    fn nothing_is_archived_unless_it_is_said_where() {
        let none = config(&[]).expect("the defaults are good");
        assert!(none.url.is_none() && none.backup_url.is_none() && none.limits.is_none());
        let some = config(&[("archive_url", "/srv/archive"), ("archive_mib_max", "3")]).expect("good");
        assert_eq!(some.backup_url.as_deref(), Some("/srv/archive"), "backups go along");
        assert_eq!(some.limits, Some(ArchiveLimits { waiting_bytes_max: 3 << 20, refuses: true }));
        let apart = config(&[("backup_url", "s3://b/p")]).expect("good");
        assert_eq!((apart.url, apart.backup_url.as_deref()), (None, Some("s3://b/p")));
        let sealed = config(&[("archive_url", "/a"), ("archive_key_file", "/keys")]).expect("good");
        assert_eq!(sealed.key_file, Some(PathBuf::from("/keys")));
        let drops = config(&[("archive_url", "/a"), ("archive_when_full", "drop")]).expect("good");
        assert!(drops.limits.is_some_and(|limits| !limits.refuses));
        for (name, value) in [
            ("archive_url", "archive"),
            ("archive_key_file", "/keys"),
            ("backup_url", "http://x"),
            ("archive_every_ms", "1"),
            ("archive_mib_max", "0"),
            ("archive_when_full", "wait"),
        ] {
            assert_eq!(config(&[(name, value)]).expect_err("refused").kind(), ErrorKind::Config, "{name} {value}");
        }
    }
}
