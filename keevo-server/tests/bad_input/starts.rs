//! Daemons that refuse to start: what they say, and their exit codes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use super::daemon::{Keevod, free_addresses, keevod, place, refusal};
use super::golden::Golden;

/// What the cases share: a scratch folder.
struct Starts<'a> {
    golden: Golden,
    scratch: &'a Path,
}

impl Starts<'_> {
    async fn refused(&mut self, case: &str, command: Command) {
        let (exit, said) = refusal(command, self.scratch).await;
        self.golden.ended(case, exit, &said);
    }

    /// A node of its own on free ports with these arguments.
    async fn refused_with(&mut self, case: &str, args: &[&str]) {
        let command = self.command(args);
        self.refused(case, command).await;
    }

    fn command(&self, args: &[&str]) -> Command {
        let addresses = free_addresses(2);
        let own = place(addresses[0], addresses[1], &self.scratch.join("new"));
        // A later flag of the same name would be refused by the command line itself.
        let own = own.chunks(2).filter(|pair| !args.contains(&pair[0].as_str())).flatten().cloned();
        keevod(&own.chain(args.iter().map(|arg| (*arg).to_owned())).collect::<Vec<_>>())
    }
}

pub(crate) async fn run() -> Golden {
    let dir = tempfile::tempdir().expect("a folder");
    let mut golden = Golden::default();
    golden.hide(dir.path().display().to_string(), "DIR");
    let mut starts = Starts { golden, scratch: dir.path() };
    files(&mut starts).await;
    settings(&mut starts).await;
    let node = Keevod::start_dev(&dir.path().join("node")).await;
    starts.golden.hide(node.grpc.to_string(), "ADDRESS");
    starts.golden.hide(node.http.to_string(), "ADDRESS");
    taken(&mut starts, &node).await;
    let folder = node.dir.clone();
    node.stop().await;
    let other = Keevod::start_dev(&dir.path().join("other")).await;
    let other_folder = other.dir.clone();
    other.stop().await;
    foreign(&mut starts, &folder, &other_folder).await;
    newer(&mut starts, &folder).await;
    damaged(&mut starts, &folder).await;
    starts.golden
}

