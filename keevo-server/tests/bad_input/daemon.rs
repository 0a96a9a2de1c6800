//! `keevod` as a process: started, watched, stopped, killed.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keevo_proto::admin::v1 as admin;
use keevo_proto::admin::v1::admin_client::AdminClient;
use tokio::time::{Instant, sleep};

/// How long a daemon may take to serve, or to say why it does not.
const PATIENCE: Duration = Duration::from_secs(30);

/// Free addresses on loopback, all different.
pub(crate) fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("an address")).collect()
}

/// A keevod with small caches, short elections, and nothing from the environment of the test.
pub(crate) fn keevod(args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keevod"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command.args(["--block-cache-mib", "8", "--write-buffer-mib", "8", "--log-level", "error", "--shards", "1"]);
    command.args(["--heartbeat-ms", "100", "--election-ms-min", "1500", "--election-ms-max", "2500"]);
    command.args(args);
    command
}

/// The settings of a node: its addresses and its folder.
pub(crate) fn place(grpc: SocketAddr, http: SocketAddr, dir: &Path) -> Vec<String> {
    let dir = dir.display().to_string();
    ["--grpc", &grpc.to_string(), "--http", &http.to_string(), "--data-dir", &dir].map(str::to_owned).to_vec()
}

/// Runs a daemon that is to refuse to start: its exit code, and what it said.
pub(crate) async fn refusal(mut command: Command, scratch: &Path) -> (i32, String) {
    let said = scratch.join("stderr");
    let mut child = command.stderr(File::create(&said).expect("a file")).spawn().expect("keevod starts");
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a status") {
            let text = std::fs::read_to_string(&said).expect("text");
            return (status.code().unwrap_or(-1), text);
        }
        if Instant::now() > deadline {
            child.kill().expect("it can be killed");
            panic!("keevod did not refuse: {}", std::fs::read_to_string(&said).expect("text"));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// A daemon that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Keevod {
    child: Child,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) dir: PathBuf,
    log: PathBuf,
}

impl Keevod {
    /// A node for itself, ready to serve.
    pub(crate) async fn start_dev(dir: &Path) -> Self {
        let addresses = free_addresses(2);
        // It is sent the largest batches one after the other, and must not be behind with flushing on a slow disk.
        let more = ["dev", "--unflushed-mib-max", "8192"].map(str::to_owned);
        let node = Self::spawn(addresses[0], addresses[1], dir, &more);
        node.serves().await;
        node
    }

    /// A node with further settings; it may not serve yet.
    pub(crate) fn spawn(grpc: SocketAddr, http: SocketAddr, dir: &Path, more: &[String]) -> Self {
        let log = dir.with_extension("log");
        let args = [place(grpc, http, dir), more.to_vec()].concat();
        let child = keevod(&args).stderr(File::create(&log).expect("a file")).spawn().expect("keevod starts");
        Self { child, grpc, http, dir: dir.to_owned(), log }
    }

    /// Waits until the node belongs to a cluster.
    pub(crate) async fn serves(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.belongs_to_a_cluster().await {
            assert!(Instant::now() < deadline, "keevod does not serve: {}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn belongs_to_a_cluster(&self) -> bool {
        let Ok(mut client) = AdminClient::connect(format!("http://{}", self.grpc)).await else { return false };
        let info = client.info(admin::InfoRequest {}).await;
        info.is_ok_and(|info| !info.into_inner().cluster_id.is_empty())
    }

    /// What the daemon has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("text")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_none()
    }

    /// Sends the process a signal, by its name: STOP, CONT, TERM.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.expect("a shell").success(), "the signal {name} is sent");
    }

    /// Stops the daemon as an administrator does.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(Instant::now() < deadline, "keevod does not stop: {}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Keevod {
    fn drop(&mut self) {
        // One that has ended already is fine too.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
