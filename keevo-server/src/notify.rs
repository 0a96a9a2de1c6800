//! What systemd is told of the daemon, and how: datagrams to the socket that `NOTIFY_SOCKET` names (`sd_notify(3)`).
//!
//! ```text
//! READY=1      gRPC and HTTP are served
//! STATUS=…     in a sentence: whether all shards have leaders here, or what it waits for
//! WATCHDOG=1   while the runtime runs and the node's state can be read, twice in `WATCHDOG_USEC`
//! STOPPING=1   it was asked to stop
//! ```
//!
//! READY does not wait for leaders: the nodes of a new cluster are often started one after the other, and the first one would
//! wait for ever. Whether a node should get traffic is what `/ready` says.
//!
//! Invariant: without `NOTIFY_SOCKET` nothing is sent, and no failure to tell systemd something stops the daemon.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use keevo_raft::Node;

use crate::health::not_ready;

/// How often the state is looked at, at least.
const EVERY: Duration = Duration::from_secs(5);
/// The longest status that is sent, in bytes.
const STATUS_BYTES: usize = 512;

/// The way to systemd.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that the daemon lives.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The way that the environment of this process names.
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var_os(name);
        let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == OsString::from(std::process::id().to_string()));
        let usec = variable("WATCHDOG_USEC").filter(|_| ours).and_then(|usec| usec.to_str()?.parse::<u64>().ok());
        Self::to(variable("NOTIFY_SOCKET").as_deref(), usec.filter(|usec| *usec > 0))
    }

    /// The way to a socket: a path, or a name after `@`.
    fn to(socket: Option<&OsStr>, watchdog_usec: Option<u64>) -> Self {
        let open = |name: &OsStr| {
            let address = match name.as_bytes().split_first() {
                Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
                _ => SocketAddr::from_pathname(name)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            // A full queue of systemd holds nothing up here.
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = socket.and_then(|name| {
            open(name).map_err(|error: std::io::Error| tracing::warn!(%error, "NOTIFY_SOCKET cannot be reached")).ok()
        });
        Self { socket, watchdog: watchdog_usec.map(Duration::from_micros) }
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, "systemd could not be told");
        }
    }

    /// The daemon serves.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The daemon was asked to stop.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Tells how the node is and that the daemon lives, for ever.
    pub async fn follow(&self, node: &Node) {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let mut told = String::new();
        let pause = self.watchdog.map_or(EVERY, |watchdog| (watchdog / 2).min(EVERY));
        loop {
            // Takes the node's locks: where one is never let go, systemd hears nothing any more and acts.
            let status = not_ready(node).map_or_else(|| "serves".to_owned(), |why| format!("waits: {why}"));
            if status != told {
                self.send(&status_line(&status));
                told = status;
            }
            if self.watchdog.is_some() {
                self.send("WATCHDOG=1");
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// A status in one line, cut where it is long.
fn status_line(status: &str) -> String {
    let mut line = String::from("STATUS=");
    for c in status.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + c.len_utf8() > STATUS_BYTES {
            break;
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1_024];
        let count = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn messages_reach_a_path_and_an_abstract_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("keevo-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
        let sockets = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).expect("bound")),
            (OsString::from(format!("@{name}")), UnixDatagram::bind_addr(&abstract_name).expect("bound")),
        ];
        for (name, socket) in sockets {
            let notifier = Notifier::to(Some(&name), None);
            notifier.ready();
            notifier.stopping();
            assert_eq!(heard(&socket), "READY=1", "{}", name.display());
            assert_eq!(heard(&socket), "STOPPING=1\nSTATUS=stopping");
        }
    }

    #[test]
    fn without_a_socket_nothing_happens() {
        Notifier::to(None, None).ready();
        Notifier::to(Some(OsStr::new("/nowhere/at/all")), Some(1)).ready();
        Notifier::to(Some(OsStr::new("")), Some(1)).stopping();
    }

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(status_line("a\nb"), "STATUS=a b");
        assert!(status_line(&"ü".repeat(1_000)).len() <= STATUS_BYTES);
    }
}
