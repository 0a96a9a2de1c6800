//! `feed import` and `feed export` against a fake node: what is sent, what is refused, and where an import goes on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keevo_core::{Error, ErrorKind};
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_server::{Feeds, FeedsServer};
use keevo_proto::status_from_error;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A node that keeps what it is sent. It refuses the verb `bad`, and answers no follow once `follows_left` is used up.
#[derive(Clone, Default)]
struct Fake {
    activities: Arc<Mutex<BTreeSet<String>>>,
    follows: Arc<Mutex<BTreeSet<String>>>,
    calls: Arc<AtomicUsize>,
    follows_left: Arc<AtomicUsize>,
}

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl Feeds for Fake {
    async fn add_activity(
        &self,
        _: Request<pb::AddActivityRequest>,
    ) -> Result<Response<pb::AddActivityResponse>, Status> {
        unimplemented()
    }

    async fn add_activities(
        &self,
        request: Request<pb::AddActivitiesRequest>,
    ) -> Result<Response<pb::AddActivitiesResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let pb::AddActivitiesRequest { feed, activities } = request.into_inner();
        if activities.iter().any(|one| one.verb == "bad") {
            return Err(status_from_error(&Error::new(ErrorKind::Invalid, "the verb is bad")));
        }
        let mut kept = self.activities.lock().expect("no panic");
        kept.extend(activities.iter().map(|one| format!("{feed} {} {} {}", one.verb, one.object, one.custom)));
        Ok(Response::new(pb::AddActivitiesResponse { activities }))
    }

    async fn remove_activity(
        &self,
        _: Request<pb::RemoveActivityRequest>,
    ) -> Result<Response<pb::RemoveActivityResponse>, Status> {
        unimplemented()
    }

    async fn follow(&self, request: Request<pb::FollowRequest>) -> Result<Response<pb::FollowResponse>, Status> {
        let take = |left: usize| left.checked_sub(1);
        if self.follows_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(status_from_error(&Error::corrupt("the disk is bad")));
        }
        let request = request.into_inner();
        self.follows.lock().expect("no panic").insert(format!("{} {}", request.feed, request.target));
        Ok(Response::new(pb::FollowResponse {}))
    }

    async fn unfollow(&self, _: Request<pb::UnfollowRequest>) -> Result<Response<pb::UnfollowResponse>, Status> {
        unimplemented()
    }

    async fn get_feed(&self, request: Request<pb::GetFeedRequest>) -> Result<Response<pb::GetFeedResponse>, Status> {
        let request = request.into_inner();
        // Two pages: an own activity with a custom field, and one that came from elsewhere.
        let first = request.id_lt.is_empty();
        let activity = pb::Activity {
            id: if first { "2" } else { "1" }.to_owned(),
            actor: "alice".to_owned(),
            verb: "post".to_owned(),
            object: if first { "new" } else { "old" }.to_owned(),
            time: "2026-01-31T12:00:00.000000Z".to_owned(),
            custom: r#"{"likes":3}"#.to_owned(),
            origin: if first { request.feed } else { "user:other".to_owned() },
            ..pb::Activity::default()
        };
        Ok(Response::new(pb::GetFeedResponse { activities: vec![activity], more: first }))
    }

    async fn followers(
        &self,
        request: Request<pb::FollowersRequest>,
    ) -> Result<Response<pb::FollowersResponse>, Status> {
        let request = request.into_inner();
        let page = |feed: &str, next: &'static str| {
            let relation = pb::Relation { feed: feed.to_owned(), target: request.feed.clone(), since_ms: 1 };
            pb::FollowersResponse { relations: vec![relation], next: next.into() }
        };
        Ok(Response::new(if request.after.is_empty() { page("timeline:a", "more") } else { page("timeline:bad", "") }))
    }

    async fn following(
        &self,
        request: Request<pb::FollowingRequest>,
    ) -> Result<Response<pb::FollowingResponse>, Status> {
        let request = request.into_inner();
        let page = |target: &str, next: &'static str| {
            let relation = pb::Relation { feed: request.feed.clone(), target: target.to_owned(), since_ms: 1 };
            pb::FollowingResponse { relations: vec![relation], next: next.into() }
        };
        Ok(Response::new(if request.after.is_empty() { page("user:b", "more") } else { page("user:c", "") }))
    }

    async fn verify(&self, request: Request<pb::VerifyRequest>) -> Result<Response<pb::VerifyResponse>, Status> {
        let feeds = request.into_inner().feeds;
        let (differing, differences) = if feeds.iter().any(|feed| feed == "timeline:bad") {
            (2, vec!["timeline:bad lacks the activity 1".to_owned()])
        } else {
            (0, Vec::new())
        };
        let count = u64::try_from(feeds.len()).expect("small");
        Ok(Response::new(pb::VerifyResponse { feeds: count, shown: 7, differing, differences, ..Default::default() }))
    }

    async fn get_activities(
        &self,
        _: Request<pb::GetActivitiesRequest>,
    ) -> Result<Response<pb::GetActivitiesResponse>, Status> {
        unimplemented()
    }
}

/// Runs the program against a fake node: exit code, standard output, standard error.
fn against(fake: &Fake, args: &[&str]) -> (Option<i32>, String, String) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let entered = runtime.enter();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = incoming.local_addr().expect("bound").to_string();
    let server = tonic::transport::Server::builder().add_service(FeedsServer::new(fake.clone()));
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
