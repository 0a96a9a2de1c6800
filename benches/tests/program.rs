//! The program as it is started from a shell: exit codes, what goes where, and a short comparison.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_keevo-bench");

fn keevo_bench(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// Where a program lies on the `PATH`.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

fn refused(output: &Output, start: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "", "nothing was measured");
    let said = text(&output.stderr);
    assert!(said.starts_with(start), "{said}");
}

#[test]
fn a_peer_that_is_not_installed_is_named_with_its_package() {
    let output = keevo_bench(&["compare", "etcd"]).env("PATH", "").output().expect("the program starts");
    refused(&output, "keevo-bench: etcd is not on the PATH: install Debian's package etcd-server, ");
    let said = text(&output.stderr);
    assert!(said.contains("`make deps`") && said.lines().count() == 1, "{said}");
}

#[test]
fn redis_that_is_not_installed_is_named_with_its_package() {
    let output = keevo_bench(&["compare", "redis"]).env("PATH", "").output().expect("the program starts");
    refused(&output, "keevo-bench: redis-server is not on the PATH: install Debian's package redis-server, ");
}

#[test]
fn a_peer_that_is_not_known_and_senseless_numbers_are_refused() {
    let output = keevo_bench(&["compare", "consul"]).output().expect("the program starts");
    refused(&output, "error: unrecognized subcommand 'consul'");
    for args in [["--clients", "0"], ["--seconds", "0"], ["--rounds", "0"], ["--value-bytes", "0"], ["--case", "scan"]]
    {
        let output = keevo_bench(&["compare", "etcd"]).args(args).output().expect("the program starts");
        refused(&output, &format!("error: invalid value '{}' for '{} <", args[1], args[0]));
    }
    for args in [
        ["compare", "rocksdb", "--keys", "999"],
        ["restart", "--nodes=3", "--log-bytes", "1"],
        ["idle", "--nodes=3", "--shards", "0"],
        ["load", "--clients=1", "--open", "0"],
        ["compare", "redis", "--history", "24"],
        ["compare", "redis", "--followers", "0"],
        ["compare", "redis", "--open", "0"],
        ["fan-out", "--nodes=1", "--followers", "0"],
    ] {
        let output = keevo_bench(&args).output().expect("the program starts");
        refused(&output, &format!("error: invalid value '{}' for '{} <", args[3], args[2]));
    }
}

/// A folder with an `etcd` that never serves, so that no real one is needed.
fn fake_etcd() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("etcd");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo etcd Version: 0.0.0 && exit\nwhile :; do sleep 0.1; done\n";
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    folder
}

fn path_with(folder: &Path) -> std::ffi::OsString {
    let mut folders = vec![folder.to_owned()];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(folders).expect("a PATH")
}

#[test]
fn a_keevod_that_is_not_there_is_told_how_to_build() {
    let etcd = fake_etcd();
    let output = keevo_bench(&["compare", "etcd", "--keevod", "/nowhere/keevod"])
        .env("PATH", path_with(etcd.path()))
        .output()
        .expect("the program starts");
    refused(&output, "keevo-bench: /nowhere/keevod is no program: build it with `cargo build ");
}

/// The processes that were started with `folder` in their arguments.
fn started_in(folder: &Path) -> Vec<u32> {
    let needle = folder.to_str().expect("UTF-8");
    let processes = std::fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let uses = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&format!("{needle}/keevo-bench-"))
    };
    pids.filter(uses).collect()
}

