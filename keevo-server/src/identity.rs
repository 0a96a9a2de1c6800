//! The node's identity on disk, and the pair of folders that must belong together.
//!
//! ```text
//! DATA_DIR/node      node id, pair id, cluster id, each on a line, and a CRC over them; replaced as a whole. Format 2, from
//!                    level 2 of the cluster on, also has the level: what does not know it opens nothing
//! DATA_DIR/data      the data store, with the pair id in its own identity file
//! DATA_DIR/log       the log store, likewise
//! DATA_DIR/staging   snapshots on their way
//! DATA_DIR/ballast   space set aside for the time when the disk is full; holds nothing
//! ```

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use keevo_core::data_dir::{self, DataDir, Role};
use keevo_core::{ClusterId, Error, ErrorKind, FolderDisk, Levels, NodeId, Random, Result};
use keevo_raft::{Identity, IdentityStore};

use crate::stores::LogEngine;

/// Without a level: of a cluster at the first one.
const FORMAT: &str = "keevo node 1";
/// With one.
const FORMAT_WITH_LEVEL: &str = "keevo node 2";
/// The database in the data folder.
pub(crate) const STORE: &str = "db";
/// The file that holds space for the time when there is none.
const BALLAST: &str = "ballast";

fn io_error(what: &str, path: &Path, error: std::io::Error) -> Error {
    let kind =
        if error.kind() == std::io::ErrorKind::StorageFull { ErrorKind::ResourceExhausted } else { ErrorKind::Io };
    Error::new(kind, format!("cannot {what} {}", path.display())).with_source(error)
}

/// The identity file of a node.
#[derive(Debug, Clone)]
pub struct IdentityFile {
    path: PathBuf,
}

impl IdentityFile {
    /// The file in a node's folder.
    pub fn in_dir(dir: &Path) -> Self {
        Self { path: dir.join("node") }
    }

    /// Refuses a folder whose cluster is at a level that `levels` do not have: `NewerFormat`, with what to do.
    pub fn check_level(&self, levels: Levels) -> Result<()> {
        // Before it takes part in a cluster there is no level that it could miss.
        let Some((_, level)) = self.read()?.filter(|(identity, _)| identity.cluster.is_some()) else { return Ok(()) };
        let whose = format!("this release, {},", env!("CARGO_PKG_VERSION"));
        let refused = levels.refusal(level, whose);
        refused.map_or(Ok(()), |why| Err(Error::new(ErrorKind::NewerFormat, format!("{}: {why}", self.path.display()))))
    }

    /// The identity and the level, if there is a file.
    fn read(&self) -> Result<Option<(Identity, u32)>> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => parse(&text, &self.path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &self.path, error)),
        }
    }

    fn write(&self, identity: &Identity, level: u32) -> Result<()> {
        let temporary = self.path.with_extension("tmp");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(render(identity, level).as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)?;
            self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        write().map_err(|error| io_error("write", &self.path, error))
    }
}

fn render(identity: &Identity, level: u32) -> String {
    let cluster = identity.cluster.map(|id| id.to_string()).unwrap_or_default();
    let (format, level) =
        if level > Levels::FIRST { (FORMAT_WITH_LEVEL, format!("level {level}\n")) } else { (FORMAT, String::new()) };
    let body = format!("{format}\n{level}node {}\npair {:032x}\ncluster {cluster}\n", identity.node_id, identity.pair);
    let crc = crc32fast::hash(body.as_bytes());
    format!("{body}crc {crc:08x}\n")
}

fn parse(text: &str, path: &Path) -> Result<(Identity, u32)> {
    let damaged = || Error::corrupt(format!("{} is damaged", path.display()));
    let format = text.lines().next().unwrap_or_default();
    if format != FORMAT && format != FORMAT_WITH_LEVEL && format.starts_with("keevo node ") {
        return Err(Error::new(
            ErrorKind::NewerFormat,
            format!("{} was written by a newer version of Keevo", path.display()),
        ));
    }
    let (body, crc) = text.rsplit_once("crc ").ok_or_else(damaged)?;
    if crc != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
        return Err(damaged());
    }
    let field =
        |name: &str| body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).ok_or_else(damaged);
    let id = |text: &str| u128::from_str_radix(text, 16).map_err(|error| damaged().with_source(error));
    let cluster = field("cluster")?;
    let number =
        |name: &str| field(name)?.parse::<u64>().map_err(|error: std::num::ParseIntError| damaged().with_source(error));
    let level = if format == FORMAT_WITH_LEVEL { number("level")? } else { u64::from(Levels::FIRST) };
    let level = u32::try_from(level).map_err(|error| damaged().with_source(error))?;
    let identity = Identity {
        node_id: number("node")?,
        pair: id(field("pair")?)?,
        cluster: if cluster.is_empty() { None } else { Some(ClusterId(id(cluster)?)) },
    };
    Ok((identity, level))
}

