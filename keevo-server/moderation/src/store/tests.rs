//! Verdicts in a real PostgreSQL, which is killed in the middle, beside Keevo's own.

mod server;

use std::collections::BTreeMap;

use keevo_core::{SeededRandom, SystemClock};
use tokio_postgres::NoTls;

use super::*;
use crate::testing::{FaultyEngine, World};
use crate::text::{TextKind, TextVersion};
use crate::verdicts::{Decision, Ruling};
use server::Postgres;

/// The key of a row: kind, channel, id, hash.
type RowKey = (String, String, String, String);
/// What a row says: text, action, label's score, model, masked text, when it was judged, who decided what.
type Row = (String, String, Option<f32>, String, Option<String>, i64, Option<(String, String)>);

fn message(number: usize, text: &str) -> TextVersion {
    let id = format!("team:x\0m{number}");
    TextVersion::new(1, TextKind::Message, id, text).expect("valid").by("alice", "chat:team", 1_000)
}

fn text(number: usize) -> String {
    match number % 5 {
        0 => format!("so bad {number}"),
        1 => format!("oh darn {number}"),
        2 => format!("a\0b 'quoted' \\u0000 {number}"),
        3 => format!("zork {number}"),
        _ => format!("fine {number} 😀"),
    }
}

fn options() -> StoreOptions {
    let (pause_min, pause_max) = (Duration::from_millis(20), Duration::from_millis(200));
    StoreOptions { pause_min, pause_max, lease: Duration::from_millis(300) }
}

/// A feed that runs.
struct Running {
    store: Store,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(world: &World, url: &str, seed: u64) -> Self {
        let store = Store::new(url, options(), Arc::new(SystemClock::new())).expect("a URL");
        let (stop, moderator) = (CancellationToken::new(), world.moderator(FaultyEngine::sound(&world.engine)).await);
        let task = tokio::spawn({
            let (store, stop) = (store.clone(), stop.clone());
            async move { Box::pin(store.run(moderator, &SeededRandom::new(seed), stop)).await }
        });
        Self { store, stop, task }
    }