async fn files(starts: &mut Starts<'_>) {
    starts.golden.section("Bad configuration");
    let path = starts.scratch.join("keevod.toml");
    let name = path.display().to_string();
    for (case, text) in [
        ("a file with an unknown key", "shardz = 4\n"),
        ("a file that is no TOML", "shards = = 4\n"),
        ("a list where one value belongs", "shards = [4]\n"),
        ("a text where a number belongs", "node_id = \"one\"\n"),
        ("a number that is out of range", "shards = 4097\n"),
        ("an even number of replicas", "replication_factor = 2\n"),
        ("elections shorter than heartbeats", "election_ms_min = 100\n"),
        ("peers without this node", "peers = \"2=127.0.0.1:7102\"\n"),
        ("peers that are no list of nodes", "peers = \"127.0.0.1:7102\"\n"),
    ] {
        std::fs::write(&path, text).expect("written");
        let flags = ["--config", &name, "--data-dir", "never-made"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_keevod"));
        command.env_clear().args(flags);
        starts.refused(case, command).await;
    }
    std::fs::remove_file(&path).expect("removed");
    starts.refused_with("a file that does not exist", &["--config", &name]).await;
}

async fn settings(starts: &mut Starts<'_>) {
    starts.refused_with("an address that is none", &["--grpc", "nowhere"]).await;
    starts.refused_with("an address that others reach", &["--http", "0.0.0.0:8101"]).await;
    let mut command = starts.command(&[]);
    command.env("KEEVO_HTPP", "127.0.0.1:8101");
    starts.refused("an unknown variable", command).await;
    let mut command = starts.command(&[]);
    command.env("KEEVO_FLUSH_EVERY_MS", "soon");
    starts.refused("a variable with a bad value", command).await;
    let mut command = starts.command(&[]);
    command.env("KEEVO_ADVERTISE", OsStr::from_bytes(b"\xff\xfe"));
    starts.refused("a variable that is no text", command).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_keevod"));
    command.env_clear().env("OTHERS", OsStr::from_bytes(b"\xff\xfe")).args(["--log-level", "error", "--shards", "x"]);
    starts.refused("a bad flag, beside a variable of others that is no text, which is no fault", command).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_keevod"));
    command.env_clear().args(["--log-level", "keevo=loud"]);
    starts.refused("a log level that is none", command).await;
}

/// What another daemon holds.
async fn taken(starts: &mut Starts<'_>, node: &Keevod) {
    starts.golden.section("A port in use");
    starts.refused_with("the gRPC port of another keevod", &["--grpc", &node.grpc.to_string()]).await;
    starts.refused_with("the HTTP port of another keevod", &["--http", &node.http.to_string()]).await;
    starts.golden.section("other: data folders");
    starts.refused_with("the folder of a keevod that runs", &["--data-dir", &node.dir.display().to_string()]).await;
}

fn swap(from: &Path, to: &Path) {
    let aside = to.with_extension("aside");
    std::fs::rename(to, &aside).expect("moved");
    std::fs::rename(from, to).expect("moved");
    std::fs::rename(aside, from).expect("moved");
}

async fn foreign(starts: &mut Starts<'_>, folder: &Path, other: &Path) {
    starts.golden.section("A data folder of another cluster");
    let dir = folder.display().to_string();
    starts.refused_with("the folder of another node", &["--data-dir", &dir, "--node-id", "2"]).await;
    for part in ["data", "log", "node"] {
        swap(&other.join(part), &folder.join(part));
        starts.refused_with(&format!("'{part}' from another cluster"), &["--data-dir", &dir]).await;
        swap(&other.join(part), &folder.join(part));
    }
    std::fs::rename(folder.join("log"), folder.join("gone")).expect("moved");
    starts.refused_with("a folder whose 'log' is gone", &["--data-dir", &dir]).await;
    std::fs::rename(folder.join("data"), folder.join("gone too")).expect("moved");
    starts.refused_with("a folder whose 'log' and 'data' are gone", &["--data-dir", &dir]).await;
    std::fs::rename(folder.join("gone"), folder.join("log")).expect("moved");
    std::fs::rename(folder.join("gone too"), folder.join("data")).expect("moved");
    let strange = starts.scratch.join("strange");
    std::fs::create_dir_all(strange.join("data")).expect("made");
    std::fs::write(strange.join("data/letter.txt"), "hello").expect("written");
    starts.refused_with("a folder with files of others", &["--data-dir", &strange.display().to_string()]).await;
}

async fn newer(starts: &mut Starts<'_>, folder: &Path) {
    starts.golden.section("A newer format");
    let dir = folder.display().to_string();
    let node = std::fs::read_to_string(folder.join("node")).expect("text");
    std::fs::write(folder.join("node"), format!("keevo node 3\n{}", node.split_once('\n').expect("lines").1))
        .expect("written");
    starts.refused_with("a folder of a newer version", &["--data-dir", &dir]).await;
    std::fs::write(folder.join("node"), node).expect("written");
    let path = folder.join("data/identity");
    let identity = std::fs::read_to_string(&path).expect("text");
    let (body, _) = identity.rsplit_once("crc = ").expect("a checksum");
    let body = body.replace("format = 1", "format = 2");
    let crc = crc32fast::hash(body.as_bytes());
    std::fs::write(&path, format!("{body}crc = {crc:08x}\n")).expect("written");
    starts.refused_with("a data store of a newer version", &["--data-dir", &dir]).await;
    std::fs::write(path, identity).expect("written");
}

async fn damaged(starts: &mut Starts<'_>, folder: &Path) {
    starts.golden.section("other: data folders");
    let file = starts.scratch.join("file");
    std::fs::write(&file, "a file").expect("written");
    starts.refused_with("a folder that is a file", &["--data-dir", &file.display().to_string()]).await;
    let path = folder.join("node");
    let node = std::fs::read_to_string(&path).expect("text");
    std::fs::write(&path, node.replace("node 1\npair", "node 3\npair")).expect("written");
    starts.refused_with("a node file with a changed byte", &["--data-dir", &folder.display().to_string()]).await;
}
