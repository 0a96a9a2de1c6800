//! The program as its users start it: with the bundled model, over a socket, until SIGTERM.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use keevo_proto::moderation::v1 as pb;
use pb::classify_stream_response::Outcome;
use pb::moderation_client::ModerationClient;
use serde_json::{Value, json};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// The program; killed when a test fails before it has ended.
struct Program {
    child: Child,
    address: String,
    /// Where it serves gRPC, if it was told to.
    grpc: Option<String>,
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
    let mut line = String::new();
    while !line.contains("127.0.0.1:") && log.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {}
    let mut addresses = line.split("127.0.0.1:").skip(1).map(|rest| {
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        format!("127.0.0.1:{port}")
    });
    let address = addresses.next().unwrap_or_else(|| panic!("it says where it listens: {line}"));
    let grpc = addresses.next();
    // Whatever else it says is read, so that it never waits for a reader.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Program { child, address, grpc }
}

impl Program {
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = self.exchange(method, path, body);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn text(&self, path: &str) -> String {
        self.exchange("GET", path, "")
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
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

/// A client as others write one: the generated stub over a channel, against the bundled model.
#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_model_is_served_over_grpc() {
    let mut program = start(&["--grpc", "127.0.0.1:0"]);
    let address = format!("http://{}", program.grpc.clone().expect("it says where"));
    let channel = Endpoint::from_shared(address).expect("an address").connect().await.expect("it listens");
    let (mut client, mut health) = (ModerationClient::new(channel.clone()), HealthClient::new(channel));
    let mut watched =
        health.watch(HealthCheckRequest { service: String::new() }).await.expect("it is watched").into_inner();
    while watched.message().await.expect("told").map(|now| now.status) != Some(ServingStatus::Serving.into()) {}
    let info = client.get_info(pb::GetInfoRequest {}).await.expect("told").into_inner();
    assert!(info.labels.contains(&"toxic".to_owned()) && info.multi_label, "{info:?}");

    let input = |text: &str| pb::Input { text: text.to_owned(), pair: None };
    let inputs = vec![input("good morning, how are you?"), input("you are a stupid idiot")];
    let asked = pb::ClassifyRequest { inputs, ..pb::ClassifyRequest::default() };
    let answer = client.classify(asked).await.expect("judged").into_inner();
    assert_eq!((answer.model_version, answer.labels), (info.model_version, info.labels));
    let [good, bad] = &answer.results[..] else { panic!("two texts: {:?}", answer.results) };
    assert!(!good.flagged && bad.flagged && bad.flagged_labels.contains(&"toxic".to_owned()), "{bad:?}");

    let texts: Vec<String> = (0..200).map(|n| format!("mail {n} says {}", ["hello", "you idiot"][n % 2])).collect();
    let requests: Vec<_> = texts
        .iter()
        .zip(0..)
        .map(|(text, id)| {
            let request = pb::ClassifyRequest { inputs: vec![input(text)], ..pb::ClassifyRequest::default() };
            pb::ClassifyStreamRequest { id, request: Some(request) }
        })
        .collect();
    let mut answers = client.classify_stream(futures::stream::iter(requests)).await.expect("begun").into_inner();
    let mut flagged = BTreeMap::new();
    while let Some(answer) = answers.message().await.expect("it goes on") {
        let Some(Outcome::Response(response)) = answer.outcome else { panic!("judged: {:?}", answer.outcome) };
        assert!(flagged.insert(answer.id, response.results[0].flagged).is_none(), "{} twice", answer.id);
    }
    assert_eq!(flagged, (0..200).map(|id| (id, id % 2 == 1)).collect(), "every other one is an insult");

    let metrics = tokio::task::block_in_place(|| program.text("/metrics"));
    assert!(metrics.contains("keevo_moderation_requests_total{api=\"grpc\",outcome=\"ok\"} 201\n"), "{metrics}");
    let told = Command::new("kill").args(["-TERM", &program.child.id().to_string()]).status().expect("kill runs");
    assert!(told.success());
    assert!(tokio::task::block_in_place(|| program.child.wait()).expect("it ends").success(), "a stop is no failure");
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
    let told = run(&["--http", "127.0.0.1:0", "--grpc", "0.0.0.0:0"]);
    assert!(told.contains("--api-keys-file"), "{told}");
    let told = run(&["--http", "127.0.0.1:0", "--model", "no/such/folder"]);
    assert!(told.contains("no/such/folder"), "{told}");
    let told = run(&["--http", "127.0.0.1:0", "--label-threshold", "toxic"]);
    assert!(told.contains("LABEL=VALUE"), "{told}");
    let told = run(&["--http", "127.0.0.1:0", "--device", "cpu", "--label-threshold", "rude=0.5"]);
    assert!(told.contains("rude"), "{told}");
}
