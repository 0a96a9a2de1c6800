//! A PostgreSQL of a test: Debian's server on a Unix socket in a temporary folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The server, stopped when it is dropped.
pub(super) struct Postgres {
    program: PathBuf,
    folder: TempDir,
    /// As whom it runs where the test is root, whom it refuses to serve.
    user: Option<(u32, u32)>,
    child: Option<Child>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Postgres {
    /// A new cluster, started; `None` where PostgreSQL is not installed and the environment says that this is known.
    pub(super) fn start() -> Option<Self> {
        let Some(program) = program() else {
            let skip = std::env::var("KEEVO_SKIP_POSTGRES").is_ok_and(|value| value == "1");
            assert!(
                skip,
                "install Debian's package postgresql, or set KEEVO_SKIP_POSTGRES=1 to do without these tests"
            );
            eprintln!("SKIPPED: PostgreSQL is not installed");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let user = rustix::process::geteuid().is_root().then(|| debian_user().expect("Debian's user postgres"));
        if let Some((user, group)) = user {
            chown(folder.path(), Some(user), Some(group)).expect("the folder is given away");
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is open");
        let mut server = Self { program, folder, user, child: None };
        let mut init = server.command("initdb");
        init.args(["-U", "keevo", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let output = init.output().expect("initdb runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server.restart();
        Some(server)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program.with_file_name(name));
        command.arg("-D").arg(self.folder.path().join("data")).stdin(Stdio::null()).current_dir("/");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts it, where it does not run.
    pub(super) fn restart(&mut self) {
        let mut command = self.command("postgres");
        let socket = format!("unix_socket_directories={}", self.folder.path().display());
        for setting in ["listen_addresses=", &socket, "fsync=off"] {
            command.args(["-c", setting]);
        }
        let log = fs::File::create(self.folder.path().join("log")).expect("a log");
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().expect("postgres starts"));
    }

    /// Ends it without a farewell: what is under way is lost, and the next start recovers.
    pub(super) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::QUIT).expect("it is there");
        child.wait().expect("it ends");
    }

    pub(super) fn url(&self) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgresql://keevo@{folder}/postgres")
    }
}

/// The newest one that Debian has installed.
fn program() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|version| version.path());
    let newest = versions.filter_map(|path| Some((path.file_name()?.to_str()?.parse::<u32>().ok()?, path))).max()?;
    Some(newest.1.join("bin/postgres")).filter(|path| path.is_file())
}

fn debian_user() -> Option<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd").ok()?;
    let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = fields.into_iter().find(|fields| fields.first() == Some(&"postgres"))?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}