    async fn until(&self, what: &str, done: impl Fn(StoreMetrics) -> bool) {
        let waiting = async {
            while !done(self.store.metrics()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(waited.is_ok(), "waited in vain until {what}: {:?}", self.store.metrics());
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("it ends");
    }
}

async fn connect(url: &str) -> tokio_postgres::Client {
    for _ in 0..500 {
        if let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await {
            tokio::spawn(connection);
            return client;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("PostgreSQL does not serve");
}

async fn in_postgres(url: &str) -> BTreeMap<RowKey, Row> {
    let sql = "SELECT v.kind, v.channel, v.id, v.hash, v.text, v.action, (v.scores->>'toxic')::real, v.model, v.masked, \
               (extract(epoch FROM v.judged_at) * 1000)::bigint, r.ruling, r.reviewer FROM keevo_verdicts v \
               LEFT JOIN keevo_reviews r USING (app, kind, channel, id, hash) WHERE v.app = 1";
    let client = connect(url).await;
    let rows = client.query(sql, &[]).await.expect("read");
    let row = |row: &tokio_postgres::Row| {
        let decided = row.get::<_, Option<String>>(10).map(|ruling| (ruling, row.get(11)));
        let key = (row.get(0), row.get(1), row.get(2), row.get(3));
        (key, (row.get(4), row.get(5), row.get(6), row.get(7), row.get(8), row.get(9), decided))
    };
    rows.iter().map(row).collect()
}

async fn in_keevo(world: &World, texts: usize) -> BTreeMap<RowKey, Row> {
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let verdicts = moderator.verdicts().await.expect("opened");
    let mut rows = BTreeMap::new();
    for number in 0..texts {
        let id = format!("team:x\0m{number}");
        for one in verdicts.of_text(1, TextKind::Message, &id, 100).await.expect("read") {
            let decided = verdicts.decision(&one.version).await.expect("read");
            let decided = decided.map(|one| (one.decision.ruling.name().to_owned(), one.decision.reviewer));
            let key = ("message".to_owned(), "team:x".to_owned(), format!("m{number}"), one.version.hash().to_owned());
            let shown = |text: &str| text.replace('\0', "\u{fffd}");
            let judged = i64::try_from(one.judged_ms).expect("a time");
            let (score, masked) = (one.scores.get("toxic").copied(), one.masked.as_deref().map(shown));
            let action = one.action.name().to_owned();
            rows.insert(key, (shown(&one.version.text), action, score, one.model, masked, judged, decided));
        }
    }
    rows
}

/// The whole way: rows, edits and decisions, while PostgreSQL is killed and the feed moves to another node.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_postgres_ends_with_every_row_of_keevo() {
    let Some(mut postgres) = Postgres::start() else { return };
    let url = postgres.url();
    drop(connect(&url).await);
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let verdicts = moderator.verdicts().await.expect("opened");
    let judge = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            world.clock.advance_ms(1);
            moderator.check(message(number, &text(number))).await.expect("checked");
        }
    };
    let feed = Running::start(&world, &url, 1).await;
    judge(0..150).await;
    feed.until("the first rows are there", |seen| seen.rows >= 150 && seen.lag_ms == 0).await;
    postgres.kill();
    judge(150..300).await;
    moderator.check(message(3, "an edit of it")).await.expect("checked");
    feed.until("it is missed", |seen| seen.failures > 1 && seen.marked > 0 && seen.lag_ms > 0).await;
    let decision =
        |ruling| Decision { ruling, reviewer: "eve".into(), labels: vec!["toxic".into()], note: "a\0b".into() };
    let queued = verdicts.queue(1, 20, None).await.expect("listed").entries;
    for (entry, ruling) in queued.iter().zip([Ruling::Allow, Ruling::Remove, Ruling::Ban].into_iter().cycle()) {
        verdicts.decide(1, &entry.id, decision(ruling), world.effects.as_ref()).await.expect("decided");
    }
    // The node that fed it goes, and another one takes over before PostgreSQL is back.
    feed.stop().await;
    let feed = Running::start(&world, &url, 2).await;
    judge(300..350).await;
    postgres.restart();
    judge(350..400).await;
    feed.until("it has caught up", |seen| seen.rows > 0 && seen.lag_ms == 0).await;

    let wanted = in_keevo(&world, 400).await;
    let mut found = in_postgres(&url).await;
    for _ in 0..500 {
        if found == wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        found = in_postgres(&url).await;
    }
    assert!(wanted.len() > 400 && wanted.values().filter(|row| row.6.is_some()).count() == 20, "{}", wanted.len());
    for (key, row) in &wanted {
        assert_eq!(found.get(key), Some(row), "{key:?}");
    }
    assert_eq!(found.len(), wanted.len());
    let client = connect(&url).await;
    let labels = client.query_one("SELECT labels, note FROM keevo_reviews LIMIT 1", &[]).await.expect("read");
    assert_eq!(
        (labels.get::<_, Vec<String>>(0), labels.get::<_, String>(1)),
        (vec!["toxic".into()], "a\u{fffd}b".into())
    );
    let versions =
        client.query("SELECT version, name FROM keevo_migrations ORDER BY version", &[]).await.expect("read");
    let versions: Vec<(i32, String)> = versions.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(versions, [(1, "verdicts".to_owned()), (2, "reviews".to_owned())]);
    feed.stop().await;
}

/// Nobody feeds it for longer than changes are kept: what was judged, decided, renamed and erased meanwhile is there in the end,
/// also where the filling is cut off and another node goes on.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_postgres_has_what_it_missed_in_a_gap() {
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.url();
    drop(connect(&url).await);
    let world = World::new().await.with_lists().await;
    let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as _;
    let world = World { engine: keevo_core::MemoryEngine::with_clock_and_retained(clock, 1_000), ..world };
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let verdicts = moderator.verdicts().await.expect("opened");
    let judge = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            world.clock.advance_ms(1);
            moderator.check(message(number, &text(number))).await.expect("checked");
        }
    };
    // These are in no catalogue.
    judge(0..10).await;
    moderator.keep_catalogue();
    judge(10..20).await;
    let feed = Running::start(&world, &url, 1).await;
    feed.until("the first rows are there", |seen| seen.rows >= 20 && seen.lag_ms == 0).await;
    feed.stop().await;
    let id = |number: usize| message(number, "x").text_id();
    for number in [1, 11] {
        verdicts.erase(&id(number)).await.expect("erased");
    }
    for number in [2, 12] {
        verdicts.rename_author(&id(number), "alice", "deleted-1").await.expect("renamed");
    }
    let queued = verdicts.queue(1, 1, None).await.expect("listed").entries.remove(0);
    let decision = Decision { ruling: Ruling::Remove, reviewer: "eve".into(), labels: Vec::new(), note: String::new() };
    verdicts.decide(1, &queued.id, decision, world.effects.as_ref()).await.expect("decided");
    judge(20..500).await;
    verdicts.erase(&id(250)).await.expect("erased");
    let feed = Running::start(&world, &url, 2).await;
    feed.until("the gap is being filled", |seen| seen.gaps > 0 && seen.refilled > 0).await;
    feed.stop().await;
    let feed = Running::start(&world, &url, 3).await;
    judge(500..510).await;
    let wanted = in_keevo(&world, 510).await;
    let mut found = in_postgres(&url).await;
    for _ in 0..1_000 {
        if found == wanted && refill::load(verdicts).await.expect("read").is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        found = in_postgres(&url).await;
    }
    for (key, row) in &wanted {
        assert_eq!(found.get(key), Some(row), "{key:?}");
    }
    assert_eq!(found.len(), wanted.len(), "what was erased is not there");
    assert!(wanted.values().any(|row| row.6.is_some()) && !wanted.keys().any(|key| ["m1", "m11"].contains(&&*key.2)));
    assert_eq!(refill::load(verdicts).await.expect("read"), None, "the filling has ended");
    feed.until("nothing lags", |seen| seen.lag_ms == 0).await;
    let renamed = "SELECT count(*) FROM keevo_verdicts WHERE author = 'deleted-1'";
    let renamed: i64 = connect(&url).await.query_one(renamed, &[]).await.expect("read").get(0);
    assert!(renamed >= 2, "{renamed}");
    feed.stop().await;
}

