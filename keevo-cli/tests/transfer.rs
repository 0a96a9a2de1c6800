//! `feed import` and `feed export` against a fake node: what is sent, what is refused, and where an import goes on.

mod transfer {
    pub(crate) mod fake;
}

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use keevo_proto::feeds::v1::feeds_server::FeedsServer;
use keevo_proto::feeds::v1::social_server::SocialServer;
use tonic::transport::server::TcpIncoming;

use transfer::fake::Fake;

/// Runs the program against a fake node: exit code, standard output, standard error.
fn against(fake: &Fake, args: &[&str]) -> (Option<i32>, String, String) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let entered = runtime.enter();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = incoming.local_addr().expect("bound").to_string();
    let server = tonic::transport::Server::builder()
        .add_service(FeedsServer::new(fake.clone()))
        .add_service(SocialServer::new(fake.clone()));
    drop(runtime.spawn(server.serve_with_incoming(incoming)));
    drop(entered);
    let output = Command::new(env!("CARGO_BIN_EXE_keevo-cli")).env("KEEVO_ENDPOINTS", address).args(args).output();
    let output = output.expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("keevo-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).expect("written");
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn activity(feed: &str, verb: &str, object: usize) -> String {
    let time = "2026-01-31T12:00:00";
    format!(
        "{{\"activity\":{{\"feed\":\"{feed}\",\"actor\":\"a\",\"verb\":\"{verb}\",\"object\":\"{object}\",\
         \"time\":\"{time}\",\"likes\":{object}}}}}\n"
    )
}

fn follow(number: usize) -> String {
    format!("{{\"follow\":{{\"feed\":\"timeline:{number}\",\"target\":\"user:a\"}}}}\n")
}

#[test]
fn good_lines_are_imported_and_bad_ones_told_with_their_number() {
    let folder = Folder::new("bad-lines");
    let text = [
        follow(1),
        activity("user:a", "post", 1),
        "no JSON\n".to_owned(),
        activity("user:a", "bad", 2),
        "\n".to_owned(),
        activity("user:b", "post", 3),
        activity("user:a", "post", 4),
    ]
    .concat();
    let file = folder.file("feeds.jsonl", &text);
    let fake = Fake::default();
    fake.follows_left.store(9, Ordering::Relaxed);
    let (code, out, said) = against(&fake, &["feed", "import", &file]);
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(out, "imported 3 activities and 1 follow\n");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("line")).collect();
    assert!(lines[0].starts_with("line 3: it is no JSON"), "{said}");
    assert!(lines[1].starts_with("line 4: INVALID: the verb is bad"), "{said}");
    assert!(lines[2].starts_with("keevo-cli: INVALID: 2 lines were refused. Mend these lines"), "{said}");
    let kept = fake.activities.lock().expect("no panic").iter().cloned().collect::<Vec<_>>();
    let expected = [("user:a", 1), ("user:a", 4), ("user:b", 3)];
    assert_eq!(kept, expected.map(|(feed, number)| format!("{feed} post {number} {{\"likes\":{number}}}")));

    let (code, out, said) = against(&fake, &["feed", "import", &file, "--bad-lines", "1", "--output", "json"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{said}");
    assert!(said.contains("2 lines were refused, and the import stopped there"), "{said}");
}

#[test]
fn an_import_that_failed_goes_on_where_it_was_and_one_that_is_done_sends_nothing() {
    let folder = Folder::new("resume");
    let activities: String = (0..150).map(|number| activity("user:a", "post", number)).collect();
    let follows: String = (0..1_100).map(follow).collect();
    let file = folder.file("feeds.jsonl", &(activities + &follows));
    let position = folder.path("position");
    let args = ["feed", "import", &file, "--position", &position];
    let fake = Fake::default();
    // One more than a chunk: the position behind the first chunk is saved.
    fake.follows_left.store(1_030, Ordering::Relaxed);
    let (code, out, said) = against(&fake, &args);
    assert_ne!(code, Some(0), "{said}");
    assert!(out.is_empty() && said.contains("Run the same command again"), "{said}");
    assert_eq!(fake.activities.lock().expect("no panic").len(), 150);
    let calls = fake.calls.load(Ordering::Relaxed);
    assert_eq!(calls, 2, "150 activities of one feed are two calls");

    fake.follows_left.store(76, Ordering::Relaxed);
    let (code, out, said) = against(&fake, &args);
    assert_eq!((code, out.as_str()), (Some(0), "imported 0 activities and 76 follows\n"), "{said}");
    assert_eq!(fake.follows.lock().expect("no panic").len(), 1_100);
    assert_eq!(fake.calls.load(Ordering::Relaxed), calls, "the activities are not sent again");

    let (code, out, said) = against(&fake, &args);
    assert_eq!((code, out.as_str()), (Some(0), "imported 0 activities and 0 follows\n"), "{said}");
    std::fs::write(&file, "another file").expect("written");
    let (code, _, said) = against(&fake, &args);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is of a file of"), "{said}");
}

#[test]
fn an_export_holds_what_the_feeds_hold_themselves_and_is_taken_by_an_import() {
    let folder = Folder::new("export");
    let names = folder.file("names", "user:b\n\n");
    let fake = Fake::default();
    let (code, out, said) = against(&fake, &["feed", "export", "user:a", "--feeds-from", &names]);
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 6, "an activity and two follows of each: {out}");
    assert!(lines[0].contains("\"object\":\"new\"") && lines[0].contains("\"likes\":3"), "{out}");
    assert!(lines[2].contains("\"target\":\"user:b\"") && lines[3].contains("\"target\":\"user:c\""), "{out}");
    let file = folder.file("feeds.jsonl", &out);
    fake.follows_left.store(9, Ordering::Relaxed);
    let (code, out, said) = against(&fake, &["feed", "import", &file]);
    assert_eq!((code, out.as_str()), (Some(0), "imported 2 activities and 4 follows\n"), "{said}");
    assert!(Path::new(&file).is_file());
    let (code, _, said) = against(&fake, &["feed", "export"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no feed was named"), "{said}");
}

#[test]
fn what_lies_around_feeds_is_imported_in_an_order_that_holds_and_again_without_harm() {
    let folder = Folder::new("social");
    let text = [
        // Out of order: a reply before what it is to, two of them in their order.
        r#"{"reaction":{"id":"r2","kind":"like","activity_id":"a","parent":"r1","user_id":"bob"}}"#,
        r#"{"reaction":{"id":"r3","kind":"like","activity_id":"a","parent":"r2","user_id":"bob"}}"#,
        r#"{"reaction":{"id":"r1","kind":"like","activity_id":"a","user_id":"bob","data":{"n":1}}}"#,
        r#"{"reaction":{"id":"r9","kind":"like","activity_id":"a","parent":"gone","user_id":"bob"}}"#,
        r#"{"collection":{"collection":"food","id":"brie","data":{"fat":45},"user_id":"alice"}}"#,
        r#"{"user":{"id":"alice","data":{"name":"Eve"}}}"#,
        r#"{"user":{"id":"bad name"}}"#,
        r#"{"user":{"id":"alice","data":{"name":"Alice"}}}"#,
    ]
    .join("\n");
    let file = folder.file("social.jsonl", &text);
    let fake = Fake::default();
    for round in ["first", "again"] {
        let (code, out, said) = against(&fake, &["feed", "--app", "7", "import", &file]);
        assert_eq!(code, Some(2), "{round}: {said}");
        let told = "imported 0 activities, 0 follows, 2 users, 1 entry, 1 reaction and 2 replies\n";
        assert_eq!(out, told, "{round}: {said}");
        assert!(said.contains("line 7: INVALID") && said.contains("line 4: INVALID"), "{round}: {said}");
        let users = fake.users.lock().expect("no panic").clone();
        assert_eq!(users.into_iter().collect::<Vec<_>>(), [("alice".to_owned(), r#"{"name":"Alice"}"#.to_owned())]);
        let entries = fake.entries.lock().expect("no panic").clone();
        assert_eq!(
            entries.into_iter().collect::<Vec<_>>(),
            [("food:brie".to_owned(), r#"{"fat":45} alice"#.to_owned())]
        );
        assert_eq!(fake.reactions.lock().expect("no panic").keys().cloned().collect::<Vec<_>>(), ["r1", "r2", "r3"]);
    }
    assert_eq!(*fake.apps.lock().expect("no panic"), ["7".to_owned()].into(), "every call names the app");
}

#[test]
fn an_export_with_what_lies_around_names_each_thing_once_and_replies_behind_what_they_are_to() {
    let fake = Fake::default();
    let reaction = |id: &str, parent: &str| keevo_proto::feeds::v1::Reaction {
        id: id.to_owned(),
        kind: "like".to_owned(),
        activity_id: "2".to_owned(),
        parent: parent.to_owned(),
        user_id: "bob".to_owned(),
        ..Default::default()
    };
    let all = [reaction("a", ""), reaction("b", ""), reaction("c", "a")];
    fake.reactions.lock().expect("no panic").extend(all.map(|one| (one.id.clone(), one)));
    fake.users.lock().expect("no panic").insert("bob".to_owned(), r#"{"name":"Bob"}"#.to_owned());
    let (code, out, said) = against(&fake, &["feed", "export", "user:a", "--social"]);
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = out.lines().collect();
    let at = |part: &str| {
        let found: Vec<usize> = (0..lines.len()).filter(|place| lines[*place].contains(part)).collect();
        assert_eq!(found.len(), 1, "{part} in {out}");
        found[0]
    };
    assert!(at("\"user\":{") < at("\"id\":\"a\""), "{out}");
    assert!(at("\"id\":\"a\"") < at("\"id\":\"c\""), "{out}");
    assert_eq!(lines.len(), 7, "an activity, a user, three reactions, two follows: {out}");
}

#[test]
fn a_verification_prints_every_difference() {
    let fake = Fake::default();
    let (code, out, err) = against(&fake, &["feed", "verify", "timeline:a", "timeline:b"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "2 feeds show 7 activities; 0 reactions were recounted; 0 differences\n");
    // With the followers of the feed, of which one is wrong.
    let (code, out, err) = against(&fake, &["feed", "verify", "user:star", "--followers"]);
    assert_eq!(out, "timeline:bad lacks the activity 1\n");
    assert!(err.contains("CORRUPT: 3 feeds were compared, and 2 differences found"), "{err}");
    assert_eq!(code, Some(8));
    let (code, out, _) = against(&fake, &["--output", "json", "feed", "verify", "timeline:a"]);
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &told["feeds"], &told["differing"]), (Some(0), &1.into(), &0.into()));
    let (code, _, err) = against(&fake, &["feed", "verify"]);
    assert!(code != Some(0) && err.contains("no feed was named"), "{err}");
}
