//! The program as its users start it: with the bundled model, over a socket, until SIGTERM.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// The program; killed when a test fails before it has ended.
struct Program {
    child: Child,
    address: String,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn start(flags: &[&str]) -> Program {
    let mut child = Command::new(env!("CARGO_BIN_EXE_keevo-moderation"))
        .args(["serve", "--http", "127.0.0.1:0", "--device", "cpu"])
        .args(flags)
        .env_remove("KEEVO_MODERATION_API_KEYS")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut address = None;
    let mut line = String::new();
    while address.is_none() && log.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        address = line.split_once("127.0.0.1:").map(|(_, rest)| {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            format!("127.0.0.1:{port}")
        });
    }
    // Whatever else it says is read, so that it never waits for a reader.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Program { child, address: address.unwrap_or_else(|| panic!("it says where it listens: {line}")) }
}

impl Program {
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn wait_until_ready(&mut self) {
        while self.ask("GET", "/health", "").0 != 200 {
            assert!(self.child.try_wait().expect("it can be asked").is_none(), "it ended before it was ready");
            std::thread::yield_now();
        }
    }
}

#[test]
fn the_bundled_model_is_served_until_sigterm() {
    let mut program = start(&[]);
    program.wait_until_ready();
    let input = json!({"input": ["good morning, how are you?", "you are a stupid idiot"]}).to_string();
    let (status, answer) = program.ask("POST", "/v1/moderations", &input);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["results"][0]["flagged"], false, "{answer}");
    assert_eq!(answer["results"][1]["flagged"], true, "{answer}");
    assert_eq!(answer["results"][1]["categories"]["harassment"], true, "{answer}");
    let (status, answer) = program.ask("POST", "/predict", &json!({"inputs": "you idiot"}).to_string());
    assert_eq!((status, &answer[0]["label"]), (200, &json!("toxic")), "{answer}");
    let long = format!("{} you stupid idiot", "a lovely day in the park. ".repeat(200));
    let (status, answer) = program.ask("POST", "/v1/moderations", &json!({"input": long}).to_string());
    assert_eq!((status, &answer["results"][0]["flagged"]), (200, &json!(true)), "the last window counts: {answer}");
    let told = Command::new("kill").args(["-TERM", &program.child.id().to_string()]).status().expect("kill runs");
    assert!(told.success());
    assert!(program.child.wait().expect("it ends").success(), "a stop is no failure");
}

#[test]
fn what_cannot_be_served_is_said() {
    let run = |flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_keevo-moderation"))
            .arg("serve")
            .args(flags)
            .env_remove("KEEVO_MODERATION_API_KEYS")
            .output()
            .expect("the program starts");
        assert!(!output.status.success(), "{flags:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = run(&["--http", "0.0.0.0:0"]);
    assert!(told.contains("--api-keys-file"), "{told}");
    let told = run(&["--http", "127.0.0.1:0", "--model", "no/such/folder"]);
    assert!(told.contains("no/such/folder"), "{told}");
    let told = run(&["--http", "127.0.0.1:0", "--label-threshold", "toxic"]);
    assert!(told.contains("LABEL=VALUE"), "{told}");
    let told = run(&["--http", "127.0.0.1:0", "--device", "cpu", "--label-threshold", "rude=0.5"]);
    assert!(told.contains("rude"), "{told}");
}
