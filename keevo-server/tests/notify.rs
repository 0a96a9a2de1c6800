//! What systemd hears of a daemon from its start to its end.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The next message, within a minute.
fn heard(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4_096];
    let count = socket.recv(&mut buffer).expect("a message within a minute");
    String::from_utf8_lossy(buffer.get(..count).expect("as many as were read")).into_owned()
}

/// Reads on until a message holds `wanted`; gives all of them.
fn until(socket: &UnixDatagram, wanted: &str) -> Vec<String> {
    let mut all = Vec::new();
    while all.last().is_none_or(|last: &String| !last.contains(wanted)) {
        all.push(heard(socket));
        assert!(all.len() < 1_000, "{wanted} is not among {all:?}");
    }
    all
}

#[test]
fn a_daemon_tells_systemd_that_it_serves_lives_and_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_keevod"))
        .args(["dev", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--shards", "1"])
        .args(["--block-cache-mib", "16", "--disk-low-water-mib", "0"])
        .current_dir(folder.path())
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    assert_eq!(heard(&socket), "READY=1", "nothing is told before it serves");
    until(&socket, "STATUS=serves");
    // Twice the watchdog's time: it hears of the daemon all along.
    assert!((0..4).all(|_| until(&socket, "WATCHDOG=1").len() < 4));
    let id = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("asked to stop");
    until(&socket, "STOPPING=1");
    assert!(daemon.wait().expect("it ends").success());
}
