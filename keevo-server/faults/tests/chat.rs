//! The short form of the case `chat`: the program on plain loopback, with fewer who send and watch.

use std::path::Path;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_keevo-faults");

#[test]
fn cluster_of_chat_converges_while_leaders_are_killed() {
    let keevod = Path::new(PROGRAM).with_file_name("keevod");
    if !keevod.is_file() {
        println!("skipped: needs {}", keevod.display());
        return;
    }
    let output = Command::new(PROGRAM)
        .args(["--loopback", "--only", "chat", "--rounds", "1", "--senders", "20", "--watchers", "9", "--kills", "2"])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().expect("a sum");
    assert!(last.starts_with("faults: 1 passed, 0 failed") && last.contains("kill: 2"), "{said}");
    let counted = said.lines().find(|line| line.contains("unread counts are as recounted")).expect("a summary");
    assert!(!counted.contains(" 0 drops") && !counted.contains(" 0 resumes"), "{counted}");
    // So little is sent that every node keeps all of it: nobody may be told to read a channel anew.
    assert!(counted.contains(" and 0 reloads;"), "{counted}");
}