impl IdentityStore for IdentityFile {
    fn load(&self) -> Result<Option<Identity>> {
        Ok(self.read()?.map(|(identity, _)| identity))
    }

    fn save(&self, identity: &Identity) -> Result<()> {
        let level = self.read()?.map_or(Levels::FIRST, |(_, level)| level);
        self.write(identity, level)
    }

    fn note_level(&self, level: u32) -> Result<()> {
        match self.read()? {
            Some((identity, known)) if known < level => self.write(&identity, level),
            _ => Ok(()),
        }
    }
}

/// A node's folders, locked while this lives.
#[derive(Debug)]
pub struct Folders {
    /// Where the data store lies.
    pub data: DataDir,
    /// Where the log store lies.
    pub log: DataDir,
    /// The node's identity file.
    pub identity: IdentityFile,
}

impl Folders {
    /// Where files lie for a while.
    pub fn staging(&self) -> PathBuf {
        self.identity.path.with_file_name("staging")
    }

    /// The disk under the stores, with the node's ballast on it.
    pub fn disk(&self) -> FolderDisk {
        let stores = vec![self.data.path().to_owned(), self.log.path().to_owned()];
        FolderDisk::new(stores, self.identity.path.with_file_name(BALLAST))
    }

    /// Where the data store lies, and the folder of the log store. Those of a node in a cluster must be there:
    /// `Corrupt`. New ones would have forgotten what the node has voted for and acknowledged.
    pub fn stores(&self) -> Result<(PathBuf, PathBuf)> {
        let in_cluster = self.identity.load()?.is_some_and(|identity| identity.cluster.is_some());
        let log = self.log.path().to_owned();
        if !in_cluster {
            return Ok((self.data.path().join(STORE), log));
        }
        if LogEngine::found_in(&log)?.is_none() {
            return Err(Error::corrupt(format!("{} has lost its log store", log.display())));
        }
        Ok((self.data.found_store(STORE)?, log))
    }

    /// Opens the folders of node `node_id` in `dir`, or makes them.
    ///
    /// Errors: `WrongCluster` if they belong to another node or one of them is missing, `Unavailable` if
    /// another process has them open, `NewerFormat`, `Corrupt`, `Io`.
    pub fn open(dir: &Path, node_id: u64, random: &dyn Random) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|error| io_error("make", dir, error))?;
        let identity = IdentityFile::in_dir(dir);
        let known = identity.load()?;
        if let Some(known) = known
            && known.node_id != node_id
        {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!("{} belongs to node {}, not to node {node_id}", dir.display(), known.node_id),
            ));
        }
        let (data_path, log_path) = (dir.join("data"), dir.join("log"));
        if let Some((data, log)) = resume(known, &data_path, &log_path)? {
            return Ok(Self { data, log, identity });
        }
        if let Some((data, log)) = DataDir::open_pair(&data_path, &log_path)? {
            return match known {
                Some(known) if known.pair == data.identity().pair => Ok(Self { data, log, identity }),
                _ => Err(Error::new(
                    ErrorKind::WrongCluster,
                    format!("the stores in {} were not made for its node file", dir.display()),
                )),
            };
        }
        if known.is_some_and(|known| known.cluster.is_some()) {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!("{} belongs to a cluster, but its stores are gone", dir.display()),
            ));
        }
        let pair = known.map_or_else(|| random.next_u128(), |known| known.pair);
        let made = Identity { node_id, pair, cluster: None };
        identity.save(&made)?;
        // In this order: `resume` knows that a log without data is a start that was cut off.
        let log = DataDir::create(&log_path, folder(&made, Role::Log))?;
        let data = DataDir::create(&data_path, folder(&made, Role::Data))?;
        Ok(Self { data, log, identity })
    }
}

fn folder(identity: &Identity, role: Role) -> data_dir::Identity {
    data_dir::Identity { cluster: ClusterId(0), pair: identity.pair, role, node: NodeId(identity.node_id) }
}