/// Two nodes that both believe to feed it: the lock in PostgreSQL lets one of them write.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_postgres_is_written_by_one_session() {
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.url();
    drop(connect(&url).await);
    let store = Store::new(&url, options(), Arc::new(SystemClock::new())).expect("a URL");
    let one = Session::open(&store.config, &store.tls).await.map_err(drop).expect("it may write");
    let Err(Failed::Store(refused)) = Session::open(&store.config, &store.tls).await else {
        panic!("a second session may not write");
    };
    assert!(refused.message().contains("another session"), "{refused}");
    drop(one);
    for _ in 0..500 {
        if Session::open(&store.config, &store.tls).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the lock goes with its session");
}

#[test]
fn a_bad_url_is_refused_without_being_shown() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let error =
        Store::new("postgresql://a:s3cret@localhost:port/b", options(), Arc::clone(&clock)).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    let store = Store::new("postgresql://a:s3cret@localhost/b", options(), clock).expect("a URL");
    assert!(!format!("{error:?} {store:?}").contains("s3cret"), "{error:?}");
}

#[test]
fn a_remote_server_is_talked_to_over_tls_alone() {
    let mode = |url: &str| {
        let store = Store::new(url, options(), Arc::new(SystemClock::new())).expect("a URL");
        store.config.get_ssl_mode()
    };
    for remote in ["postgresql://a@db.example.org/b", "postgresql://a@10.0.0.1,127.0.0.1/b?sslmode=prefer"] {
        assert_eq!(mode(remote), SslMode::Require, "{remote}");
    }
    for local in ["postgresql://a@localhost/b", "postgresql://a@127.0.0.1/b", "postgresql://a@%2Frun%2Fpg/b"] {
        assert_eq!(mode(local), SslMode::Prefer, "{local}");
    }
    assert_eq!(mode("postgresql://a@db.example.org/b?sslmode=disable"), SslMode::Disable, "who says so has it");
}

/// A row of another version of Keevo, or a damaged one: the text's other rows, and all other texts, are copied.
#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_no_other_one() {
    let world = World::new().await.with_lists().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    moderator.check(message(1, "fine")).await.expect("checked");
    let verdicts = moderator.verdicts().await.expect("opened");
    let partition = message(1, "fine").partition();
    let damaged = verdicts.keyspace.key(partition.clone(), "vffff");
    verdicts.repeat(keevo_core::Batch::new().put(damaged, "{")).await.expect("written");
    let (work, unreadable) = Spool::new(verdicts).all_of(&partition.into()).await.expect("read");
    assert_eq!((work.verdicts.len(), work.anew.len(), unreadable), (1, 1, 1));
    // Whoever feeds next tries it again, since it may be of a later version.
    let spool = Spool::new(verdicts);
    let partition: bytes::Bytes = message(1, "fine").partition().into();
    for _ in 0..2 {
        spool.set_aside(&partition, 7).await.expect("set aside");
    }
    assert!(spool.marks().await.expect("read").is_empty());
    assert_eq!(spool.try_again().await.expect("marked"), 1);
    assert_eq!(spool.try_again().await.expect("once"), 0);
    let marks = spool.marks().await.expect("read");
    assert_eq!(marks.iter().map(|mark| (mark.partition.clone(), mark.at_ms)).collect::<Vec<_>>(), [(partition, 7)]);
    // It is erased with its text, and holds up nobody's erasure.
    verdicts.erase(&message(1, "fine").text_id()).await.expect("erased");
    let (work, unreadable) = spool.all_of(&message(1, "fine").partition().into()).await.expect("read");
    assert_eq!((work.verdicts.len(), work.anew.len(), unreadable), (0, 1, 0));
}
