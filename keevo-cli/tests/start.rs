//! The shell of docs/START.md, as a person types it: block after block in one shell, against the built programs. Only the
//! ports are others, so that nothing else on the machine is in the way.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PAGE: &str = include_str!("../../docs/START.md");
/// Of the whole page, in seconds.
const PATIENCE_S: u32 = 120;

/// The blocks that are marked as shell.
fn blocks(page: &str) -> Vec<&str> {
    let after = page.split("\n```sh\n").skip(1);
    after.filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block)).collect()
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// The folder of the built programs.
fn programs() -> PathBuf {
    let cli = Path::new(env!("CARGO_BIN_EXE_keevo-cli"));
    let folder = cli.parent().expect("the folder of the build");
    assert!(folder.join("keevod").exists(), "build keevod first: cargo build -p keevo-server");
    folder.to_owned()
}

#[test]
fn cluster_the_start_page_does_what_it_says() {
    let blocks = blocks(PAGE);
    assert!(blocks.len() >= 5, "the blocks could not be read: {}", blocks.len());
    let folder = tempfile::tempdir().expect("a folder");
    let (grpc, http) = (free_address(), free_address());
    // Each block says when it has ended, so that a failure names its block.
    let marked: Vec<String> =
        blocks.iter().enumerate().map(|(at, block)| format!("{block}\necho; echo '== block {at} is done'")).collect();
    let text = marked.join("\n").replace("127.0.0.1:8101", &http);
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n{text}\n");
    std::fs::write(folder.path().join("page.sh"), script).expect("written");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("timeout")
        .args(["--kill-after=5", &PATIENCE_S.to_string(), "bash", "page.sh"])
        .current_dir(folder.path())
        .env("PATH", format!("{}:{path}", programs().display()))
        .env("KEEVO_GRPC", &grpc)
        .env("KEEVO_ENDPOINTS", &grpc)
        .env("KEEVO_HTTP", &http)
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_to_string(folder.path().join("keevod.log")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{out}\n{said}\nkeevod:\n{log}", output.status);
    for (shown, what) in [
        ("{\"name\":\"Alice\"}", "the value comes back"),
        ("1 node, ", "the cluster's state is shown"),
        ("photo:1", "what Alice did reaches Bob"),
        ("\"object\":\"song:1\"", "the feed is read over HTTP"),
        ("1 unread", "Bob has not read it"),
        ("\"text\":\"The basil has grown\"", "the channel is read over HTTP"),
        (&format!("== block {} is done", blocks.len() - 1), "the page is run to its end"),
    ] {
        assert!(out.contains(shown), "{what}: {out}\n{said}");
    }
}

#[test]
fn only_what_is_marked_as_shell_is_run() {
    assert_eq!(
        blocks("a\n```\nno\n```\n\n```sh\none\ntwo\n```\n```toml\nno\n```\n\n```sh\nthree\n```\n"),
        ["one\ntwo", "three"]
    );
}