#[test]
fn ctrl_c_ends_the_servers_and_removes_their_folders() {
    let etcd = fake_etcd();
    let data = tempfile::tempdir().expect("a folder");
    let etcd_program = etcd.path().join("etcd");
    let child = keevo_bench(&["compare", "etcd", "--keevod", etcd_program.to_str().expect("UTF-8")])
        .arg("--dir")
        .arg(data.path())
        .env("PATH", path_with(etcd.path()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut waited = 0;
    while started_in(data.path()).len() < 6 && waited < 600 {
        std::thread::park_timeout(Duration::from_millis(50));
        waited += 1;
    }
    assert_eq!(started_in(data.path()).len(), 6, "three processes a system");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("keevo-bench: interrupted"), "{}", text(&output.stderr));
    assert_eq!(started_in(data.path()), Vec::<u32>::new());
    assert_eq!(std::fs::read_dir(data.path()).expect("it is there").count(), 0, "the servers' folders are gone");
}

/// Three nodes of each, for a second a run: where etcd or keevod is missing there is nothing to compare.
#[test]
fn cluster_of_each_is_compared() {
    let keevod = Path::new(PROGRAM).with_file_name("keevod");
    if on_path("etcd").is_none() || !keevod.is_file() {
        println!("skipped: needs etcd on the PATH and {}", keevod.display());
        return;
    }
    let data = tempfile::tempdir().expect("a folder");
    let output = keevo_bench(&["compare", "etcd", "--clients", "16", "--seconds", "1", "--rounds", "1"])
        .args(["--warm-up-seconds", "0", "--keys", "500", "--output", "json", "--dir"])
        .arg(data.path())
        .output()
        .expect("the program starts");
    let said = text(&output.stderr);
    let lines = lines_of(&output);
    assert_eq!(lines.len(), 2, "put and get: {said}");
    for (line, case) in lines.iter().zip(["put", "get"]) {
        assert_eq!((line["case"].as_str(), line["clients"].as_u64()), (Some(case), Some(16)), "{line}");
        for side in ["keevo", "peer", "keevo_unary"] {
            assert!(line[side]["ops_per_s"].as_f64().is_some_and(|ops| ops > 10.0), "{side}: {line}");
            assert!(line[side]["p50_us"].as_u64().is_some_and(|us| us > 10), "{side}: {line}");
            assert!(line[side]["cpu_s"].as_f64().is_some_and(|cpu| cpu > 0.0), "{side}: {line}");
            assert!(line[side]["rss_bytes_max"].as_u64().is_some_and(|bytes| bytes > 3 << 20), "{side}: {line}");
            assert_eq!(line[side]["failed"].as_u64(), Some(0), "{side}: {line}\n{said}");
        }
        assert_eq!(line["peer"]["name"].as_str(), Some("etcd"), "{line}");
        let quotient = line["keevo"]["ops_per_s"].as_f64().zip(line["peer"]["ops_per_s"].as_f64());
        let quotient = quotient.map(|(keevo, peer)| keevo / peer).expect("both are there");
        assert!(line["ratio"].as_f64().is_some_and(|ratio| (ratio - quotient).abs() < 0.001), "{line}");
    }
    assert_eq!(std::fs::read_dir(data.path()).expect("it is there").count(), 0, "the servers' folders are gone");
    assert_eq!(started_in(data.path()), Vec::<u32>::new());
}

/// Timelines of a few followers beside each peer that is installed: every case, both sides, and what the ratio says.
#[test]
fn cluster_keeps_timelines_beside_redis_and_postgres() {
    let keevod = Path::new(PROGRAM).with_file_name("keevod");
    let postgres = on_path("postgres").is_some() || Path::new("/usr/lib/postgresql").is_dir();
    if on_path("redis-server").is_none() || !postgres || !keevod.is_file() {
        println!("skipped: needs redis-server, PostgreSQL and {}", keevod.display());
        return;
    }
    let data = tempfile::tempdir().expect("a folder");
    for (peer, cases) in [("redis", vec!["fan_out_1", "fan_out_3", "timeline"]), ("postgres", vec!["timeline"])] {
        let output = keevo_bench(&["compare", peer, "--followers", "40", "--history", "30", "--open", "50"])
            .args(["--seconds", "1", "--warm-up-seconds", "0", "--rounds", "1", "--output", "json", "--dir"])
            .arg(data.path())
            .output()
            .expect("the program starts");
        let said = text(&output.stderr);
        let lines = lines_of(&output);
        assert_eq!(lines.iter().filter_map(|line| line["case"].as_str()).collect::<Vec<_>>(), cases, "{said}");
        for line in &lines {
            for side in ["keevo", "peer"] {
                assert_eq!(line[side]["failed"].as_u64(), Some(0), "{side}: {line}\n{said}");
                assert!(line[side]["entries"].as_u64().is_some_and(|entries| entries >= 1_200), "{side}: {line}");
                assert!(line[side]["ram_bytes_per_entry"].as_f64().is_some_and(|ram| ram > 1.0), "{side}: {line}");
            }
            assert_eq!(line["peer"]["name"].as_str(), Some(peer), "{line}");
            let quotient = |field: &str, above: &str, below: &str| {
                let both = line[above][field].as_f64().zip(line[below][field].as_f64());
                both.map(|(above, below)| above / below).expect("both are there")
            };
            let expected = match line["case"].as_str() {
                Some("timeline") => quotient("p99_us", "peer", "keevo"),
                _ => quotient("ops_per_s", "keevo", "peer"),
            };
            assert!(line["ratio"].as_f64().is_some_and(|ratio| (ratio - expected).abs() < 0.001), "{line}");
        }
    }
    assert_eq!(std::fs::read_dir(data.path()).expect("it is there").count(), 0, "the servers' folders are gone");
    assert_eq!(started_in(data.path()), Vec::<u32>::new());
}

/// Chat in small: sockets, a node that dies under them, pages and counts; and beside NATS where it is installed.
#[test]
fn cluster_of_chat_is_measured_and_loses_nothing() {
    let keevod = Path::new(PROGRAM).with_file_name("keevod");
    if !keevod.is_file() {
        println!("skipped: needs {}", keevod.display());
        return;
    }
    let nats = on_path("nats-server").is_some();
    let mut cases = vec!["sockets", "storm", "history", "unread"];
    if nats {
        cases.insert(0, "publish");
    }
    let data = tempfile::tempdir().expect("a folder");
    let output = keevo_bench(&["compare", "nats", "--case", &cases.join(","), "--watchers", "20", "--open", "20"])
        .args(["--in-flight", "4", "--sockets", "60", "--per-channel", "20", "--history", "60", "--members", "150"])
        .args(["--seconds", "1", "--warm-up-seconds", "0", "--rounds", "1", "--output", "json", "--dir"])
        .arg(data.path())
        .output()
        .expect("the program starts");
    let said = text(&output.stderr);
    let lines = lines_of(&output);
    let of = |case: &str| lines.iter().find(|line| line["case"] == case).unwrap_or_else(|| panic!("no {case}: {said}"));
    let above = |value: &serde_json::Value, least: f64| value.as_f64().is_some_and(|value| value > least);
    let sockets = &of("sockets")["keevo"];
    assert_eq!((sockets["sockets"].as_u64(), sockets["lost"].as_u64()), (Some(60), Some(0)), "{sockets}");
    assert!(above(&sockets["rss_bytes_after"], 1e6) && above(&sockets["all_told_ms"], 0.0), "{sockets}");
    let storm = &of("storm")["keevo"];
    for figure in ["never", "lost", "doubled", "reloads"] {
        assert_eq!(storm[figure].as_u64(), Some(0), "{figure}: {storm}\n{said}");
    }
    assert!(above(&storm["all_ms"], 0.0) && above(&storm["messages"], 20.0), "{storm}");
    assert!(above(&of("history")["keevo"]["ops_per_s"], 1.0), "{lines:?}");
    for figure in ["send", "count", "mark"] {
        let unread = &of("unread")["keevo"][figure];
        assert!(above(&unread["p99_us"], 10.0) && unread["failed"] == 0, "{figure}: {unread}\n{said}");
    }
    for (case, line) in ["publish", "publish_paced"].into_iter().filter(|_| nats).map(|case| (case, of(case))) {
        for side in ["keevo", "peer"] {
            for figure in ["lost", "doubled", "failed"] {
                assert_eq!(line[side][figure].as_u64(), Some(0), "{case}, {side}, {figure}: {line}\n{said}");
            }
            assert!(above(&line[side]["deliveries_per_s"], 20.0), "{case}, {side}: {line}");
        }
        assert!(line["ratio"].is_number() && line["peer"]["name"] == "nats", "{line}");
    }
    assert_eq!(std::fs::read_dir(data.path()).expect("it is there").count(), 0, "the servers' folders are gone");
    assert_eq!(started_in(data.path()), Vec::<u32>::new());
}

/// The values of the lines that a successful run prints as JSON.
fn lines_of(output: &Output) -> Vec<serde_json::Value> {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_embedded_engine_and_the_crate_are_compared_and_drawn() {
    let (data, plots) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let output = keevo_bench(&["compare", "rocksdb", "--clients", "1,4", "--seconds", "1", "--rounds", "1"])
        .args(["--warm-up-seconds", "0", "--keys", "2000", "--output", "json", "--dir"])
        .arg(data.path())
        .arg("--svg")
        .arg(plots.path())
        .output()
        .expect("the program starts");
    let lines = lines_of(&output);
    let cases: Vec<_> = lines.iter().map(|line| (line["case"].as_str(), line["clients"].as_u64())).collect();
    let expected = ["get", "scan", "put"].map(|case| [(Some(case), Some(1)), (Some(case), Some(4))]);
    assert_eq!(cases, expected.concat());
    for line in &lines {
        for side in ["keevo", "peer"] {
            assert!(line[side]["ops_per_s"].as_f64().is_some_and(|ops| ops > 10.0), "{side}: {line}");
            assert!(line[side]["rss_bytes_max"].as_u64().is_some_and(|bytes| bytes > 3 << 20), "{side}: {line}");
            assert_eq!(line[side]["failed"].as_u64(), Some(0), "{side}: {line}");
        }
        assert_eq!(line["peer"]["name"].as_str(), Some("rocksdb"), "{line}");
        assert!(line["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{line}");
    }
    assert_eq!(std::fs::read_dir(data.path()).expect("it is there").count(), 0, "the folders are gone");
    assert_eq!(std::fs::read_dir(plots.path()).expect("it is there").count(), 6, "two plots a case");
}

/// Nodes that start, are killed and start again, in small: where keevod is missing there is nothing to start.
#[test]
fn what_keevo_does_alone_is_measured_and_leaves_nothing() {
    let keevod = Path::new(PROGRAM).with_file_name("keevod");
    if !keevod.is_file() {
        println!("skipped: needs {}", keevod.display());
        return;
    }
    let data = tempfile::tempdir().expect("a folder");
    let alone = |args: &[&str]| {
        let output = keevo_bench(args).args(["--output", "json", "--dir"]).arg(data.path()).output();
        let lines = lines_of(&output.expect("the program starts"));
        assert!(lines.iter().all(|line| line["case"].as_str().is_some() && line["machine"].is_object()), "{lines:?}");
        lines
    };
    let restart = alone(&["restart", "--log-bytes", "2097152", "--nodes", "3"]);
    let keevo = &restart[0]["keevo"];
    assert!(keevo["serving_ms"].as_u64().is_some_and(|ms| ms > 100), "{keevo}");
    assert!(
        keevo["log_bytes"].as_f64().is_some_and(|bytes| bytes > 2_097_152.0),
        "what was written was logged: {keevo}"
    );

    let groups = alone(&["groups", "--groups", "1,16", "--clients", "64", "--seconds", "1", "--keys", "500"]);
    assert_eq!(groups.len(), 2);
    for line in &groups {
        assert!(line["keevo"]["syncs_per_proposal"].as_f64().is_some_and(|syncs| syncs > 0.0 && syncs < 1.0), "{line}");
    }
    let idle = alone(&["idle", "--shards", "1,4", "--nodes", "1", "--settle-seconds", "0", "--seconds", "1"]);
    assert!(idle[1]["keevo"]["rss_bytes_per_shard"].is_number(), "{idle:?}");
    let scale = alone(&["scale", "--keys", "100,200", "--seconds", "1", "--clients", "8"]);
    assert_eq!(scale.len(), 4, "put and get at each step");
    let fan_out = alone(&["fan-out", "--followers", "5,50", "--entries", "400", "--in-flight", "2"]);
    assert_eq!(fan_out.iter().filter_map(|line| line["followers"].as_u64()).collect::<Vec<_>>(), [5, 50]);
    let storm = alone(&["storm", "--clients", "20"]);
    assert_eq!(storm[0]["keevo"]["failed"].as_u64(), Some(0), "{storm:?}");
    assert_eq!(std::fs::read_dir(data.path()).expect("it is there").count(), 0, "the nodes' folders are gone");
    assert_eq!(started_in(data.path()), Vec::<u32>::new());
}
