//! Keys and certificates that are let in, and what a change or a blind node does.

use keevo_core::{ManualClock, MemoryEngine, SeededRandom};
use keevo_gateway::apps::EngineMeta;
use keevo_tls::Caller;

use super::*;

const ADMIN_KEY: &str = "an admin key of thirty-two bytes or more";

struct Fixture {
    authority: Arc<Authority>,
    clock: Arc<ManualClock>,
}

async fn fixture() -> Fixture {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let meta = EngineMeta::open(MemoryEngine::new()).await.expect("a meta store");
    let random = Arc::new(SeededRandom::new(7));
    let authority = Authority::new(meta, 1, Some(ADMIN_KEY), Arc::clone(&clock) as Arc<dyn Clock>, random);
    let authority = authority.expect("the key is long enough");
    authority.refresh().await.expect("read");
    Fixture { authority, clock }
}

impl Fixture {
    fn with_key(&self, text: &str) -> Result<Pass> {
        self.authority.identify(None, Some(format!("Bearer {text}").as_bytes()))
    }

    fn with_certificate(&self, name: &str) -> Result<Pass> {
        let caller =
            Caller { address: "127.0.0.1:1".parse().expect("an address"), name: Some(name.into()), node: None };
        self.authority.identify(Some(&caller), None)
    }
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[tokio::test]
async fn a_key_is_let_in_with_its_role_until_it_is_revoked() {
    let fixture = fixture().await;
    fixture.authority.set_role("sales", &["read kv:orders".to_owned()]).await.expect("a role");
    let (id, row, text) = fixture.authority.create_key("sales", "of the test", 0).await.expect("a key");
    assert!(!row.sha256.contains(&text[PREFIX.len()..]) && text.len() > 64, "only a hash is kept");
    let pass = fixture.with_key(&text).expect("let in");
    assert_eq!(
        (pass.principal(), pass.access().expect("good").role.clone()),
        (format!("key {id}"), "sales".to_owned())
    );
    assert_eq!(kind(pass.check(Action::Read, Target::Prefix("orders", b""))), None);
    let refused = pass.check(Action::Write, Target::Partition("orders", b"1")).expect_err("it reads only");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(refused.message(), "the role sales may not write partition 1 of keyspace orders");
    fixture.authority.set_role("sales", &["write kv:orders".to_owned()]).await.expect("changed");
    assert_eq!(kind(pass.check(Action::Write, Target::Prefix("orders", b""))), None, "the new role counts at once");
    fixture.authority.revoke_key(&id).await.expect("revoked");
    assert_eq!(kind(pass.access()), Some(ErrorKind::Unauthenticated), "what is open is over too");
    assert_eq!(kind(fixture.with_key(&text)), Some(ErrorKind::Unauthenticated));
    assert_eq!(kind(fixture.authority.revoke_key(&id).await), Some(ErrorKind::NotFound));
}

#[tokio::test]
async fn what_is_no_key_is_refused_without_a_word_about_it() {
    let fixture = fixture().await;
    let (id, _, text) = fixture.authority.create_key("reader", "", 0).await.expect("a key");
    let mut last = text.clone().into_bytes();
    *last.last_mut().expect("not empty") ^= 1;
    let altered = String::from_utf8(last).expect("text");
    for wrong in [altered.as_str(), "", "x", "keevo_", "keevo__", &format!("keevo_{id}_"), &text[..text.len() - 1]] {
        let error = fixture.with_key(wrong).expect_err(wrong);
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{wrong}");
        assert!(wrong.len() < 5 || !error.to_string().contains(wrong), "{error}");
    }
    for header in [&b"Bearer"[..], b"", b"Basic abc", b"\xff\xfe", text.as_bytes()] {
        assert_eq!(kind(fixture.authority.identify(None, Some(header))), Some(ErrorKind::Unauthenticated));
    }
    assert_eq!(kind(fixture.authority.identify(None, None)), Some(ErrorKind::Unauthenticated), "nobody");
    assert!(fixture.with_key(&text).is_ok());
    assert!(fixture.authority.identify(None, Some(format!("bearer  {text} ").as_bytes())).is_ok());
    assert!(!format!("{:?} {:?}", fixture.authority, fixture.with_key(&text)).contains(&text));
}

#[tokio::test]
async fn a_key_ends_when_its_time_is_over() {
    let fixture = fixture().await;
    let (_, _, text) = fixture.authority.create_key("reader", "", 5_000).await.expect("a key");
    let pass = fixture.with_key(&text).expect("let in");
    fixture.clock.advance_ms(4_999);
    assert_eq!(kind(pass.access()), None);
    fixture.clock.advance_ms(1);
    assert_eq!(kind(pass.access()), Some(ErrorKind::Unauthenticated));
    assert_eq!(kind(fixture.with_key(&text)), Some(ErrorKind::Unauthenticated));
}

#[tokio::test]
async fn a_certificate_has_the_role_of_its_name() {
    let fixture = fixture().await;
    assert_eq!(kind(fixture.with_certificate("reporter")), Some(ErrorKind::PermissionDenied), "there is no such role");
    fixture.authority.set_role("reporter", &["read feeds:2".to_owned()]).await.expect("a role");
    let pass = fixture.with_certificate("reporter").expect("let in");
    assert_eq!(kind(pass.check(Action::Read, Target::Feeds(2))), None);
    fixture.authority.remove_role("reporter").await.expect("gone");
    assert_eq!(kind(pass.access()), Some(ErrorKind::PermissionDenied));
    let admin = fixture.with_certificate("admin").expect("always there");
    assert_eq!(kind(admin.check(Action::Admin, Target::Cluster)), None);
    let (_, _, text) = fixture.authority.create_key("reader", "", 0).await.expect("a key");
    let caller = Caller { address: "127.0.0.1:1".parse().expect("an address"), name: Some("admin".into()), node: None };
    let both = fixture.authority.identify(Some(&caller), Some(format!("Bearer {text}").as_bytes())).expect("let in");
    assert_eq!(both.access().expect("good").role, "reader", "the key counts");
}

#[tokio::test]
async fn a_node_that_cannot_read_the_table_lets_in_who_needs_none() {
    let fixture = fixture().await;
    let (_, _, text) = fixture.authority.create_key("admin", "", 0).await.expect("a key");
    let pass = fixture.with_key(&text).expect("let in");
    fixture.clock.advance_ms(30_000);
    assert_eq!(kind(pass.access()), Some(ErrorKind::Unavailable));
    assert_eq!(kind(fixture.with_key(&text)), Some(ErrorKind::Unavailable));
    assert_eq!(kind(fixture.with_certificate("sales")), Some(ErrorKind::Unavailable));
    assert!(fixture.with_key(ADMIN_KEY).is_ok() && fixture.with_certificate("admin").is_ok());
    fixture.authority.refresh().await.expect("read again");
    assert_eq!(kind(pass.access()), None);
}

#[tokio::test]
async fn a_short_administrators_key_is_refused() {
    let meta = EngineMeta::open(MemoryEngine::new()).await.expect("a meta store");
    let (clock, random) = (Arc::new(ManualClock::new(1)), Arc::new(SeededRandom::new(1)));
    let error = Authority::new(meta, 1, Some("secret"), clock, random).expect_err("too short");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn writers_that_race_lose_nothing() {
    let fixture = fixture().await;
    let made = (0..20).map(|number| {
        let authority = Arc::clone(&fixture.authority);
        async move { authority.create_key("reader", &number.to_string(), 0).await }
    });
    let made = futures::future::join_all(made).await;
    assert!(made.iter().all(std::result::Result::is_ok), "{made:?}");
    assert_eq!(fixture.authority.stored().await.expect("read").keys().count(), 20);
}