/// Finishes a first start that was cut off between making the log folder and the data folder. Only for a node that
/// never took part in a cluster: it has voted for nobody and acknowledged nothing, so an empty store is the truth.
fn resume(known: Option<Identity>, data: &Path, log: &Path) -> Result<Option<(DataDir, DataDir)>> {
    let Some(known) = known.filter(|known| known.cluster.is_none()) else { return Ok(None) };
    if DataDir::open(data, Role::Data)?.is_some() {
        return Ok(None);
    }
    let Some(log) = DataDir::open(log, Role::Log)? else { return Ok(None) };
    log.require(&folder(&known, Role::Log))?;
    Ok(Some((DataDir::create(data, folder(&known, Role::Data))?, log)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::SeededRandom;

    #[test]
    fn an_identity_is_read_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = IdentityFile::in_dir(dir.path());
        assert_eq!(file.load().expect("none yet"), None);
        for cluster in [None, Some(ClusterId(77))] {
            let identity = Identity { node_id: 3, pair: 9, cluster };
            file.save(&identity).expect("saved");
            assert_eq!(file.load().expect("there"), Some(identity));
        }
        let good = std::fs::read(dir.path().join("node")).expect("a file");
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 1;
            std::fs::write(dir.path().join("node"), &bad).expect("written");
            let kind = file.load().map_err(|error| error.kind());
            assert!(matches!(kind, Err(ErrorKind::Corrupt | ErrorKind::NewerFormat)), "byte {position}: {kind:?}");
        }
    }

    #[test]
    fn the_level_is_kept_and_a_release_that_does_not_know_it_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = IdentityFile::in_dir(dir.path());
        let old = Levels { min: 1, max: 1 };
        assert!(file.check_level(old).is_ok(), "nothing is there yet");
        let identity = Identity { node_id: 3, pair: 9, cluster: Some(ClusterId(5)) };
        file.save(&identity).expect("saved");
        let text = || std::fs::read_to_string(dir.path().join("node")).expect("a file");
        assert!(
            text().starts_with("keevo node 1\nnode 3\n") && file.check_level(old).is_ok(),
            "as it was before levels"
        );
        file.note_level(2).expect("upgraded");
        assert!(text().starts_with("keevo node 2\nlevel 2\nnode 3\n"), "{}", text());
        file.note_level(1).expect("never back");
        file.save(&identity).expect("saved");
        assert_eq!(file.load().expect("there"), Some(identity), "an upgraded file is read");
        assert!(file.check_level(Levels { min: 1, max: 2 }).is_ok());
        let refused = file.check_level(old).expect_err("too old");
        assert_eq!(refused.kind(), ErrorKind::NewerFormat);
        assert!(refused.message().contains("it is too old; install the release"), "{refused}");
        let refused = file.check_level(Levels { min: 3, max: 4 }).expect_err("too new");
        assert!(refused.message().contains("it is too new; install a release in between"), "{refused}");
    }

    #[test]
    fn half_a_folder_and_the_folder_of_another_node_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let random = SeededRandom::new(1);
        let first = Folders::open(dir.path(), 1, &random).expect("made");
        assert_eq!(Folders::open(dir.path(), 1, &random).expect_err("locked").kind(), ErrorKind::Unavailable);
        drop(first);
        assert_eq!(Folders::open(dir.path(), 2, &random).expect_err("another node").kind(), ErrorKind::WrongCluster);
        drop(Folders::open(dir.path(), 1, &random).expect("opened again"));
        let folders = Folders::open(dir.path(), 1, &random).expect("opened");
        assert!(folders.stores().is_ok(), "before it joins, a node may make its stores");
        let identity = folders.identity.load().expect("read").expect("there");
        folders.identity.save(&Identity { cluster: Some(ClusterId(7)), ..identity }).expect("saved");
        assert_eq!(folders.stores().expect_err("the stores are gone").kind(), ErrorKind::Corrupt);
        for role in ["data", "log"] {
            std::fs::create_dir_all(dir.path().join(role).join("db")).expect("made");
            std::fs::write(dir.path().join(role).join("db/CURRENT"), "MANIFEST-000001").expect("written");
        }
        assert!(folders.stores().is_ok());
        drop(folders);
        std::fs::remove_dir_all(dir.path().join("log")).expect("removed");
        assert_eq!(Folders::open(dir.path(), 1, &random).expect_err("half").kind(), ErrorKind::WrongCluster);
    }

    #[test]
    fn a_first_start_that_was_cut_off_is_finished_but_a_member_without_data_is_refused() {
        let random = SeededRandom::new(1);
        let cut_off = |cluster| {
            let dir = tempfile::tempdir().expect("a folder");
            let identity = Identity { node_id: 1, pair: 9, cluster };
            IdentityFile::in_dir(dir.path()).save(&identity).expect("saved");
            drop(DataDir::create(dir.path().join("log"), folder(&identity, Role::Log)).expect("the log folder"));
            dir
        };
        let dir = cut_off(None);
        let folders = Folders::open(dir.path(), 1, &random).expect("the start is finished");
        assert_eq!((folders.data.identity().pair, folders.log.identity().pair), (9, 9));
        drop(folders);
        drop(Folders::open(dir.path(), 1, &random).expect("opened again"));
        let dir = cut_off(Some(ClusterId(5)));
        assert_eq!(Folders::open(dir.path(), 1, &random).expect_err("lost data").kind(), ErrorKind::WrongCluster);
        let dir = cut_off(None);
        let stranger = Identity { node_id: 1, pair: 10, cluster: None };
        IdentityFile::in_dir(dir.path()).save(&stranger).expect("saved");
        assert_eq!(Folders::open(dir.path(), 1, &random).expect_err("another pair").kind(), ErrorKind::WrongCluster);
    }
}
